# SPDX-License-Identifier: MIT
"""What of the picture a client has not seen yet, and the updates that show it.

The picture is looked at in pieces of 16 pixels of one row; each row of the map is a number with a bit for each piece. A
request for an update marks what it asks for (unless it is incremental: then only what has changed since counts), and one
update covers all that is marked, in rectangles as large as they can be.

QEMU: vnc_update_client and its kin in ui/vnc.c
"""

from __future__ import annotations

from fakeqemu.ui import rfb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from fakeqemu.ui.console import DisplaySurface

PIXELS_PER_BIT = 16


class DirtyMap:
    """The pieces of a picture that one client has yet to see."""

    __slots__ = ("_height", "_rows", "_width")

    def __init__(self, width: int, height: int) -> None:
        self._width = -(-width // PIXELS_PER_BIT)
        self._height = height
        self._rows = [0] * height

    def mark(self, x: int, y: int, width: int, height: int) -> None:
        """Everything that a rectangle touches; what lies outside of the picture does not count."""
        first = min(x // PIXELS_PER_BIT, self._width)
        end = min(-(-(x + width) // PIXELS_PER_BIT), self._width)
        mask = (1 << end) - (1 << first) if end > first else 0
        if mask:
            for row in range(min(y, self._height), min(y + height, self._height)):
                self._rows[row] |= mask

    def take(self) -> Iterator[tuple[int, int, int, int]]:
        """(x, y, width, height) of rectangles that cover all that is marked; nothing is marked afterwards."""
        rows = self._rows
        for y in range(self._height):
            while rows[y]:
                first = (rows[y] & -rows[y]).bit_length() - 1
                run = rows[y] >> first
                count = (~run & (run + 1)).bit_length() - 1
                mask = ((1 << count) - 1) << first
                height = 1
                rows[y] &= ~mask
                # As QEMU looks: a row below belongs to it that begins with the same piece.
                while y + height < self._height and rows[y + height] >> first & 1:
                    rows[y + height] &= ~mask
                    height += 1
                yield first * PIXELS_PER_BIT, y, count * PIXELS_PER_BIT, height


def framebuffer_update(surface: DisplaySurface, dirty: DirtyMap, pixel_format: rfb.PixelFormat) -> bytes:
    """One update with all that is marked, in raw pixels; b"" for nothing."""
    rectangles = []
    for x, y, width, height in dirty.take():
        width = min(width, surface.width - x)
        pixels = pixel_format.encode(surface.pixels(x, y, width, height))
        rectangles.append(rfb.rectangle(x, y, width, height, rfb.RAW) + pixels)
    return rfb.update(*rectangles) if rectangles else b""
