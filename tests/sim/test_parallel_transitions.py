# SPDX-License-Identifier: MIT
"""How long stopping and starting takes, device by device or side by side, and in which order.

The table of times is the one of the specification; on the simulated clock it holds exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from fakeqemu.error import QemuError
from fakeqemu.hw.vfio import fsm
from fakeqemu.system.runstate import FINISH_MIGRATE, PAUSED

MakeMachine = Callable[..., Any]


@dataclass
class Setup:
    """A row of the table: devices as (ms of an arc, depth), and the serial handlers of depth 2 in the main phase."""

    name: str
    devices: Sequence[tuple[float, int]]
    off_ms: float
    on_ms: float
    ordinary_ms: float = 0


STOPS = [
    Setup("1 device", [(50, 2)], 100, 100),
    Setup("4 devices", [(50, 2)] * 4, 400, 100),
    Setup("8 devices", [(50, 2)] * 8, 800, 100),
    Setup("4+4 devices on two depths", [(50, 2)] * 4 + [(50, 3)] * 4, 800, 200),
    Setup("8 devices, one five times slower", [(250, 2)] + [(50, 2)] * 7, 1200, 500),
    Setup("8 devices and 300 ms of handlers", [(50, 2)] * 8, 1100, 350, ordinary_ms=300),
]


def build(machine: Any, setup: Setup, parallel: str) -> None:
    if setup.ordinary_ms:
        machine.add_ordinary_handler(setup.ordinary_ms)
    for ms, depth in setup.devices:
        machine.add_vf(ms=ms, depth=depth, x_migration_parallel_states=parallel)


@pytest.mark.parametrize("setup", STOPS, ids=lambda setup: setup.name)
@pytest.mark.parametrize("parallel", ["off", "on"])
def test_stopping_the_source_takes_as_long_as_the_table_says(
    make_machine: MakeMachine, setup: Setup, parallel: str
) -> None:
    machine = make_machine()
    build(machine, setup, parallel)
    machine.world.run(machine.vm.runstate.vm_start())
    machine.begin_precopy()
    took = machine.timed_ms(machine.vm.runstate.vm_stop(FINISH_MIGRATE))
    assert took == (setup.on_ms if parallel == "on" else setup.off_ms)
    assert {migration.device_state for migration in machine.migrations()} == {fsm.STOP_COPY}


@pytest.mark.parametrize(("parallel", "took_ms"), [("off", 1200), ("on", 150)])
def test_starting_the_destination_walks_two_arcs_and_one_per_device(
    make_machine: MakeMachine, parallel: str, took_ms: float
) -> None:
    source, target = make_machine(), make_machine()
    for machine in (source, target):
        build(machine, STOPS[2], parallel)
    source.world.run(source.vm.runstate.vm_start())
    source.begin_precopy()
    source.world.run(source.vm.runstate.vm_stop(FINISH_MIGRATE))
    target.load_devices(source.save_devices())
    assert target.timed_ms(target.vm.runstate.vm_start()) == took_ms
    assert {migration.device_state for migration in target.migrations()} == {fsm.RUNNING}
    for there, here in zip(target.migrations(), source.migrations(), strict=True):
        assert there.vbasedev.driver.internal == here.vbasedev.driver.internal, "the source's state has arrived"


def test_the_launch_cost_adds_up_where_it_is_set(make_machine: MakeMachine) -> None:
    machine = make_machine(compat={"vfio_launch_us": "50"})
    build(machine, STOPS[2], "on")
    machine.world.run(machine.vm.runstate.vm_start())
    machine.begin_precopy()
    # Two phases; the eighth thread starts 8 * 0.05 ms after the first launch began.
    assert machine.timed_ms(machine.vm.runstate.vm_stop(FINISH_MIGRATE)) == pytest.approx(2 * (50 + 8 * 0.05))


def test_a_device_with_the_property_off_adds_up_and_the_others_overlap_it(make_machine: MakeMachine) -> None:
    machine = make_machine()
    for index in range(8):
        machine.add_vf(ms=50, x_migration_parallel_states="off" if index == 3 else "on")
    machine.world.run(machine.vm.runstate.vm_start())
    machine.begin_precopy()
    assert machine.timed_ms(machine.vm.runstate.vm_stop(FINISH_MIGRATE)) == 100
    machine.add_vf(ms=70, x_migration_parallel_states="off")
    machine.world.run(machine.vm.runstate.vm_start())
    # Two serial devices now, in both phases: 50 + 70 hide the 50 of the seven.
    assert machine.timed_ms(machine.vm.runstate.vm_stop(PAUSED)) == 240


def test_a_global_switches_the_property_off(make_machine: MakeMachine) -> None:
    machine = make_machine()
    machine.vm.globals = [("vfio-pci", "x-migration-parallel-states", "off")]
    machine.add_vf()
    machine.add_vf()
    machine.world.run(machine.vm.runstate.vm_start())
    assert machine.timed_ms(machine.vm.runstate.vm_stop(PAUSED)) == 200


def test_11_1_has_no_such_property_and_stops_one_device_after_the_other(make_machine: MakeMachine) -> None:
    machine = make_machine(profile="11.1")
    with pytest.raises(QemuError) as refused:
        machine.add_vf(x_migration_parallel_states="on")
    assert refused.value.desc == "Property 'vfio-pci.x-migration-parallel-states' not found"
    machine = make_machine(profile="11.1")
    machine.add_vf()
    machine.add_vf()
    machine.world.run(machine.vm.runstate.vm_start())
    assert machine.timed_ms(machine.vm.runstate.vm_stop(PAUSED)) == 200


def test_transitions_run_under_the_thread_names_of_the_series(make_machine: MakeMachine) -> None:
    machine = make_machine()
    machine.add_vf()
    task = machine.host.start(machine.vm.runstate.vm_start(), "test")
    names = [task.name for task in machine.host.tasks]
    machine.world.run_until(lambda: machine.device_events() == ["running-p2p"])
    machine.world.run_ready()
    names += [task.name for task in machine.host.tasks]
    machine.world.run_until(task)
    assert names == ["test", "vfio_vmstate_change_prepare", "test", "vfio_vmstate_change"]


def test_property_on_and_off_write_the_same_bytes(make_machine: MakeMachine) -> None:
    def saved(parallel: str) -> tuple[bytes, list[bytes]]:
        machine = make_machine(seed=5, name="same")
        build(machine, STOPS[1], parallel)
        machine.world.run(machine.vm.runstate.vm_start())
        setup = machine.begin_precopy()
        machine.world.run(machine.vm.runstate.vm_stop(FINISH_MIGRATE))
        return setup, machine.save_devices()

    assert saved("on") == saved("off")
