# SPDX-License-Identifier: MIT
"""Saving to and loading from a file in which every page has its place (capability mapped-ram).

A page that is sent again overwrites itself, so that the file is never larger than the RAM. Which pages are there is
written at the end, when it is known.

QEMU: migration/ram.c (mapped-ram)
"""

from __future__ import annotations

from fakeqemu.error import QemuError, StreamError
from fakeqemu.migration import multifd
from fakeqemu.migration.page_sink import PageSink
from fakeqemu.migration.stream import mapped_ram as format
from fakeqemu.migration.stream.qemu_file import EndOfStream, strerror
from fakeqemu.migration.stream.ram_page import TARGET_PAGE_SIZE
from fakeqemu.system.ramblock import PageRuns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.migration.multifd_file import MultiFDFileRecv
    from fakeqemu.migration.multifd_ram import Packer
    from fakeqemu.migration.outgoing import Outgoing
    from fakeqemu.migration.stream.qemu_file import QEMUFile
    from fakeqemu.system.ramblock import RAMBlock

#: pages of one system call
_BATCH_PAGES = 256
_UINT64_MASK = (1 << 64) - 1


class MappedRAMSink(PageSink):
    """Pages go to their places, by channels of their own with multifd; zero pages only clear a bit."""

    __slots__ = ("_blocks", "_each_section", "_packer")

    gap = 0
    zero_size = 0
    page_size = TARGET_PAGE_SIZE

    def __init__(self, outgoing: Outgoing) -> None:
        super().__init__(outgoing)
        self._packer: Packer | None = None
        if multifd.wanted(outgoing.vm):
            from fakeqemu.migration import multifd_ram

            self._packer = multifd_ram.Packer(outgoing)
        self._each_section = multifd.flushes_each_section(outgoing.vm)
        #: each block's header and the pages that are in the file
        self._blocks: dict[str, tuple[format.MappedRamHeader, PageRuns, int]] = {}

    async def put_block_header(self, f: QEMUFile, block: RAMBlock) -> None:
        await f.flush()
        header = format.layout(f.position, block.pages)
        self._blocks[block.idstr] = header, PageRuns(), block.pages
        f.put_buffer(header.pack())
        await f.flush()
        end = header.pages_offset + block.used_length
        try:
            self._vm.faults.check("fake_qemu_set_offset", block=block.idstr)
            f.seek(end)
        except OSError as err:
            raise QemuError(f"Unable to seek to offset {end} whence 0 in file: {strerror(err.errno)}") from None

    async def put_pages(self, f: QEMUFile, block: RAMBlock, first: int, n: int, kind: str) -> None:
        header, present, _ = self._blocks[block.idstr]
        if self.is_zero(kind):
            self._stats.duplicate += n
            present.discard(first, n)
            return
        self._stats.normal += n
        present.add(first, n)
        if self._packer is not None:
            await self._packer.add(block, first, n, zero=False, pages_offset=header.pages_offset)
            return
        for at in range(first, first + n, _BATCH_PAGES):
            data = block.read_pages(at, min(_BATCH_PAGES, first + n - at))
            await f.put_at(header.pages_offset + at * TARGET_PAGE_SIZE, data)

    async def _sync(self) -> None:
        if self._packer is not None:
            await self._packer.sync()

    async def end_setup(self, f: QEMUFile) -> None:  # noqa: ARG002
        await self._sync()

    async def end_part(self, f: QEMUFile, *, pass_over: bool) -> None:  # noqa: ARG002
        if self._each_section or pass_over:
            await self._sync()

    async def complete(self, f: QEMUFile) -> None:
        await self._sync()
        for header, present, pages in self._blocks.values():
            bitmap = format.pack_bitmap(present, pages)
            await f.put_at(header.bitmap_offset, bitmap)


async def load_block(
    f: QEMUFile, block: RAMBlock, channels: MultiFDFileRecv | None, *, any_page_size: bool = False
) -> None:
    """Read header, bitmap and pages of a block, and go on behind them; raises StreamError. Pages that are not in the file
    stay as they are: a destination's memory is one of zeroes. With `channels` these read the pages, sooner or later.

    With `any_page_size` the one in the header only says how many bits of the bitmap count: pages are those of the target.

    QEMU: parse_ramblock_mapped_ram
    """
    data = await f.peek(format.HEADER.size)
    f.faults.check("fake_mapped_ram_read_header", expected=format.HEADER.size, got=len(data))
    if len(data) < format.HEADER.size:
        raise StreamError(
            f"Could not read whole mapped-ram migration header (expected {format.HEADER.size}, got {len(data)} bytes)"
        )
    header = format.parse_header(await f.get_buffer(format.HEADER.size), any_page_size=any_page_size)
    if header.pages_offset % TARGET_PAGE_SIZE:
        raise StreamError(f"Error reading ramblock {block.idstr} pages, region has bad alignment")
    bits = block.used_length // header.page_size
    size = format.bitmap_size(bits)
    try:
        bitmap = await f.get_at(header.bitmap_offset, size)
    except EndOfStream:
        bitmap = b""
    f.faults.check("fake_parse_ramblock_mapped_ram", block=block.idstr)
    if len(bitmap) < size:
        raise StreamError("Error reading dirty bitmap")
    for first, n, present in format.parse_bitmap(bitmap, bits):
        if present and first + n > block.pages:
            raise StreamError("page outside of ramblock ram range")
        if present and channels is not None:
            for at in range(first, first + n, _BATCH_PAGES):
                offset = header.pages_offset + at * TARGET_PAGE_SIZE
                await channels.load(block, at, min(_BATCH_PAGES, first + n - at), offset)
        elif present:
            await _load_pages(f, block, header.pages_offset, first, n)
        if block.received is not None and first < block.pages:
            block.received.add(first, min(n, block.pages - first))
    try:
        f.seek(header.pages_offset + block.used_length & _UINT64_MASK)
    except (OSError, OverflowError):
        raise EndOfStream from None


async def _load_pages(f: QEMUFile, block: RAMBlock, pages_offset: int, first: int, n: int) -> None:
    for at in range(first, first + n, _BATCH_PAGES):
        size = min(_BATCH_PAGES, first + n - at) * TARGET_PAGE_SIZE
        offset = pages_offset + at * TARGET_PAGE_SIZE
        why = "Unexpected end-of-file before all data were read"
        page = f"{at * TARGET_PAGE_SIZE:x}"
        f.faults.check("fake_read_ramblock_mapped_ram", block=block.idstr, page=page, offset=f"{offset:x}")
        try:
            data = await f.get_at(offset, size)
        except EndOfStream as err:
            data, why = b"", err.reason
        block.write_pages(at, data[: len(data) // TARGET_PAGE_SIZE * TARGET_PAGE_SIZE])
        if len(data) < size:
            # No blank in between: QEMU prints it like that.
            raise StreamError(f"({block.idstr}) failed to read page {page}from file offset {offset:x}: {why}")
