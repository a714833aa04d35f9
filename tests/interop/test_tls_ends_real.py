# SPDX-License-Identifier: MIT
"""How an encrypted migration ends that only one side wants: two real QEMUs, and two of ours beside them."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.testing.emulator import Emulator
from tests.interop._machines import OURS, REAL, Start, stderr_of
from tests.interop.test_tls_real import X509, Secured, Side, credentials, two_sides, x509
from tests.unit.crypto import pki

pytestmark = pytest.mark.real_qemu

RELEASES = ("11.1", "10.0", "7.2")
#: what a source finds when nobody is there any more: as the time has it
GONE = "the connection is gone"
WORDS_OF_A_BREAK = (
    "Broken pipe", "Connection reset by peer", "Bad file descriptor", "non-properly terminated", "Input/output error",
    "Error in the pull function", "Error in the push function",
)  # fmt: skip


#: of a first packet that does not come
END = "failed to receive packet via multifd channel 0: Unexpected end-of-file before all data were read"


def told(text: str) -> str:
    return GONE if any(words in text for words in WORDS_OF_A_BREAK) else text


async def ended(vm: Emulator) -> dict[str, Any]:
    """What is seen of a side that has come to its end."""
    info = await vm.execute("query-migrate")
    lines = (line.partition(": ")[2] for line in stderr_of(vm).splitlines())
    return {
        "status": info.get("status"),
        "error": told(info.get("error-desc", "")),
        "guest": (await vm.execute("query-status"))["status"],
        "stderr": sorted(
            {line for line in lines if told(line) not in (GONE, END)}
        ),  # one for each channel that has come
    }


async def outcome(sides: Secured) -> dict[str, Any]:
    """What both are at the end. Which of its channels a source finds broken first, and in what it is then, is chance."""
    await sides.source.wait_status("failed")
    found = {vm.name: await ended(vm) for vm in (sides.source, sides.destination)}
    del found["src"]["stderr"]
    return found


def of_another_authority(directory: Path) -> tuple[Side, Side]:
    """A source that trusts the destination, and whose own certificate leads to nobody whom that one trusts."""
    keys, others = pki.make_pki(directory / "keys"), pki.make_pki(directory / "others", authority="Another one")
    client = directory / "client"
    client.mkdir()
    (client / "ca-cert.pem").write_bytes((keys.client_dir / "ca-cert.pem").read_bytes())
    for name in ("client-cert.pem", "client-key.pem"):
        (client / name).write_bytes((others.client_dir / name).read_bytes())
    source, destination = x509(keys, X509)
    return Side(credentials("x509", "client", dir=client, sanity_check="off"), source.parameters), destination


@pytest.mark.parametrize("capabilities", [(), ("return-path",), ("return-path", "multifd")], ids=["", "rp", "multifd"])
@pytest.mark.parametrize("version", RELEASES)
async def test_a_source_whom_the_destination_does_not_know(
    version: str, capabilities: tuple[str, ...], start_vm: Start, directory: Path
) -> None:
    """The handshake fails, not the load: the destination waits for another one."""
    source, destination = of_another_authority(directory)
    found = []
    for kind in (REAL, OURS):
        sides = await two_sides((kind, kind), start_vm, directory, source, destination, version, capabilities)
        await sides.migrate()
        found.append(await outcome(sides))
        await sides.source.stop()
        await sides.destination.stop()
    assert found[1] == found[0]
    assert found[0]["dst"]["guest"] == "inmigrate"


class Meddler:
    """Takes connections at `path` and passes them on to `port`; what the second one begins with is something else."""

    def __init__(self, path: Path, port: int) -> None:
        self._path = path
        self._port = port
        self._count = 0
        self._server: asyncio.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        self._server = await asyncio.start_unix_server(self._accepted, str(self._path))

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._count += 1
        spoilt = self._count == 2
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._tasks += [
            asyncio.create_task(self._pump(reader, far_writer, spoilt=spoilt)),
            asyncio.create_task(self._pump(far_reader, writer)),
        ]

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, spoilt: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 18):
                writer.write(b"no TLS at all" if spoilt else data)
                spoilt = False
                await writer.drain()
        writer.close()

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.mark.parametrize("version", RELEASES)
async def test_a_further_channel_whose_handshake_fails(version: str, start_vm: Start, directory: Path) -> None:
    """One line says so. There may be a second one, of a handshake that was under way when the source gave up: as time has it,
    with real ones too.
    """
    keys = pki.make_pki(directory / "keys")
    source, destination = x509(keys, X509)
    found = []
    for kind in (REAL, OURS):
        sides = await two_sides(
            (kind, kind), start_vm, directory, source, destination, version, ("return-path", "multifd")
        )
        for vm in (sides.source, sides.destination):
            await vm.execute("migrate-set-parameters", {"multifd-channels": 2})
        stays = {} if version == "7.2" else {"exit-on-error": False}
        await sides.destination.execute("migrate-incoming", {"uri": "tcp:127.0.0.1:0", **stays})
        address = (await sides.destination.execute("query-migrate"))["socket-address"][0]
        meddler = Meddler(directory / kind, int(address["port"]))
        await meddler.open()
        await sides.source.execute("migrate", {"uri": f"unix:{directory / kind}"})
        try:
            found.append(await outcome(sides))
        finally:
            await meddler.close()
            await sides.source.stop()
            await sides.destination.stop()
    for one in found:
        # The other further channel breaks, too: before its first packet, which is the end, or in its handshake, which is not.
        assert one["dst"].pop("status") in ("setup", "failed", None)
        del one["dst"]["error"]
        if version == "7.2":
            one["src"].pop("error")  # kept, or only printed
    assert found[1] == found[0]
