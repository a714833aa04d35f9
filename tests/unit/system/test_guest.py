# SPDX-License-Identifier: MIT
"""The guest dirties memory as a function of the time that it ran."""

from __future__ import annotations

import pytest

from fakeqemu.error import QemuError
from fakeqemu.host.clock import NS_PER_S
from fakeqemu.sim.world import SimWorld
from fakeqemu.system.ramblock import PAGE_SIZE, PageRuns, RAMBlock
from fakeqemu.testing.sim_machine import SimMachine

MIB = 1 << 20


def machine(*sizes: int, **fake: str) -> SimMachine:
    made = SimMachine(SimWorld(seed=1), profile="11.1")
    for number, size in enumerate(sizes):
        block = RAMBlock(f"ram{number}", size)
        block.dirty = PageRuns()
        made.vm.ram_blocks.append(block)
    made.vm.guest.configure({name.replace("_", "."): value for name, value in fake.items()})
    return made


def dirty(made: SimMachine) -> list[int]:
    made.vm.guest.sync()
    return [block.dirty.count for block in made.vm.ram_blocks if block.dirty is not None]


def test_nothing_is_dirtied_unless_told() -> None:
    made = machine(MIB)
    made.execute("cont")
    made.world.run_for(10 * NS_PER_S)
    assert dirty(made) == [0]


def test_the_rate_counts_running_time_only() -> None:
    made = machine(8 * MIB)
    made.vm.guest.set_dirty_rate(MIB)
    made.world.run_for(5 * NS_PER_S)
    assert dirty(made) == [0]
    made.execute("cont")
    made.world.run_for(2 * NS_PER_S)
    made.execute("stop")
    made.world.run_for(50 * NS_PER_S)
    assert dirty(made) == [2 * MIB // PAGE_SIZE]
    made.execute("cont")
    made.world.run_for(NS_PER_S)
    assert dirty(made) == [3 * MIB // PAGE_SIZE]


def test_it_goes_round_in_the_working_set() -> None:
    made = machine(MIB, 2 * MIB)
    made.vm.guest.set_dirty_rate(10 * MIB, 3 * MIB // 2)
    made.execute("cont")
    made.world.run_for(NS_PER_S)
    assert dirty(made) == [MIB // PAGE_SIZE, MIB // 2 // PAGE_SIZE]


@pytest.mark.parametrize("looks", [1, 7, 1000])
def test_how_often_one_looks_does_not_matter(looks: int) -> None:
    made = machine(8 * MIB)
    made.vm.guest.set_dirty_rate(MIB + 12345)
    made.execute("cont")
    for _ in range(looks):
        made.world.run_for(NS_PER_S // looks)
        made.vm.guest.sync()
    made.world.run_for(NS_PER_S % looks)
    assert dirty(made) == [(MIB + 12345) // PAGE_SIZE]


def test_settings() -> None:
    made = machine(MIB, **{"guest_dirty-rate": "64M", "guest_working-set": "1G"})
    assert (made.vm.guest.dirty_bytes_per_s, made.vm.guest.working_set) == (64 * MIB, 1024 * MIB)
    with pytest.raises(QemuError, match=r"^-fake guest.dirty-rate=fast: a size such as 64M is expected$"):
        machine(**{"guest_dirty-rate": "fast"})
