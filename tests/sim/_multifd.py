# SPDX-License-Identifier: MIT
"""Who listens to the channels of a multifd migration, and who forges them."""

from __future__ import annotations

import random
from typing import Any

from fakeqemu.host.clock import NS_PER_MS
from fakeqemu.migration.stream import multifd_packet as mp
from fakeqemu.migration.stream.multifd_packet import RamPacket, pack_init
from tests.migration.multifd_streams import UUID, main_channel
from tests.sim._pair import URI, Pair
from tests.sim.test_multifd import INIT, PACKET, multifd_pair

ADDRESS = {"type": "unix", "path": "/tmp/migration"}


class Collector:
    """Takes what a source sends at `path`, and keeps the bytes of each connection."""

    def __init__(self, pair: Pair, path: str, *, reads: bool = True) -> None:
        self._reads = reads
        self.uri = f"unix:{path}"
        self.received: list[bytearray] = []
        self._host = pair.world.host(path)
        self._host.listen({"type": "unix", "path": path}, self._accepted, backlog=255)

    def _accepted(self, channel: Any) -> None:
        mine = bytearray()
        self.received.append(mine)

        async def read() -> None:
            while self._reads and (data := await channel.read(1 << 16)):
                mine.extend(data)
            if self._reads:
                channel.close()

        self._host.start(read(), "collector")

    @property
    def channels(self) -> list[bytearray]:
        """Those that are no main channel."""
        return [one for one in self.received if one[:4] != b"QEVM"]


class Forger:
    """Brings connections to the destination, each with these bytes, and keeps them open."""

    def __init__(self, pair: Pair, *parts: bytes) -> None:
        self.channels: list[Any] = []
        self._pair = pair
        self._host = pair.world.host("forger")
        for part in parts:
            self.connect(part)

    def connect(self, data: bytes) -> None:
        async def bring() -> None:
            channel = await self._host.connect(ADDRESS)
            self.channels.append(channel)
            await channel.write(data)

        self._host.start(bring(), "forger")
        self._pair.world.run_until_idle()

    def add(self, number: int, data: bytes) -> None:
        """More bytes for one of them; nobody else has a turn before `settle`."""
        self._host.start(self.channels[number].write(data), "forger")

    def settle(self) -> None:
        self._pair.world.run_until_idle()

    def close(self) -> None:
        for channel in self.channels:
            channel.close()
        self.settle()


def listening(pair: Pair) -> None:
    stays = {} if pair.destination.vm.profile.name == "7.2" else {"exit_on_error": False}
    pair.destination.execute("migrate-incoming", uri=URI, **stays)


def begun(profile: str = "11.1", channels: int = 2) -> tuple[Pair, Forger]:
    """A destination that loads, all connections being there; channels have said nothing but who they are."""
    pair = multifd_pair(profile, channels, mib=1)
    listening(pair)
    forger = Forger(pair, main_channel(flush_word=profile != "7.2"))
    for number in range(channels):
        forger.connect(pack_init(UUID, number))
    assert pair.destination.execute("query-migrate")["status"] == "active"
    return pair, forger


def nothing_left(pair: Pair, descriptors: list[Any]) -> None:
    """Of what was open before, of the source and, where it is to be looked at, of the destination."""
    for side, before in zip((pair.source, pair.destination), descriptors, strict=False):
        assert [task.name for task in side.host.tasks if not task.done] == []
        assert side.host.open_fds() == before
        assert side.vm.bugs == 0, side.host.log_lines


def packets_of(data: bytes) -> list[RamPacket]:
    """AssertionError when it does not end with a packet."""
    found, at = [], INIT
    while at < len(data):
        packet = mp.parse_ram(data[at : at + PACKET])
        at += PACKET + packet.next_packet_size
        found.append(packet)
    assert at == len(data)
    return found


class RandomDelays:
    """Every packet of a channel takes a random while."""

    def __init__(self, pair: Pair, seed: int) -> None:
        self._chance = random.Random(seed)
        self._clock = pair.world.clock

    def check(self, point: str, fields: dict[str, Any], /) -> None:
        pass

    def wait(self, point: str, fields: dict[str, Any], /) -> Any:
        return self._clock.sleep(self._chance.randrange(100) * NS_PER_MS) if point == "multifd_send_fill" else None
