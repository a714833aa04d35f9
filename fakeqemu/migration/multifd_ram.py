# SPDX-License-Identifier: MIT
"""Pages on multifd channels: collected into packets by the source, put into their blocks by the destination.

Which pages are zero is found out by the channels (zero-page-detection=multifd), by the main task, which then puts them as
records of its own stream (legacy, and all that older releases know), or by nobody (none).

QEMU: migration/multifd-nocomp.c, multifd-zero-page.c
"""

from __future__ import annotations

from fakeqemu.error import StreamError
from fakeqemu.migration import multifd
from fakeqemu.migration.page_sink import PageSink
from fakeqemu.migration.stream import multifd_packet as mp
from fakeqemu.migration.stream.ram_page import (
    RAM_SAVE_FLAG_MULTIFD_FLUSH,
    TARGET_PAGE_BITS,
    TARGET_PAGE_SIZE,
    ZERO_RECORD_SIZE,
)
from fakeqemu.system.ramblock import ZERO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.migration.outgoing import Outgoing
    from fakeqemu.migration.stream.multifd_packet import RamPacket
    from fakeqemu.migration.stream.qemu_file import QEMUFile
    from fakeqemu.system.machine import Machine
    from fakeqemu.system.ramblock import RAMBlock

LEGACY = "legacy"


class Packer:
    """Collects pages into packets, and hands these to channels."""

    __slots__ = ("_block", "_outgoing", "_payload", "_zeroes")

    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing
        #: of each run of the packet, whether its pages are zero
        self._zeroes: list[bool] = []
        #: the packet that is not full yet, and its pages' block
        self._payload: multifd.Payload | None = None
        self._block: RAMBlock | None = None

    async def add(self, block: RAMBlock, first: int, n: int, *, zero: bool, pages_offset: int = 0) -> None:
        """Pages of a block; packets that are full go."""
        while n:
            payload = self._payload
            if payload is None or self._block is not block:
                await self.hand_over()
                payload = self._payload = multifd.Payload(block.idstr, pages_offset)
                self._block = block
            taken = min(n, mp.PACKET_PAGES - payload.pages)
            payload.pages += taken
            self._zeroes.append(zero)
            if zero:
                payload.zero.append((first, taken))
            else:
                payload.normal.append((first, taken))
                payload.data.append(block.buffer(first, taken))
            if payload.pages == mp.PACKET_PAGES:
                await self.hand_over()
            first += taken
            n -= taken

    async def hand_over(self) -> None:
        """The packet goes as it is."""
        payload, self._payload = self._payload, None
        zeroes, self._zeroes = self._zeroes, []
        if payload is not None:
            assert self._outgoing.multifd is not None
            if payload.zero:
                sort_out_zero_pages(payload, zeroes)
            await self._outgoing.multifd.send(payload)

    async def sync(self) -> None:
        """All that was added is where it belongs before anything that is added later."""
        assert self._outgoing.multifd is not None
        await self.hand_over()
        await self._outgoing.multifd.sync()


def sort_out_zero_pages(payload: multifd.Payload, zeroes: list[bool]) -> None:
    """Bring a packet's pages into the order in which QEMU leaves them when it has found the zero ones, `zeroes` among the runs.

    It looks at each from the first on, and swaps one that is zero with the last that it has not looked at.

    QEMU: multifd_send_zero_page_detect
    """
    if not payload.normal and len(payload.zero) == 1:
        first, n = payload.zero[0]
        payload.zero = [(first + 1, n - 1), (first, 1)] if n > 1 else payload.zero
        return
    pages: list[tuple[int, memoryview | None]] = []
    normal, zero, buffers = iter(payload.normal), iter(payload.zero), iter(payload.data)
    for is_zero in zeroes:
        first, n = next(zero if is_zero else normal)
        view = None if is_zero else memoryview(next(buffers))
        for at in range(n):
            data = None if view is None else view[at * TARGET_PAGE_SIZE : (at + 1) * TARGET_PAGE_SIZE]
            pages.append((first + at, data))
    looked, last = 0, len(pages) - 1
    while looked <= last:
        if pages[looked][1] is not None:
            looked += 1
            continue
        pages[looked], pages[last] = pages[last], pages[looked]
        last -= 1
    payload.normal = _as_runs([page for page, _ in pages[:looked]])
    payload.zero = _as_runs([page for page, _ in pages[looked:]])
    payload.data = [data for _, data in pages[:looked] if data is not None]


