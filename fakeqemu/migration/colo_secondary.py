# SPDX-License-Identifier: MIT
"""The secondary of a COLO pair: it runs the primary's guest from its last checkpoint on, in case it has to take over.

Pages of a checkpoint go into a copy of the memory first: when the link breaks between them, the guest has a whole one. The
copy is the primary's memory as of the last checkpoint; what is brought over from it is what has come, and what the guest
here has written to meanwhile.

QEMU: colo_process_incoming_thread in migration/colo.c, colo_flush_ram_cache in migration/ram.c
"""

from __future__ import annotations

import errno

from fakeqemu.error import QemuError, StreamError
from fakeqemu.migration import colo, multifd_ram
from fakeqemu.migration import colo_half as half
from fakeqemu.migration import state as st
from fakeqemu.migration.ram import is_ignored
from fakeqemu.migration.stream.qemu_file import EndOfStream, QEMUFile
from fakeqemu.system.ramblock import ZERO, MappedStore, PageRuns, RAMBlock, SparseStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.migration.incoming import Incoming
    from fakeqemu.migration.loadvm import LoadVM
    from fakeqemu.migration.stream.multifd_packet import RamPacket
    from fakeqemu.system.machine import Machine

#: pages that are copied at once
_COPY_PAGES = 256


class BlockCopy:
    """The primary's pages of one block."""

    __slots__ = ("_came", "_log", "_own", "_pages", "block")

    def __init__(self, block: RAMBlock) -> None:
        self.block = block
        self._own = block.store
        self._pages = SparseStore()
        _copy(self._own, self._pages, 0, block.pages)
        #: what has come since it was brought over
        self._came = PageRuns()
        #: what the guest here writes to
        self._log = PageRuns()
        block.logs.append(self._log)

    def take_in(self) -> None:
        """What is loaded from now on goes into the copy. The guest is stopped."""
        self.block.received = self._came
        self.block.store = self._pages

    def put_back(self) -> None:
        """What is loaded goes into the memory again."""
        self.block.received = None
        self.block.store = self._own

    def place(self, vm: Machine, packet: RamPacket, data: bytes | memoryview) -> None:
        """Pages that came on another channel, whatever the main one is at; raises StreamError.

        QEMU: migration/multifd-colo.c
        """
        block = self.block
        now = block.store, block.received
        block.store, block.received = self._pages, None
        try:
            multifd_ram.place(vm, packet, data)
        finally:
            block.store, block.received = now
        for first, n in (*packet.normal, *packet.zero):
            self._came.add(first, n)

    def differing(self) -> PageRuns:
        """The pages that may not be what they are in the copy."""
        found, self._came = self._came, PageRuns()
        for first, n in self._log:
            found.add(first, n)
        self._log.clear()
        return found

    def bring_over(self, runs: PageRuns) -> None:
        for first, n in runs:
            _copy(self._pages, self._own, first, n)
        self.block.forget()

    def close(self) -> None:
        self.block.logs.remove(self._log)


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


