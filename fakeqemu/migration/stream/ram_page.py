# SPDX-License-Identifier: MIT
"""Records of the RAM section: one be64 word (offset in the block, flags in the low 12 bits), then what the flags say.

    ZERO      [name] 00             CONTINUE: no name, the block of the record before
    PAGE      [name] 4096 bytes     MEM_SIZE: the list of blocks, as long as the total in the word
    EOS       end of the body

Zero pages come by the hundred thousand: runs of them are made and recognised as a whole, by strided copies.

QEMU: migration/ram.c
"""

from __future__ import annotations

import sys
from array import array
from struct import Struct

TARGET_PAGE_SIZE = 4096
TARGET_PAGE_BITS = 12

RAM_SAVE_FLAG_ZERO = 0x02
RAM_SAVE_FLAG_MEM_SIZE = 0x04
RAM_SAVE_FLAG_PAGE = 0x08
RAM_SAVE_FLAG_EOS = 0x10
RAM_SAVE_FLAG_CONTINUE = 0x20
RAM_SAVE_FLAG_XBZRLE = 0x40
RAM_SAVE_FLAG_HOOK = 0x80
#: a page compressed by zlib, in releases that had that
RAM_SAVE_FLAG_COMPRESS_PAGE = 0x100
RAM_SAVE_FLAG_MULTIFD_FLUSH = 0x200

RAM_VERSION = 4

WORD = Struct(">Q")
#: bytes of a zero page record that goes on with the same block
ZERO_RECORD_SIZE = 9
#: bytes of a page record that goes on with the same block
PAGE_RECORD_SIZE = 8 + TARGET_PAGE_SIZE


def block_name(idstr: str) -> bytes:
    """What the first record of a block adds: its counted name."""
    name = idstr.encode()
    return bytes((len(name),)) + name


def _zero_records_below(n: int) -> bytes:
    """`n` zero page records from page 0 on."""
    start = RAM_SAVE_FLAG_ZERO | RAM_SAVE_FLAG_CONTINUE
    words = array("Q", range(start, start + (n << TARGET_PAGE_BITS), TARGET_PAGE_SIZE))
    if sys.byteorder == "little":
        words.byteswap()
    columns = words.tobytes()
    records = bytearray(ZERO_RECORD_SIZE * n)
    for column in range(8):
        records[column::ZERO_RECORD_SIZE] = columns[column::8]
    return bytes(records)


#: pages in whose records no more than the three lowest bytes of the address differ, and those of the first such pages
_ALIKE_BITS = 12
_FIRST_RECORDS = _zero_records_below(1 << _ALIKE_BITS)


def zero_records(first_page: int, n: int) -> bytearray:
    """`n` zero page records from `first_page` on, all going on with the same block."""
    records = bytearray()
    page, end = first_page, first_page + n
    while page < end:
        low = page & (1 << _ALIKE_BITS) - 1
        count = min(end - page, (1 << _ALIKE_BITS) - low)
        at = len(records)
        records += memoryview(_FIRST_RECORDS)[low * ZERO_RECORD_SIZE : (low + count) * ZERO_RECORD_SIZE]
        # What is above is the same in all of these.
        for column, value in enumerate((page >> _ALIKE_BITS).to_bytes(5, "big")):
            if value:
                records[at + column :: ZERO_RECORD_SIZE] = bytes((value,)) * count
        page += count
    return records


def page_words(first_page: int, n: int) -> bytes:
    """The words of `n` page records from `first_page` on, all going on with the same block; eight bytes each."""
    start = first_page << TARGET_PAGE_BITS | RAM_SAVE_FLAG_PAGE | RAM_SAVE_FLAG_CONTINUE
    words = array("Q", range(start, start + (n << TARGET_PAGE_BITS), TARGET_PAGE_SIZE))
    if sys.byteorder == "little":
        words.byteswap()
    return words.tobytes()


def count_page_records(
    data: bytes | bytearray, position: int, first_page: int, limit: int, end: int | None = None
) -> int:
    """How many whole page records of consecutive pages from `first_page` on stand in `data` from `position` to
    `end`, at most `limit`, all going on with the same block.
    """
    n = min(limit, ((len(data) if end is None else end) - position) // PAGE_RECORD_SIZE)
    if n <= 0:
        return 0
    records = memoryview(data)[position : position + n * PAGE_RECORD_SIZE].cast("Q")
    found = records[:: PAGE_RECORD_SIZE // 8].tobytes()
    wanted = page_words(first_page, n)
    if found == wanted:
        return n
    return next(i for i in range(n) if found[i * 8 : i * 8 + 8] != wanted[i * 8 : i * 8 + 8])


def count_zero_records(
    data: bytes | bytearray, position: int, first_page: int, limit: int, end: int | None = None
) -> int:
    """How many zero page records of consecutive pages from `first_page` on stand in `data` from `position` to
    `end`, at most `limit`: those of which every byte is as `zero_records` makes it.
    """
    n = min(limit, ((len(data) if end is None else end) - position) // ZERO_RECORD_SIZE)
    found = 0
    step = 16
    while found < n:
        take = min(step, n - found)
        at = position + found * ZERO_RECORD_SIZE
        if data[at : at + take * ZERO_RECORD_SIZE] == zero_records(first_page + found, take):
            found += take
            step = take * 4
        elif take == 1:
            break
        else:  # it ends somewhere in these
            n = found + take
            step = max(1, take // 4)
    return found
