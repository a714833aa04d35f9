# SPDX-License-Identifier: MIT
"""Encrypted migrations with a real QEMU at the other end, both ways: one side is GnuTLS, the other is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fakeqemu.testing.emulator import Emulator
from tests.interop._machines import OURS, REAL, Start, stderr_of
from tests.interop.test_migration_real import DIRECTIONS, MIB, PAGE
from tests.unit.crypto import pki

pytestmark = pytest.mark.real_qemu

RAM_BYTES = 8 * MIB
DIRECTION_IDS = ["to-real", "from-real"]
#: what is not zero: TLS written in Python is slow
CONTENT_PAGES = range(100, 164)
X509 = {"tls-creds": "tls0", "tls-hostname": "localhost"}
PLAIN = {"tls-creds": "tls0"}
KEY = "qemu:00112233445566778899aabbccddeeff\n"
BAD_STREAM = "load of migration failed: Invalid argument: Not a migration stream, magic: 0 != 5145564d"


def credentials(kind: str, endpoint: str, **properties: object) -> tuple[str, ...]:
    """`-object tls-creds-KIND,id=tls0,...`"""
    text = "".join(f",{name.replace('_', '-')}={value}" for name, value in properties.items())
    return ("-object", f"tls-creds-{kind},id=tls0,endpoint={endpoint}{text}")


class Side(NamedTuple):
    """What one side has, and asks for."""

    objects: tuple[str, ...]
    parameters: dict[str, Any]


class Secured:
    """Source and destination, with a known memory."""

    def __init__(self, source: Emulator, destination: Emulator, directory: Path) -> None:
        self.source = source
        self.destination = destination
        self.directory = directory
        self.content = bytearray(RAM_BYTES)
        for page in CONTENT_PAGES:
            self.content[page * PAGE : (page + 1) * PAGE] = (b"page %d " % page * PAGE)[:PAGE]
        (directory / "src.ram").write_bytes(self.content)

    async def set(self, capabilities: tuple[str, ...], *parameters: dict[str, Any]) -> None:
        states = [{"capability": name, "state": True} for name in ("events", *capabilities)]
        for vm, values in zip((self.source, self.destination), parameters, strict=True):
            await vm.execute("migrate-set-capabilities", {"capabilities": states})
            if values:
                await vm.execute("migrate-set-parameters", values)

    async def migrate(self, uri: str = "tcp:127.0.0.1:0", *, exit_on_error: bool = True) -> None:
        arguments: dict[str, Any] = {"uri": uri}
        if not exit_on_error:
            arguments["exit-on-error"] = False
        await self.destination.execute("migrate-incoming", arguments)
        if uri.startswith("tcp:"):
            address = (await self.destination.execute("query-migrate"))["socket-address"][0]
            uri = f"tcp:127.0.0.1:{address['port']}"
        await self.source.execute("migrate", {"uri": uri})

    async def arrived(self) -> dict[str, Any]:
        """Both sides have completed and the memory is the same; what the source tells of its migration."""
        await self.source.wait_status("completed")
        await self.destination.wait_status("completed")
        assert (self.directory / "dst.ram").read_bytes() == self.content
        for vm in (self.source, self.destination):
            assert stderr_of(vm) == ""
        info: dict[str, Any] = await self.source.execute("query-migrate")
        assert info["ram"]["normal"] == len(CONTENT_PAGES)
        return info

    async def failed(self, desc: str) -> None:
        """The source has failed with that text, and its guest runs on."""
        await self.source.wait_status("failed")
        assert (await self.source.execute("query-migrate"))["error-desc"] == desc
        assert (await self.source.execute("query-status"))["status"] == "running"


async def two_sides(
    kinds: tuple[str, str], start_vm: Start, directory: Path, source: Side, destination: Side, version: str = "11.1",
    capabilities: tuple[str, ...] = (),
) -> Secured:  # fmt: skip
    src = await start_vm(kinds[0], "src", *source.objects, version=version)
    dst = await start_vm(kinds[1], "dst", *destination.objects, "-incoming", "defer", version=version)
    both = Secured(src, dst, directory)
    await both.set(capabilities, source.parameters, destination.parameters)
    return both


def x509(keys: pki.Pki, parameters: dict[str, str] | None = None, *, client: Path | None = None) -> tuple[Side, Side]:
    """Both sides by certificates; `parameters` are further ones of the source."""
    source = credentials("x509", "client", dir=client or keys.client_dir)
    destination = credentials("x509", "server", dir=keys.server_dir)
    return Side(source, {**PLAIN, **(parameters or {})}), Side(destination, dict(PLAIN))


@pytest.fixture
def keys(directory: Path) -> pki.Pki:
    return pki.make_pki(directory / "keys")


@pytest.mark.parametrize("capabilities", [(), ("return-path",)], ids=["", "return-path"])
@pytest.mark.parametrize("hostname", ["localhost", ""])
@pytest.mark.parametrize("kinds", DIRECTIONS, ids=DIRECTION_IDS)
async def test_certificates(
    kinds: tuple[str, str],
    hostname: str,
    capabilities: tuple[str, ...],
    start_vm: Start,
    directory: Path,
    keys: pki.Pki,
) -> None:
    """Without tls-hostname the certificate has to be that of the address."""
    sides = await two_sides(kinds, start_vm, directory, *x509(keys, {"tls-hostname": hostname}), "11.1", capabilities)
    await sides.migrate()
    await sides.arrived()


@pytest.mark.parametrize("version", ["10.0", "7.2"])
@pytest.mark.parametrize("kinds", DIRECTIONS, ids=DIRECTION_IDS)
async def test_certificates_and_older_releases(
    kinds: tuple[str, str], version: str, start_vm: Start, directory: Path, keys: pki.Pki
) -> None:
    sides = await two_sides(kinds, start_vm, directory, *x509(keys, X509), version, ("return-path",))
    await sides.migrate(f"unix:{directory}/mig")
    await sides.arrived()


@pytest.mark.parametrize("kinds", DIRECTIONS, ids=DIRECTION_IDS)
async def test_every_multifd_channel_has_a_handshake_and_a_goodbye(
    kinds: tuple[str, str], start_vm: Start, directory: Path, keys: pki.Pki
) -> None:
    source, destination = x509(keys, X509)
    channels = {"multifd-channels": 4}
    sides = await two_sides(
        kinds, start_vm, directory, Side(source.objects, {**source.parameters, **channels}),
        Side(destination.objects, {**destination.parameters, **channels}), "11.1", ("multifd", "return-path"),
    )  # fmt: skip
    await sides.migrate()
    info = await sides.arrived()
    assert info["ram"]["multifd-bytes"] > len(CONTENT_PAGES) * PAGE


@pytest.mark.parametrize("capabilities", [(), ("return-path",)], ids=["", "return-path"])
@pytest.mark.parametrize("kinds", DIRECTIONS, ids=DIRECTION_IDS)
async def test_keys_that_both_have(
    kinds: tuple[str, str], capabilities: tuple[str, ...], start_vm: Start, directory: Path
) -> None:
    need_psk()
    folder = directory / "keys"
    folder.mkdir()
    (folder / "keys.psk").write_text(KEY)
    source, destination = (Side(credentials("psk", one, dir=folder), PLAIN) for one in ("client", "server"))
    sides = await two_sides(kinds, start_vm, directory, source, destination, "11.1", capabilities)
    await sides.migrate()
    await sides.arrived()


@pytest.mark.parametrize("kinds", DIRECTIONS, ids=DIRECTION_IDS)
async def test_a_key_that_is_another(kinds: tuple[str, str], start_vm: Start, directory: Path) -> None:
    need_psk()
    sides = []
    for endpoint, key in (("client", KEY), ("server", KEY.replace("00", "0f"))):
        folder = directory / endpoint
        folder.mkdir()
        (folder / "keys.psk").write_text(key)
        sides.append(Side(credentials("psk", endpoint, dir=folder), PLAIN))
    both = await two_sides(kinds, start_vm, directory, sides[0], sides[1])
    await both.migrate()
    await both.failed("TLS handshake failed: The TLS connection was non-properly terminated.")
    await both.destination.execute("quit")
    assert both.destination.process is not None
    await both.destination.process.wait()
    assert stderr_of(both.destination).endswith("TLS handshake failed: An illegal parameter has been received.\n")


@pytest.mark.parametrize("version", ["11.1", "10.0", "7.2"])
@pytest.mark.parametrize("kinds", DIRECTIONS, ids=DIRECTION_IDS)
async def test_without_keys(kinds: tuple[str, str], version: str, start_vm: Start, directory: Path) -> None:
    if kinds[0] == OURS:
        pytest.importorskip("tlslite")
    source, destination = (Side(credentials("anon", one), PLAIN) for one in ("client", "server"))
    sides = await two_sides(kinds, start_vm, directory, source, destination, version, ("return-path",))
    await sides.migrate()
    await sides.arrived()


@pytest.mark.parametrize(
    ("uri", "hostname", "desc"),
    [
        ("tcp:127.0.0.1:0", "example.org", "Certificate does not match the hostname example.org"),
        ("unix:{}/mig", "", "No hostname for certificate validation"),
    ],
    ids=["another-host", "no-host"],
)
@pytest.mark.parametrize("kinds", DIRECTIONS, ids=DIRECTION_IDS)
async def test_a_host_that_is_not_the_one(
    kinds: tuple[str, str], uri: str, hostname: str, desc: str, start_vm: Start, directory: Path, keys: pki.Pki
) -> None:
    sides = await two_sides(kinds, start_vm, directory, *x509(keys, {"tls-hostname": hostname}))
    await sides.migrate(uri.format(directory), exit_on_error=False)
    await sides.failed(desc)
    await sides.destination.wait_status("failed")
    assert (await sides.destination.execute("query-migrate"))["error-desc"] == BAD_STREAM


@pytest.mark.parametrize("kinds", DIRECTIONS, ids=DIRECTION_IDS)
async def test_a_server_that_nobody_vouches_for(kinds: tuple[str, str], start_vm: Start, directory: Path) -> None:
    ours, theirs = pki.make_pki(directory / "ours"), pki.make_pki(directory / "theirs", authority="Another one")
    source, _ = x509(ours, X509)
    _, destination = x509(theirs)
    sides = await two_sides(kinds, start_vm, directory, source, destination)
    await sides.migrate()
    await sides.failed("The certificate hasn't got a known issuer")
    assert (await sides.destination.execute("query-migrate"))["status"] == "setup"


def broken_link() -> tuple[str, ...]:
    """What a source finds, as the time has it, when the destination has left after the handshake."""
    return (
        "Unable to write to socket: Broken pipe",
        "Unable to write to socket: Connection reset by peer",
        "Unable to read from socket: Connection reset by peer",
        "Cannot read from TLS channel: The TLS connection was non-properly terminated.",
    )


@pytest.mark.parametrize("authz", ["", "nobody", "somebody"])
@pytest.mark.parametrize("kinds", DIRECTIONS, ids=DIRECTION_IDS)
async def test_a_source_that_may_not_come(
    kinds: tuple[str, str], authz: str, start_vm: Start, directory: Path, keys: pki.Pki
) -> None:
    """It has no certificate, or one whose name is not let in; the destination waits for another."""
    nameless = pki.write(directory / "nameless", "client", None, keys.ca)
    source, destination = x509(keys, X509, client=None if authz else nameless)
    if authz:
        rules = '"rules":[{"match":"*CN=%s*","policy":"allow","format":"glob"}]' % (
            "client" if authz == "somebody" else "x"
        )
        judge = ("-object", f'{{"qom-type":"authz-list","id":"judge","policy":"deny",{rules}}}')
        destination = Side(destination.objects + judge, {**destination.parameters, "tls-authz": "judge"})
    sides = await two_sides(kinds, start_vm, directory, source, destination, "11.1", ("return-path",))
    await sides.migrate()
    if authz == "somebody":
        await sides.arrived()
        return
    await sides.source.wait_status("failed")
    assert (await sides.source.execute("query-migrate"))["error-desc"] in broken_link()
    assert (await sides.source.execute("query-status"))["status"] == "running"
    assert (await sides.destination.execute("query-migrate"))["status"] == "setup"
    said = (
        "TLS x509 authz check for O=fakeqemu,CN=client is denied"
        if authz
        else "Verify failed: No certificate was found."
    )
    assert said in stderr_of(sides.destination)


@pytest.mark.parametrize("kinds", DIRECTIONS, ids=DIRECTION_IDS)
async def test_tls_at_the_source_only(kinds: tuple[str, str], start_vm: Start, directory: Path, keys: pki.Pki) -> None:
    source, _ = x509(keys, X509)
    sides = await two_sides(kinds, start_vm, directory, source, Side((), {}))
    await sides.migrate(exit_on_error=False)
    await sides.source.wait_status("failed")
    assert (await sides.source.execute("query-migrate"))["error-desc"].startswith("TLS handshake failed: ")
    await sides.destination.wait_status("failed")
    assert "unknown channel magic: 3692956" in stderr_of(sides.destination)


@pytest.mark.parametrize("kinds", DIRECTIONS, ids=DIRECTION_IDS)
async def test_tls_at_the_destination_only(
    kinds: tuple[str, str], start_vm: Start, directory: Path, keys: pki.Pki
) -> None:
    """After it the destination takes the one who knows."""
    source, destination = x509(keys, X509)
    silent = Side(source.objects, {"tls-creds": ""})
    sides = await two_sides(kinds, start_vm, directory, silent, destination, "11.1", ("return-path",))
    uri = f"unix:{directory}/mig"
    await sides.migrate(uri)
    await sides.source.wait_status("failed")
    assert "TLS handshake failed: An unexpected TLS packet was received." in stderr_of(sides.destination)
    assert (await sides.destination.execute("query-migrate"))["status"] == "setup"
    sides.source.events.clear()
    await sides.source.execute("migrate-set-parameters", source.parameters)
    await sides.source.execute("migrate", {"uri": uri})
    await sides.source.wait_status("completed")
    await sides.destination.wait_status("completed")
    assert (directory / "dst.ram").read_bytes() == sides.content


def need_psk() -> None:
    from fakeqemu.crypto import session_openssl

    if not session_openssl.has_psk():
        pytest.importorskip("tlslite")


def test_both_directions_are_asked() -> None:
    assert [(OURS, REAL), (REAL, OURS)] == DIRECTIONS