def _as_runs(pages: list[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for page in pages:
        if runs and page == runs[-1][0] + runs[-1][1]:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((page, 1))
    return runs


class MultiFDSink(PageSink):
    """Pages into packets, packets to channels; barriers where the stream has them."""

    __slots__ = ("_each_section", "_flush_words", "_outgoing", "_packer", "_unsent_pages", "_zero_pages")

    gap = 0
    #: a page's share of its packet's header, and its bytes
    zero_size = -(-mp.RAM_PACKET_SIZE // mp.PACKET_PAGES)
    page_size = zero_size + TARGET_PAGE_SIZE

    def __init__(self, outgoing: Outgoing) -> None:
        super().__init__(outgoing)
        self._outgoing = outgoing
        self._packer = Packer(outgoing)
        self._zero_pages: str = outgoing.mig.options.get("zero-page-detection", LEGACY)
        self._each_section = multifd.flushes_each_section(outgoing.vm)
        self._flush_words = 0
        #: pages that only count (`ram=model`), of a packet that is not full yet
        self._unsent_pages = 0

    async def put_pages(self, f: QEMUFile, block: RAMBlock, first: int, n: int, kind: str) -> None:
        if kind == ZERO and self._zero_pages == LEGACY:
            await super().put_pages(f, block, first, n, kind)
            return
        zero = kind == ZERO and self._zero_pages == "multifd"
        if zero:
            self._stats.duplicate += n
        else:
            self._stats.normal += n
        await self._packer.add(block, first, n, zero=zero)

    async def _flush_and_sync(self, f: QEMUFile) -> None:
        """QEMU: multifd_ram_flush_and_sync"""
        await self._packer.hand_over()
        if self._unsent_pages:
            self._stats.multifd_bytes += mp.RAM_PACKET_SIZE
            self._unsent_pages = 0
        await self._packer.sync()
        if not self._each_section:
            f.put_be64(RAM_SAVE_FLAG_MULTIFD_FLUSH)
            self._flush_words += 1

    def count_unsent(self, n: int, kind: str) -> int:
        if kind == ZERO and self._zero_pages == LEGACY:
            return super().count_unsent(n, kind)
        packets, self._unsent_pages = divmod(self._unsent_pages + n, mp.PACKET_PAGES)
        data = 0 if self.is_zero(kind) else n * TARGET_PAGE_SIZE
        self._stats.multifd_bytes += packets * mp.RAM_PACKET_SIZE + data
        return 0

    def model_unit(self, kind: str, batch: int) -> int:
        return batch if kind == ZERO and self._zero_pages == LEGACY else 1

    def size_of(self, kind: str) -> int:
        return ZERO_RECORD_SIZE if kind == ZERO and self._zero_pages == LEGACY else super().size_of(kind)

    def model_burst(self, kind: str, batch: int, room: int) -> int:
        if kind == ZERO and self._zero_pages == LEGACY:
            return super().model_burst(kind, batch, room)
        # A packet is counted when it has been sent. All channels begin together and end together, so that it is seen as soon
        # as the next one is handed over.
        packet = mp.RAM_PACKET_SIZE + (0 if self.is_zero(kind) else mp.PACKET_PAGES * TARGET_PAGE_SIZE)
        channels = self._channels()
        packets = -(-room // packet)
        return (-(-packets // channels) * channels + 1) * mp.PACKET_PAGES

    def count_unsent_parts(self, n: int) -> int:
        if self._each_section:
            self._stats.multifd_bytes += n * self._channels() * mp.RAM_PACKET_SIZE
        return super().count_unsent_parts(n)

    def _channels(self) -> int:
        """How many there are: the parameter may have changed since."""
        assert self._outgoing.multifd is not None
        return self._outgoing.multifd.scheduler.channels

    def counted(self, f: QEMUFile) -> int:
        return f.bytes_transferred - 8 * self._flush_words

    async def end_setup(self, f: QEMUFile) -> None:
        await self._flush_and_sync(f)

    async def end_part(self, f: QEMUFile, *, pass_over: bool) -> None:
        if self._each_section or pass_over:
            await self._flush_and_sync(f)

    async def complete(self, f: QEMUFile) -> None:
        await self._flush_and_sync(f)


class IdleMultiFDSink(PageSink):
    """Pages of a postcopy: on the main channel, while the others only keep in step where every section ends with a barrier."""

    __slots__ = ("_outgoing",)

    def __init__(self, outgoing: Outgoing) -> None:
        super().__init__(outgoing)
        self._outgoing = outgoing

    async def _sync(self) -> None:
        assert self._outgoing.multifd is not None
        if multifd.flushes_each_section(self._vm):
            await self._outgoing.multifd.sync()

    async def end_part(self, f: QEMUFile, *, pass_over: bool) -> None:  # noqa: ARG002
        await self._sync()

    async def complete(self, f: QEMUFile) -> None:  # noqa: ARG002
        await self._sync()


def place(vm: Machine, packet: RamPacket, data: bytes | memoryview) -> None:
    """Put the pages of a packet where they belong; raises StreamError.

    QEMU: multifd_nocomp_recv, multifd_recv_zero_page_process
    """
    block = find_block(vm, packet)
    view = memoryview(data)
    at = 0
    for first, n in packet.normal:
        size = n * TARGET_PAGE_SIZE
        block.write_pages(first, view[at : at + size])
        at += size
        if block.received is not None:
            block.received.add(first, n)
    for first, n in packet.zero:
        _place_zero(block, first, n)


def _place_zero(block: RAMBlock, first: int, n: int) -> None:
    """A page that never came is zero already; one that did is made so."""
    if block.received is None:
        block.zero_pages(first, n)
        return
    page = first
    while (run := block.received.first_run(page)) is not None and run[0] < first + n:
        length = min(run[1], first + n - run[0])
        block.zero_pages(run[0], length)
        page = run[0] + length
    block.received.add(first, n)


def find_block(vm: Machine, packet: RamPacket) -> RAMBlock:
    """The block of a packet, whose pages are all inside of it; raises StreamError."""
    for block in vm.ram_blocks:
        if block.idstr == packet.block:
            for first, n in (*packet.normal, *packet.zero):
                if first + n > block.pages:
                    offset = max(first, block.pages) << TARGET_PAGE_BITS
                    raise StreamError(f"multifd: offset too long {offset} (max {block.used_length:x})")
            return block
    raise StreamError(f"multifd: unknown ram block {packet.block}")
