# SPDX-License-Identifier: MIT
"""Forms of pixels."""

from __future__ import annotations

import struct

import pytest

from fakeqemu.ui import rfb

#: blue, green, red, nothing: what a surface holds
RED, GREEN, BLUE, WHITE, BLACK = b"\0\0\xff\0", b"\0\xff\0\0", b"\xff\0\0\0", b"\xff\xff\xff\0", bytes(4)


def wanted(bits: int, big: int, true: int, maxima: tuple[int, ...], shifts: tuple[int, ...]) -> rfb.PixelFormat | None:
    return rfb.read_pixel_format(b"\0\0\0\0" + struct.pack(">BBBBHHHBBB3x", bits, bits, big, true, *maxima, *shifts))


def test_native_pixels_are_as_they_are() -> None:
    assert rfb.NATIVE.encode(RED + WHITE + BLACK + BLUE) == RED + WHITE + BLACK + BLUE


@pytest.mark.parametrize(("big", "order"), [(0, "<"), (1, ">")])
def test_sixteen_bits(big: int, order: str) -> None:
    form = wanted(16, big, 1, (31, 63, 31), (11, 5, 0))
    assert form is not None
    assert form.encode(RED + GREEN + BLUE + WHITE + BLACK) == struct.pack(f"{order}5H", 0xF800, 0x07E0, 0x1F, 0xFFFF, 0)


def test_eight_bits() -> None:
    form = wanted(8, 0, 1, (7, 7, 3), (0, 3, 6))
    assert form is not None
    assert form.encode(RED + GREEN + BLUE + WHITE) == b"\x07\x38\xc0\xff"


def test_black_is_nothing_in_any_form() -> None:
    for form in (rfb.NATIVE, rfb.MAPPED, wanted(16, 0, 1, (31, 63, 31), (11, 5, 0))):
        assert form is not None
        assert form.encode(BLACK * 7) == bytes(7 * form.bytes_per_pixel)


def test_maxima_and_shifts_that_make_no_sense_only_lose_colours() -> None:
    form = wanted(16, 0, 1, (65535, 0, 1), (255, 40, 15))
    assert form is not None
    assert len(form.encode(WHITE * 3)) == 6


@pytest.mark.parametrize("bits", [0, 1, 4, 15, 24, 33, 64, 255])
def test_sizes_that_there_are_none_of(bits: int) -> None:
    assert wanted(bits, 0, 1, (255, 255, 255), (16, 8, 0)) is None


def test_a_map_of_colours_is_given_whatever_size_was_asked_for() -> None:
    form = wanted(24, 0, 0, (0, 0, 0), (0, 0, 0))
    assert form is not None
    assert form.bytes_per_pixel == 1
    message = form.colour_map()
    assert message[:6] == b"\1\0\0\0\1\0"
    assert len(message) == 6 + 256 * 6
    assert message[-6:] == struct.pack(">HHH", 7 << 13, 7 << 13, 3 << 14)


def test_clipboard_caps_are_those_of_a_real_one() -> None:
    assert rfb.clipboard_caps().hex() == "03000000fffffff81b00000100000000"  # seen on 11.1.2
