# SPDX-License-Identifier: MIT
"""Postcopy of a guest whose make-believe pages only count (`ram=model`): the numbers of one whose pages travel, in no time."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.host.clock import NS_PER_MS, NS_PER_S
from fakeqemu.migration.stats import query_migrate
from fakeqemu.sim.world import SimWorld
from fakeqemu.system.ramblock import RAMBlock
from fakeqemu.testing.sim_machine import SimMachine
from tests.sim.test_postcopy import MIB, PAGES, Pair

TIB = 1 << 40


class MadePair(Pair):
    """The guest's memory is make-believe, but for a few real pages."""

    def __init__(
        self, ram: str, profile: str = "11.1", size: int = 4 * MIB, touch: str = "4M", **capabilities: bool
    ) -> None:
        self.world = SimWorld(seed=3)
        fakes = ({"ram": ram}, {"ram": ram, "guest.touch-rate": touch, "guest.working-set": "4M"})
        self.source, self.destination = (
            SimMachine(self.world, name=name, profile=profile, fake=fake)
            for name, fake in zip(("src", "dst"), fakes, strict=True)
        )
        for machine in (self.source, self.destination):
            machine.vm.ram_blocks.append(RAMBlock("ram0", size))
            machine.vm.guest.configure(machine.vm.fake)
        block = self.source.vm.ram_blocks[0]
        block.guest_dirties(0, block.pages * 3 // 4)
        block.write_pages(500, b"real" * 1024 * 8)
        self.source.execute("cont")
        self.destination.vm.runstate.set("inmigrate")
        states = {"events": True, "postcopy-ram": True} | {k.replace("_", "-"): v for k, v in capabilities.items()}
        listed = [{"capability": name, "state": state} for name, state in states.items()]
        for machine in (self.source, self.destination):
            machine.execute("migrate-set-capabilities", capabilities=listed)
            machine.events.clear()
        self.destination.execute("migrate-incoming", uri="unix:/tmp/d")

    def done(self) -> dict[str, Any]:
        info = self.wait(self.source, "completed")
        self.wait(self.destination, "completed")
        self.world.run_until_idle()
        assert self.destination.vm.runstate.state == "running"
        assert self.destination.vm.ram_blocks[0].read_pages(500, 8) == b"real" * 1024 * 8
        assert not self.source.vm.bugs
        assert not self.destination.vm.bugs
        return info


def numbers(ram: str, profile: str, **capabilities: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    pair = MadePair(ram, profile, 4 * MIB, "4M", postcopy_blocktime=True, **capabilities)
    pair.start(precopy=MIB, postcopy=2 * MIB)
    return pair.done()["ram"], query_migrate(pair.destination.vm.migration)


@pytest.mark.parametrize("preempt", [False, True])
@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
def test_numbers_are_those_of_pages_that_travel(profile: str, preempt: bool) -> None:
    wire, wire_told = numbers("wire", profile, postcopy_preempt=preempt)
    model, model_told = numbers("model", profile, postcopy_preempt=preempt)
    assert (wire["normal"], wire["duplicate"]) == (model["normal"], model["duplicate"])
    assert model["normal"] + model["duplicate"] == PAGES
    assert model["postcopy-requests"] > 0
    assert abs(wire["transferred"] - model["transferred"]) < 0.02 * wire["transferred"]
    assert model["remaining"] == 0
    assert sorted(wire_told) == sorted(model_told)


def test_every_byte_is_counted_once() -> None:
    pair = MadePair("model")
    pair.start(precopy=MIB, postcopy=2 * MIB)
    ram = pair.done()["ram"]
    records = ram["precopy-bytes"] + ram["downtime-bytes"] + ram["postcopy-bytes"]
    assert 0 < ram["transferred"] - records < 3000


def test_a_page_that_was_only_counted_is_there_for_whoever_asks() -> None:
    """A destination that does not know that pages only count asks for those that were counted before the guest left."""
    pair = MadePair("model", touch="64M")
    pair.destination.vm.fake.pop("ram")
    pair.source.execute(
        "migrate-set-parameters", max_bandwidth=4 * MIB, max_postcopy_bandwidth=2 * MIB, downtime_limit=1
    )
    pair.source.execute("migrate", uri="unix:/tmp/d")
    pair.wait(pair.source, "active")
    pair.world.run_for(400 * NS_PER_MS)
    pair.source.execute("migrate-start-postcopy")
    ram = pair.done()["ram"]
    assert ram["normal"] + ram["duplicate"] == PAGES
    assert ram["precopy-bytes"] > MIB


def test_a_terabyte_follows_in_an_hour_of_the_guest_and_no_time_of_ours() -> None:
    pair = MadePair("model", size=TIB, touch="1M", postcopy_blocktime=True, postcopy_preempt=True)
    began_ns = pair.world.clock.now_ns()
    pair.source.execute("migrate-set-parameters", max_bandwidth=MIB, max_postcopy_bandwidth=300 << 20)
    pair.source.execute("migrate", uri="unix:/tmp/d")
    pair.source.execute("migrate-start-postcopy")
    info = pair.done()
    spent_s = (pair.world.clock.now_ns() - began_ns) / NS_PER_S
    expected_s = TIB * 3 / 4 / (300 << 20)
    assert abs(spent_s - expected_s) < expected_s / 20
    assert abs(info["total-time"] / 1000 - spent_s) < 2
    assert info["ram"]["remaining"] == 0


@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
def test_paused_and_recovered(profile: str) -> None:
    pair = MadePair("model", profile)
    pair.start(precopy=MIB, postcopy=MIB)
    pair.wait(pair.source, "postcopy-active")
    pair.world.run_for(300 * NS_PER_MS)
    pair.break_link()
    pair.wait(pair.source, "postcopy-paused")
    pair.wait(pair.destination, "postcopy-paused")
    pair.destination.execute("migrate-recover", uri="unix:/tmp/r")
    pair.source.execute("migrate", uri="unix:/tmp/r", resume=True)
    pair.done()
