# SPDX-License-Identifier: MIT
"""Short COLO pairs of each kind on the simulated host, made to go wrong, and what has to hold afterwards.

A run has two parts. First the pair begins and makes some checkpoints, or something goes wrong and nothing moves any more.
Then a manager decides who goes on: it kills the other one, and says x-colo-lost-heartbeat to the one that is left.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING

from fakeqemu.error import QemuError
from fakeqemu.faults.injector import Action, Close, Corrupt, Fail, Kill, Rule, Stall
from fakeqemu.host.clock import NS_PER_MS
from fakeqemu.sim.world import SimStalled
from tests.sim._migrations import PATIENCE_NS, Kind, Run

if TYPE_CHECKING:
    from fakeqemu.testing.sim_machine import SimMachine

CHECKPOINTS = 3
DELAY_MS = 100
#: how long a pair is looked at: for its beginning and the checkpoints, whatever delays them
_TIME_NS = 3000 * NS_PER_MS
_ACTIONS = (Fail(), Kill(), Stall(), Close(), Corrupt())

_DELAY = {"x-checkpoint-delay": DELAY_MS}
_CHANNELS = {**_DELAY, "multifd-channels": 2}
_ZLIB = {**_DELAY, "multifd-channels": 1, "multifd-compression": "zlib"}
_RP = ("return-path", "x-colo")

#: those that count for the catalogue of points, beside the KINDS of migrations; `ColoRun(kind)` makes one
COLO_KINDS = [
    Kind("colo-7.2", "7.2", capabilities=("x-colo",), parameters=_DELAY, thorough=True),
    Kind("colo-10.0", "10.0", capabilities=("x-colo",), parameters=_DELAY, thorough=True),
    Kind("colo-11.1", capabilities=_RP, parameters=_DELAY, thorough=True),
    Kind("colo-busy", capabilities=_RP, parameters=_DELAY, dirty_rate=1 << 20),
    Kind("colo-busy-10.0", "10.0", capabilities=("x-colo",), parameters=_DELAY, dirty_rate=1 << 20),
    Kind("colo-tcp", uri="tcp:127.0.0.1:4444", capabilities=_RP, parameters=_DELAY),
    Kind("colo-multifd", capabilities=(*_RP, "multifd"), parameters=_CHANNELS, dirty_rate=1 << 20),
    Kind("colo-multifd-zlib", capabilities=(*_RP, "multifd"), parameters=_ZLIB, dirty_rate=1 << 20),
    Kind("colo-xbzrle", capabilities=(*_RP, "xbzrle"), parameters=_DELAY, dirty_rate=1 << 20),
]


class ColoRun(Run):
    """One pair of a kind, with an injector on each side. `go` and `check` as with any other run."""

    def go(self) -> None:
        """Begin, and let time pass until some checkpoints were made or nothing moves any more."""
        self._begin(self.destination, "migrate-incoming")
        self._begin(self.source, "migrate")
        try:
            self.world.run_until(self._is_enough, _TIME_NS)
        except SimStalled:
            pass  # broken, or stalled: looked at as it is

    def _is_enough(self) -> bool:
        """Both have run on after the checkpoints, and the secondary waits for the next one."""
        wanted = CHECKPOINTS + 1
        return all(side.event_names().count("RESUME") >= wanted for side in (self.source, self.destination))

    def waits(self, side: SimMachine) -> bool:
        """Whether it is one half of a pair, which only x-colo-lost-heartbeat ends."""
        return not side.host.killed and not side.vm.exit_status and side.vm.colo.mode != "none"

    def candidates(self) -> list[SimMachine]:
        """Who can go on: halves of a pair, and a side whose guest runs because it never became one."""
        return [side for side in (self.source, self.destination) if self.waits(side) or self.alive(side)]

    def go_on_with(self, survivor: SimMachine) -> None:
        """The manager has decided: the other one is killed, then this one is told."""
        for side in (self.source, self.destination):
            if side is not survivor and not side.host.killed:
                side.host.kill()
        self.fail_over(survivor)

    def fail_over(self, side: SimMachine) -> None:
        """Tell one that it is alone, where that has a meaning, and let it come about."""
        if self.waits(side):
            side.execute("x-colo-lost-heartbeat")
            self.world.run_until(lambda: side.vm.runstate.running and not side.host.tasks, PATIENCE_NS)

    # --- what is found afterwards ---------------------------------------------------------------------

    def check(self) -> None:
        """What holds after the first part, then with the secondary going on where it can. Raises AssertionError."""
        self.check_pair()
        candidates = self.candidates()
        survivor = candidates[-1] if candidates else None
        if survivor is not None:
            self.go_on_with(survivor)
            self.check_alone(survivor)

    def check_pair(self) -> None:
        """Somebody can go on, and a half that does not talk to the other any more has said so."""
        both_lived = True
        for side in (self.source, self.destination):
            if side.host.killed:
                both_lived = False
                continue
            assert side.vm.bugs == 0, side.host.log_lines
            told = side.event_names().count("COLO_EXIT")
            assert told <= 1
            assert told == 0 or self.waits(side) or self.source_status == "cancelling", self._statement(side)
        if both_lived:
            assert self.candidates(), [self._statement(side) for side in (self.source, self.destination)]
        elif not self.source.host.killed:
            assert self.candidates() == [self.source] or self.source_status == "cancelling", self._statement(
                self.source
            )

    def _statement(self, side: SimMachine) -> str:
        if side.host.killed:
            return "killed"
        status = self.source_status if side is self.source else self.destination_status
        return f"{side.host.name}: {status}, {side.vm.runstate.state}, {side.event_names()}, {side.host.log_lines}"

    def check_alone(self, side: SimMachine) -> None:
        """It runs, and nothing of the pair is left."""
        assert side.vm.runstate.running, self._statement(side)
        assert side.vm.bugs == 0, side.host.log_lines
        assert side.host.tasks == [], [task.name for task in side.host.tasks]
        assert not side.vm.bql.locked
        now = side.host.open_fds()
        assert now == self.fds[side.host.name], f"{side.host.name}: descriptors {now}"
        if "colo" not in self.told_statuses(side):
            return  # it never was a half
        assert self.told_statuses(side)[-1] == "completed"
        mode = "primary" if side is self.source else "secondary"
        status = side.execute("query-colo-status")
        assert (status["mode"], status["last-mode"], status["reason"]) == ("none", mode, "request")
        assert side.event_names().count("COLO_EXIT") == 1
        try:
            side.execute("x-colo-lost-heartbeat")
        except QemuError:
            return
        raise AssertionError("x-colo-lost-heartbeat was taken twice")

    def told_statuses(self, side: SimMachine) -> list[str]:
        """The statuses of which events told."""
        return [data["status"] for _, name, data in side.events if name == "MIGRATION"]


@cache
def passes(number: int) -> dict[tuple[str, type[Action]], int]:
    """How many points each side of a kind passes where a fault of a class can be made. All goes well, which is tried."""
    run = ColoRun(COLO_KINDS[number])
    rules = {
        (side, type(action)): injector.add(Rule("*", action, after=sys.maxsize))
        for side, injector in run.injectors.items()
        for action in _ACTIONS
    }
    run.go()
    passed: dict[tuple[str, type[Action]], int] = {which: rule.passed for which, rule in rules.items()}
    for side in (run.source, run.destination):
        assert run.waits(side)
        assert "COLO_EXIT" not in side.event_names()
    run.check()
    return passed


def chosen(kind: Kind, side: str, action: Action, number: int) -> range:
    """At which of the points of a side where `action` can be done to do it: at all, or at about so many, evenly spread."""
    index = COLO_KINDS.index(kind)
    points = passes(index)[side, type(action)]
    assert points > 0
    stride = 1 if kind.thorough and number > 6 else max(1, points // number)
    return range(index % stride, points, stride)
