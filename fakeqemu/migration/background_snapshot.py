# SPDX-License-Identifier: MIT
"""A snapshot in the background: what goes into the stream is the guest of one moment, and the guest goes on.

    active ─ stop ─ devices, kept in memory ─ RAM is frozen ─ start ─ PART, PART, ... ─ devices ─ completed

Devices are saved while the guest stands still, but the stream has them last. A page of the frozen RAM that the guest is
about to write is put aside as it was, and is the next that goes. There is no limit of the bandwidth.

QEMU: bg_migration_thread in migration/migration.c, ram_write_tracking_start and ram_save_page's kin in migration/ram.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.migration.outgoing import GivenUp
from fakeqemu.migration.savevm import globals_of
from fakeqemu.migration.stream.qemu_file import QEMUFile
from fakeqemu.system import runstate as rs
from fakeqemu.system.ramblock import PageRuns, RAMBlock, SparseStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fakeqemu.migration.outgoing import Outgoing
    from fakeqemu.migration.ram import RAMHandlers
    from fakeqemu.migration.savevm import SaveVM
    from fakeqemu.system.ramblock import MappedStore


class FrozenStore:
    """The pages of a block as they were at one moment: its own, but for those that were put aside since."""

    __slots__ = ("_aside", "_kept", "_store")

    shared = False

    def __init__(self, store: SparseStore | MappedStore) -> None:
        self._store = store
        self._kept = SparseStore()
        self._aside = PageRuns()

    def keep(self, first: int, n: int) -> None:
        """These pages are about to change: put them aside, unless they are."""
        for start, length in list(self._aside.gaps(first, n)):
            if isinstance(self._store, SparseStore):
                self._kept.copy(self._store, start, length)
            else:
                for at in range(start, start + length):
                    self._kept.write(at, self._store.read(at, 1))
            self._aside.add(start, length)

    def _parts(self, first: int, n: int) -> Iterator[tuple[int, int, SparseStore | MappedStore]]:
        """The pages in order, each stretch with the store that has it."""
        at = first
        for start, length in list(self._aside.within(first, n)):
            if start > at:
                yield at, start - at, self._store
            yield start, length, self._kept
            at = start + length
        if at < first + n:
            yield at, first + n - at, self._store

    def runs(self, first: int, n: int) -> Iterator[tuple[int, int, str]]:
        """The pages as runs (first, length, ZERO | MADE | REAL), in order."""
        for start, length, store in self._parts(first, n):
            yield from store.runs(start, length)

    def read(self, first: int, n: int) -> bytes:
        return b"".join(store.read(start, length) for start, length, store in self._parts(first, n))

    def buffers(self, first: int, n: int) -> list[bytes | memoryview]:
        """The bytes of `n` pages, a buffer each."""
        found: list[bytes | memoryview] = []
        for start, length, store in self._parts(first, n):
            found += store.buffers(start, length)
        return found

    def buffer(self, first: int, n: int) -> bytes | memoryview:
        """The bytes of `n` pages in one piece."""
        parts = list(self._parts(first, n))
        if len(parts) == 1:
            start, length, store = parts[0]
            return store.buffer(start, length)
        return self.read(first, n)

    def forget(self) -> None:
        """Nothing that was read ahead is wanted any more."""
        if not isinstance(self._store, SparseStore):
            self._store.forget()


class FrozenBlock(RAMBlock):
    """A block as it was at one moment."""

    __slots__ = ("_runs", "_wanted", "frozen")

    def __init__(self, of: RAMBlock, runs: PageRuns, wanted: Callable[[RAMBlock, int, int], None]) -> None:
        """`runs`: the pages that are still to be sent; `wanted(block, first, n)` hears of those that the guest writes."""
        self.frozen = FrozenStore(of.store)
        super().__init__(of.idstr, of.used_length, share=of.share, named_file=of.named_file, page_size=of.page_size)
        self.store = self.frozen  # type: ignore[assignment]
        self.guest_address = of.guest_address
        self._runs = runs
        self._wanted = wanted
        of.guard = self._about_to_change

    def _about_to_change(self, first: int, n: int) -> None:
        for start, length in list(self._runs.within(first, n)):
            self.frozen.keep(start, length)
            self._wanted(self, start, length)


class BackgroundSnapshot:
    """One migration of this kind, from the moment at which everything is set up."""

    __slots__ = ("_outgoing", "_ram")

    def __init__(self, outgoing: Outgoing, ram: RAMHandlers) -> None:
        self._outgoing = outgoing
        self._ram = ram

    async def run(self, savevm: SaveVM) -> None:
        """Write everything; raises what has gone wrong."""
        outgoing = self._outgoing
        vm, f = outgoing.vm, outgoing.f
        assert f is not None
        try:
            devices = await self._save_devices(savevm, f)
            while not await outgoing.save_parts(outgoing.rate.exceeded):
                outgoing.rate.measure()
                await outgoing.turn()
                vm.guest.sync()
        finally:
            for block in vm.ram_blocks:
                block.guard = block.dirty = None
                block.read_anyhow()
        await vm.faults.pass_through("migration_completion_file_err")
        f.put_buffer(devices)
        await f.flush()
        outgoing.check()

    async def _save_devices(self, savevm: SaveVM, f: QEMUFile) -> bytes:
        """Stop the guest, save its devices, freeze its RAM, and let it go on."""
        outgoing = self._outgoing
        vm, stats = outgoing.vm, outgoing.mig.stats
        async with vm.bql:
            outgoing.check()
            stats.downtime_start_ns = vm.host.clock.now_ns()
            state, was_running = vm.runstate.state, vm.runstate.running
            if not was_running and state != rs.PAUSED and rs.PAUSED not in rs.TRANSITIONS[state]:
                # QEMU aborts here.
                raise QemuError(f"invalid runstate transition: '{state}' -> '{rs.PAUSED}'")
            globals_of(vm).store()
            await vm.runstate.vm_stop_force_state(rs.PAUSED)
            kept = QEMUFile()
            try:
                savevm.use(kept)
                await savevm.complete_non_iterable()
                await self._freeze()
            finally:
                savevm.use(f)
            # Where something has failed by now the guest stays paused: so it does in 7.2.22, 10.0.13 and 11.1.2.
            if was_running or vm.compat.migration_snapshot_starts:
                await vm.runstate.vm_start()
            stats.end_downtime(vm.host.clock.now_ns())
        devices = kept.getvalue()
        stats.package_bytes += len(devices)
        return devices

    async def _freeze(self) -> None:
        """Have the kernel tell of writes to the memory; raises what has gone wrong.

        QEMU: ram_write_tracking_start
        """
        vm = self._outgoing.vm
        try:
            await vm.faults.pass_through("ram_write_tracking_ramblock_start")
        except OSError:
            vm.error_report("ram_write_tracking_start() failed: restoring initial memory state")
            if vm.compat.migration_snapshot_words:
                raise QemuError("Failed to start write tracking") from None
            raise GivenUp from None
        self._ram.freeze()


def freeze(
    todo: list[tuple[RAMBlock, PageRuns]], wanted: Callable[[RAMBlock, int, int], None]
) -> list[tuple[RAMBlock, PageRuns]]:
    """The blocks as they are now, with the pages of each that are to be sent."""
    return [(FrozenBlock(block, runs, wanted), runs) for block, runs in todo]
