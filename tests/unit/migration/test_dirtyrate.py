# SPDX-License-Identifier: MIT
"""Measurements of the dirty rate follow the guest."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.error import QemuError
from fakeqemu.host.clock import NS_PER_MS, NS_PER_S
from fakeqemu.sim.world import SimWorld
from fakeqemu.system.ramblock import RAMBlock
from fakeqemu.testing.sim_machine import SimMachine

MIB = 1 << 20


def machine(
    size: int = 256 * MIB, *, rate: int = 0, profile: str = "11.1", working_set: int | None = None
) -> SimMachine:
    made = SimMachine(SimWorld(seed=1), profile=profile)
    if size:
        made.vm.ram_blocks.append(RAMBlock("ram", size))
    made.vm.guest.set_dirty_rate(rate, working_set)
    made.execute("cont")
    return made


def measure(made: SimMachine, seconds: int = 1, **arguments: Any) -> dict[str, Any]:
    made.execute("calc-dirty-rate", **{"calc-time": seconds, **arguments})
    assert made.execute("query-dirty-rate")["status"] == "measuring"
    made.world.run_for(seconds * NS_PER_S)
    result: dict[str, Any] = made.execute("query-dirty-rate")
    assert result["status"] == "measured"
    return result


def test_a_guest_that_does_nothing_has_a_rate_of_nothing() -> None:
    assert measure(machine())["dirty-rate"] == 0


def test_sampled_pages_tell_the_rate() -> None:
    rate = measure(machine(rate=64 * MIB), **{"sample-pages": 16384})["dirty-rate"]
    assert 60 <= rate <= 68


def test_a_larger_guest_is_sampled_too() -> None:
    rate = measure(machine(1 << 40, rate=10 << 30), 10, **{"sample-pages": 16384})["dirty-rate"]
    assert rate == pytest.approx(10 << 10, rel=0.02)


def test_no_more_than_the_working_set_gets_dirty() -> None:
    made = machine(rate=1 << 30, working_set=32 * MIB)
    assert 28 <= measure(made, **{"sample-pages": 16384})["dirty-rate"] <= 36


def test_time_that_the_guest_was_stopped_does_not_count() -> None:
    made = machine(rate=64 * MIB)
    made.execute("calc-dirty-rate", **{"calc-time": 2, "sample-pages": 16384})
    made.world.run_for(NS_PER_S)
    made.execute("stop")
    made.world.run_for(NS_PER_S)
    assert 29 <= made.execute("query-dirty-rate")["dirty-rate"] <= 35


def test_the_dirty_bitmap_tells_with_kvm_only() -> None:
    made = machine(rate=64 * MIB)
    assert measure(made, mode="dirty-bitmap")["dirty-rate"] == 0
    made.vm.kvm_enabled = True
    result = measure(made, mode="dirty-bitmap")
    assert result["dirty-rate"] == 64
    assert result["sample-pages"] == 0


def test_without_pages_to_sample_there_is_no_rate() -> None:
    assert measure(machine(0))["dirty-rate"] == -1
    assert measure(machine(MIB))["dirty-rate"] == -1


def test_times_are_told_in_the_unit_that_is_asked_for() -> None:
    made = machine()
    made.execute("calc-dirty-rate", **{"calc-time": 1234, "calc-time-unit": "millisecond"})
    made.world.run_for(1234 * NS_PER_MS)
    assert made.execute("query-dirty-rate")["calc-time"] == 1
    result = made.execute("query-dirty-rate", **{"calc-time-unit": "millisecond"})
    assert result["calc-time"] == 1234
    assert result["start-time"] == made.vm.host.clock.wall_ns() // NS_PER_S - 1


def test_an_older_release_starts_at_the_time_since_boot() -> None:
    made = machine(profile="7.2")
    made.world.run_for(7 * NS_PER_S)
    began_ns = made.vm.host.clock.now_ns()
    result = measure(made)
    assert "calc-time-unit" not in result
    assert result["start-time"] == began_ns // NS_PER_S


def test_one_measurement_at_a_time() -> None:
    made = machine()
    made.execute("calc-dirty-rate", **{"calc-time": 1})
    with pytest.raises(QemuError, match=r"the dirty rate is already being measured\."):
        made.execute("calc-dirty-rate", **{"calc-time": 1})
    made.world.run_for(NS_PER_S)
    made.execute("calc-dirty-rate", **{"calc-time": 1})


def test_nobody_looks_on_when_it_is_over() -> None:
    made = machine(rate=MIB)
    measure(made)
    assert made.vm.ram_blocks[0].logs == []
