# SPDX-License-Identifier: MIT
"""Time as a machine sees it: integer nanoseconds, three kinds of clock, one heap of timers.

A clock never sleeps. It says when its next timer is due (`next_due_in_real_ns`); whoever drives the host waits that long
and calls `run_due`.

    real      now = the host's monotonic time
    scaled    now = start + (host's monotonic time - start) x rate
    manual    now moves only by advance(); the simulated host advances to the next timer when nothing else is left

QEMU: util/qemu-timer.c
"""

from __future__ import annotations

from _heapq import heappop, heappush

from fakeqemu.host.sync import Future

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fakeqemu.host.sync import Scheduler

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
NS_PER_US = 1_000


class Timer:
    """One call-back in the future; `cancel()` forgets it."""

    __slots__ = ("_callback", "deadline_ns", "order")

    def __init__(self, deadline_ns: int, order: int, callback: Callable[[], None]) -> None:
        self.deadline_ns = deadline_ns
        self.order = order
        self._callback: Callable[[], None] | None = callback

    @property
    def pending(self) -> bool:
        return self._callback is not None

    def cancel(self) -> None:
        self._callback = None

    def fire(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()

    def __lt__(self, other: Timer) -> bool:
        return (self.deadline_ns, self.order) < (other.deadline_ns, other.order)


class Clock:
    """The clock of a host. `monotonic_ns` and `wall_ns` read the outside; `rate` 0 is a manual clock."""

    __slots__ = (
        "_count",
        "_monotonic_ns",
        "_offset_ns",
        "_origin_ns",
        "_scheduler",
        "_timers",
        "_wall_ns",
        "rate",
        "woken",
    )

    def __init__(
        self,
        scheduler: Scheduler,
        monotonic_ns: Callable[[], int],
        wall_ns: Callable[[], int],
        rate: float = 1,
    ) -> None:
        self._scheduler = scheduler
        self._monotonic_ns = monotonic_ns
        self._wall_ns = wall_ns
        self._origin_ns = monotonic_ns()
        self._offset_ns = self._origin_ns
        self._timers: list[Timer] = []
        self._count = 0
        self.rate = rate
        #: called when an earlier timer than all others was set, so that a waiting poller looks again
        self.woken: Callable[[], None] | None = None

    def now_ns(self) -> int:
        """Monotonic time of this host in ns."""
        if self.rate == 1:
            return self._monotonic_ns() - self._origin_ns + self._offset_ns
        if self.rate == 0:
            return self._offset_ns
        return self._offset_ns + int((self._monotonic_ns() - self._origin_ns) * self.rate)

    def wall_ns(self) -> int:
        """Wall clock time in ns since 1970, as in the timestamps of events. Never scaled."""
        return self._wall_ns()

    def advance(self, ns: int) -> None:
        """Move a manual clock by `ns`, firing what becomes due in order."""
        assert self.rate == 0, "only a manual clock can be advanced"
        target = self._offset_ns + ns
        while self._timers and self._timers[0].deadline_ns <= target:
            self._offset_ns = max(self._offset_ns, self._timers[0].deadline_ns)
            heappop(self._timers).fire()
        self._offset_ns = target

    def call_at(self, deadline_ns: int, callback: Callable[[], None]) -> Timer:
        """Call `callback()` once `now_ns() >= deadline_ns`."""
        self._count += 1
        timer = Timer(deadline_ns, self._count, callback)
        heappush(self._timers, timer)
        if self.woken is not None and self._timers[0] is timer:
            self.woken()
        return timer

    async def sleep(self, ns: int) -> None:
        """Wait for `ns`; not at all when that is 0 or less."""
        if ns > 0:
            await self.sleep_until(self.now_ns() + ns)

    async def sleep_until(self, deadline_ns: int) -> None:
        if deadline_ns <= self.now_ns():
            return
        future = Future(self._scheduler)
        timer = self.call_at(deadline_ns, future.set_result)
        try:
            await future
        finally:
            timer.cancel()

    def next_deadline_ns(self) -> int | None:
        """When the earliest timer is due on this clock, None when there is none."""
        while self._timers and not self._timers[0].pending:
            heappop(self._timers)
        return self._timers[0].deadline_ns if self._timers else None

    def next_due_in_real_ns(self) -> int | None:
        """How long a poller may wait, in real ns, until a timer is due; None when only input can change anything."""
        deadline = self.next_deadline_ns()
        if deadline is None or self.rate == 0:
            return None
        left = deadline - self.now_ns()
        return max(0, left if self.rate == 1 else int(left / self.rate) + 1)

    def run_due(self) -> bool:
        """Fire all timers that are due; says whether any was."""
        fired = False
        now = self.now_ns()
        newest = self._count  # a timer set by one that fires has its turn in the next round
        while self._timers and (not self._timers[0].pending or self._timers[0].deadline_ns <= now):
            if self._timers[0].order > newest:
                break
            timer = heappop(self._timers)
            if timer.pending:
                fired = True
                timer.fire()
        return fired
