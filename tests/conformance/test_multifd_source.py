# SPDX-License-Identifier: MIT
"""What a source puts on its multifd channels, a real QEMU's and ours: the same packets with the same pages in the same order.

The other side is no emulator: it takes connections, keeps what comes, and breaks one where a test wants to.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.migration.stream import multifd_packet as mp
from fakeqemu.testing.emulator import Emulator, short_directory
from tests.interop._machines import OURS, REAL, start, stderr_of

pytestmark = pytest.mark.real_qemu

MIB = 8
PAGE = 4096
PAGES = MIB * 256
UUID = "12345678-9abc-def0-1234-56789abcdef0"
#: in runs whose ends are no multiples of a packet: pages that are not zero
FULL = [*range(0, 1), *range(100, 300), *range(1024, 1024 + 128), 2047]


class Peer:
    """Takes connections at `path` and keeps the bytes of each."""

    def __init__(self, path: Path, expected: int) -> None:
        self._path = path
        self._expected = expected
        self.received: list[bytearray] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._open = 0
        self._changed = asyncio.Condition()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Peer:
        self._server = await asyncio.start_unix_server(self._accepted, str(self._path))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.close()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mine = bytearray()
        self.received.append(mine)
        self._writers.append(writer)
        self._open += 1
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 18):
                mine += data
                async with self._changed:
                    self._changed.notify_all()
        self._open -= 1
        async with self._changed:
            self._changed.notify_all()

    async def until_all_ended(self) -> None:
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(lambda: len(self.received) == self._expected and not self._open)

    async def until_pages_come(self) -> None:
        """More has come than what every channel begins with."""
        begun = self._expected * (mp.INIT_SIZE + mp.RAM_PACKET_SIZE)
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(lambda: sum(map(len, self.received)) > begun + mp.PACKET_PAGES * PAGE)

    def break_channels(self, *, multifd: bool = True) -> None:
        """Break those that are no main channel, or the main one."""
        for data, writer in zip(self.received, self._writers, strict=True):
            if (data[:4] != b"QEVM") == multifd:
                writer.transport.abort()


@dataclass(frozen=True, order=True)
class Packet:
    """A packet without its number."""

    flags: int
    allocated: int
    size: int
    block: str
    normal: tuple[int, ...]
    zero: tuple[int, ...]


def flat(runs: Any) -> tuple[int, ...]:
    return tuple(page for first, n in runs for page in range(first, first + n))


def taken_apart(data: bytes, memory: bytes) -> tuple[int, list[Packet], list[int]]:
    """A channel's id, its packets, and their numbers; AssertionError when it does not end with a packet.

    The size that an empty packet says is a stale one in 7.2.
    """
    channel_id = mp.parse_init(data[: mp.INIT_SIZE], bytes.fromhex(UUID.replace("-", "")), 255)
    assert mp.pack_init(bytes.fromhex(UUID.replace("-", "")), channel_id) == data[: mp.INIT_SIZE]
    packets, numbers = [], []
    at = mp.INIT_SIZE
    while at < len(data):
        header = data[at : at + mp.RAM_PACKET_SIZE]
        assert len(header) == mp.RAM_PACKET_SIZE
        at += mp.RAM_PACKET_SIZE
        mp.check_header(header)
        packet = mp.parse_ram(header)
        pages = packet.normal_pages + packet.zero_pages
        if pages:  # of an empty one the name is what was there before
            used = mp.RAM_PACKET_SIZE - 8 * (mp.PACKET_PAGES - pages)
            assert packet.pack()[:used] == header[:used], "built again it is the same"
            assert packet.next_packet_size == packet.normal_pages * PAGE
        for page in flat(packet.normal):
            assert data[at : at + PAGE] == memory[page * PAGE :][:PAGE]
            at += PAGE
        normal, zero = flat(packet.normal), flat(packet.zero)
        packets.append(Packet(packet.flags, packet.allocated, packet.next_packet_size, packet.block, normal, zero))
        numbers.append(packet.number)
    return channel_id, packets, numbers


def content() -> bytes:
    chance = random.Random(7)
    memory = bytearray(PAGES * PAGE)
    for page in FULL:
        memory[page * PAGE : (page + 1) * PAGE] = chance.randbytes(PAGE)
    return bytes(memory)


async def source(kind: str, version: str, directory: Path, memory: bytes, *argv: str, **parameters: Any) -> Emulator:
    path = directory / f"{kind}.ram"
    path.write_bytes(memory)
    backend = f"memory-backend-file,id=ram,size={len(memory)},mem-path={path},share=on"
    machine = ("-nodefaults", "-machine", "none,memory-backend=ram", "-m", str(len(memory) >> 20), "-object", backend)
    vm = await start(kind, directory, kind, *machine, "-uuid", UUID, *argv, version=version)
    states = [{"capability": name, "state": True} for name in ("events", "multifd")]
    await vm.execute("migrate-set-capabilities", {"capabilities": states})
    values = {name.replace("_", "-"): value for name, value in parameters.items()}
    await vm.execute("migrate-set-parameters", values)
    return vm


@dataclass
class Sent:
    """What the channels carried."""

    ids: list[int]
    packets: list[Packet]
    numbers: list[int]
    #: each channel's first packet
    first: list[Packet]


async def sent_by(kind: str, version: str, directory: Path, channels: int, mode: str) -> Sent:
    memory = content()
    # Nothing may be left of the pass when it ends: else there is no barrier there.
    parameters: dict[str, Any] = {"multifd_channels": channels, "downtime_limit": 0}
    if mode:
        parameters["zero_page_detection"] = mode
    vm = await source(kind, version, directory, memory, "-S", **parameters)
    try:
        async with Peer(directory / f"{kind}.mig", channels + 1) as peer:
            await vm.execute("migrate", {"uri": f"unix:{directory}/{kind}.mig"})
            await vm.wait_status("completed")
            await peer.until_all_ended()
            ram = (await vm.execute("query-migrate"))["ram"]
    finally:
        await vm.stop()
    data = [bytes(one) for one in peer.received if one[:4] != b"QEVM"]
    assert len(data) == channels
    if (kind, version) != (REAL, "7.2"):  # it counts packets that it does not send
        # The bytes that are counted are those that came, but in 7.2, which does not count with what channels begin.
        init = mp.INIT_SIZE * channels if version == "7.2" else 0
        assert ram["multifd-bytes"] == sum(map(len, data)) - init
    apart = [taken_apart(one, memory) for one in data]
    return Sent(
        sorted(one[0] for one in apart),
        sorted(packet for one in apart for packet in one[1]),
        sorted(number for one in apart for number in one[2]),
        [one[1][0] for one in apart],
    )


@pytest.mark.parametrize("mode", ["none", "legacy", "multifd"])
@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("version", ["11.1", "10.0"])
async def test_the_packets_of_a_migration_are_those_of_a_real_qemu(
    version: str, channels: int, mode: str, tmp_path: Path
) -> None:
    directory = short_directory(tmp_path)
    real = await sent_by(REAL, version, directory, channels, mode)
    ours = await sent_by(OURS, version, directory, channels, mode)
    assert ours == real
    assert ours.ids == list(range(channels))
    assert ours.numbers == list(range(len(ours.packets)))
    # A channel begins with a barrier, before any page.
    empty = Packet(mp.MULTIFD_FLAG_SYNC, 0, 0, "", (), ())
    assert ours.first == [empty] * channels
    assert ours.packets.count(empty) == 3 * channels  # in setup, after the one pass, at the end


@pytest.mark.parametrize("channels", [1, 3])
async def test_7_2_sends_the_same_pages(channels: int, tmp_path: Path) -> None:
    """Its packets are filled otherwise: one that says SYNC may carry pages, a page may come twice; the main channel has the
    zero pages."""
    directory = short_directory(tmp_path)
    for kind in (REAL, OURS):
        sent = await sent_by(kind, "7.2", directory, channels, "")
        assert sent.ids == list(range(channels))
        assert sorted({page for packet in sent.packets for page in packet.normal}) == FULL
        syncs = sum(packet.flags & mp.MULTIFD_FLAG_SYNC for packet in sent.packets)
        assert syncs >= 3 * channels  # each section ends with a barrier, and how many there are is a matter of time
        assert not syncs % channels
        assert not any(packet.zero for packet in sent.packets)
        assert {packet.allocated for packet in sent.packets} == {128}


# --- a channel that breaks --------------------------------------------------------------------------------


async def broken(kind: str, version: str, directory: Path, how: str) -> dict[str, Any]:
    """What a source says whose channels, or whose main channel, break while it is active, or are broken by command."""
    slowly = {"max_bandwidth": 8 << 20, "downtime_limit": 1}
    vm = await source(kind, version, directory, random.Random(3).randbytes(32 << 20), multifd_channels=3, **slowly)
    try:
        async with Peer(directory / f"{kind}.mig", 4) as peer:
            await vm.execute("migrate", {"uri": f"unix:{directory}/{kind}.mig"})
            await vm.wait_status("active")
            await peer.until_pages_come()
            if how == "yank":
                instance = {"type": "migration"}
                assert [one for one in await vm.execute("query-yank") if one["type"] != "chardev"] == [instance]
                await vm.execute("yank", {"instances": [instance]})
            else:
                peer.break_channels(multifd=how == "channels")
            await vm.wait_status("failed")
            await peer.until_all_ended()
        info = await vm.execute("query-migrate")
        state = (await vm.execute("query-status"))["status"]
        told = [event["data"]["status"] for event in vm.events if event["event"] == "MIGRATION"]
    finally:
        await vm.stop()
    stderr = [line.partition(": ")[2] for line in stderr_of(vm).splitlines()]
    if how != "main":  # whether a channel meets it before the main one, which names its section, is a matter of time
        told, stderr = list(dict.fromkeys(told)), []
    return {"status": (info["status"], info["error-desc"], state), "told": told, "stderr": stderr}


@pytest.mark.parametrize("how", ["channels", "main", "yank"])
@pytest.mark.parametrize("version", ["11.1", "10.0"])
async def test_channels_that_break_end_it_as_at_a_real_qemu(version: str, how: str, tmp_path: Path) -> None:
    directory = short_directory(tmp_path)
    real = await broken(REAL, version, directory, how)
    ours = await broken(OURS, version, directory, how)
    assert ours == real
    assert ours["status"] == ("failed", "Unable to write to socket: Broken pipe", "running")
