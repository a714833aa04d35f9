# SPDX-License-Identifier: MIT
"""Postcopy between two machines on the simulated host: statuses, content, requests, breaks and recovery."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.error import QemuError
from fakeqemu.host.clock import NS_PER_MS, NS_PER_S
from fakeqemu.migration.stats import query_migrate
from fakeqemu.sim.world import SimWorld
from fakeqemu.system.ramblock import RAMBlock
from fakeqemu.testing.sim_machine import SimMachine

MIB = 1 << 20
PAGES = 4 * MIB // 4096
CONTENT = b"".join(bytes((1 + n % 255,)) * 4096 if n % 3 else bytes(4096) for n in range(PAGES))


class Pair:
    """A source with known memory, and a destination."""

    def __init__(self, profile: str = "11.1", fake: dict[str, str] | None = None, **capabilities: bool) -> None:
        self.world = SimWorld(seed=3)
        self.source = SimMachine(self.world, name="src", profile=profile)
        self.destination = SimMachine(self.world, name="dst", profile=profile, fake=fake)
        for machine in (self.source, self.destination):
            machine.vm.ram_blocks.append(RAMBlock("ram0", 4 * MIB))
            machine.vm.guest.configure(machine.vm.fake)
        self.source.vm.ram_blocks[0].write_pages(0, CONTENT)
        self.source.execute("cont")
        self.destination.vm.runstate.set("inmigrate")
        states = {"events": True, "postcopy-ram": True} | {k.replace("_", "-"): v for k, v in capabilities.items()}
        listed = [{"capability": name, "state": state} for name, state in states.items()]
        for machine in (self.source, self.destination):
            machine.execute("migrate-set-capabilities", capabilities=listed)
            machine.events.clear()
        self.destination.execute("migrate-incoming", uri="unix:/tmp/d")

    def start(self, *, precopy: int = MIB, postcopy: int = 0, uri: str = "unix:/tmp/d") -> None:
        """Migrate at these bytes a second; switch to postcopy as soon as it can be."""
        self.source.execute("migrate-set-parameters", max_bandwidth=precopy, max_postcopy_bandwidth=postcopy)
        self.source.execute("migrate", uri=uri)
        self.source.execute("migrate-start-postcopy")

    def wait(self, machine: SimMachine, status: str) -> dict[str, Any]:
        self.world.run_until(lambda: query_migrate(machine.vm.migration).get("status") == status)
        return query_migrate(machine.vm.migration)

    def completed(self) -> dict[str, Any]:
        info = self.wait(self.source, "completed")
        self.wait(self.destination, "completed")
        self.world.run_until_idle()
        assert self.destination.vm.ram_blocks[0].read_pages(0, PAGES) == CONTENT
        assert self.source.vm.runstate.state == "postmigrate"
        assert self.destination.vm.runstate.state == "running"
        assert not self.source.vm.bugs
        assert not self.destination.vm.bugs
        return info

    def told(self, machine: SimMachine) -> list[str]:
        return [data.get("status", name) for _, name, data in machine.events if name != "MIGRATION_PASS"]

    def break_link(self) -> None:
        assert self.source.vm.migration.outgoing is not None
        assert self.source.vm.migration.outgoing.f is not None
        channel = self.source.vm.migration.outgoing.f.channel
        assert channel is not None
        channel.shutdown()


SOURCE_STORY = {
    "11.1": ["setup", "active", "STOP", "device", "postcopy-device", "postcopy-active", "completed"],
    "10.0": ["setup", "active", "STOP", "device", "postcopy-active", "completed"],
    "7.2": ["setup", "active", "postcopy-active", "STOP", "completed"],
}
DESTINATION_STORY = {
    "11.1": ["setup", "active", "postcopy-device", "postcopy-active", "RESUME", "completed"],
    "10.0": ["setup", "active", "postcopy-active", "RESUME", "completed"],
    "7.2": ["setup", "active", "postcopy-active", "RESUME", "completed"],
}


@pytest.mark.parametrize("profile", sorted(SOURCE_STORY))
def test_each_release_tells_its_story(profile: str) -> None:
    pair = Pair(profile)
    pair.start()
    info = pair.completed()
    assert pair.told(pair.source) == SOURCE_STORY[profile]
    assert pair.told(pair.destination) == DESTINATION_STORY[profile]
    ram = info["ram"]
    assert ram["normal"] + ram["duplicate"] == PAGES
    assert ram["postcopy-bytes"] > 0
    assert ram["remaining"] == 0


def test_pages_that_a_vcpu_waits_for_come_first_and_nothing_is_sent_twice() -> None:
    pair = Pair(fake={"guest.touch-rate": "8M"})
    pair.start(precopy=MIB, postcopy=MIB)
    info = pair.completed()
    assert info["ram"]["postcopy-requests"] > 0
    assert info["ram"]["normal"] + info["ram"]["duplicate"] == PAGES


def test_a_request_waits_for_the_next_window_of_the_limit_and_no_longer() -> None:
    """Seen on 7.2.22, 10.0.13 and 11.1.2; from 8.0 on postcopy-preempt is the way round."""
    pair = Pair(fake={"guest.touch-rate": "4M"}, postcopy_blocktime=True)
    pair.start(precopy=MIB, postcopy=MIB // 8)
    pair.completed()
    info = query_migrate(pair.destination.vm.migration)
    assert sum(info["postcopy-latency-dist"]) == pair.source.vm.migration.stats.postcopy_requests
    assert 20 * NS_PER_MS < info["postcopy-latency"] < 100 * NS_PER_MS


def test_a_broken_link_pauses_both_sides_and_a_new_one_goes_on() -> None:
    pair = Pair(fake={"guest.touch-rate": "8M"}, postcopy_blocktime=True)
    pair.start(precopy=MIB, postcopy=MIB)
    pair.wait(pair.source, "postcopy-active")
    pair.world.run_for(300 * NS_PER_MS)
    pair.break_link()
    assert pair.wait(pair.source, "postcopy-paused")["error-desc"]
    pair.wait(pair.destination, "postcopy-paused")
    with pytest.raises(QemuError, match="cannot cancel"):
        pair.source.execute("migrate_cancel")
    with pytest.raises(QemuError, match="There's a migration process in progress"):
        pair.source.execute("migrate", uri="unix:/tmp/r")
    with pytest.raises(QemuError, match="only be run when postcopy is paused"):
        pair.source.execute("migrate-recover", uri="unix:/tmp/r")
    pair.world.run_for(10 * NS_PER_S)
    pair.destination.execute("migrate-recover", uri="unix:/tmp/first")
    pair.destination.execute("migrate-recover", uri="unix:/tmp/r")
    pair.source.execute("migrate", uri="unix:/tmp/nosuch", resume=True)
    assert "Failed to connect" in pair.wait(pair.source, "postcopy-paused")["error-desc"]
    pair.source.execute("migrate", uri="unix:/tmp/r", resume=True)
    pair.completed()
    assert pair.told(pair.source)[-5:] == [
        "postcopy-paused", "postcopy-recover-setup", "postcopy-recover", "postcopy-active", "completed",
    ]  # fmt: skip
    assert pair.told(pair.destination)[-4:] == ["postcopy-paused", "postcopy-recover", "postcopy-active", "completed"]
    info = query_migrate(pair.destination.vm.migration)
    assert info["postcopy-latency-dist"][23] == 1, "the vCPU that waited through the break"
    assert info["postcopy-vcpu-blocktime"][0] >= 10_000


@pytest.mark.parametrize("who", ["source", "destination"])
def test_migrate_pause_on_either_side(who: str) -> None:
    pair = Pair()
    machine = getattr(pair, who)
    with pytest.raises(QemuError, match="only supported during postcopy-active or postcopy-recover state"):
        machine.execute("migrate-pause")
    pair.start(postcopy=MIB)
    pair.wait(pair.source, "postcopy-active")
    machine.execute("migrate-pause")
    info = pair.wait(pair.source, "postcopy-paused")
    pair.wait(pair.destination, "postcopy-paused")
    if who == "source":
        assert info["error-desc"] == "Postcopy migration is paused by the user"
    pair.destination.execute("migrate-recover", uri="unix:/tmp/r")
    pair.source.execute("migrate", uri="unix:/tmp/r", resume=True)
    pair.completed()


def test_a_link_that_breaks_during_recovery_pauses_again() -> None:
    pair = Pair()
    pair.start(postcopy=MIB)
    pair.wait(pair.source, "postcopy-active")
    for number in range(3):
        pair.break_link()
        pair.wait(pair.source, "postcopy-paused")
        pair.wait(pair.destination, "postcopy-paused")
        pair.destination.execute("migrate-recover", uri=f"unix:/tmp/r{number}")
        pair.source.execute("migrate", uri=f"unix:/tmp/r{number}", resume=True)
        pair.wait(pair.source, "postcopy-recover")
        pair.break_link() if number == 1 else None
        pair.wait(pair.source, "postcopy-paused" if number == 1 else "postcopy-active")
        if number == 1:
            pair.wait(pair.destination, "postcopy-paused")
            pair.destination.execute("migrate-recover", uri="unix:/tmp/again")
            pair.source.execute("migrate", uri="unix:/tmp/again", resume=True)
            pair.wait(pair.source, "postcopy-active")
    pair.completed()


def test_before_the_switch_it_is_a_precopy_and_can_end_as_one() -> None:
    pair = Pair()
    pair.source.execute("migrate", uri="unix:/tmp/d")
    info = pair.completed()
    assert info["ram"]["postcopy-bytes"] == 0
    assert "postcopy-active" not in pair.told(pair.source)


def test_start_postcopy_is_refused_without_capability_or_migration() -> None:
    pair = Pair()
    with pytest.raises(QemuError, match="Postcopy must be started after migration has been started"):
        pair.source.execute("migrate-start-postcopy")
    pair.source.execute("migrate-set-capabilities", capabilities=[{"capability": "postcopy-ram", "state": False}])
    with pytest.raises(QemuError, match="Enable postcopy with migrate_set_capability"):
        pair.source.execute("migrate-start-postcopy")


def test_quit_while_paused_ends() -> None:
    pair = Pair()
    pair.start(postcopy=MIB)
    pair.wait(pair.source, "postcopy-active")
    pair.break_link()
    pair.wait(pair.source, "postcopy-paused")
    pair.source.execute("quit")
    pair.world.run_until_idle()
    assert pair.told(pair.source)[-2:] == ["SHUTDOWN", "cancelling"]
