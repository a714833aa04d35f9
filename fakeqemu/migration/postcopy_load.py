# SPDX-License-Identifier: MIT
"""The destination's side of postcopy: a guest that runs while its memory is still coming.

    ADVISE ─ DISCARD: pages that came are stale ─ PACKAGED { LISTEN ─ FULL ... ─ RUN } ─ the guest runs
                                                       └─ the task mig/dst/listen reads on: pages, END, EOF ─ completed
                                                            │ the link breaks
                                                            └─ postcopy-paused ─ migrate-recover ─ RESUME ─ reads on

A page is placed once: what comes a second time is dropped, as the guest may have written to it. A vCPU that touches a page
that has not come asks for it and waits (postcopy_faults).

QEMU: loadvm_postcopy_* in migration/savevm.c, migration/postcopy-ram.c
"""

from __future__ import annotations

import errno
import os
from struct import Struct

from fakeqemu.error import StreamError
from fakeqemu.migration import state as st
from fakeqemu.migration import userfault
from fakeqemu.migration.blocktime import ENGINES, BlocktimeEngine
from fakeqemu.migration.postcopy_faults import Bookings, FaultSource, tells_threads
from fakeqemu.migration.received_bitmap import BITMAP_ENDING, bitmap_size, runs_to_bitmap
from fakeqemu.migration.savevm import RAM, globals_of
from fakeqemu.migration.stream import return_path as rp
from fakeqemu.migration.stream.qemu_file import c_string
from fakeqemu.migration.stream.ram_page import TARGET_PAGE_BITS, TARGET_PAGE_SIZE
from fakeqemu.system import runstate as rs
from fakeqemu.system.cpus import cpus_of
from fakeqemu.system.ramblock import PageRuns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from fakeqemu.host.channel import Channel
    from fakeqemu.host.sync import Future, Task
    from fakeqemu.migration.incoming import Incoming
    from fakeqemu.migration.loadvm import LoadVM
    from fakeqemu.system.ramblock import RAMBlock

# How far the source has gone; the numbers are part of error texts.
ADVISE, DISCARD, LISTENING, RUNNING, END = 1, 2, 3, 4, 5

_RANGE = Struct(">QQ")
_REQUEST = Struct(">QI")
_DISCARD_VERSION = 0


