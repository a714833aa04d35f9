# SPDX-License-Identifier: MIT
"""Rules: at which points, how often, and what happens there.

A rule acts when its `where` matches the point's name and every pattern of `match` its field, after it was passed over
`after` times, for `times` times, each time with `probability`. The first rule that acts is the only one.

    Fail     raise what the code there would meet: an errno, in the point's own words or in `text`
    Delay    wait first; then go on
    Stall    wait until `Injector.release(rule.name)`; then go on
    Kill     the whole process is gone, as by SIGKILL

Faults of a link (latency, bandwidth, slices, resets, corruption) stand in `link`.
"""

from __future__ import annotations

import errno as _errno
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fakeqemu.faults import catalogue
from fakeqemu.faults.link import FaultyChannel, LinkFault
from fakeqemu.host.clock import NS_PER_MS
from fakeqemu.trace import matches

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from fakeqemu.host.channel import Channel
    from fakeqemu.host.sync import Event
    from fakeqemu.system.machine import Machine


@dataclass(slots=True, frozen=True)
class Fail:
    """An error, by the name of its errno."""

    errno: str = "EIO"
    #: in place of the point's own words
    text: str | None = None

    @property
    def number(self) -> int:
        return int(getattr(_errno, self.errno))


@dataclass(slots=True, frozen=True)
class Delay:
    """Time that passes first."""

    ms: float


@dataclass(slots=True, frozen=True)
class Stall:
    """Nothing goes on until somebody releases the rule."""


@dataclass(slots=True, frozen=True)
class Kill:
    """The process ends at once."""


Action = Fail | Delay | Stall | Kill


@dataclass(slots=True)
class Rule:
    """What is to happen where."""

    where: str
    action: Action = field(default_factory=Fail)
    match: dict[str, str] = field(default_factory=dict)
    #: how often the rule lets a point that fits pass before it acts
    after: int = 0
    #: how often it acts; None: always
    times: int | None = 1
    probability: float = 1.0
    #: by which `Injector.release` finds it
    name: str = ""
    passed: int = 0
    acted: int = 0

    def fits(self, point: str, fields: dict[str, Any]) -> bool:
        """Whether this is about that point, whatever the counts say."""
        if not matches(self.where, point):
            return False
        return all(key in fields and matches(pattern, str(fields[key])) for key, pattern in self.match.items())


@dataclass(slots=True, frozen=True)
class Injected:
    """One fault that happened."""

    point: str
    fields: dict[str, Any]
    action: Action
    error: Exception | None = None


class Injector:
    """What is plugged into one machine's fault points. Making one plugs it in."""

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self.rules: list[Rule] = []
        self.links: list[LinkFault] = []
        #: what has happened so far
        self.injected: list[Injected] = []
        #: how many points were passed
        self.passed = 0
        self._stalls: dict[str, Event] = {}
        self._random = vm.host.random("faults")
        vm.faults.injector = self
        vm.faults.wrap = self._wrap

    # --- what is to go wrong --------------------------------------------------------------------------

    def add(self, rule: Rule) -> Rule:
        self.rules.append(rule)
        return rule

    def remove(self, rule: Rule) -> None:
        """Take a rule back; nothing happens when it is not there. Who is stalled by it goes on."""
        if rule in self.rules:
            self.rules.remove(rule)
        self.release(rule.name)

    def add_link(self, fault: LinkFault) -> LinkFault:
        """A fault of all channels whose name fits, those that are open included."""
        self.links.append(fault)
        return fault

    def clear(self) -> None:
        """Take everything back; who is stalled goes on."""
        self.rules.clear()
        for fault in self.links:
            fault.release()
        self.links.clear()
        for name in self.stalled():
            self.release(name)

    def release(self, name: str = "") -> None:
        """Let those go on who are stalled by the rule of this name."""
        stall = self._stalls.pop(name, None)
        if stall is not None:
            stall.set()

    def stalled(self) -> list[str]:
        """Names of rules by which somebody is stalled now."""
        return list(self._stalls)

    # --- what the fault points ask --------------------------------------------------------------------

    def wait(self, point: str, fields: dict[str, Any], /) -> Awaitable[None] | None:
        rule = self._acting(point, fields, waiting=True)
        if rule is None:
            return None
        self._note(point, fields, rule.action)
        return self._pause(rule)

    def check(self, point: str, fields: dict[str, Any], /) -> None:
        self.passed += 1
        rule = self._acting(point, fields, waiting=False)
        if rule is None:
            return
        # A dead process' code still unwinds where only the simulation ends it: nothing that it does is seen any more.
        fail = rule.action if isinstance(rule.action, Fail) else Fail()
        error = catalogue.error_at(catalogue.POINTS[point], fail.number, os.strerror(fail.number), fields, fail.text)
        self._note(point, fields, rule.action, error)
        if isinstance(rule.action, Kill):
            self._vm.host.kill()
        raise error

    async def _pause(self, rule: Rule) -> None:
        if isinstance(rule.action, Delay):
            await self._vm.host.clock.sleep(int(rule.action.ms * NS_PER_MS))
        else:
            await self._stalls.setdefault(rule.name, self._vm.host.event()).wait()

    def _acting(self, point: str, fields: dict[str, Any], *, waiting: bool) -> Rule | None:
        for rule in self.rules:
            if isinstance(rule.action, Delay | Stall) != waiting or not rule.fits(point, fields):
                continue
            if rule.times is not None and rule.acted >= rule.times:
                continue
            rule.passed += 1
            if rule.passed <= rule.after:
                continue
            if rule.probability < 1 and self._random.random() >= rule.probability:
                continue
            rule.acted += 1
            return rule
        return None

    def _note(self, point: str, fields: dict[str, Any], action: Action, error: Exception | None = None) -> None:
        self.injected.append(Injected(point, fields, action, error))
        self._vm.trace("fake_fault_injected", point=point, action=type(action).__name__.lower(), error=str(error or ""))

    # --- links ----------------------------------------------------------------------------------------

    def _wrap(self, channel: Channel) -> Channel:
        return FaultyChannel(self._vm, channel, self.links)
