# SPDX-License-Identifier: MIT
"""What has not been seen: pieces of 16 pixels, and the rectangles that cover them."""

from __future__ import annotations

import random

import pytest

from fakeqemu.ui import rfb
from fakeqemu.ui.console import DisplaySurface
from fakeqemu.ui.vnc_update import DirtyMap, framebuffer_update


@pytest.mark.parametrize(
    ("marked", "found"),
    [
        ((0, 0, 640, 480), [(0, 0, 640, 480)]),
        ((5, 5, 20, 3), [(0, 5, 32, 3)]),
        ((15, 0, 2, 1), [(0, 0, 32, 1)]),
        ((16, 16, 16, 16), [(16, 16, 16, 16)]),
        ((630, 470, 100, 100), [(624, 470, 16, 10)]),
        ((0, 0, 65535, 65535), [(0, 0, 640, 480)]),
        ((640, 0, 10, 10), []),
        ((0, 480, 10, 10), []),
        ((65535, 65535, 65535, 65535), []),
        ((0, 0, 0, 10), []),
        ((0, 0, 10, 0), []),
    ],
)
def test_one_rectangle(marked: tuple[int, int, int, int], found: list[tuple[int, int, int, int]]) -> None:
    dirty = DirtyMap(640, 480)
    dirty.mark(*marked)
    assert list(dirty.take()) == found
    assert list(dirty.take()) == []


def test_rectangles_cover_all_that_is_marked() -> None:
    """Perhaps more: as QEMU does, rows are taken together that begin alike."""
    chance = random.Random(3)
    for _ in range(30):
        dirty = DirtyMap(160, 40)
        marked = set()
        for _ in range(chance.randrange(6)):
            x, y, width, height = (chance.randrange(1, 60) for _ in range(4))
            dirty.mark(x, y, width, height)
            pieces = range(x // 16, min(10, -(-(x + width) // 16)))
            marked |= {(piece, row) for piece in pieces for row in range(y, min(40, y + height))}
        covered = {
            (piece, row)
            for x, y, width, height in dirty.take()
            for piece in range(x // 16, (x + width) // 16)
            for row in range(y, y + height)
        }
        assert marked <= covered
        assert not covered or marked
        assert list(dirty.take()) == []


def test_a_picture_whose_width_is_no_multiple() -> None:
    dirty = DirtyMap(20, 2)
    dirty.mark(17, 0, 100, 1)
    assert framebuffer_update(DisplaySurface(20, 2), dirty, rfb.NATIVE) == rfb.update(
        rfb.rectangle(16, 0, 4, 1, rfb.RAW) + bytes(16)
    )


def test_what_is_drawn_is_sent() -> None:
    surface = DisplaySurface(32, 2)
    surface.data = bytearray(b"".join(number.to_bytes(4, "little") for number in range(64)))
    dirty = DirtyMap(32, 2)
    dirty.mark(16, 0, 16, 2)
    numbers = [*range(16, 32), *range(48, 64)]
    pixels = b"".join(number.to_bytes(4, "little") for number in numbers)
    assert framebuffer_update(surface, dirty, rfb.NATIVE) == rfb.update(rfb.rectangle(16, 0, 16, 2, rfb.RAW) + pixels)


def test_nothing_marked_is_no_update() -> None:
    assert framebuffer_update(DisplaySurface(), DirtyMap(640, 480), rfb.NATIVE) == b""
