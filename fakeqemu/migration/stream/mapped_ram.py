# SPDX-License-Identifier: MIT
"""mapped-ram: pages at fixed places of a file, and a bitmap that says which of them are there.

    START   name, length, header, bitmap ... pages        for each block, then EOS behind the last one's pages
            header: be32 version, be64 page size, be64 offset of the bitmap, be64 offset of the pages

Offsets are those of the file, wherever the stream begins in it. The pages begin at a multiple of 1 MiB, what lies before
them is a hole. A page whose bit is clear is one of zeroes.

QEMU: migration/ram.c (mapped_ram_setup_ramblock, parse_ramblock_mapped_ram)
"""

from __future__ import annotations

from struct import Struct

from fakeqemu.error import StreamError
from fakeqemu.migration.stream.ram_page import TARGET_PAGE_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAPPED_RAM_HDR_VERSION = 1
MAPPED_RAM_FILE_OFFSET_ALIGNMENT = 1 << 20
HEADER = Struct(">IQQQ")
_LONG_BYTES = 8


class MappedRamHeader:
    """Where bitmap and pages of one block lie."""

    __slots__ = ("bitmap_offset", "page_size", "pages_offset", "version")

    def __init__(
        self, bitmap_offset: int, pages_offset: int, *, version: int = MAPPED_RAM_HDR_VERSION, page_size: int = TARGET_PAGE_SIZE
    ) -> None:  # fmt: skip
        self.version = version
        self.page_size = page_size
        self.bitmap_offset = bitmap_offset
        self.pages_offset = pages_offset

    def pack(self) -> bytes:
        return HEADER.pack(self.version, self.page_size, self.bitmap_offset, self.pages_offset)


def layout(position: int, pages: int) -> MappedRamHeader:
    """The header that is to be written at `position` of the file, for a block of so many pages."""
    bitmap_offset = position + HEADER.size
    end = bitmap_offset + bitmap_size(pages)
    return MappedRamHeader(
        bitmap_offset, -(-end // MAPPED_RAM_FILE_OFFSET_ALIGNMENT) * MAPPED_RAM_FILE_OFFSET_ALIGNMENT
    )


def parse_header(data: bytes, *, any_page_size: bool = False) -> MappedRamHeader:
    """Raises StreamError for a header that is not of this format; `any_page_size`: as releases before 11 take it."""
    version, page_size, bitmap_offset, pages_offset = HEADER.unpack(data)
    if version > MAPPED_RAM_HDR_VERSION:
        raise StreamError(
            f"Migration mapped-ram capability version not supported (expected <= {MAPPED_RAM_HDR_VERSION}, got {version})"
        )
    if page_size != TARGET_PAGE_SIZE and not (any_page_size and page_size):
        raise StreamError(
            f"Migration mapped-ram header has invalid page_size {page_size} (expected {TARGET_PAGE_SIZE})"
        )
    return MappedRamHeader(bitmap_offset, pages_offset, version=version, page_size=page_size)


def bitmap_size(pages: int) -> int:
    """Bytes of a bitmap: whole words of 64 bits."""
    return -(-pages // 64) * _LONG_BYTES


def pack_bitmap(runs: Iterable[tuple[int, int]], pages: int) -> bytes:
    """Bit i, counted from the lowest of the first byte, for each page in the runs (first, length)."""
    bitmap = bytearray(bitmap_size(pages))
    for first, n in runs:
        end = first + n
        while first < end:
            byte, bit = divmod(first, 8)
            if not bit and end - first >= 8:
                whole = (end - first) // 8
                bitmap[byte : byte + whole] = b"\xff" * whole
                first += whole * 8
            else:
                bitmap[byte] |= 1 << bit
                first += 1
    return bytes(bitmap)


def parse_bitmap(bitmap: bytes, pages: int) -> Iterator[tuple[int, int, bool]]:
    """All pages as runs (first, length, whether they are there), in order."""
    start = 0
    present = False
    page = 0
    while page < pages:
        byte = bitmap[page >> 3]
        if not page & 7 and byte == (0xFF if present else 0):
            page += 8
            continue
        if bool(byte >> (page & 7) & 1) != present:
            if page > start:
                yield start, page - start, present
            start, present = page, not present
        page += 1
    if pages > start:
        yield start, pages - start, present
