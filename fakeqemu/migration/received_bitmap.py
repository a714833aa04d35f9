# SPDX-License-Identifier: MIT
"""Which pages of a block have come, as it travels in a recovery: be64 size, one bit a page (the lowest first), be64 ending.

QEMU: ramblock_recv_bitmap_send in migration/ram.c
"""

from __future__ import annotations

import re

from fakeqemu.system.ramblock import PageRuns

#: stands behind a bitmap
BITMAP_ENDING = 0x0123456789ABCDEF


def bitmap_size(pages: int) -> int:
    """Bytes of a bitmap as it travels: whole words of 64 bits."""
    return (pages + 63) // 64 * 8


def runs_to_bitmap(runs: PageRuns, pages: int) -> bytes:
    """One bit a page, the lowest first."""
    bitmap = bytearray(bitmap_size(pages))
    for first, n in runs:
        last = first + n
        head, tail = -(-first // 8), last // 8
        if head > tail:  # within one byte
            bitmap[tail] |= (1 << n) - 1 << (first & 7)
            continue
        if first & 7:
            bitmap[first // 8] |= 0xFF << (first & 7) & 0xFF
        bitmap[head:tail] = b"\xff" * (tail - head)
        if last & 7:
            bitmap[tail] |= (1 << (last & 7)) - 1
    return bytes(bitmap)


def missing_runs(bitmap: bytes, pages: int) -> PageRuns:
    """The pages whose bits are not set."""
    runs = PageRuns()
    for match in re.finditer(rb"\x00+|\xff+|[^\x00\xff]", bitmap):
        at = match.start() * 8
        value = match[0][0]
        if value == 0:
            runs.add(at, min(len(match[0]) * 8, pages - at))
        elif value != 0xFF:
            for bit in range(8):
                if not value >> bit & 1 and at + bit < pages:
                    runs.add(at + bit, 1)
    return runs
