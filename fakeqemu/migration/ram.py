# SPDX-License-Identifier: MIT
"""The source's half of the RAM section: which pages are dirty, and sending them in passes.

A pass goes through what was dirty when the bitmap was last looked at ("synchronised"), from the page on that was sent last,
round and round. Pages of zeroes travel as records of nine bytes, all others with their bytes.

QEMU: migration/ram.c
"""

from __future__ import annotations

from fakeqemu.host.clock import NS_PER_MS, NS_PER_S
from fakeqemu.migration.cpu_throttle import CPUThrottle
from fakeqemu.migration.page_sink import PageSink, choose_sink, postcopy_sink
from fakeqemu.migration.register import Pending, SaveVMHandlers
from fakeqemu.migration.stream.ram_page import (
    RAM_SAVE_FLAG_EOS,
    RAM_SAVE_FLAG_MEM_SIZE,
    TARGET_PAGE_SIZE,
    ZERO_RECORD_SIZE,
)
from fakeqemu.system.ramblock import ZERO, PageRuns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from fakeqemu.migration.outgoing import Outgoing
    from fakeqemu.migration.stream.qemu_file import QEMUFile
    from fakeqemu.system.machine import Machine
    from fakeqemu.system.ramblock import RAMBlock

#: QEMU sends a batch of this many real pages in one system call, and only then looks at the rate
BATCH_PAGES = 32
#: without a rate that could be exceeded there are more of them
UNLIMITED_BATCH_PAGES = 256
#: zero pages taken in one go
ZERO_BATCH_PAGES = 1 << 14
#: as many records of zero pages as fill the buffer of QEMU's stream, which are then sent and counted
ZERO_BUFFER_PAGES = 32768 // ZERO_RECORD_SIZE
#: one PART lasts at most this long
ITERATE_NS = 50 * NS_PER_MS


def is_ignored(vm: Machine, block: RAMBlock) -> bool:
    """Whether a block's pages stay behind: shared files, with x-ignore-shared."""
    if not vm.savevm.capability("x-ignore-shared") or not block.share:
        return False
    return block.named_file or not vm.compat.migration_ignore_shared_named


