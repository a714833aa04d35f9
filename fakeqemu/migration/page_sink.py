# SPDX-License-Identifier: MIT
"""Where the pages of a source go: into records of the main channel, to fixed places in a file, onto other channels.

The RAM's handlers decide which page goes when; a sink puts it. What a page costs when it only counts (`ram=model`) is the
sink's too.

QEMU: migration/ram.c (ram_save_page and its kin)
"""

from __future__ import annotations

from fakeqemu.migration.stream.ram_page import (
    PAGE_RECORD_SIZE,
    RAM_SAVE_FLAG_CONTINUE,
    RAM_SAVE_FLAG_PAGE,
    RAM_SAVE_FLAG_ZERO,
    TARGET_PAGE_BITS,
    TARGET_PAGE_SIZE,
    ZERO_RECORD_SIZE,
    block_name,
    page_words,
    zero_records,
)
from fakeqemu.system.ramblock import ZERO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.migration.outgoing import Outgoing
    from fakeqemu.migration.stream.qemu_file import QEMUFile
    from fakeqemu.system.ramblock import RAMBlock


#: what a PART has beside its page records: type, id, EOS, footer
PART_OVERHEAD = 5 + 8 + 5


class PageSink:
    """Pages as records of the main channel; base of all other sinks."""

    __slots__ = ("_detects_zero", "_last_block", "_stats", "_vm")

    #: room that is wanted in front of a page that is read
    gap = PAGE_RECORD_SIZE - TARGET_PAGE_SIZE
    #: bytes that a zero page and another one take, but for the block's name
    zero_size = ZERO_RECORD_SIZE
    page_size = PAGE_RECORD_SIZE

    def __init__(self, outgoing: Outgoing) -> None:
        self._vm = outgoing.vm
        self._stats = outgoing.mig.stats
        self._last_block: RAMBlock | None = None
        self._detects_zero = outgoing.mig.options.get("zero-page-detection", "legacy") != "none"

    def is_zero(self, kind: str) -> bool:
        """Whether pages of this kind go as zero pages: with zero-page-detection=none nobody looks."""
        return kind == ZERO and self._detects_zero

    def begin_setup(self) -> None:
        """Before START has a body: take the memory that is needed; raises QemuError."""

    async def put_block_header(self, f: QEMUFile, block: RAMBlock) -> None:
        """In START: what stands behind a block's name and length."""

    async def end_setup(self, f: QEMUFile) -> None:
        """In START, before its EOS."""

    async def put_pages(self, f: QEMUFile, block: RAMBlock, first: int, n: int, kind: str) -> None:
        """Put pages that hold the same kind of thing (ZERO, MADE, REAL), and count them."""
        if self.is_zero(kind):
            self._stats.duplicate += n
            self._put_zero(f, block, first, n)
        else:
            self._stats.normal += n
            self._put_normal(f, block, first, n)

    async def end_part(self, f: QEMUFile, *, pass_over: bool) -> None:
        """In a PART, before its EOS; `pass_over`: nothing is left of this pass."""

    def begin_last_stage(self) -> None:
        """What is put from now on belongs to END."""

    async def complete(self, f: QEMUFile) -> None:
        """In END, before its EOS."""

    def count_unsent(self, n: int, kind: str) -> int:
        """Count the bytes of pages that only count (`ram=model`); returns those of page records."""
        size = n * self.size_of(kind)
        self._stats.model_bytes += size
        return size

    def model_burst(self, kind: str, batch: int, room: int) -> int:
        """(`ram=model`) How many pages of this kind go until `room` bytes are used up, when `batch` are put at once."""
        return -(-room // (batch * self.size_of(kind))) * batch

    def model_unit(self, kind: str, batch: int) -> int:  # noqa: ARG002
        """(`ram=model`) How many pages are counted at once, when `batch` are put at once."""
        return batch

    def size_of(self, kind: str) -> int:
        """(`ram=model`) The bytes of a page of this kind."""
        return self.zero_size if self.is_zero(kind) else self.page_size

    def count_unsent_parts(self, n: int) -> int:
        """(`ram=model`) Count the ends of so many PARTs that only count; returns the bytes of them that are page records'."""
        self._stats.model_bytes += n * PART_OVERHEAD
        return n * 8

    def counted(self, f: QEMUFile) -> int:
        """Bytes put so far, as precopy-bytes and its kin count them."""
        return f.bytes_transferred

    def cleanup(self) -> None:
        """The migration is over, well or not."""

    def _record(self, f: QEMUFile, block: RAMBlock, page: int, flag: int) -> None:
        """The word of a record, and the block's name when it is not that of the record before."""
        if self._last_block is block:
            f.put_be64(page << TARGET_PAGE_BITS | flag | RAM_SAVE_FLAG_CONTINUE)
            return
        self._last_block = block
        f.put_be64(page << TARGET_PAGE_BITS | flag)
        f.put_buffer(block_name(block.idstr))

    def _put_zero(self, f: QEMUFile, block: RAMBlock, first: int, n: int) -> None:
        self._record(f, block, first, RAM_SAVE_FLAG_ZERO)
        f.put_byte(0)
        if n > 1:
            f.put_buffer(zero_records(first + 1, n - 1))

    def _put_normal(self, f: QEMUFile, block: RAMBlock, first: int, n: int) -> None:
        records = block.records(first, n)
        if records is not None:  # with room for the word of each
            self._record(f, block, first, RAM_SAVE_FLAG_PAGE)
            if n > 1:
                words = memoryview(page_words(first + 1, n - 1)).cast("Q")
                records.cast("Q")[PAGE_RECORD_SIZE // 8 :: PAGE_RECORD_SIZE // 8] = words
            f.put_buffer(records[self.gap :])
            return
        pages = block.buffers(first, n)
        self._record(f, block, first, RAM_SAVE_FLAG_PAGE)
        if n == 1:
            f.put_buffer(pages[0])
            return
        heads = page_words(first + 1, n - 1)
        parts: list[bytes | bytearray | memoryview] = [b""] * (2 * n - 1)
        parts[::2] = pages
        parts[1::2] = [heads[at : at + 8] for at in range(0, len(heads), 8)]
        f.put_buffers(parts, n * PAGE_RECORD_SIZE - 8)


def postcopy_sink(outgoing: Outgoing) -> PageSink:
    """The sink of pages that follow the guest."""
    if outgoing.vm.fake.get("ram") == "model":
        from fakeqemu.migration.postcopy_model import CountedSink

        return CountedSink(outgoing)
    if outgoing.multifd is not None:
        from fakeqemu.migration.multifd_ram import IdleMultiFDSink

        return IdleMultiFDSink(outgoing)
    return PageSink(outgoing)


def choose_sink(outgoing: Outgoing) -> PageSink:
    """The sink that the capabilities ask for."""
    on = outgoing.mig.options.on
    outgoing.mig.stats.xbzrle = None
    if on("mapped-ram"):
        from fakeqemu.migration.mapped_ram import MappedRAMSink

        return MappedRAMSink(outgoing)
    if on("multifd"):
        from fakeqemu.migration.multifd_ram import MultiFDSink

        return MultiFDSink(outgoing)
    if on("xbzrle"):
        from fakeqemu.migration.xbzrle import XbzrleSink

        return XbzrleSink(outgoing)
    return PageSink(outgoing)
