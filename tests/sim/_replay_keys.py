# SPDX-License-Identifier: MIT
"""Keys of the recordings' TLS: the folders that their command lines name, with certificates and keys of our own.

They lie on the operating system's disk, as no emulator of ours reads keys from elsewhere.
"""

from __future__ import annotations

from pathlib import Path

PSK = "qemu:" + "0123456789abcdef" * 4 + "\n"
#: days from now, since and until when: simulated time is another
FROM, UNTIL = -2000, 2000


def make_keys(directory: Path) -> None:
    """`pki-server`, `pki-client`, `psk-server` and `psk-client`; the server is localhost."""
    from tests.unit.crypto.pki import CLIENT_AUTH, SERVER_AUTH, make, write

    ca = make("A test's authority", ca=True, usages=("key_cert_sign", "crl_sign"), from_days=FROM, until_days=UNTIL)
    server = make(
        "server", ca, hosts=("localhost", "127.0.0.1"), purposes=(SERVER_AUTH,), from_days=FROM, until_days=UNTIL
    )
    client = make("client", ca, purposes=(CLIENT_AUTH,), from_days=FROM, until_days=UNTIL)
    write(directory / "pki-server", "server", server, ca)
    write(directory / "pki-client", "client", client, ca)
    for role in ("server", "client"):
        folder = directory / f"psk-{role}"
        folder.mkdir()
        (folder / "keys.psk").write_text(PSK)
