# SPDX-License-Identifier: MIT
"""Lines of trace events: forms of printf, arguments, what is switched on."""

from __future__ import annotations

import pytest

from fakeqemu.monitor.trace_control import TraceControl, conversions
from fakeqemu.sim.world import SimWorld
from fakeqemu.testing.sim_machine import SimMachine


def control(profile: str = "11.1") -> tuple[SimMachine, TraceControl, list[str]]:
    machine = SimMachine(SimWorld(seed=1), profile=profile)
    lines: list[str] = []
    machine.vm.trace_control.write = lines.append
    return machine, machine.vm.trace_control, lines


@pytest.mark.parametrize(
    ("form", "python", "letters"),
    [
        ("new state %s", "new state %s", "s"),
        ("channel %u packet_num %lu flags 0x%x", "channel %d packet_num %d flags 0x%x", "uux"),
        ("%p at %zx of %5.3lld%%", "%s at %x of %5.3d%%", "pxd"),
        ("", "", ""),
    ],
)
def test_forms_of_printf_are_those_of_python(form: str, python: str, letters: str) -> None:
    assert conversions(form) == (python, letters)


def test_what_is_switched_on_is_printed() -> None:
    machine, trace, lines = control()
    trace.apply("multifd_send_f*")
    machine.vm.trace("multifd_send_fill", id=1, packet_num=7, flags=64, next_packet_size=4096)
    machine.vm.trace("multifd_send_thread_start", id=1)
    assert lines == ["multifd_send_fill channel 1 packet_num 7 flags 0x40 next packet size 4096\n"]
    trace.apply("-multifd_send_fill")
    machine.vm.trace("multifd_send_fill", id=1, packet_num=8, flags=64, next_packet_size=4096)
    assert len(lines) == 1


def test_an_event_with_other_fields_is_a_bug_that_harms_nothing() -> None:
    machine, trace, lines = control()
    trace.apply("migrate_set_state")
    machine.vm.trace("migrate_set_state", new_state=1)
    machine.vm.trace("migrate_set_state", new_state="setup", more=1)
    assert lines == []
    assert machine.vm.bugs == 1, "it is said once, and then the event is switched off"


@pytest.mark.parametrize("profile", ["7.2", "11.1"])
def test_lines_begin_with_the_time_where_messages_do(profile: str) -> None:
    machine, trace, lines = control(profile)
    trace.date = "at {}".format
    trace.apply("migrate_set_state")
    machine.vm.trace("migrate_set_state", new_state="setup")
    now_ns = machine.host.clock.wall_ns()
    seconds, microseconds = divmod(now_ns // 1000, 1_000_000)
    stamp = f"at {now_ns} " if profile == "11.1" else f"{machine.host.pid}@{seconds}.{microseconds:06d}:"
    assert lines == [f"{stamp}migrate_set_state new state setup\n"]


def test_events_of_one_cpu() -> None:
    _, trace, _ = control("7.2")
    assert trace.is_of_cpu("guest_cpu_enter")
    assert not trace.is_of_cpu("migrate_set_state")
    trace.switch_for_cpu("guest_cpu_enter", 1, [0, 1], True)
    assert [trace.is_on("guest_cpu_enter", cpu) for cpu in (None, 0, 1)] == [True, False, True]
    trace.switch("guest_cpu_enter", True)
    trace.switch_for_cpu("guest_cpu_enter", 0, [0, 1], False)
    assert [trace.is_on("guest_cpu_enter", cpu) for cpu in (None, 0, 1)] == [True, False, True]
    trace.switch("guest_cpu_enter", False)
    assert not trace.is_on("guest_cpu_enter")
