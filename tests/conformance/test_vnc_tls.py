# SPDX-License-Identifier: MIT
"""VNC within TLS (VeNCrypt), with ours and with the real ones: who may come, what is told of them."""

from __future__ import annotations

import contextlib
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.ui.vnc_auth import vnc_response
from tests.conformance._vnc import Both, VncEmulator, both, hang_up, initialize, lives, read, read_to_end
from tests.unit.crypto import pki

pytestmark = [pytest.mark.real_qemu, pytest.mark.in_turn("both")]
__all__ = ["both"]

X509_NONE, X509_VNC, TLS_NONE, TLS_VNC = 260, 261, 257, 258


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> pki.Pki:
    return pki.make_pki(tmp_path_factory.mktemp("pki"))


def encrypted(client: socket.socket, keys: pki.Pki, *, with_certificate: bool = True) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(keys.client_dir / "ca-cert.pem")
    # With 1.3 a client hears of a refused certificate only later.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    if with_certificate:
        context.load_cert_chain(keys.client_dir / "client-cert.pem", keys.client_dir / "client-key.pem")
    return context.wrap_socket(client)


def offer(client: socket.socket, subauth: int, minor: int = 8) -> list[bytes]:
    """As far as the beginning of TLS."""
    said = [read(client, 12)]
    client.sendall(b"RFB 003.%03d\n" % minor)
    said.append(read(client, 2))
    client.sendall(b"\x13")
    said.append(read(client, 2))
    client.sendall(b"\0\2")
    said.append(read(client, 6))
    client.sendall(subauth.to_bytes(4, "big"))
    said.append(read(client, 1))
    return said


def creds(folder: Path, *more: str) -> tuple[str, ...]:
    return ("-object", ",".join(["tls-creds-x509,id=t", "endpoint=server", f"dir={folder}", *more]))


@pytest.mark.parametrize("minor", [7, 8])
@pytest.mark.parametrize("password", ["", ",password=on"], ids=["none", "password"])
def test_who_has_a_certificate_may_come(both: Both, keys: pki.Pki, password: str, minor: int) -> None:
    def story(emulator: VncEmulator) -> list[Any]:
        emulator.execute("change-vnc-password", password="secret")
        plain = emulator.client()
        said: list[Any] = [*offer(plain, X509_VNC if password else X509_NONE, minor)]
        with encrypted(plain, keys) as client:
            if password:
                client.sendall(vnc_response("secret", read(client, 16)))
            said.append(read(client, 4))
            said.append(emulator.execute("query-vnc"))
            said.append(emulator.events[:])
            said.append(initialize(client))
            emulator.wait_for("VNC_INITIALIZED")
            said += [emulator.execute("query-vnc-servers"), emulator.hmp("info vnc"), lives(client)]
        emulator.wait_for("VNC_DISCONNECTED")
        return [*said, emulator.events]

    both(story, *creds(keys.server_dir), "-vnc", f"unix:v,tls-creds=t{password}")


def test_a_wrong_password(both: Both, keys: pki.Pki) -> None:
    def story(emulator: VncEmulator) -> list[Any]:
        emulator.execute("change-vnc-password", password="secret")
        plain = emulator.client()
        said: list[Any] = [*offer(plain, X509_VNC)]
        with encrypted(plain, keys) as client:
            client.sendall(vnc_response("wrong", read(client, 16)))
            said.append(read(client, 4 + 4 + 22))
        emulator.wait_for("VNC_DISCONNECTED")
        return [*said, emulator.events]

    both(story, *creds(keys.server_dir), "-vnc", "unix:v,tls-creds=t,password=on")


@pytest.mark.parametrize("verify", ["", "verify-peer=off"])
def test_who_has_no_certificate(both: Both, keys: pki.Pki, verify: str) -> None:
    def story(emulator: VncEmulator) -> list[Any]:
        plain = emulator.client()
        said: list[Any] = [*offer(plain, X509_NONE)]
        try:
            with encrypted(plain, keys, with_certificate=False) as client:
                said.append(read(client, 4))
                if said[-1]:
                    said.append(initialize(client))
                    said.append(emulator.wait_for("VNC_INITIALIZED")[:])
        except OSError as error:
            said.append(type(error).__name__ != "")
        emulator.wait_for("VNC_DISCONNECTED")
        return [*said, emulator.events]

    both(story, *creds(keys.server_dir, *filter(None, [verify])), "-vnc", "unix:v,tls-creds=t")


