# SPDX-License-Identifier: MIT
"""RAM of a source of which only real bytes travel (`ram=model`).

All other pages are counted as if they had travelled: what has gone over the link up to a moment is a function of the time
(model_flow), so that a pass over a terabyte is one step. Whoever asks in between has the counters brought up to date
(`catch_up`).

QEMU: migration/ram.c
"""

from __future__ import annotations

from fakeqemu.host.clock import NS_PER_S
from fakeqemu.migration.model_flow import Flow
from fakeqemu.migration.page_sink import PART_OVERHEAD
from fakeqemu.migration.postcopy_model import CountedSink
from fakeqemu.migration.ram import ITERATE_NS, RAMHandlers
from fakeqemu.migration.rate import MODEL_LINK_BYTES_PER_S, XFER_LIMIT_RATIO
from fakeqemu.migration.stream.ram_page import TARGET_PAGE_SIZE
from fakeqemu.system.ramblock import MADE, REAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fakeqemu.migration.outgoing import Outgoing
    from fakeqemu.migration.stream.qemu_file import QEMUFile
    from fakeqemu.system.ramblock import RAMBlock

#: (postcopy) of what is left, the share that goes in one step at least
_STEPS = 256


class ModelRAMHandlers(RAMHandlers):
    """RAM of which only real bytes travel (`ram=model`); all else is worked out from the time."""

    __slots__ = ("_again", "_busy_until_ns", "_flow", "_flowing", "_real")

    def __init__(self, outgoing: Outgoing) -> None:
        super().__init__(outgoing)
        self._flow = Flow(0, MODEL_LINK_BYTES_PER_S)
        #: whether pages are going over the link now
        self._flowing = False
        # Real pages that have to be put.
        self._real: list[tuple[RAMBlock, int, int]] = []
        # (postcopy) Until when the link is busy; what is asked for that was only counted.
        self._busy_until_ns = 0
        self._again: list[tuple[RAMBlock, int, int]] = []
        outgoing.rate.model_burst = lambda room: self._burst(MADE)(room) * self._sink.page_size

    async def save_setup(self, f: QEMUFile) -> None:
        await super().save_setup(f)
        self._stats.catch_up = self.catch_up
        self._flow = Flow(self._vm.host.clock.now_ns(), MODEL_LINK_BYTES_PER_S)

    def save_cleanup(self) -> None:
        self._flowing = False
        self._stats.catch_up = None
        super().save_cleanup()

    async def _send_pages(self, f: QEMUFile, until_ns: int | None) -> None:
        if self._postcopy:
            await self._follow(f, until_ns)
            return
        if not self._any_left():
            return
        rate = self._outgoing.rate
        self._flow.resume(self._vm.host.clock.now_ns())
        self._flowing = True
        while self._any_left():
            self._flow.set_limit(rate.window_limit())
            left = 0 if until_ns is None else rate.model_threshold() // TARGET_PAGE_SIZE
            await self._outgoing.wait_until(self._due_ns(left))
            self.catch_up()
            for block, first, n in self._real:
                await self._sink.put_pages(f, block, first, n, REAL)
            self._real.clear()
            await f.flush()
            if until_ns is not None:
                break
        self._flowing = False
        self._flow.add(PART_OVERHEAD)

    # --- postcopy -------------------------------------------------------------------------------------

    async def _follow(self, f: QEMUFile, until_ns: int | None) -> None:
        """Pages that follow the guest, step by step: as many as go in a window, more when very many are left."""
        outgoing, clock = self._outgoing, self._vm.host.clock
        assert isinstance(self._sink, CountedSink)
        while self._any_left() or self._again:
            while clock.now_ns() < self._busy_until_ns:
                await outgoing.wait_until(self._busy_until_ns)
            again, self._again = self._again, []
            for block, first, n in again:
                self._sink.put_again(f, block, first, n)
            rate = outgoing.rate.bandwidth_limit() or MODEL_LINK_BYTES_PER_S
            left = max(rate // XFER_LIMIT_RATIO, self.remaining_pages * TARGET_PAGE_SIZE // _STEPS)
            sent = 0
            while sent < left and self._any_left():
                sent += await self._follow_with(f, left - sent)
            self._busy_until_ns = clock.now_ns() + sent * NS_PER_S // rate
            await f.flush()
            if until_ns is not None:
                return

    async def _follow_with(self, f: QEMUFile, room: int) -> int:
        """Send the next pages; returns how many bytes they stand for."""
        urgent = self.has_urgent
        block, first, n, kind = self._take_run(1 << 40)
        size = self._sink.size_of(kind)
        fits = min(n, -(-room // size), self._batch(REAL) if kind == REAL else n)
        if fits < n:
            self._give_back(block, first + fits, n - fits)
        if urgent and self._outgoing.preempt is not None:
            await self._outgoing.preempt.put(block, first, fits, kind)
        else:
            await self._sink.put_pages(f, block, first, fits, kind)
        return fits * size

    def request(self, block: RAMBlock, first: int, n: int) -> None:
        super().request(block, first, n)
        self._ask_again(block, first, n)

    async def send_urgent(self, block: RAMBlock, first: int, n: int) -> None:
        self._ask_again(block, first, n)
        await super().send_urgent(block, first, n)

    def _ask_again(self, block: RAMBlock, first: int, n: int) -> None:
        for other, runs in self._todo:
            if other is block:
                self._again += [(block, page, length) for page, length in runs.gaps(first, n)]

    def _due_ns(self, pages_left: int) -> int:
        """When all of this pass will have gone; or, earlier, the end of the PART at which no more than so many are left."""
        flow = self._flow.copy()
        began_ns = flow.at_ns
        end_ns: int | None = None
        pages = max(1, self.remaining_pages - pages_left)
        for number, first, n in self._ahead():
            for _, length, kind in self._todo[number][0].runs(first, n):
                size, burst, batch = (
                    self._sink.size_of(kind),
                    self._burst(kind),
                    self._sink.model_unit(kind, self._batch(kind)),
                )
                sent = 0
                if end_ns is None and pages_left and pages <= length:
                    sent = flow.send(pages, size, burst, batch=batch)
                    end_ns = flow.window_end_ns if flow.limited else self._part_end_ns(began_ns, flow.at_ns, size, kind)
                pages -= length
                if flow.send(length - sent, size, burst, end_ns, batch=batch) < length - sent:
                    assert end_ns is not None
                    return end_ns
        return flow.at_ns

    def _part_end_ns(self, began_ns: int, at_ns: int, size: int, kind: str) -> int:
        """Without a limit a PART ends with the first batch after 50 ms; the first such end from `at_ns` on."""
        batch_ns = max(1, size * self._batch(kind) * NS_PER_S // MODEL_LINK_BYTES_PER_S)
        part_ns = -(-ITERATE_NS // batch_ns) * batch_ns
        wanted_ns = max(at_ns, self._outgoing.rate.first_window_end_ns)
        return began_ns + -(-(wanted_ns - began_ns) // part_ns) * part_ns

    def _burst(self, kind: str) -> Callable[[int], int]:
        return lambda room: self._sink.model_burst(kind, self._batch(kind), room)

    def catch_up(self) -> None:
        """Account for the pages that have gone over the link by now."""
        if not self._flowing:
            return
        now_ns = self._vm.host.clock.now_ns()
        while self._any_left():
            block, first, n, kind = self._take_run(1 << 40)
            batch = self._sink.model_unit(kind, self._batch(kind))
            fits = self._flow.send(n, self._sink.size_of(kind), self._burst(kind), now_ns, batch=batch)
            if fits < n:
                self._give_back(block, first + fits, n - fits)
            if kind == REAL and fits:
                self._real.append((block, first, fits))
            elif fits:
                self._count_bytes(self._sink.count_unsent(fits, kind))
                if self._sink.is_zero(kind):
                    self._stats.duplicate += fits
                else:
                    self._stats.normal += fits
            if fits < n:
                break
        parts, self._flow.parts = self._flow.parts, 0
        self._count_bytes(self._sink.count_unsent_parts(parts))
