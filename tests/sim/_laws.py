# SPDX-License-Identifier: MIT
"""Laws that hold for the counters of every migration that completes, whatever its kind.

Bytes are counted where the simulation takes them, by what each channel begins with: QEMU's magic on the main one, multifd's
on all others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

from fakeqemu.host.clock import NS_PER_MS
from fakeqemu.migration.stats import query_migrate
from fakeqemu.sim.channel import SimChannel
from fakeqemu.sim.files import SimFileChannel
from tests.sim._migrations import ENDED, Run

MAIN_MAGIC = bytes.fromhex("5145564d")
MULTIFD_MAGIC = bytes.fromhex("11223344")
MULTIFD_INIT_BYTES = 64
PAGE = 4096
STEP_NS = 10 * NS_PER_MS


@dataclass
class Wire:
    """What one channel of the source put."""

    start: bytes = b""
    size: int = 0


@dataclass
class Tally:
    """Bytes that the host `name` put, by channel."""

    name: str
    wires: dict[int, Wire] = field(default_factory=dict)
    #: kept, so that no channel takes the identity of another
    _channels: list[Any] = field(default_factory=list)

    def put(self, channel: Any, buffers: tuple[bytes | bytearray | memoryview, ...]) -> None:
        if channel._host.name != self.name:
            return
        if id(channel) not in self.wires:
            self.wires[id(channel)] = Wire()
            self._channels.append(channel)
        wire = self.wires[id(channel)]
        for buffer in buffers:
            if len(wire.start) < 4:
                wire.start += bytes(buffer[: 4 - len(wire.start)])
            wire.size += len(buffer)

    def of(self, magic: bytes) -> list[int]:
        """The sizes of all channels that begin so."""
        return [wire.size for wire in self.wires.values() if wire.start == magic]


def tally(monkeypatch: pytest.MonkeyPatch, name: str = "source") -> Tally:
    """Count from now on what a host puts."""
    found = Tally(name)

    def counted(cls: type, method: str, at: int = 0) -> None:
        inner: Callable[..., Any] = getattr(cls, method)

        async def put(channel: Any, *arguments: Any) -> None:
            await inner(channel, *arguments)
            found.put(channel, arguments[at:])

        monkeypatch.setattr(cls, method, put)

    counted(SimChannel, "write")
    counted(SimFileChannel, "write")
    counted(SimFileChannel, "write_at", 1)
    return found


def run_watched(run: Run) -> list[dict[str, Any]]:
    """Let a run go; returns what query-migrate of the source said on the way, the last one behind the end."""
    told: list[dict[str, Any]] = []

    def look() -> None:
        told.append(query_migrate(run.source.vm.migration))

    if run.kind.uri.startswith("file:"):
        run._begin(run.source, "migrate")
    else:
        run._begin(run.destination, "migrate-incoming")
        run._begin(run.source, "migrate")
    while run.source_status not in ENDED[1:]:
        look()
        run.world.run_for(STEP_NS)
    run.settle()
    look()
    return told


def check_on_the_way(told: list[dict[str, Any]]) -> None:
    """What holds between any two looks at a migration, the last of which is behind its end."""
    running = [info for info in told if "ram" in info]
    for before, after in pairwise(running):
        for name in ("transferred", "duplicate", "normal", "precopy-bytes", "multifd-bytes", "dirty-sync-count"):
            assert before["ram"][name] <= after["ram"][name], name
        assert before["total-time"] <= after["total-time"]
    for info in running:
        ram = info["ram"]
        assert 0 <= ram["remaining"] <= ram["total"]
        assert ram["remaining"] % PAGE == 0
        assert info["setup-time"] <= info["total-time"]
        if "remaining" in info:  # an estimate of the last look, of RAM and devices
            assert info["remaining"] >= 0


def check_completed(run: Run, info: dict[str, Any], wires: Tally) -> None:
    """What holds when a migration has completed. Raises AssertionError."""
    assert info["status"] == "completed"
    ram, kind = info["ram"], run.kind
    main, channels = sum(wires.of(MAIN_MAGIC)), wires.of(MULTIFD_MAGIC)
    model, mapped = kind.fake.get("ram") == "model", "mapped-ram" in kind.capabilities
    snapshot = "background-snapshot" in kind.capabilities
    if mapped:  # one file for all channels, which put nothing but pages there
        main = sum(wire.size for wire in wires.wires.values())
    if kind.tls:
        _check_encrypted(ram, wires)
    elif snapshot:
        # the devices' state is collected before it is sent, and counts twice
        assert 0 < ram["transferred"] - main < main - ram["normal-bytes"]
    else:
        _check_bytes(ram, main, channels, old=kind.profile == "7.2", model=model, mapped=mapped)
    _check_pages(run, ram)
    assert ram["remaining"] == 0
    assert ram["dirty-pages-rate"] == 0
    assert ram["dirty-sync-count"] >= (0 if snapshot else 1)  # before 11.0 the one look of a snapshot does not count
    assert 0 <= info["downtime"] <= info["total-time"]
    assert 0 <= info["setup-time"] <= info["total-time"]
    transfer_ms = info["total-time"] - info["setup-time"]
    assert ram["mbps"] == (pytest.approx(ram["transferred"] * 8 / transfer_ms / 1000) if transfer_ms else 0)


def _check_bytes(ram: dict[str, Any], main: int, channels: list[int], *, old: bool, model: bool, mapped: bool) -> None:
    records = ram["precopy-bytes"] + ram["downtime-bytes"] + ram["postcopy-bytes"]
    if old:
        # 7.2 counts records and packets only; the packets that open channels are not among them
        assert ram["transferred"] == records + ram["multifd-bytes"]
        assert ram["multifd-bytes"] == sum(channels) - MULTIFD_INIT_BYTES * len(channels)
    elif mapped:
        assert ram["transferred"] == main
    elif model:
        assert ram["transferred"] >= main + sum(channels)
        assert ram["multifd-bytes"] >= sum(channels)
    else:
        assert ram["transferred"] == main + ram["multifd-bytes"]
        assert ram["multifd-bytes"] == sum(channels)
    if not model:
        assert records <= main
    assert records + ram["multifd-bytes"] <= ram["transferred"]


def _check_encrypted(ram: dict[str, Any], wires: Tally) -> None:
    """What is counted is what was put into the channels, before it was encrypted: that takes some bytes more."""
    put = sum(wire.size for wire in wires.wires.values())
    assert put * 0.9 < ram["transferred"] < put


def _check_pages(run: Run, ram: dict[str, Any]) -> None:
    kind = run.kind
    blocks = [] if kind.shared else run.source.vm.ram_blocks
    assert ram["total"] == sum(block.used_length for block in blocks)
    assert ram["page-size"] == PAGE
    assert ram["normal-bytes"] == ram["normal"] * PAGE
    pages = ram["total"] // PAGE
    if kind.dirty_rate:
        assert ram["normal"] + ram["duplicate"] >= pages
    elif kind.vfio == 0:
        # a guest that does nothing: each page once
        assert ram["normal"] + ram["duplicate"] == pages
