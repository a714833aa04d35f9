# SPDX-License-Identifier: MIT
"""Snapshots in the background: what they hold, and what their guest notices."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.error import QemuError
from fakeqemu.faults.injector import Injector
from fakeqemu.faults.rule import Fail, Rule
from fakeqemu.host.channel import Channel
from fakeqemu.host.clock import NS_PER_S
from fakeqemu.migration.background_snapshot import FrozenBlock
from fakeqemu.sim.world import SimWorld
from fakeqemu.system.ramblock import MADE, REAL, ZERO, PageRuns, RAMBlock
from fakeqemu.testing.sim_machine import SimMachine

PAGES = 2048


@pytest.fixture
def world() -> SimWorld:
    return SimWorld(seed=11)


def machine(world: SimWorld, name: str, *, profile: str = "11.1", fake: dict[str, str] | None = None) -> SimMachine:
    """A machine with RAM of which a quarter is empty; it runs, but for the one that waits for a guest."""
    one = SimMachine(world, name=name, profile=profile, fake=fake)
    ram = RAMBlock("ram", PAGES << 12)
    one.vm.ram_blocks.append(ram)
    if name == "target":
        one.vm.runstate.set("inmigrate")
    else:
        ram.guest_dirties(PAGES // 4, PAGES // 2)
        ram.guest_write(PAGES * 4096 - 5000, b"real bytes" * 400)
        one.execute("cont")
        switched = ("events", "background-snapshot")
        one.execute("migrate-set-capabilities", capabilities=[{"capability": c, "state": True} for c in switched])
        one.events.clear()
    return one


def content(one: SimMachine) -> bytes:
    return one.vm.ram_blocks[0].read_pages(0, PAGES)


def status(one: SimMachine) -> list[str]:
    return [data["status"] if name == "MIGRATION" else name for _, name, data in one.events]


def loaded(world: SimWorld, path: str, profile: str = "11.1") -> SimMachine:
    target = machine(world, "target", profile=profile)
    target.execute("migrate-incoming", uri=f"file:{path}")
    incoming = target.vm.migration.incoming
    assert incoming is not None
    world.run_until(lambda: incoming.state in ("completed", "failed"))
    assert incoming.state == "completed"
    return target


class Stuck:
    """Somebody who takes a connection and reads nothing until told to."""

    def __init__(self, world: SimWorld, path: str) -> None:
        self.world = world
        self.host = world.host("stuck")
        self.channel: Channel | None = None
        self.host.listen({"type": "unix", "path": path}, self._accepted)

    def _accepted(self, channel: Channel) -> None:
        self.channel = channel

    async def _read_all(self, path: str) -> None:
        assert self.channel is not None
        file = self.host.open_channel(path, 0o1101)
        while data := await self.channel.read(1 << 20):
            await file.write(data)
        file.close()

    def read_to_file(self, path: str) -> None:
        self.world.run(self._read_all(path))


def take(world: SimWorld, source: SimMachine) -> None:
    """A snapshot into /tmp/snapshot."""
    stuck = Stuck(world, "/tmp/socket")
    source.execute("migrate", uri="unix:/tmp/socket")
    world.run_until(lambda: stuck.channel is not None)
    stuck.read_to_file("/tmp/snapshot")
    world.run_until(lambda: source.vm.migration.state == "completed")


@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
def test_the_guest_runs_on_and_its_memory_is_in_the_file(world: SimWorld, profile: str) -> None:
    source = machine(world, "source", profile=profile)
    take(world, source)
    assert status(source) == ["setup", "active", "STOP", "RESUME", "completed"]
    assert source.execute("query-status")["status"] == "running"
    info = source.execute("query-migrate")
    assert info["ram"]["dirty-sync-count"] == (1 if profile == "11.1" else 0)
    assert info["ram"]["duplicate"] + info["ram"]["normal"] == PAGES
    assert info["ram"]["remaining"] == 0
    assert info["downtime"] <= info["total-time"]
    if profile != "7.2":  # that release has no files
        assert content(loaded(world, "/tmp/snapshot", profile)) == content(source)


@pytest.mark.parametrize("rate", [0, 64 << 20])
def test_what_the_guest_writes_meanwhile_is_not_in_it(world: SimWorld, rate: int) -> None:
    source = machine(world, "source", fake={"guest.dirty-rate": str(rate)})
    stuck = Stuck(world, "/tmp/socket")
    source.execute("migrate", uri="unix:/tmp/socket")
    world.run_until(lambda: "RESUME" in status(source))
    before = content(source)
    ram = source.vm.ram_blocks[0]
    for at in (0, 700, PAGES - 2):  # a page of each kind, and again
        ram.guest_write(at * 4096 + 100, b"new")
        ram.guest_write(at * 4096 + 100, b"newer")
    ram.guest_dirties(PAGES // 2, 40)
    world.run_for(NS_PER_S // 20)
    source.vm.guest.sync()
    assert content(source) != before
    assert source.execute("query-migrate")["status"] == "active"
    stuck.read_to_file("/tmp/snapshot")
    world.run_until(lambda: source.vm.migration.state == "completed")
    assert content(loaded(world, "/tmp/snapshot")) == before
    assert ram.guard is None
    assert ram.dirty is None


def test_pages_that_are_about_to_change_go_first(world: SimWorld) -> None:
    source = machine(world, "source")
    stuck = Stuck(world, "/tmp/socket")
    source.execute("migrate", uri="unix:/tmp/socket")
    world.run_until(lambda: "RESUME" in status(source))
    source.vm.ram_blocks[0].guest_write((PAGES - 1) * 4096, b"!")
    stuck.read_to_file("/tmp/snapshot")
    data = bytes(world.files.contents["/tmp/snapshot"])
    last = ((PAGES - 1) << 12 | 0x08 | 0x20).to_bytes(8, "big")
    empty = ((PAGES - PAGES // 8) << 12 | 0x02 | 0x20).to_bytes(8, "big")
    assert 0 < data.index(last) < data.index(empty)


def test_a_snapshot_that_is_cancelled_leaves_the_guest_alone(world: SimWorld) -> None:
    source = machine(world, "source")
    stuck = Stuck(world, "/tmp/socket")
    source.execute("migrate", uri="unix:/tmp/socket")
    world.run_until(lambda: stuck.channel is not None and "RESUME" in status(source))
    source.execute("migrate_cancel")
    world.run_until(lambda: source.vm.migration.state == "cancelled")
    assert status(source) == ["setup", "active", "STOP", "RESUME", "cancelling", "cancelled"]
    assert source.vm.ram_blocks[0].guard is None
    source.execute("migrate", uri="file:/tmp/again")
    world.run_until(lambda: source.vm.migration.state == "completed")


@pytest.mark.parametrize(("profile", "state"), [("7.2", "running"), ("10.0", "paused"), ("11.1", "paused")])
def test_a_paused_guest_stays_so_but_in_old_releases(world: SimWorld, profile: str, state: str) -> None:
    source = machine(world, "source", profile=profile)
    source.execute("stop")
    take(world, source)
    assert source.execute("query-status")["status"] == state


def test_a_guest_that_never_ran_has_no_snapshot(world: SimWorld) -> None:
    source = machine(world, "source")
    source.execute("system_reset")
    source.execute("stop")
    source.vm.runstate.state = "prelaunch"
    source.execute("migrate", uri="file:/tmp/snapshot")
    world.run_until(lambda: source.vm.migration.state == "failed")
    assert source.execute("query-migrate")["error-desc"] == "invalid runstate transition: 'prelaunch' -> 'paused'"


def test_pages_that_only_count_take_their_time(world: SimWorld) -> None:
    source = machine(world, "source", fake={"ram": "model", "guest.dirty-rate": str(8 << 20)})
    before = content(source)
    source.execute("migrate", uri="file:/tmp/snapshot")
    world.run_until(lambda: source.vm.migration.state == "completed")
    info = source.execute("query-migrate")
    assert info["ram"]["duplicate"] + info["ram"]["normal"] == PAGES
    target = loaded(world, "/tmp/snapshot")
    assert content(target)[-8192:] == before[-8192:]


@pytest.mark.parametrize(
    ("point", "left"),
    [
        # Before its memory is frozen, the guest stays as it was stopped for that (seen on 7.2.22, 10.0.13 and 11.1.2).
        ("ram_write_tracking_ramblock_start", "paused"),
        ("vmstate_save", "paused"),
        ("migration_completion_file_err", "running"),
        ("fake_ram_save_setup", "running"),
    ],
)
def test_a_snapshot_that_fails_leaves_the_guest_well(world: SimWorld, point: str, left: str) -> None:
    source = machine(world, "source")
    Injector(source.vm).add(Rule(point, Fail(), times=1))
    source.execute("migrate", uri="file:/tmp/snapshot")
    world.run_until(lambda: source.vm.migration.state == "failed")
    assert source.execute("query-status")["status"] == left
    source.execute("cont")
    assert source.execute("query-migrate")["error-desc"]
    ram = source.vm.ram_blocks[0]
    assert ram.guard is None
    assert ram.dirty is None
    source.execute("migrate", uri="file:/tmp/snapshot")
    world.run_until(lambda: source.vm.migration.state == "completed")


def test_a_frozen_block_keeps_what_it_held() -> None:
    block = RAMBlock("ram", 16 << 12)
    block.guest_dirties(4, 4)
    block.guest_write(9 << 12, b"real")
    runs = PageRuns()
    runs.add(0, 16)
    wanted: list[Any] = []
    frozen = FrozenBlock(block, runs, lambda _block, first, n: wanted.append((first, n)))
    before = block.read_pages(0, 16)
    runs.discard(0, 2)  # already sent
    block.guest_dirties(1, 12)
    block.guest_dirties(1, 12)
    assert frozen.read_pages(2, 14) == before[2 << 12 :]
    assert b"".join(map(bytes, frozen.buffers(2, 14))) == bytes(frozen.buffer(2, 14)) == before[2 << 12 :]
    kinds = [kind for _, n, kind in frozen.runs(2, 14) for _ in range(n)]
    assert kinds == [ZERO] * 2 + [MADE] * 4 + [ZERO] + [REAL] + [ZERO] * 6
    assert wanted == [(2, 11), (2, 11)]


def test_snapshots_have_one_channel(world: SimWorld) -> None:
    source = machine(world, "source")
    with pytest.raises(QemuError, match="Background-snapshot is not compatible with multifd"):
        source.execute("migrate-set-capabilities", capabilities=[{"capability": "multifd", "state": True}])
