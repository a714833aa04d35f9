# SPDX-License-Identifier: MIT
"""Doing what a scenario says to one machine: its rules and links at once, the guest's phases as time goes by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.faults.injector import Injector
from fakeqemu.host.clock import NS_PER_MS

if TYPE_CHECKING:
    from fakeqemu.host.clock import Timer
    from fakeqemu.scenario.model import PhaseModel, ScenarioModel
    from fakeqemu.system.machine import Machine


class Runner:
    """A scenario on its way; times count from its making."""

    def __init__(self, vm: Machine, scenario: ScenarioModel) -> None:
        self._vm = vm
        self._start_ns = vm.host.clock.now_ns()
        self._phases: list[PhaseModel] = list(scenario.guest.phases)
        self._timer: Timer | None = None
        self.injector = Injector(vm)
        for rule in scenario.rules:
            self.injector.add(rule.build())
        for link in scenario.links:
            self.injector.add_link(link.build())
        self._guest_does(scenario.guest.dirty_rate, scenario.guest.working_set)
        self._wait()

    def _guest_does(self, dirty_rate: int | None, working_set: int | None) -> None:
        guest = self._vm.guest
        guest.set_dirty_rate(guest.dirty_bytes_per_s if dirty_rate is None else dirty_rate, working_set)

    def _wait(self) -> None:
        """Until the next phase; with none left there is no timer."""
        if self._phases:
            at_ns = self._start_ns + int(self._phases[0].at_ms * NS_PER_MS)
            self._timer = self._vm.host.clock.call_at(at_ns, self._next_phase)

    def _next_phase(self) -> None:
        phase = self._phases.pop(0)
        self._vm.trace("fake_guest_phase", at_ms=phase.at_ms)
        self._guest_does(phase.dirty_rate, phase.working_set)
        self._wait()

    def stop(self) -> None:
        """The guest goes on as it does now, and nothing fails any more."""
        self._phases.clear()
        if self._timer is not None:
            self._timer.cancel()
        self.injector.clear()
