# SPDX-License-Identifier: MIT
"""Simulated time: a queue of what is ready, and a clock that jumps to the next timer when the queue is empty.

    run_until(goal):   ┌─► goal reached? ──► return
                       │   run one turn of the queue
                       └── queue empty: advance the clock to its next timer (SimStalled when there is none)

Every order is that of the requests, so the same program does the same again.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from fakeqemu.host.clock import NS_PER_S, Clock
from fakeqemu.host.sync import Future, Task
from fakeqemu.sim.files import SimFiles
from fakeqemu.sim.network import SimNetwork

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from fakeqemu.sim.host import SimHost

#: what the wall clock shows when a simulation starts: 2026-01-01T00:00:00Z
EPOCH_NS = 1_767_225_600 * NS_PER_S

#: a goal that is not reached within an hour of simulated time is taken for a program that never ends
PATIENCE_NS = 3600 * NS_PER_S


class SimStalled(AssertionError):
    """Nothing is ready, no timer is set, and the goal is not reached."""


class SimWorld:
    """One simulation: its time, its network, its files and its hosts."""

    def __init__(self, seed: int | str = 0) -> None:
        self.seed = seed
        self._ready: deque[Callable[[], None]] = deque()
        self.clock = Clock(self, lambda: 0, self._wall_ns, rate=0)
        self.network = SimNetwork(self)
        self.files = SimFiles()
        self.hosts: list[SimHost] = []

    def _wall_ns(self) -> int:
        return EPOCH_NS + self.clock.now_ns()

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call `callback()` in the next turn."""
        self._ready.append(callback)

    def host(self, name: str = "") -> SimHost:
        """A further host of this world."""
        from fakeqemu.sim.host import SimHost

        return SimHost(world=self, name=name)

    # running
    def run_turn(self) -> bool:
        """Run what is ready now, not what becomes ready by it; says whether anything was."""
        count = len(self._ready)
        for _ in range(count):
            self._ready.popleft()()
        return count > 0

    def _run_chains(self) -> bool:
        """Run what is ready, one after the other, each with all that becomes ready by it; says whether anything was.

        What belongs together runs together: of a thousand machines one after the other is looked at, not all of them
        again and again.
        """
        ready = self._ready
        first = list(ready)
        ready.clear()
        for callback in first:
            callback()
            while ready:
                ready.popleft()()
        return bool(first)

    def run_ready(self) -> None:
        """Run until nothing is ready. Time stands still."""
        while self.run_turn():
            pass

    def _jump(self, limit_ns: int) -> bool:
        """Advance to the next timer, if that is not after `limit_ns`; says whether it was there."""
        deadline = self.clock.next_deadline_ns()
        if deadline is None or deadline > limit_ns:
            return False
        self.clock.advance(max(0, deadline - self.clock.now_ns()))
        return True

    def run_until(self, goal: Task | Future | Callable[[], bool], patience_ns: int = PATIENCE_NS) -> None:
        """Run until a task has ended, a future has its result, or `goal()` is true; looked at between turns.

        Raises SimStalled when nothing is left that could reach the goal, or `patience_ns` of simulated time have passed.
        """
        reached = _reached(goal)
        limit_ns = self.clock.now_ns() + patience_ns
        while not reached():
            if not self.run_turn() and not self._jump(limit_ns):
                raise SimStalled(f"no progress at {self.clock.now_ns()} ns; tasks: {self._task_names()}")

    def run_until_idle(self, patience_ns: int = PATIENCE_NS) -> None:
        """Run until nothing is ready and no timer is set; raises SimStalled when that does not come to pass."""
        limit_ns = self.clock.now_ns() + patience_ns
        while self._run_chains() or self._jump(limit_ns):
            pass
        if self.clock.next_deadline_ns() is not None:
            raise SimStalled(f"not idle after {patience_ns} ns; tasks: {self._task_names()}")

    def run_for(self, ns: int) -> None:
        """Let `ns` of simulated time pass."""
        limit_ns = self.clock.now_ns() + ns
        while self.run_turn() or self._jump(limit_ns):
            pass
        self.clock.advance(limit_ns - self.clock.now_ns())
        self.run_ready()

    def run(self, coro: Coroutine[Any, Any, Any], name: str = "test") -> Any:
        """Run a coroutine as a task to its end and return its result or raise what it raised."""
        task = self._keeper().start(coro, name)
        self.run_until(task)
        return task.result()

    def _keeper(self) -> SimHost:
        return self.hosts[0] if self.hosts else self.host()

    def _task_names(self) -> list[str]:
        return [task.name for host in self.hosts for task in host.tasks]


def _reached(goal: Task | Future | Callable[[], bool]) -> Callable[[], bool]:
    if isinstance(goal, Task | Future):
        return lambda: goal.done
    return goal
