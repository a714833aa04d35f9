# SPDX-License-Identifier: MIT
"""RFB, the protocol of VNC: its numbers, the form of pixels, and the messages of a server.

    server  RFB 003.008            client  RFB 003.003, 003.007 or 003.008
    server  ways to prove oneself  client  one of them  ── (the way's own messages) ── server  result
    client  shared?                server  size, form of pixels, name
    then each sends messages, of which the first byte is the type

Numbers are big-endian. QEMU: ui/vnc.h; RFC 6143
"""

from __future__ import annotations

from struct import Struct

VERSION = b"RFB 003.008\n"

# ways to prove oneself
AUTH_INVALID, AUTH_NONE, AUTH_VNC, AUTH_VENCRYPT = 0, 1, 2, 19
VENCRYPT_TLSNONE, VENCRYPT_TLSVNC, VENCRYPT_X509NONE, VENCRYPT_X509VNC = 257, 258, 260, 261

# what a client says
SET_PIXEL_FORMAT, SET_ENCODINGS, UPDATE_REQUEST, KEY_EVENT, POINTER_EVENT, CLIENT_CUT_TEXT = 0, 2, 3, 4, 5, 6
CLIENT_XVP, SET_DESKTOP_SIZE, CLIENT_QEMU = 250, 251, 255
QEMU_EXT_KEY_EVENT, QEMU_AUDIO = 0, 1
AUDIO_ENABLE, AUDIO_DISABLE, AUDIO_SET_FORMAT = 0, 1, 2
XVP_ACTION_SHUTDOWN, XVP_ACTION_RESET = 2, 4

# what a server says
FRAMEBUFFER_UPDATE, SET_COLOUR_MAP, SERVER_CUT_TEXT = 0, 1, 3
SERVER_XVP = 250
XVP_FAIL, XVP_INIT = 0, 1

# encodings, and things that are told as if they were
RAW = 0
DESKTOP_RESIZE = -223
POINTER_TYPE_CHANGE = -257
EXT_KEY_EVENT = -258
AUDIO = -259
LED_STATE = -261
DESKTOP_RESIZE_EXT = -308
XVP = -309
CLIPBOARD_EXT = 0xC0A1E5CE - (1 << 32)

# answers to a wish for another size
SIZE_NO_SUCH_LAYOUT, SIZE_FORWARDED = 3, 4

#: extended clipboard: what we take (text) and do (say what we take, ask, peek, notify, provide)
_CLIPBOARD_CAPS = 1 << 0 | 1 << 24 | 1 << 25 | 1 << 27 | 1 << 28

_RECTANGLE = Struct(">HHHHi")
_SCREEN = Struct(">B3xIHHHHI")
PIXEL_FORMAT = Struct(">BBBBHHHBBB3x")


def rectangle(x: int, y: int, width: int, height: int, encoding: int) -> bytes:
    return _RECTANGLE.pack(x, y, width, height, encoding)


def update(*rectangles: bytes) -> bytes:
    """A FramebufferUpdate; each rectangle is its header and its pixels."""
    return b"\0\0" + len(rectangles).to_bytes(2, "big") + b"".join(rectangles)


def desktop_size(width: int, height: int, answer: int = 0) -> bytes:
    """The size with its one screen; `answer` is why a wish for another one had no effect."""
    head = rectangle(1 if answer else 0, answer, width, height, DESKTOP_RESIZE_EXT)
    return update(head + _SCREEN.pack(1, 0, 0, 0, width, height, 0))


def xvp(code: int) -> bytes:
    return bytes((SERVER_XVP, 0, 1, code))


def clipboard_caps() -> bytes:
    """What of the extended clipboard we know; no size of text comes unasked."""
    return (
        bytes((SERVER_CUT_TEXT, 0, 0, 0))
        + (-8).to_bytes(4, "big", signed=True)
        + _CLIPBOARD_CAPS.to_bytes(4, "big")
        + bytes(4)
    )


class PixelFormat:
    """How one client wants its pixels."""

    __slots__ = ("bytes_per_pixel", "is_big_endian", "maxima", "shifts")

    def __init__(
        self, bits: int, is_big_endian: bool, maxima: tuple[int, int, int], shifts: tuple[int, int, int]
    ) -> None:
        self.bytes_per_pixel = bits // 8
        self.is_big_endian = is_big_endian
        #: of red, green and blue; a maximum of 0 leaves the colour out of pixels, and stands for 255 in a map
        self.maxima = maxima
        self.shifts = shifts

    def encode(self, pixels: bytes) -> bytes:
        """Pixels of 32 bits (blue, green, red, nothing) in this form."""
        size = self.bytes_per_pixel
        if not any(pixels):
            return bytes(len(pixels) // 4 * size)
        order = "big" if self.is_big_endian else "little"
        bits = [maximum.bit_count() for maximum in self.maxima]
        mask = (1 << 8 * size) - 1
        result = bytearray()
        for at in range(0, len(pixels), 4):
            value = 0
            for colour in range(3):
                value |= (pixels[at + 2 - colour] << bits[colour] >> 8 & 0xFF) << self.shifts[colour]
            result += (value & mask).to_bytes(size, order)  # type: ignore[arg-type]
        return bytes(result)

    def colour_map(self) -> bytes:
        """SetColourMapEntries with all 256 colours."""
        entries = bytearray((SET_COLOUR_MAP, 0, 0, 0, 1, 0))
        for index in range(256):
            for maximum, shift in zip(self.maxima, self.shifts, strict=True):
                colour = (index >> shift & (maximum or 0xFF)) << (16 - maximum.bit_count())
                entries += (colour & 0xFFFF).to_bytes(2, "big")
        return bytes(entries)


#: what a client gets that asks for nothing: 32 bits, 24 of them used, in the order of x86
NATIVE = PixelFormat(32, False, (255, 255, 255), (16, 8, 0))
#: what a client gets that wants a map of colours
MAPPED = PixelFormat(8, False, (7, 7, 3), (0, 3, 6))
NATIVE_MESSAGE = PIXEL_FORMAT.pack(32, 24, 0, 1, 255, 255, 255, 16, 8, 0)


def read_pixel_format(message: bytes) -> PixelFormat | None:
    """What a SetPixelFormat of 20 bytes asks for; None for a size of pixels that there is none of."""
    bits, _depth, big_endian, true_colour, red, green, blue, *shifts = PIXEL_FORMAT.unpack_from(message, 4)
    if not true_colour:
        return PixelFormat(8, bool(big_endian), MAPPED.maxima, MAPPED.shifts)
    if bits not in (8, 16, 32):
        return None
    return PixelFormat(bits, bool(big_endian), (red, green, blue), (shifts[0], shifts[1], shifts[2]))