class PostcopyIncoming:
    """Postcopy of one destination, from ADVISE on."""

    __slots__ = (
        "_arrival", "_bookings", "_channel", "_deaf", "_incoming", "_last_block", "_listener", "_load", "_running", "_stale",
        "_vm", "_waiting", "blocktime", "faults", "phase",
    )  # fmt: skip

    def __init__(self, incoming: Incoming, load: LoadVM) -> None:
        self._incoming = incoming
        self._load = load
        self._vm = load.vm
        self.phase = ADVISE
        #: blocks, with the ranges that the source has called stale or never sent
        self._stale: dict[str, PageRuns] = {}
        #: made when the array engine is advised, else when the source makes us listen
        self.blocktime: BlocktimeEngine | None = None
        self.faults: FaultSource | None = None
        #: RUN has come
        self._running = self._vm.host.event()
        self._listener: Task | None = None
        #: first page of a host page of a block -> those who wait for it, one request each
        self._waiting: dict[tuple[str, int], Future] = {}
        #: the block of the last request: the next one leaves the name away
        self._last_block: RAMBlock | None = None
        #: a page has come, or the second channel has ended: whoever waits for the last pages looks again
        self._arrival = self._vm.host.event()
        self._bookings = Bookings(self._vm)
        #: nobody asks for pages any more
        self._deaf = False
        #: (paused) delivers the new connection
        self._channel: Future | None = None
        if self._vm.compat.blocktime_engine == "array":
            self._account()

    def _account(self) -> None:
        vm = self._vm
        if self.blocktime is None and vm.migration.options.on("postcopy-blocktime"):
            if vm.compat.blocktime_engine == "array" and not tells_threads(vm):
                return  # without the threads this engine stays off; the newer one sees a thread 0
            engine = ENGINES[vm.compat.blocktime_engine]
            self.blocktime = engine(self.threads(), vm.host.clock.now_ns, vm.trace)

    def threads(self) -> Sequence[int]:
        """Ids of the vCPUs' threads. A board without CPUs has one in the books all the same."""
        return [cpu.tid for cpu in cpus_of(self._vm)] or [1]

    @property
    def took_over(self) -> bool:
        """Whether the stream is read on by the task of postcopy."""
        return self._listener is not None

    # --- commands of the stream -----------------------------------------------------------------------

    async def discard(self, load: LoadVM, length: int) -> None:
        """Forget ranges of a block that were sent and have changed since; raises LoadFault."""
        name = "CMD_POSTCOPY_RAM_DISCARD"
        if self.phase not in (ADVISE, DISCARD):
            raise load.fault(errno.EPERM, f"{name} in wrong postcopy state ({self.phase})")
        self.phase = DISCARD
        if length < 1 + 1 + 1 + 1 + _RANGE.size:
            raise load.fault(errno.EPERM, f"{name} invalid length ({length})")
        version = await load.f.take_uint(1)
        if version != _DISCARD_VERSION:
            raise load.fault(errno.EPERM, f"{name} invalid version ({version})")
        data = await load.f.take(size := await load.f.take_uint(1))
        if not size or len(data) < size:
            raise load.fault(errno.EPERM, f"{name} Failed to read RAMBlock ID")
        idstr = c_string(data)
        nil = await load.f.take_uint(1)
        if nil:
            raise load.fault(errno.EPERM, f"{name} missing nil ({nil})")
        length -= 3 + len(data.partition(b"\0")[0])
        if length % _RANGE.size:
            raise load.fault(errno.EPERM, f"{name} invalid length ({length})")
        block = self._find(idstr)
        for _ in range(length // _RANGE.size):
            start, size = await load.f.take_uint(8), await load.f.take_uint(8)
            if block is None:
                load.vm.error_report(f"ram_discard_range: Failed to find block '{idstr}'")
                raise userfault.not_discarded(load, idstr, errno.EPERM)
            wrong = ""
            if start % TARGET_PAGE_SIZE:
                wrong = f"Unaligned start address: {start:#x}"
            elif start + size > block.used_length:
                wrong = f"Overrun block '{idstr}' ({start}/{size:x}/{block.used_length:x})"
            elif size % TARGET_PAGE_SIZE:
                wrong = f"Unaligned length: {size:x}"
            if wrong:
                load.vm.error_report(f"{self._vm.compat.migration_discard_function}: {wrong}")
                raise userfault.not_discarded(load, idstr, errno.EPERM)
            self._vm.trace("ram_discard_range", rbname=idstr, start=start, len=size)
            first, n = start >> TARGET_PAGE_BITS, size >> TARGET_PAGE_BITS
            userfault.discard(load, block, start, size)
            self._stale.setdefault(idstr, PageRuns()).add(first, n)
            if block.received is not None:
                block.received.discard(first, n)

    def _find(self, idstr: str) -> RAMBlock | None:
        for block in self._vm.ram_blocks:
            if block.idstr == idstr:
                return block
        return None

    async def listen(self, load: LoadVM) -> None:
        """From now on pages come on their own, while what else is in the package is loaded; raises LoadFault."""
        if self.phase not in (ADVISE, DISCARD):
            raise load.fault(errno.EPERM, f"CMD_POSTCOPY_LISTEN in wrong postcopy state ({self.phase})")
        self._vm.trace("loadvm_postcopy_handle_listen", stage="enter")
        userfault.listen(load)
        preempt = self._incoming.preempt
        if preempt is not None:
            await preempt.listen(self)
        self._account()
        self.phase = LISTENING
        for block in self._vm.ram_blocks:
            if block.received is None:
                block.received = PageRuns()
            if self._vm.fake.get("ram") == "model":  # what is not stale has come, even if it was only counted
                for first, n in self._stale.get(block.idstr, PageRuns()).gaps(0, block.pages):
                    block.received.add(first, n)
        ram = self._vm.savevm.find(RAM, 0)
        assert ram is not None
        ram.handlers.postcopy = self  # type: ignore[union-attr]
        waits = self._vm.compat.migration_postcopy_device_state
        self._incoming.set_state(st.POSTCOPY_DEVICE if waits else st.POSTCOPY_ACTIVE)
        self.faults = FaultSource(self._vm, self)
        self._listener = self._vm.migration.start(self._listen(), "mig/dst/listen")
        self._vm.trace("loadvm_postcopy_handle_listen", stage="return")

    async def run(self, load: LoadVM) -> None:
        """The guest goes on here; raises LoadFault."""
        if self.phase != LISTENING:
            raise load.fault(errno.EPERM, f"CMD_POSTCOPY_RUN in wrong postcopy state ({self.phase})")
        self._vm.trace("loadvm_postcopy_handle_run")
        self.phase = RUNNING
        if self._incoming.state == st.POSTCOPY_DEVICE:
            self._incoming.set_state(st.POSTCOPY_ACTIVE)
        vm = self._vm
        assert self.faults is not None
        vm.guest.on_start = self.faults.start
        async with vm.bql:
            wanted = globals_of(vm).next_state
            await self._incoming.start_guest(rs.RUNNING if wanted == rs.RUNNING else wanted)
        self._running.set()

    # --- pages ----------------------------------------------------------------------------------------

    def address(self, block: RAMBlock, page: int) -> int:
        """The address of a page in the process."""
        return userfault.address(self._vm, block, page)

    def place(self, block: RAMBlock, first: int, n: int, data: bytes | memoryview | None) -> None:
        """Give the guest pages (None: of zeroes), but for those that it has already; raises StreamError."""
        received = block.received
        if received is None:  # what is beside has failed, and with it the load
            return
        for start, length in received.gaps(first, n):
            if data is None:
                userfault.zero(self._vm, block, start, length)
            else:
                at = (start - first) * TARGET_PAGE_SIZE
                userfault.copy(self._vm, block, start, memoryview(data)[at : at + length * TARGET_PAGE_SIZE])
            received.add(start, length)
            self._placed(block, start, length)

    def passed_over(self, block: RAMBlock, first: int, page: int) -> None:
        """(`ram=model`) A record that goes on from the one before, further up: what lies between was only counted."""
        if self._vm.fake.get("ram") == "model" and first < page:
            self.place(block, first, page - first, None)

    def _placed(self, block: RAMBlock, first: int, n: int) -> None:
        """Book the ends of faults, and wake those who wait."""
        assert block.received is not None
        size = block.page_size >> TARGET_PAGE_BITS
        if size > 1:  # a host page is there when the last part of it is
            whole = [
                page
                for page in range(first // size * size, first + n, size)
                if not any(True for _ in block.received.gaps(page, size))
            ]
        else:
            whole = []
        if self.blocktime is not None:
            if size == 1:
                self._bookings.book(self.blocktime, self.address(block, first), n, TARGET_PAGE_SIZE)
            for page in whole:
                self._bookings.book(self.blocktime, self.address(block, page), 1, block.page_size)
        if self._waiting:
            pages = (
                whole
                if size > 1
                else [p for name, p in self._waiting if name == block.idstr and first <= p < first + n]
            )
            for page in pages:
                waiter = self._waiting.pop((block.idstr, page), None)
                if waiter is not None:
                    self._vm.trace("postcopy_page_req_del", addr=self.address(block, page), count=len(self._waiting))
                    waiter.set_result()
            self.look_again()

    def look_again(self) -> None:
        """Something has changed for those who wait for the last pages."""
        self._arrival.set()
        self._arrival.clear()

    def check_preempt(self, load: LoadVM) -> None:
        """Raise LoadFault when the second channel has ended."""
        preempt = self._incoming.preempt
        if preempt is not None and preempt.error is not None:
            raise load.fault(preempt.error.errno, preempt.error.desc, old=[])

    async def _last_pages(self) -> None:
        """The main channel is at its end: pages that somebody waits for may still come over the second one; raises LoadFault."""
        while self._waiting and self._incoming.preempt is not None:
            self.check_preempt(self._load)
            await self._arrival.wait()

    async def fault(self, block: RAMBlock, page: int, thread: int) -> None:
        """A thread touches a page: come back when it is there. QEMU: postcopy_ram_fault_thread"""
        size = block.page_size >> TARGET_PAGE_BITS
        first = page // size * size
        if block.received is None or page in block.received:
            return
        key = (block.idstr, first)
        self._vm.trace(
            "postcopy_ram_fault_thread_request",
            hostaddr=self.address(block, first), ramblock=block.idstr, offset=first << TARGET_PAGE_BITS, ufd=thread,
        )  # fmt: skip
        if self.blocktime is not None:
            self.blocktime.begin(self.address(block, first), thread if tells_threads(self._vm) else 0)
        waiter = self._waiting.get(key)
        if waiter is None:
            waiter = self._waiting[key] = self._vm.host.future()
            self._vm.trace("postcopy_page_req_add", addr=self.address(block, first), count=len(self._waiting))
            if self._channel is None and self._listens_to_faults(block):
                await self._ask_for(block, first, size)
        await waiter

    def _listens_to_faults(self, block: RAMBlock) -> bool:
        """Whether whoever asks for pages has heard of a fault. Once that fails pages come only in their own time."""
        if not self._deaf:
            try:
                self._vm.faults.check("postcopy_ram_fault_thread_request", ramblock=block.idstr)
            except OSError as err:
                self._deaf = True
                why = os.strerror(err.errno or errno.EIO)
                self._vm.error_report(f"postcopy_ram_fault_thread: Failed to read full userfault message: {why}")
        return not self._deaf

    async def _ask_for(self, block: RAMBlock, first: int, n: int) -> None:
        data = _REQUEST.pack(first << TARGET_PAGE_BITS, n << TARGET_PAGE_BITS)
        self._vm.trace("fake_migrate_send_rp_req_pages", name=block.idstr, start=first << TARGET_PAGE_BITS, len=n)
        if block is self._last_block:
            await self._load.send(rp.MIG_RP_MSG_REQ_PAGES, data)
            return
        self._last_block = block
        name = block.idstr.encode()
        await self._load.send(rp.MIG_RP_MSG_REQ_PAGES_ID, data + bytes((len(name),)) + name)

    # --- reading on -----------------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Read pages until the end, over as many connections as it takes. QEMU: postcopy_listen_thread"""
        self._vm.trace("postcopy_ram_listen_thread_start")
        while True:
            try:
                await self._load.sections()
                await self._last_pages()
                break
            except StreamError as err:
                if self.phase == RUNNING:
                    await self._pause()
                    continue
                self._vm.trace("postcopy_ram_listen_thread_exit")
                if self._incoming.state != st.FAILED:
                    text = f"loadvm failed during postcopy: -{err.errno}: {err.desc}"
                    await self._incoming.failed(err.errno, text)
                return
        await self._running.wait()
        self.phase = END
        await self._incoming.loaded_postcopy(self._load)
        self._vm.trace("postcopy_ram_listen_thread_exit")

    def cleanup(self) -> None:
        """The load is over: nobody faults any more."""
        if self.phase >= LISTENING:
            userfault.end(self._vm)
        self._vm.guest.on_start = None
        self._bookings.finish()
        if self.blocktime is not None:
            self._vm.trace("postcopy_ram_incoming_cleanup_blocktime", total=self.blocktime.all_total)
        if self.faults is not None:
            self.faults.stop()
        for waiter in self._waiting.values():
            waiter.set_result()
        self._waiting.clear()

    # --- recovery -------------------------------------------------------------------------------------

    async def _pause(self) -> None:
        """The link is gone: wait for another. QEMU: postcopy_pause_incoming"""
        vm, incoming = self._vm, self._incoming
        vm.trace("postcopy_pause_incoming")
        self._channel = vm.host.future()
        self._last_block = None
        incoming.disconnect()
        if incoming.preempt is not None:
            await incoming.preempt.close()
        for line in st.postcopy_paused_lines(self._vm):
            vm.error_report(line)
        incoming.set_state(st.POSTCOPY_PAUSED)
        channel: Channel = await self._channel
        self._load.use(incoming.reconnect(channel))
        incoming.set_state(st.POSTCOPY_RECOVER)
        vm.trace("postcopy_pause_incoming_continued")

    def recover(self, uri: str) -> None:
        """`migrate-recover`: listen for the source; the last address counts. Raises QemuError."""
        self._incoming.listen_again(uri, self._on_channel)

    def _on_channel(self, channel: Channel) -> None:
        preempt = self._incoming.preempt
        if self._channel is None or self._channel.done:
            if preempt is not None and preempt.wanted and self._channel is not None:
                preempt.add(channel)
            else:
                channel.close()
            return
        self._channel.set_result(channel)

    async def resume(self) -> bool:
        """RESUME: go on, and ask once more for all that somebody waits for. False when there is nothing to resume."""
        if self._incoming.state != st.POSTCOPY_RECOVER:
            return False
        self._vm.trace("loadvm_postcopy_handle_resume")
        if self._incoming.preempt is not None:
            await self._incoming.preempt.listen(self)
        self._channel = None
        self._incoming.set_state(st.POSTCOPY_ACTIVE)
        await self._load.send(rp.MIG_RP_MSG_RESUME_ACK, rp.RESUME_ACK_VALUE.to_bytes(4, "big"))
        for idstr, first in list(self._waiting):
            block = self._find(idstr)
            assert block is not None
            await self._ask_for(block, first, block.page_size >> TARGET_PAGE_BITS)
        return True

    async def send_bitmap(self, block: RAMBlock) -> bool:
        """RECV_BITMAP: tell which pages of a block have come. False when nothing is being recovered."""
        if self._incoming.state != st.POSTCOPY_RECOVER:
            return False
        name = block.idstr.encode()
        size = bitmap_size(block.pages)
        self._vm.trace("migrate_send_rp_recv_bitmap", name=block.idstr, size=size)
        received = block.received if block.received is not None else PageRuns()
        await self._load.send(rp.MIG_RP_MSG_RECV_BITMAP, bytes((len(name),)) + name)
        try:
            await self._vm.faults.pass_through("migrate_send_rp_recv_bitmap", block_name=block.idstr)
            await self._incoming.send_raw(
                size.to_bytes(8, "big") + runs_to_bitmap(received, block.pages) + BITMAP_ENDING.to_bytes(8, "big")
            )
        except OSError:
            pass  # reading hears of it
        return True
