# SPDX-License-Identifier: MIT
"""Who touches memory on the destination of a postcopy before it has come: the vCPUs, and other threads of the process.

Each vCPU goes through a share of the guest's working set, page after page or here and there, at the guest's rate; the first
page that is not there stops it until the page has come. What lies between two such pages is one wait, however many pages that
are. Settings (`-fake`):

    guest.touch-rate     bytes a second (default: the dirty rate)
    guest.touch-order    sequential or random
    guest.other-faults   per cent of that, by a thread that is no vCPU
    guest.fault-threads  off: the kernel does not tell which thread waits
    guest.fault-booking  nanoseconds from a page's coming to the booking of its end: a vCPU that was woken and waits again
                         before has two waits at once in the books

QEMU: the guest, and what userfaultfd tells of it
"""

from __future__ import annotations

from math import log

from fakeqemu.host.clock import NS_PER_S
from fakeqemu.host.sync import Cancelled
from fakeqemu.system.ramblock import PAGE_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fakeqemu.host.sync import Task
    from fakeqemu.migration.blocktime import BlocktimeEngine
    from fakeqemu.migration.postcopy_load import PostcopyIncoming
    from fakeqemu.system.machine import Machine
    from fakeqemu.system.ramblock import RAMBlock

#: what the thread that is no vCPU is called
OTHER_THREAD = 1 << 22


def tells_threads(vm: Machine) -> bool:
    """Whether the host's kernel tells which thread waits for a page."""
    return vm.fake.get("guest.fault-threads") != "off"


class Bookings:
    """Ends of waits that are not in the books yet."""

    __slots__ = ("_delay_ns", "_due", "_vm")

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self._delay_ns = int(vm.fake.get("guest.fault-booking", "0"))
        #: those who wait for their time, oldest first: timer, what is to be done
        self._due: list[tuple[Any, Callable[[], None]]] = []

    def book(self, engine: BlocktimeEngine, address: int, pages: int, page_size: int) -> None:
        """Consecutive pages have come."""
        if not self._delay_ns:
            engine.end_run(address, pages, page_size)
            return
        clock = self._vm.host.clock
        self._due.append(
            (
                clock.call_at(clock.now_ns() + self._delay_ns, self._next),
                lambda: engine.end_run(address, pages, page_size),
            )
        )

    def _next(self) -> None:
        _, do = self._due.pop(0)
        do()

    def finish(self) -> None:
        """Everything has come: nothing stays open."""
        while self._due:
            self._due[0][0].cancel()
            self._next()


class FaultSource:
    """The threads of one destination that touch memory."""

    __slots__ = ("_chance", "_postcopy", "_tasks", "_vm")

    def __init__(self, vm: Machine, postcopy: PostcopyIncoming) -> None:
        self._vm = vm
        self._postcopy = postcopy
        self._tasks: list[Task] = []
        #: None where pages are touched in their order
        self._chance = vm.host.random("faults") if vm.fake.get("guest.touch-order") == "random" else None

    def start(self) -> None:
        """The guest runs (again): its vCPUs go on."""
        guest = self._vm.guest
        rate = guest.touch_rate
        if not rate:
            return
        self._tasks = [task for task in self._tasks if not task.done]
        if self._tasks:
            return
        threads = self._postcopy.threads()
        shares = [(tid, rate // len(threads) or 1) for tid in threads]
        if guest.other_faults:
            shares.append((OTHER_THREAD, rate * guest.other_faults // 100 or 1))
        total = sum(n for _, n in guest.working_blocks())
        for index, (tid, share) in enumerate(shares):
            run = self._touch(tid, share, total * index // len(shares), total)
            self._tasks.append(self._vm.migration.start(run, f"CPU {index}/postcopy"))

    def stop(self) -> None:
        """All pages have come, or the load has failed."""
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()

    async def _touch(self, thread: int, bytes_per_s: int, start: int, total: int) -> None:
        """Go once round the working set, from page `start` on."""
        step_ns = PAGE_SIZE * NS_PER_S // bytes_per_s
        clock = self._vm.host.clock
        done = 0
        try:
            while done < total and self._vm.guest.running:
                ahead = self._any_missing(total) if self._chance else self._missing(start + done, total - done, total)
                if ahead is None:
                    return
                distance, block, page = ahead
                await clock.sleep_until(clock.now_ns() + max(1, distance) * step_ns)
                done += distance + 1
                await self._postcopy.fault(block, page, thread)
        except Cancelled:
            return

    def _any_missing(self, total: int) -> tuple[int, RAMBlock, int] | None:
        """A page here or there that has not come: how many others are looked at before, its block and its number there."""
        assert self._chance is not None
        gaps: list[tuple[RAMBlock, int, int]] = []
        for block, n in self._vm.guest.working_blocks():
            if block.received is None:
                return None
            gaps += [(block, page, length) for page, length in block.received.gaps(0, n)]
        missing = sum(length for _, _, length in gaps)
        if not missing:
            return None
        # How many touches in a row find a page that is there.
        there = 1 - missing / total
        distance = int(log(1 - self._chance.random()) / log(there)) if there > 0 else 0
        at = self._chance.randrange(missing)
        for block, page, length in gaps:
            if at < length:
                return distance, block, page + at
            at -= length
        raise AssertionError("no such page")

    def _missing(self, at: int, limit: int, total: int) -> tuple[int, RAMBlock, int] | None:
        """The next page at or after `at` that has not come: how far it is, its block and its number there."""
        blocks = self._vm.guest.working_blocks()
        distance = 0
        at %= total
        while distance < limit:
            first = 0
            for block, n in blocks:
                if first <= at < first + n:
                    if block.received is None:
                        return None
                    length = min(first + n - at, limit - distance)
                    for page, _ in block.received.gaps(at - first, length):
                        return distance + page - (at - first), block, page
                    distance += length
                    at += length
                    if distance >= limit:
                        return None
                first += n
            at = 0
        return None
