# SPDX-License-Identifier: MIT
"""The secondary of a COLO pair: it runs the primary's guest from its last checkpoint on, in case it has to take over.

Pages of a checkpoint go into a copy of the memory first: when the link breaks between them, the guest has a whole one. The
copy is the primary's memory as of the last checkpoint; what is brought over from it is what has come, and what the guest
here has written to meanwhile.

QEMU: colo_process_incoming_thread in migration/colo.c, colo_flush_ram_cache in migration/ram.c
"""

from __future__ import annotations

from fakeqemu.error import StreamError
from fakeqemu.migration import colo
from fakeqemu.migration import colo_half as half
from fakeqemu.migration import state as st
from fakeqemu.migration.stream.qemu_file import QEMUFile
from fakeqemu.system.ramblock import ZERO, MappedStore, PageRuns, RAMBlock, SparseStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.migration.incoming import Incoming
    from fakeqemu.migration.loadvm import LoadVM

#: pages that are copied at once
_COPY_PAGES = 256


class BlockCopy:
    """The primary's pages of one block."""

    __slots__ = ("_block", "_log", "_own", "_pages")

    def __init__(self, block: RAMBlock) -> None:
        self._block = block
        self._own = block.store
        self._pages = SparseStore()
        _copy(self._own, self._pages, 0, block.pages)
        #: what the guest here writes to
        self._log = PageRuns()
        block.logs.append(self._log)

    def take_in(self) -> None:
        """What is loaded from now on goes into the copy. The guest is stopped."""
        self._block.received = PageRuns()
        self._block.store = self._pages

    def put_back(self) -> None:
        """What is loaded goes into the memory again."""
        self._block.store = self._own

    def differing(self) -> PageRuns:
        """The pages that may not be what they are in the copy."""
        found, self._block.received = self._block.received or PageRuns(), None
        for first, n in self._log:
            found.add(first, n)
        self._log.clear()
        return found

    def bring_over(self, runs: PageRuns) -> None:
        for first, n in runs:
            _copy(self._pages, self._own, first, n)
        self._block.forget()

    def close(self) -> None:
        self._block.received = None
        self._block.logs.remove(self._log)


def _copy(source: SparseStore | MappedStore, target: SparseStore | MappedStore, first: int, n: int) -> None:
    """The same content in another store."""
    if isinstance(source, SparseStore) and isinstance(target, SparseStore):
        target.copy(source, first, n)
        return
    for start, length, kind in source.runs(first, n):
        if kind is ZERO:
            target.zero(start, length)
            continue
        for at in range(start, start + length, _COPY_PAGES):
            target.write(at, source.read(at, min(_COPY_PAGES, start + length - at)))


class ColoSecondary(half.ColoHalf):
    """The half that the migration came to."""

    __slots__ = ("_copies", "_incoming", "_load")

    mode = colo.SECONDARY

    def __init__(self, incoming: Incoming, load: LoadVM) -> None:
        super().__init__(load.vm, load.f)
        self._incoming = incoming
        self._load = load
        self._copies: list[BlockCopy] = []

    async def _converse(self) -> None:
        vm = self.vm
        await self._incoming.enter_colo(self._load)
        self._copies = [BlockCopy(block) for block in vm.ram_blocks]
        async with vm.bql:
            await self.start_guest()
        await self.send(half.CHECKPOINT_READY)
        while True:
            message = await self.receive()
            if message != half.CHECKPOINT_REQUEST:
                raise half.ConversationOver(f"Got unknown COLO message: {message}")
            try:
                await self._checkpoint()
            except StreamError as err:
                raise half.ConversationOver(*([err.desc] if err.desc else [])) from None

    async def _checkpoint(self) -> None:
        """Come into step with the primary; raises ConversationOver, QemuError, StreamError."""
        vm = self.vm
        async with vm.bql:
            await self.stop_guest()
        await self.send(half.CHECKPOINT_REPLY)
        await self.expect(half.VMSTATE_SEND)
        for copy in self._copies:
            copy.take_in()
        try:
            await self._load.sections()
        finally:
            for copy in self._copies:
                copy.put_back()
        await self.expect(half.VMSTATE_SIZE)
        size = await self.f.get_be64()
        devices = await self.f.take(size)
        if len(devices) < size:
            raise half.ConversationOver(f"Got {len(devices)} VMState data, less than expected {size}")
        await self.send(half.VMSTATE_RECEIVED)
        async with vm.bql:
            self.check()
            self._bring_over()
            await self._load.over(QEMUFile.over(devices)).sections()
            await self.start_guest()
        await self.send(half.VMSTATE_LOADED)

    def _bring_over(self) -> None:
        vm = self.vm
        vm.guest.sync()
        differing = [copy.differing() for copy in self._copies]
        vm.trace("colo_flush_ram_cache_begin", dirty_pages=sum(runs.count for runs in differing))
        for copy, runs in zip(self._copies, differing, strict=True):
            copy.bring_over(runs)
        vm.trace("colo_flush_ram_cache_end")

    # --- the end --------------------------------------------------------------------------------------

    def _complete(self) -> None:
        self._incoming.set_state(st.COMPLETED)

    async def _go_on_alone(self) -> None:
        for copy in self._copies:
            copy.close()
        async with self.vm.bql:
            await self.vm.runstate.vm_start()
        self._incoming.leave_colo()
