# SPDX-License-Identifier: MIT
"""Keys of the recordings' TLS: the folders that their command lines name, with certificates and keys of our own.

They lie on the operating system's disk, as no emulator of ours reads keys from elsewhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

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


class FastCipher:
    """A cipher for tlslite, whose own are written in Python: eight megabytes would take minutes."""

    isBlockCipher = False
    isAEAD = True
    nonceLength = 12
    tagLength = 16
    implementation = "python"

    def __init__(self, name: str, aead: Any) -> None:
        self.name = name
        self._aead = aead

    def seal(self, nonce: bytes, text: bytes, data: bytes) -> bytearray:
        return bytearray(self._aead.encrypt(bytes(nonce), bytes(text), bytes(data)))

    def open(self, nonce: bytes, text: bytes, data: bytes) -> bytearray | None:
        from cryptography.exceptions import InvalidTag

        try:
            return bytearray(self._aead.decrypt(bytes(nonce), bytes(text), bytes(data)))
        except InvalidTag:
            return None


def use_fast_ciphers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tlslite encrypt by the library `cryptography` for the rest of a test."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

    def aesgcm(key: bytes, _implementations: Any = None) -> FastCipher:
        return FastCipher(f"aes{len(key) * 8}gcm", AESGCM(bytes(key)))

    def chacha(key: bytes, _implementations: Any = None) -> FastCipher:
        return FastCipher("chacha20-poly1305", ChaCha20Poly1305(bytes(key)))

    monkeypatch.setattr("tlslite.recordlayer.createAESGCM", aesgcm)
    monkeypatch.setattr("tlslite.recordlayer.createCHACHA20", chacha)
