# SPDX-License-Identifier: MIT
"""Pages that only count (`ram=model`) give the numbers of pages that travel, for the same guest and seed.

The simulated link is as fast as that of the model. Compared is each look at the dirty bitmap: when it was, what had gone by
then, what was found dirty; and what query-migrate says at the end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from fakeqemu.host.clock import NS_PER_MS, NS_PER_S
from fakeqemu.migration.rate import MODEL_LINK_BYTES_PER_S
from fakeqemu.sim.world import SimWorld
from fakeqemu.system.ramblock import RAMBlock
from fakeqemu.testing.sim_machine import SimMachine

MIB = 1 << 20
PAGE = 4096


@dataclass(frozen=True)
class Case:
    """A migration, the same for both."""

    name: str
    profile: str = "11.1"
    uri: str = "unix:/tmp/migration"
    capabilities: tuple[str, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    size: int = 32 * MIB
    rate: int = 0
    working_set: int | None = None
    #: bytes that hold something before
    used: int = 12 * MIB
    #: real bytes, which travel with either
    real_pages: int = 0
    #: pages that may be off in a round: one, or a packet's, where several channels end at the same moment
    off: int = 1
    #: milliseconds that times may be off: channels have a link each in the simulation, one for all in the model
    off_ms: int = 2


_LIMIT: dict[str, Any] = {"max-bandwidth": 12 * MIB, "downtime-limit": 100}
_BUSY: dict[str, Any] = {"rate": 3 * MIB + 12345}
_FASTER: dict[str, Any] = {"rate": 64 * MIB, "working_set": 2 * MIB, "parameters": {**_LIMIT, "downtime-limit": 200}}

CASES = [
    *(Case(f"idle-{profile}", profile) for profile in ("7.2", "10.0", "11.1")),
    *(Case(f"busy-limited-{profile}", profile, parameters=_LIMIT, **_BUSY) for profile in ("7.2", "10.0", "11.1")),
    Case("busy-unlimited", rate=200 * MIB, size=128 * MIB, used=128 * MIB, parameters={"max-bandwidth": 0}),
    Case("small-working-set", **_FASTER),
    Case(
        "auto-converge",
        capabilities=("auto-converge",),
        rate=14 * MIB,
        size=48 * MIB,
        used=32 * MIB,
        parameters=_LIMIT,
    ),
    Case("no-zero-pages", parameters={"zero-page-detection": "none"}, **_BUSY),
    Case("release-ram", capabilities=("release-ram", "postcopy-ram")[:1], parameters=_LIMIT, **_BUSY),
    Case("real-bytes", real_pages=300),
    Case("xbzrle", capabilities=("xbzrle",), parameters=_LIMIT, **_BUSY),
    Case("multifd", capabilities=("multifd",), parameters=_LIMIT, **_BUSY),
    Case("multifd-idle-4", capabilities=("multifd",), parameters={"multifd-channels": 4}, off_ms=10),
    Case("multifd-legacy", capabilities=("multifd",), parameters={**_LIMIT, "zero-page-detection": "legacy"}, **_BUSY),
    Case(
        "multifd-none",
        capabilities=("multifd",),
        parameters={**_LIMIT, "zero-page-detection": "none"},
        off=128,
        **_BUSY,
    ),
    Case("multifd-10.0", "10.0", capabilities=("multifd",), parameters=_LIMIT, **_BUSY),
    Case("multifd-7.2", "7.2", capabilities=("multifd",), parameters=_LIMIT, **_BUSY),
    Case("mapped-ram", uri="file:/tmp/saved", capabilities=("mapped-ram",), parameters=_LIMIT, **_BUSY),
    Case("file", uri="file:/tmp/saved", parameters=_LIMIT, **_BUSY),
]


@dataclass
class Round:
    """One look at the dirty bitmap."""

    ms: float
    pages: int
    zero: int
    found: int
    transferred: int


def rounds(case: Case, how: str) -> tuple[list[Round], dict[str, Any]]:
    """Every look at the bitmap, and query-migrate at the end."""
    world = SimWorld(seed=5)
    source, destination = (SimMachine(world, name=name, profile=case.profile, fake={"ram": how}) for name in ("a", "b"))
    for side in (source, destination):
        side.vm.ram_blocks.append(RAMBlock("ram", case.size))
    block = source.vm.ram_blocks[0]
    block.guest_dirties(0, case.used // PAGE)
    for page in range(case.real_pages):
        block.write_pages(2 * page, bytes((1 + page % 255,)) * PAGE)
    source.vm.guest.set_dirty_rate(case.rate, case.working_set)
    source.execute("cont")
    destination.vm.runstate.set("inmigrate")
    wanted = [{"capability": name, "state": True} for name in case.capabilities]
    for side in (source, destination):
        side.execute("migrate-set-capabilities", capabilities=wanted)
        side.execute("migrate-set-parameters", **case.parameters)
    if not case.uri.startswith("file:"):
        destination.execute("migrate-incoming", uri=case.uri)
    world.network.bandwidth_bytes_per_s = MODEL_LINK_BYTES_PER_S
    found: list[Round] = []
    began_ns = world.clock.now_ns()
    stats = source.vm.migration.stats

    def looked(_event: str, fields: dict[str, Any]) -> None:
        ms = (world.clock.now_ns() - began_ns) / NS_PER_MS
        sent = stats.normal + stats.duplicate
        found.append(Round(ms, sent, stats.duplicate, fields["dirty_pages"], stats.transferred))

    source.vm.trace.watch(looked, "migration_bitmap_sync_end")
    source.execute("migrate", uri=case.uri)
    world.run_until(lambda: source.vm.migration.state in ("completed", "failed"), 60 * NS_PER_S)
    info: dict[str, Any] = source.execute("query-migrate")
    assert info["status"] == "completed", info
    return found, info


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_numbers_are_those_of_the_wire(case: Case) -> None:
    wire, wire_info = rounds(case, "wire")
    model, model_info = rounds(case, "model")
    assert len(wire) == len(model), (wire, model)
    for number, (one, other) in enumerate(zip(wire, model, strict=True), 1):
        off = number * case.off
        assert abs(one.found - other.found) <= case.off, (number, one, other)
        assert abs(one.pages - other.pages) <= off, (number, one, other)
        assert abs(one.zero - other.zero) <= off, (number, one, other)
        assert abs(one.transferred - other.transferred) <= off * PAGE, (number, one, other)
    ram, other_ram = wire_info["ram"], model_info["ram"]
    for name in ("total", "remaining", "page-size", "dirty-sync-count", "postcopy-bytes", "dirty-pages-rate"):
        assert ram[name] == other_ram[name], name
    for name in ("normal", "duplicate"):
        assert abs(ram[name] - other_ram[name]) <= len(wire) * case.off, name
    for name in ("transferred", "precopy-bytes", "downtime-bytes", "multifd-bytes"):
        assert abs(ram[name] - other_ram[name]) <= len(wire) * case.off * PAGE, (name, ram[name], other_ram[name])
    for name in ("total-time", "downtime", "setup-time"):
        assert abs(wire_info[name] - model_info[name]) <= case.off_ms, (name, wire_info, model_info)
