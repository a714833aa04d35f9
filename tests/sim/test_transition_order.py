# SPDX-License-Identifier: MIT
"""What never happens, whatever the latencies: barriers between prepare and main, between depths, within one device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakeqemu.hw.vfio import fsm
from fakeqemu.system.runstate import FINISH_MIGRATE, PAUSED

MakeMachine = Callable[..., Any]

FLAG_SETS = [
    fsm.FLAG_STOP_COPY | extra for extra in (0, fsm.FLAG_P2P, fsm.FLAG_PRE_COPY, fsm.FLAG_P2P | fsm.FLAG_PRE_COPY)
]

DEVICE = st.fixed_dictionaries({
    "ms": st.integers(0, 40),
    "flags": st.sampled_from(FLAG_SETS),
    "depth": st.sampled_from([2, 3]),
    "parallel": st.booleans(),
})  # fmt: skip
HANDLER = st.fixed_dictionaries({"ms": st.integers(0, 60), "depth": st.sampled_from([2, 3])})


class Recorder:
    """When each transition and each ordinary handler began and ended."""

    def __init__(self, machine: Any) -> None:
        #: (phase, depth, who, begin, end) in ns; "prepare" and "main" as the run state code means them
        self.spans: list[tuple[str, int, str, int, int]] = []
        self._open: dict[str, int] = {}
        self._machine = machine
        self._depths = {migration.vbasedev.name: migration.vbasedev.dev.depth for migration in machine.migrations()}
        machine.vm.trace.watch(self._saw)

    def _saw(self, event: str, fields: dict[str, Any]) -> None:
        now = self._machine.host.clock.now_ns()
        if event == "vfio_migration_set_state":
            self._open[fields["name"]] = now
        elif event in ("vfio_vmstate_change_prepare", "vfio_vmstate_change"):
            phase = "prepare" if event.endswith("prepare") else "main"
            name = fields["name"]
            self.spans.append((phase, self._depths[name], name, self._open.pop(name), now))
        elif event == "ordinary_begin":
            self._open[f"ordinary {fields['depth']}"] = now
        elif event == "ordinary_end":
            name = f"ordinary {fields['depth']}"
            self.spans.append((fields["phase"], fields["depth"], name, self._open.pop(name), now))


def build(make_machine: MakeMachine, devices: list[dict[str, Any]], handlers: list[dict[str, Any]]) -> Any:
    machine = make_machine(seed=3)
    for handler in handlers:
        machine.add_ordinary_handler(handler["ms"], handler["depth"], prepare_ms=handler["ms"] / 2)
    for device in devices:
        machine.add_vf(
            ms=device["ms"],
            flags=device["flags"],
            depth=device["depth"],
            x_migration_parallel_states="on" if device["parallel"] else "off",
            # A device without P2P keeps all others from migrating, not from stopping.
            enable_migration="auto",
        )
    return machine


def check_barriers(spans: list[tuple[str, int, str, int, int]], *, starting: bool) -> None:
    order = {"prepare": 0, "main": 1}
    for phase, depth, who, begin, end in spans:
        for phase2, depth2, who2, begin2, end2 in spans:
            if (phase, who) == (phase2, who2):
                continue
            if order[phase] < order[phase2]:
                assert end <= begin2, f"{who} is not through with prepare when {who2} begins main"
            elif phase == phase2 and depth != depth2:
                first_ends = end if (depth < depth2) == starting else end2
                second_begins = begin2 if (depth < depth2) == starting else begin
                assert first_ends <= second_begins, f"{who} and {who2} of two depths overlap"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    devices=st.lists(DEVICE, min_size=1, max_size=5),
    handlers=st.lists(HANDLER, max_size=2, unique_by=lambda h: h["depth"]),
)
def test_phases_and_depths_never_overlap(
    make_machine: MakeMachine, devices: list[dict[str, Any]], handlers: list[dict[str, Any]]
) -> None:
    machine = build(make_machine, devices, handlers)
    for starting, change in (
        (True, machine.vm.runstate.vm_start()),
        (False, machine.vm.runstate.vm_stop(PAUSED)),
        (True, machine.vm.runstate.vm_start()),
    ):
        recorder = Recorder(machine)
        machine.world.run(change)
        check_barriers(recorder.spans, starting=starting)
    for migration in machine.migrations():
        assert migration.device_state == fsm.RUNNING


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(latencies=st.lists(st.integers(0, 30), min_size=2, max_size=6))
def test_every_device_is_quiet_before_any_stops_and_each_tells_its_states_in_order(
    make_machine: MakeMachine, latencies: list[int]
) -> None:
    machine = make_machine(seed=4)
    for ms in latencies:
        machine.add_vf(ms=ms)
    machine.world.run(machine.vm.runstate.vm_start())
    machine.begin_precopy()
    machine.events.clear()
    machine.world.run(machine.vm.runstate.vm_stop(FINISH_MIGRATE))
    told = machine.device_events()
    assert told.index("stop-copy") > max(at for at, state in enumerate(told) if state == "pre-copy-p2p")
    for index in range(1, len(latencies) + 1):
        assert machine.device_events(f"vf{index}") == ["pre-copy-p2p-prepare", "pre-copy-p2p", "stop-copy"]
    # Of one phase, they come as they are done.
    done = [data["device-id"] for _, _, data in machine.events if data.get("device-state") == "stop-copy"]
    assert done == sorted(done, key=lambda name: latencies[int(name[2:]) - 1])


def test_launches_are_in_order_of_registration_when_starting_and_reversed_when_stopping(
    make_machine: MakeMachine,
) -> None:
    machine = make_machine()
    for _ in range(3):
        machine.add_vf()
    asked: list[str] = []
    machine.vm.trace.watch(lambda event, fields: asked.append(fields["name"][-1]), "vfio_migration_set_state")
    machine.world.run(machine.vm.runstate.vm_start())
    assert asked == ["1", "2", "3"] * 2
    asked.clear()
    machine.world.run(machine.vm.runstate.vm_stop(PAUSED))
    assert asked == ["3", "2", "1"] * 2


@pytest.mark.parametrize("parallel", ["on", "off"])
def test_after_unplug_no_handler_is_left_and_no_task_runs(make_machine: MakeMachine, parallel: str) -> None:
    machine = make_machine()
    handlers = len(machine.vm.runstate.handlers)
    entries = len(machine.vm.savevm.entries)
    migration = machine.add_vf(x_migration_parallel_states=parallel)
    assert len(machine.vm.runstate.handlers) == handlers + (2 if parallel == "on" else 1)
    migration.vbasedev.dev.unparent()
    assert len(machine.vm.runstate.handlers) == handlers
    assert len(machine.vm.savevm.entries) == entries
    assert len(machine.vm.savevm.notifiers) == 0
    assert machine.host.tasks == []
    assert machine.vm.hardware.attached == []


def test_a_device_without_p2p_has_no_prepare(make_machine: MakeMachine) -> None:
    machine = make_machine()
    machine.add_vf(flags=fsm.FLAG_STOP_COPY)
    assert [entry.prepare for entry in machine.vm.runstate.handlers if entry.priority[0] == 2] == [None, None]


def test_a_request_for_the_state_that_the_device_is_in_says_nothing(make_machine: MakeMachine) -> None:
    machine = make_machine()
    machine.add_vf()
    machine.world.run(machine.vm.runstate.vm_start())
    machine.world.run(machine.vm.runstate.vm_stop(PAUSED))
    assert machine.device_events() == ["running-p2p", "running", "running-p2p", "stop"]
    machine.events.clear()
    machine.world.run(machine.vm.runstate.notify(False, PAUSED))
    # RUNNING_P2P is asked for, as the device is not in a PRE_COPY state, and then STOP again.
    assert machine.device_events() == ["running-p2p", "stop"]


def test_events_are_sent_only_where_the_property_says_so(make_machine: MakeMachine) -> None:
    machine = make_machine()
    machine.add_vf(migration_events="off")
    machine.world.run(machine.vm.runstate.vm_start())
    assert machine.device_events() == []