@pytest.mark.parametrize("identity", ["CN=client", "CN=nobody"])
def test_who_is_let_in_by_name(both: Both, keys: pki.Pki, identity: str) -> None:
    def story(emulator: VncEmulator) -> list[Any]:
        plain = emulator.client()
        said: list[Any] = [*offer(plain, X509_NONE)]
        with contextlib.suppress(OSError), encrypted(plain, keys) as client:
            said.append(read(client, 4))
            if said[-1]:
                said.append(initialize(client))
        emulator.wait_for("VNC_DISCONNECTED")
        return [*said, emulator.events]

    subject = pki_name(keys) if identity == "CN=client" else identity
    authz = ("-object", f"authz-simple,id=z,identity={subject.replace(',', ',,')}")
    both(story, *creds(keys.server_dir), *authz, "-vnc", "unix:v,tls-creds=t,tls-authz=z")


def pki_name(keys: pki.Pki) -> str:
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate((keys.client_dir / "client-cert.pem").read_bytes())
    return certificate.subject.rfc4514_string()


@pytest.mark.parametrize("options", ["", ",password=on"], ids=["none", "password"])
def test_anonymous(both: Both, options: str) -> None:
    """As far as the beginning of TLS; what is told of such a server."""

    def story(emulator: VncEmulator) -> list[Any]:
        with emulator.client() as client:
            said: list[Any] = [*offer(client, TLS_VNC if options else TLS_NONE)]
            said += [emulator.execute(command) for command in ("query-vnc", "query-vnc-servers")]
            said.append(emulator.hmp("info vnc"))
        said.append(emulator.wait_for("VNC_DISCONNECTED"))
        said.append(emulator.execute("display-reload", type="vnc", **{"tls-certs": True}))
        return said

    both(story, "-object", "tls-creds-anon,id=t,endpoint=server", "-vnc", f"unix:v,tls-creds=t{options}")


def test_cut_and_crooked(both: Both, keys: pki.Pki) -> None:
    """Hang up after so many bytes; choose what is not offered; speak plainly where TLS should begin."""
    whole = b"RFB 003.008\n\x13\0\2\0\0\1\4"
    crooked = [
        b"RFB 003.003\n", b"RFB 003.008\n\1", b"RFB 003.008\n\x13\0\1", b"RFB 003.008\n\x13\1\2",
        b"RFB 003.008\n\x13\0\2\0\0\1\1", b"RFB 003.008\n\x13\0\2\0\0\0\1",
    ]  # fmt: skip

    def story(emulator: VncEmulator) -> list[Any]:
        said: list[Any] = []
        for data in [whole[:count] for count in range(len(whole) + 1)] + crooked:
            with emulator.client() as client:
                client.sendall(data)
                # QEMU keeps its version back for a turn, and has not sent it when the client is gone by then.
                said.append((data, hang_up(client).removesuffix(b"\0\2")))
        with emulator.client() as client:
            said += offer(client, X509_NONE)
            client.sendall(b"\1 this is no record of TLS at all")
            said.append(read_to_end(client)[:0])  # an alert may come, or none
        events = emulator.wait_for("VNC_DISCONNECTED", len(whole) + 2 + len(crooked))
        return [said, sorted(event["event"] for event in events)]

    both(story, *creds(keys.server_dir), "-vnc", "unix:v,tls-creds=t")


def test_certificates_are_read_again(both: Both, tmp_path: Path) -> None:
    old = pki.make_pki(tmp_path / "keys")

    def story(emulator: VncEmulator) -> list[Any]:
        said: list[Any] = [emulator.execute("display-reload", type="vnc", **{"tls-certs": True})]
        kept = (old.server_dir / "server-cert.pem").read_bytes()
        (old.server_dir / "server-cert.pem").write_bytes(b"no certificate")
        said.append(
            "error" if "class" in emulator.execute("display-reload", type="vnc", **{"tls-certs": True}) else "none"
        )
        (old.server_dir / "server-cert.pem").write_bytes(kept)
        plain = emulator.client()
        said += offer(plain, X509_NONE)
        with encrypted(plain, old) as client:
            said.append(read(client, 4))
        return said

    both(story, *creds(old.server_dir), "-vnc", "unix:v,tls-creds=t")