def init_copies(vm: Machine) -> None:
    """Whether there is memory for a copy of all blocks; raises StreamError. They are made when all has come.

    QEMU: colo_init_ram_cache
    """
    for block in vm.ram_blocks:
        if is_ignored(vm, block):
            continue
        try:
            vm.faults.check("fake_colo_init_ram_cache", block=block.idstr)
        except OSError as err:
            size = f"size 0x{block.used_length:x}"
            text = f"Can't alloc memory for COLO cache of block {block.idstr}"
            if vm.compat.migration_error_chain:
                text = f"{text}, {size}"
            else:
                text = f"colo_init_ram_cache: {text},{size}"
            raise StreamError(text, err.errno or errno.ENOMEM) from None


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
        self._copies = [BlockCopy(block) for block in vm.ram_blocks if not is_ignored(vm, block)]
        if self._incoming.multifd is not None:
            self._incoming.multifd.place = self._place
        async with vm.bql:
            await self.start_guest()
        await self.send(half.CHECKPOINT_READY)
        while True:
            message = await self.receive(half.CHECKPOINT_REQUEST)
            if message != half.CHECKPOINT_REQUEST:
                raise QemuError(f"Got unknown COLO message: {message}")
            await self._checkpoint()

    async def _checkpoint(self) -> None:
        """Come into step with the primary; raises ConversationOver, QemuError."""
        vm = self.vm
        async with vm.bql:
            await self.stop_guest()
        await self.send(half.CHECKPOINT_REPLY)
        await self.expect(half.VMSTATE_SEND)
        for copy in self._copies:
            copy.take_in()
        try:
            await self._load_sections(self._load, "Load VM's live state (ram) error")
        finally:
            for copy in self._copies:
                copy.put_back()
        devices = await self._take_devices()
        await self.send(half.VMSTATE_RECEIVED)
        async with vm.bql:
            self.check()
            self._bring_over()
            # What fails leaves devices that are half of one checkpoint, half of another: QEMU starts such a guest as well.
            await self._load_sections(self._load.over(QEMUFile.over(devices)), "COLO: load device state failed")
            await self.start_guest()
        await self.send(half.VMSTATE_LOADED)

    async def _take_devices(self) -> bytes:
        """The devices of a checkpoint, behind their size; raises QemuError."""
        await self.expect(half.VMSTATE_SIZE)
        msg = half.MESSAGES[half.VMSTATE_SIZE]
        self.vm.faults.check("fake_colo_receive_message_value", msg=msg)
        try:
            size = await self.f.get_be64()
        except EndOfStream:
            raise QemuError(f"Failed to get value for COLO message: {msg}: Input/output error") from None
        self.vm.faults.check("fake_colo_receive_vmstate", size=size)
        devices = await self.f.take(size)
        if len(devices) < size:
            raise QemuError(f"Got {len(devices)} VMState data, less than expected {size}")
        return devices

    async def _load_sections(self, load: LoadVM, line: str) -> None:
        """Raises QemuError: the chain of reasons, or in older releases `line` behind those that were printed already."""
        try:
            await load.sections()
        except StreamError as err:
            if self.vm.compat.migration_error_chain:
                raise QemuError(err.desc) from None
            if load is not self._load:
                self.vm.error_report(f"Failed to load device state: -{err.errno}")
            raise QemuError(line) from None

    def _place(self, vm: Machine, packet: RamPacket, data: bytes | memoryview) -> None:
        """A packet of another channel; raises StreamError."""
        block = multifd_ram.find_block(vm, packet)
        for copy in self._copies:
            if copy.block is block:
                copy.place(vm, packet, data)

    def _bring_over(self) -> None:
        vm = self.vm
        vm.guest.sync()
        differing = [copy.differing() for copy in self._copies]
        vm.trace("colo_flush_ram_cache_begin", dirty_pages=sum(runs.count for runs in differing))
        for copy, runs in zip(self._copies, differing, strict=True):
            copy.bring_over(runs)
        vm.trace("colo_flush_ram_cache_end")

    # --- the end --------------------------------------------------------------------------------------

    async def fail_over(self) -> None:
        """As `ColoHalf.fail_over`; who waits for the primary hears of the end at once, before the command is answered.

        Not so a primary, which sleeps between checkpoints (20 times each on 11.1.2, 10.0.13, 7.2.22: most often so).
        """
        await super().fail_over()
        if self._incoming.multifd is not None:
            self._incoming.multifd.yank()
        self.tell_exit()

    def _complete(self) -> None:
        self._incoming.set_state(st.COMPLETED)

    async def _go_on_alone(self) -> None:
        for copy in self._copies:
            copy.close()
        async with self.vm.bql:
            await self.vm.runstate.vm_start()
        await self._incoming.leave_colo()
