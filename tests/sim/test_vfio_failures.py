# SPDX-License-Identifier: MIT
"""Arcs that fail, one at a time and two at once: what is said, which events are sent, where the device ends."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fakeqemu.error import QemuError, StreamError
from fakeqemu.hw.vfio import fsm
from fakeqemu.migration.register import FAILED
from fakeqemu.migration.stream.qemu_file import QEMUFile
from fakeqemu.system.runstate import FINISH_MIGRATE, IO_ERROR, PAUSED

MakeMachine = Callable[..., Any]

NAME = "0000:3b:00.1"
EIO = os.strerror(errno.EIO)


class FailArcs:
    """Fails the given arcs, each `times` times."""

    def __init__(self, *arcs: str, times: int = 1000, device: str = "") -> None:
        self.left = dict.fromkeys(arcs, times)
        self.device = device

    def check(self, point: str, fields: dict[str, Any]) -> None:
        if point == "vfio_pci_reset" and "reset" in self.left:
            raise OSError(errno.EIO, EIO)
        arc = f"{fields.get('from_state')}>{fields.get('to_state')}"
        if point == "fake_vfio_arc" and self.left.get(arc, 0) and self.device in ("", fields["device"]):
            self.left[arc] -= 1
            raise OSError(errno.EIO, EIO)

    def wait(self, point: str, fields: dict[str, Any]) -> Awaitable[None] | None:
        return None


def running_machine(make_machine: MakeMachine, devices: int = 1, **options: Any) -> Any:
    machine = make_machine()
    for _ in range(devices):
        machine.add_vf(**options)
    machine.world.run(machine.vm.runstate.vm_start())
    machine.events.clear()
    return machine


def message(state: str, tail: str) -> str:
    return f"{NAME}: Failed setting device state to {state}. {tail}: {EIO}"


def test_a_setup_that_fails_leaves_the_device_running(make_machine: MakeMachine) -> None:
    machine = running_machine(make_machine)
    machine.vm.faults.injector = FailArcs("running>pre-copy")
    with pytest.raises(QemuError) as failed:
        machine.begin_precopy()
    assert failed.value.desc == message("PRE_COPY", "Setting device in recover state RUNNING")
    assert machine.device_events() == ["running"], "the event of the recover state is sent though it was there"


@pytest.mark.parametrize("parallel", ["on", "off"])
def test_a_failed_prepare_resets_the_device_and_main_goes_on(make_machine: MakeMachine, parallel: str) -> None:
    machine = running_machine(make_machine, x_migration_parallel_states=parallel)
    machine.begin_precopy()
    machine.events.clear()
    machine.vm.faults.injector = FailArcs("pre-copy>pre-copy-p2p")
    machine.world.run(machine.vm.runstate.vm_stop(FINISH_MIGRATE))
    assert machine.device_events() == ["pre-copy-p2p-prepare", "running", "stop"]
    assert machine.host.log_lines == [message("PRE_COPY_P2P", "Recover state is ERROR. Resetting device")]


def test_a_failed_stop_resets_the_device(make_machine: MakeMachine) -> None:
    machine = running_machine(make_machine)
    machine.vm.faults.injector = FailArcs("running-p2p>stop")
    machine.world.run(machine.vm.runstate.vm_stop(PAUSED))
    assert machine.device_events() == ["running-p2p", "running"]
    assert machine.host.log_lines == [message("STOP", "Recover state is ERROR. Resetting device")]


def test_a_device_that_cannot_save_goes_back_to_stop(make_machine: MakeMachine) -> None:
    machine = running_machine(make_machine, flags=fsm.FLAG_STOP_COPY | fsm.FLAG_P2P)
    machine.begin_precopy()
    machine.world.run(machine.vm.runstate.vm_stop(FINISH_MIGRATE))
    machine.events.clear()
    machine.vm.faults.injector = FailArcs("stop>stop-copy")
    with pytest.raises(QemuError):
        machine.save_devices()
    assert machine.device_events() == ["stop"]
    assert machine.host.log_lines == [message("STOP_COPY", "Setting device in recover state STOP")]


def test_a_destination_that_cannot_resume_goes_back_to_where_it_was(make_machine: MakeMachine) -> None:
    machine = make_machine()
    migration = machine.add_vf()
    machine.vm.faults.injector = FailArcs("stop>resuming")
    with pytest.raises(StreamError) as failed:
        machine.world.run(migration.handlers.load_setup(QEMUFile()))
    assert failed.value.desc == message("RESUMING", "Setting device in recover state RUNNING")
    assert machine.device_events() == ["running"]


def test_a_failing_recovery_ends_in_a_reset(make_machine: MakeMachine) -> None:
    machine = running_machine(make_machine, flags=fsm.FLAG_STOP_COPY | fsm.FLAG_P2P)
    machine.begin_precopy()
    machine.world.run(machine.vm.runstate.vm_stop(FINISH_MIGRATE))
    machine.events.clear()
    migration = machine.migrations()[0]
    machine.vm.faults.injector = FailArcs("stop>running-p2p")
    with pytest.raises(QemuError) as failed:
        machine.world.run(migration.set_state(fsm.RUNNING_P2P, fsm.RUNNING))
    assert failed.value.desc == message("RUNNING_P2P", "Setting device in recover state RUNNING")
    assert machine.host.log_lines == [f"{NAME}: Failed setting device in recover state, err: {EIO}. Resetting device"]
    assert machine.device_events() == ["running"]
    assert migration.vbasedev.driver.state == fsm.RUNNING


def test_a_failing_reset_leaves_the_device_in_error_and_is_logged(make_machine: MakeMachine) -> None:
    machine = running_machine(make_machine)
    machine.vm.faults.injector = FailArcs("running>running-p2p", "reset")
    machine.world.run(machine.vm.runstate.vm_stop(PAUSED))
    assert machine.device_events() == []
    assert f"{NAME}: Failed resetting device, err: {EIO}" in machine.host.log_lines
    assert machine.migrations()[0].device_state == fsm.ERROR


def test_of_two_that_fail_the_first_to_end_is_reported_and_both_are_joined(make_machine: MakeMachine) -> None:
    machine = make_machine()
    machine.add_vf(ms=80)
    machine.add_vf(ms=30)
    machine.world.run(machine.vm.runstate.vm_start())
    reported: list[tuple[float, str]] = []
    machine.vm.savevm.report_stream_error = lambda error: reported.append((machine.host.clock.now_ns(), error.desc))
    for function in machine.vm.hardware.functions.values():
        function.migration.arcs.failures = {"running-p2p>stop": errno.EIO}
    start = machine.host.clock.now_ns()
    machine.world.run(machine.vm.runstate.vm_stop(PAUSED))
    assert [(at - start, text[:12]) for at, text in reported] == [
        (110_000_000, "0000:3b:00.2"),  # both wait 80 ms for the end of prepare
        (160_000_000, "0000:3b:00.1"),
    ]
    assert [task for task in machine.host.tasks if task.name.startswith("vfio")] == []


def test_a_device_that_left_its_session_is_out_of_sync(make_machine: MakeMachine) -> None:
    """A stop in another run state than paused takes a device out of PRE_COPY, and STOP_COPY opens a second session."""
    machine = running_machine(make_machine)
    machine.begin_precopy()
    machine.world.run(machine.vm.runstate.vm_stop(IO_ERROR))
    assert machine.device_events()[-1] == "stop"
    with pytest.raises(QemuError):
        machine.save_devices()
    assert machine.host.log_lines == [f"{NAME}: data_fd out of sync"]


def test_after_a_failed_migration_devices_go_back_one_after_the_other(make_machine: MakeMachine) -> None:
    machine = running_machine(make_machine, devices=4)
    machine.begin_precopy()
    machine.world.run(machine.vm.runstate.vm_stop(FINISH_MIGRATE))
    machine.events.clear()
    # STOP_COPY, STOP, RUNNING_P2P, RUNNING: three arcs each, though parallel states are on.
    assert machine.timed_ms(machine.vm.savevm.notify(FAILED)) == 4 * 3 * 50
    assert machine.device_events() == ["running"] * 4


def test_a_device_that_does_not_go_back_is_only_reported(make_machine: MakeMachine) -> None:
    machine = running_machine(make_machine)
    machine.begin_precopy()
    machine.vm.faults.injector = FailArcs("pre-copy>running")
    machine.world.run(machine.vm.savevm.notify(FAILED))
    assert machine.host.log_lines == [message("RUNNING", "Recover state is ERROR. Resetting device")]


def test_a_size_of_nothing_has_no_buffer(make_machine: MakeMachine) -> None:
    machine = running_machine(make_machine)
    function = machine.vm.hardware.functions[NAME]
    function.migration.stop_copy_bytes = function.migration.initial_bytes = 0
    with pytest.raises(QemuError) as failed:
        machine.begin_precopy()
    assert failed.value.desc == f"{NAME}: Failed to allocate migration data buffer"


def test_a_device_that_is_resuming_cannot_migrate_on(make_machine: MakeMachine) -> None:
    machine = make_machine()
    migration = machine.add_vf()
    machine.world.run(migration.handlers.load_setup(QEMUFile()))
    with pytest.raises(QemuError) as failed:
        machine.begin_precopy()
    assert failed.value.desc == f"{NAME}: Invalid device state 4"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([0xFFFFFFFFEF100009], f"{NAME}: Unknown tag 0xffffffffef100009"),
        ([0xFFFFFFFFEF100003, 7], f"{NAME}: SETUP STATE: EOS not found 0x7"),
        ([0xFFFFFFFFEF100005], f"{NAME}: Received INIT_DATA_SENT but switchover ack is not used"),
    ],
)
def test_a_destination_names_what_it_does_not_understand(
    make_machine: MakeMachine, words: list[int], text: str
) -> None:
    machine = make_machine()
    migration = machine.add_vf()
    f = QEMUFile.over(b"".join(word.to_bytes(8, "big") for word in words))
    with pytest.raises(StreamError) as failed:
        machine.world.run(migration.handlers.load_state(f, 1))
    assert failed.value.desc == text


def test_a_section_cut_anywhere_is_an_error_of_the_stream(make_machine: MakeMachine) -> None:
    machine = running_machine(make_machine)
    machine.begin_precopy()
    machine.world.run(machine.vm.runstate.vm_stop(FINISH_MIGRATE))
    machine.vm.hardware.functions[NAME].migration.stop_copy_bytes = 64
    (body,) = machine.save_devices()
    target = make_machine()
    migration = target.add_vf(ms=0)
    for cut in range(0, len(body) - 1, max(1, len(body) // 50)):
        target.world.run(migration.handlers.load_setup(QEMUFile()))
        with pytest.raises(StreamError):
            target.world.run(migration.handlers.load_state(QEMUFile.over(body[:cut]), 1))
        migration.close_data()
        migration.vbasedev.driver.reset()
        migration.device_state = fsm.RUNNING


def test_configuration_of_another_device_is_refused(make_machine: MakeMachine) -> None:
    source, target = make_machine(), make_machine()
    here, there = source.add_vf(), target.add_vf()
    f = QEMUFile()
    source.world.run(here.handlers.save_state(f))
    target.world.run(there.handlers.load_state(QEMUFile.over(f.getvalue()), 1))
    there.vbasedev.dev.config.set_word(2, 0x1234)
    with pytest.raises(StreamError) as failed:
        target.world.run(there.handlers.load_state(QEMUFile.over(f.getvalue()), 1))
    assert failed.value.desc == f"{NAME}: Failed to load device config space"
    assert target.host.log_lines == [
        "Bad config data: i=0x2 read: 1e device: 34 cmask: ff wmask: 0 w1cmask:0",
        "Failed to load element of type pci config for config",
    ]
