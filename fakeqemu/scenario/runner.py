# SPDX-License-Identifier: MIT
"""Doing what a scenario says to one machine: rules, links and answers at once, phases and steps when their time comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.faults.answers import Answers
from fakeqemu.faults.injector import Injector
from fakeqemu.faults.rule import fits
from fakeqemu.host.clock import NS_PER_MS
from fakeqemu.scenario import guest_acts

if TYPE_CHECKING:
    from collections.abc import Callable

    from fakeqemu.host.clock import Timer
    from fakeqemu.scenario.model import GuestModel, PhaseModel, ScenarioModel, StepModel
    from fakeqemu.system.machine import Machine

EVENT_TRACE = "monitor_protocol_event_emit"
COMMAND_TRACE = "monitor_qmp_cmd_*"
OUTPUT_TRACE = "fake_monitor_output"


class Runner:
    """A scenario on its way; times count from its making."""

    def __init__(self, vm: Machine, scenario: ScenarioModel) -> None:
        self._vm = vm
        self._timers: list[Timer] = []
        self._unwatch: list[Callable[[], None]] = []
        self.injector = Injector(vm)
        for rule in scenario.rules:
            self.injector.add(rule.build())
        for link in scenario.links:
            self.injector.add_link(link.build())
        if scenario.answers:
            self.injector.answers = Answers(vm)
            for answer in scenario.answers:
                self.injector.answers.add(answer.build())
        self._guest_does(scenario.guest)
        self._phases: list[PhaseModel] = list(scenario.guest.phases)
        self._start_ns = vm.host.clock.now_ns()
        self._next_phase()
        for step in scenario.steps:
            self._expect(step)

    # --- the guest's phases ---------------------------------------------------------------------------

    def _guest_does(self, memory: GuestModel | PhaseModel | StepModel) -> None:
        guest = self._vm.guest
        rate = guest.dirty_bytes_per_s if memory.dirty_rate is None else memory.dirty_rate
        guest.set_dirty_rate(rate, memory.working_set)
        if memory.touch_rate is not None:
            guest.configure({"guest.touch-rate": str(memory.touch_rate)})
        if memory.other_faults is not None:
            guest.configure({"guest.other-faults": str(memory.other_faults)})

    def _next_phase(self) -> None:
        """Wait for the next phase; with none left there is no timer."""
        if self._phases:
            self._at(self._start_ns + int(self._phases[0].at_ms * NS_PER_MS), self._phase)

    def _phase(self) -> None:
        phase = self._phases.pop(0)
        self._vm.trace("fake_guest_phase", at_ms=phase.at_ms)
        self._guest_does(phase)
        self._next_phase()

    # --- steps ----------------------------------------------------------------------------------------

    def _expect(self, step: StepModel) -> None:
        """Be told when it is time for a step."""
        if step.at_ms is not None:
            self._at(self._start_ns + int(step.at_ms * NS_PER_MS), lambda: self._do(step))
            return
        pattern = step.on or (EVENT_TRACE if step.event else COMMAND_TRACE)
        seen = 0

        def happened(_event: str, fields: dict[str, Any]) -> None:
            nonlocal seen
            if not _is_meant(step, fields):
                return
            seen += 1
            if seen > step.after and (step.times == "always" or seen <= step.after + step.times):
                self._is_time(step)

        self._unwatch.append(self._vm.trace.watch(happened, pattern))

    def _is_time(self, step: StepModel) -> None:
        if step.kill and not step.delay_ms:
            if step.event is None:
                self._do(step)
            else:  # whoever listens has heard of it when the next thing happens
                self._unwatch.append(self._vm.trace.watch(lambda event, _: self._do_unless(OUTPUT_TRACE, event, step)))
            return
        # In a later turn: what goes on here is not disturbed.
        now_ns = self._vm.host.clock.now_ns()
        self._at(now_ns + int(step.delay_ms * NS_PER_MS), lambda: self._do(step))

    def _do_unless(self, passed_over: str, event: str, step: StepModel) -> None:
        if event != passed_over:
            self._do(step)

    def _do(self, step: StepModel) -> None:
        vm = self._vm
        if step.kill:
            self.stop()
            vm.host.kill()
            return
        vm.trace("fake_scenario_step", name=step.name)
        if step.release is not None:
            self.injector.release(step.release)
        self._guest_does(step)
        if step.close:
            self.injector.close_channels()
        if step.guest is not None:
            vm.host.start(guest_acts.act(vm, step.guest), "guest")

    # --- both -----------------------------------------------------------------------------------------

    def _at(self, deadline_ns: int, callback: Callable[[], None]) -> None:
        """A turn at or after that time."""
        if deadline_ns <= self._vm.host.clock.now_ns():
            self._vm.host.call_soon(callback)
            return
        self._timers = [timer for timer in self._timers if timer.pending]
        self._timers.append(self._vm.host.clock.call_at(deadline_ns, callback))

    def stop(self) -> None:
        """The guest goes on as it does now, and nothing happens any more that was to happen."""
        self._phases.clear()
        for timer in self._timers:
            timer.cancel()
        for unwatch in self._unwatch:
            unwatch()
        self.injector.clear()


def _is_meant(step: StepModel, fields: dict[str, Any]) -> bool:
    """Whether what happened is what the step waits for."""
    if step.event is not None:
        if fields["event"] != step.event:
            return False
        fields = fields["data"] or {}
    elif step.command is not None:
        return bool(fields.get("command") == step.command)
    return all(key in fields and fits(str(pattern), fields[key]) for key, pattern in step.match.items())