class RAMHandlers(SaveVMHandlers):
    """SaveVMHandlers of the entry "ram" of a source."""

    __slots__ = (
        "_cursor",
        "_last_sync_ns",
        "_outgoing",
        "_period_pages",
        "_postcopy",
        "_sink",
        "_stats",
        "_throttle",
        "_todo",
        "_urgent",
        "_vm",
    )

    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing
        self._vm = outgoing.vm
        self._stats = outgoing.mig.stats
        #: blocks with the pages that are left of the current pass
        self._todo: list[tuple[RAMBlock, PageRuns]] = []
        #: where to look for the next page: number of the block, page
        self._cursor = 0, 0
        self._throttle = CPUThrottle(self._vm, self.sync_bitmap)
        self._sink: PageSink = choose_sink(outgoing)
        self._last_sync_ns = 0
        self._period_pages = 0
        #: whether the guest runs on the other side, and the pages that it asks for
        self._postcopy = False
        self._urgent: list[tuple[RAMBlock, int, int]] = []

    # --- the bitmap -----------------------------------------------------------------------------------

    @property
    def remaining_pages(self) -> int:
        return sum(runs.count for _, runs in self._todo)

    def sync_bitmap(self, *, counted: bool = True) -> None:
        """Look at what got dirty since the last look: that is what the next pass goes through.

        QEMU: migration_bitmap_sync_precopy
        """
        self._vm.trace("migration_bitmap_sync_start")
        for log in self._vm.savevm.dirty_logs:
            log.sync()
        self._vm.guest.sync(reap=True)
        found = 0
        for block, runs in self._todo:
            assert block.dirty is not None
            before = runs.count
            for first, n in block.dirty:
                runs.add(first, n)
            block.dirty.clear()
            block.forget()
            found += runs.count - before  # those that still were to be sent got no dirtier
        now_ns = self._vm.host.clock.now_ns()
        self._period_pages += found
        if now_ns > self._last_sync_ns + NS_PER_S:
            self._throttle.looked(self._period_pages * TARGET_PAGE_SIZE)
            self._stats.dirty_pages_rate = self._period_pages * NS_PER_S // (now_ns - self._last_sync_ns)
            self._last_sync_ns = now_ns
            self._period_pages = 0
            if self._stats.xbzrle is not None:
                self._stats.xbzrle.update_rates(self._stats.duplicate + self._stats.normal + self._stats.xbzrle.deltas)
        self._vm.trace("migration_bitmap_sync_end", dirty_pages=found)
        if not counted:
            return
        self._stats.dirty_sync_count += 1
        count = self._stats.dirty_sync_count
        if self._outgoing.mig.options.on("events") and (count > 1 or self._vm.compat.migration_first_pass_event):
            self._vm.emit("MIGRATION_PASS", {"pass": count})

    # --- SaveVMHandlers -------------------------------------------------------------------------------

    async def save_setup(self, f: QEMUFile) -> None:
        self._sink.begin_setup()
        for log in self._vm.savevm.dirty_logs:
            log.start()
        self._vm.guest.sync()
        for block in self._vm.ram_blocks:
            if not is_ignored(self._vm, block):
                block.dirty = PageRuns()
                block.read_in_order(self._sink.gap)
                runs = PageRuns()
                runs.add(0, block.pages)
                self._todo.append((block, runs))
        self._stats.ram_total = sum(block.used_length for block, _ in self._todo)
        self._stats.ram_remaining = lambda: self.remaining_pages
        self._stats.throttle = self._throttle
        self._throttle.begin()
        self._last_sync_ns = self._vm.host.clock.now_ns()
        self.sync_bitmap(counted=not self._is_snapshot or self._vm.compat.migration_snapshot_sync_counted)
        await put_block_list(f, self._vm, self._sink)
        await self._sink.end_setup(f)
        f.put_be64(RAM_SAVE_FLAG_EOS)
        if f.write_error is None:  # the first one stays: a device may have had one to tell
            self._vm.faults.check("fake_ram_save_setup")
        await f.flush()

    def state_pending_estimate(self) -> Pending:
        size = self.remaining_pages * TARGET_PAGE_SIZE
        return Pending(postcopy=size) if self.has_postcopy() else Pending(precopy=size)

    def has_postcopy(self) -> bool:
        return self._outgoing.mig.options.on("postcopy-ram")

    async def state_pending_exact(self) -> Pending:
        self.sync_bitmap()
        return self.state_pending_estimate()

    async def save_live_iterate(self, f: QEMUFile) -> bool:
        until_ns = self._vm.host.clock.now_ns() + ITERATE_NS
        before = self._sink.counted(f)
        await self._send_pages(f, until_ns)
        await self._sink.end_part(f, pass_over=not self._any_left())
        f.put_be64(RAM_SAVE_FLAG_EOS)
        self._count_bytes(self._sink.counted(f) - before)
        await f.flush()
        return self.remaining_pages == 0

    async def save_live_complete_precopy(self, f: QEMUFile) -> None:
        self._vm.faults.check("ram_save_complete")
        if not self._postcopy:
            self.sync_bitmap(counted=self._vm.compat.migration_final_sync_counted)
        before = self._sink.counted(f)
        self._sink.begin_last_stage()
        await self._send_pages(f, None)
        await self._sink.complete(f)
        self._count_bytes(self._sink.counted(f) - before)
        f.put_be64(RAM_SAVE_FLAG_EOS)
        await f.flush()

    def save_cleanup(self) -> None:
        self._throttle.stop()
        for log in self._vm.savevm.dirty_logs:
            log.stop()
        self._sink.cleanup()
        left = self.remaining_pages
        self._stats.ram_remaining = lambda: left
        for block, _ in self._todo:
            block.dirty = None
            block.read_anyhow()
        self._todo = []

    @property
    def _is_snapshot(self) -> bool:
        return self._outgoing.mig.options.on("background-snapshot")

    def freeze(self) -> None:
        """(background-snapshot) From now on the pages are sent as they are at this moment, those the guest writes first."""
        from fakeqemu.migration.background_snapshot import freeze

        self._todo = freeze(self._todo, self.request)

    # --- pages ----------------------------------------------------------------------------------------

    async def _send_pages(self, f: QEMUFile, until_ns: int | None) -> None:
        """Send pages of this pass: until a time or as long as the rate allows; all of them when `until_ns` is None."""
        clock = self._vm.host.clock
        ahead = self._batch(ZERO)
        while self._any_left():
            if until_ns is not None and not self.has_urgent:
                if self._outgoing.rate.exceeded() or clock.now_ns() >= until_ns:
                    return
            urgent = self.has_urgent
            block, first, n, kind = self._take_run(ahead)
            # Looking at real pages means reading them: no more of them than are sent now.
            ahead = batch = self._batch(kind)
            if n > batch:
                self._give_back(block, first + batch, n - batch)
                n = batch
            if urgent and self._outgoing.preempt is not None:
                await self._outgoing.preempt.put(block, first, n, kind)
                continue
            await self._sink.put_pages(f, block, first, n, kind)
            small = batch == ZERO_BUFFER_PAGES
            full = batch * ZERO_RECORD_SIZE if small else BATCH_PAGES * TARGET_PAGE_SIZE
            if f.bytes_transferred - f.flushed >= full:
                await f.flush()

    def _batch(self, kind: str) -> int:
        """How many pages of a kind are put between two looks at the limit."""
        rate = self._outgoing.rate
        zero = self._sink.is_zero(kind)
        if rate.counts_put:
            size = self._sink.size_of(kind)
            return 1 if rate.model else min(ZERO_BATCH_PAGES if zero else BATCH_PAGES, rate.room_for(size))
        if zero:
            return ZERO_BUFFER_PAGES if rate.is_low else ZERO_BATCH_PAGES
        return BATCH_PAGES if rate.bandwidth_limit() else UNLIMITED_BATCH_PAGES

    def _count_bytes(self, size: int) -> None:
        """Bytes of page records: before or after the guest was stopped."""
        if self._vm.runstate.running:
            self._stats.precopy_bytes += size
        elif self._postcopy:
            self._stats.postcopy_bytes += size
        else:
            self._stats.downtime_bytes += size

    def _any_left(self) -> bool:
        return any(runs.count for _, runs in self._todo)

    def _take_run(self, limit: int) -> tuple[RAMBlock, int, int, str]:
        """Take the next pages off the list: block, first page, how many (at most `limit`), what they hold."""
        if self.has_urgent:
            wanted, first, n = self._urgent[0]
            number = next(at for at, (block, _) in enumerate(self._todo) if block is wanted)
            first, n = next(self._todo[number][1].within(first, n))
        else:
            number, first, n = next(self._ahead())
        block, runs = self._todo[number]
        first, n, kind = next(iter(block.runs(first, min(n, limit))))
        runs.discard(first, n)
        self._cursor = number, first + n
        return block, first, n, kind

    def _ahead(self) -> Iterator[tuple[int, int, int]]:
        """What is left in the order in which it goes: number of the block, first page, how many."""
        number, page = self._cursor
        for step in range(len(self._todo) + 1):
            at = (number + step) % len(self._todo)
            runs = self._todo[at][1]
            # The block of the cursor comes twice: what is behind the cursor, at the end what is before it.
            start, end = page if step == 0 else 0, page if step == len(self._todo) else 1 << 62
            for first, n in runs.within(start, end - start):
                yield at, first, n

    def _give_back(self, block: RAMBlock, first: int, n: int) -> None:
        """Pages that were taken are not sent now: they are the next ones."""
        for number, (other, runs) in enumerate(self._todo):
            if other is block:
                runs.add(first, n)
                self._cursor = number, first

    # --- postcopy -------------------------------------------------------------------------------------

    def enter_postcopy(self) -> None:
        """The guest has stopped and will run on the other side: a last look, in units of the host's pages."""
        self.sync_bitmap(counted=self._vm.compat.migration_final_sync_counted)
        for block, runs in self._todo:
            size = block.page_size // TARGET_PAGE_SIZE
            if size > 1:
                for first, n in runs:
                    start = first // size * size
                    runs.add(start, -(-(first + n) // size) * size - start)
        self._postcopy = True
        # What was only worth it while the guest ran here (other channels, differences) ends.
        self._sink.cleanup()
        self._sink = postcopy_sink(self._outgoing)

    async def save_postcopy_prepare(self, f: QEMUFile) -> None:
        await self._sink.complete(f)
        f.put_be64(RAM_SAVE_FLAG_EOS)

    def dirty_runs(self) -> list[tuple[RAMBlock, PageRuns]]:
        """The blocks that travel, with the pages that are left."""
        return self._todo

    def request(self, block: RAMBlock, first: int, n: int) -> None:
        """The destination waits for these pages: they go before all others."""
        self._urgent.append((block, first, n))

    async def send_urgent(self, block: RAMBlock, first: int, n: int) -> None:
        """Send pages that the destination waits for, as far as they are left, over the channel for that; raises QemuError."""
        preempt = self._outgoing.preempt
        assert preempt is not None
        for other, runs in self._todo:
            if other is block:
                wanted = list(runs.within(first, n))
                runs.discard(first, n)
                for start, length in wanted:
                    for page, count, kind in block.runs(start, length):
                        await preempt.put(block, page, count, kind)

    @property
    def has_urgent(self) -> bool:
        """Whether a page is left that was asked for."""
        while self._urgent:
            block, first, n = self._urgent[0]
            for other, runs in self._todo:
                if other is block:
                    run = runs.first_run(first)
                    if run is not None and run[0] < first + n:
                        return True
            del self._urgent[0]
        return False

    def set_left(self, block: RAMBlock, left: PageRuns) -> None:
        """(recovery) These pages of a block are left, whatever was sent."""
        self._todo = [(other, left if other is block else runs) for other, runs in self._todo]

    def restart(self) -> None:
        """(recovery) A new connection: nothing that was said on the old one holds."""
        self._urgent.clear()
        self._sink = postcopy_sink(self._outgoing)


async def put_block_list(f: QEMUFile, vm: Machine, sink: PageSink) -> None:
    """The body of START: names and lengths of all blocks."""
    total = sum(block.used_length for block in vm.ram_blocks)
    f.put_be64(total | RAM_SAVE_FLAG_MEM_SIZE)
    for block in vm.ram_blocks:
        f.put_counted_string(block.idstr)
        f.put_be64(block.used_length)
        if vm.savevm.capability("postcopy-ram") and block.page_size != TARGET_PAGE_SIZE:
            f.put_be64(block.page_size)
        if vm.savevm.capability("x-ignore-shared"):
            f.put_be64(block.guest_address)
        await sink.put_block_header(f, block)
