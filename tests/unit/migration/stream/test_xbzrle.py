# SPDX-License-Identifier: MIT
"""Deltas of pages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakeqemu.migration.stream import xbzrle

PAGE = 4096


@given(
    st.binary(min_size=64, max_size=64),
    st.lists(st.tuples(st.integers(0, PAGE - 8), st.binary(max_size=8)), max_size=60),
)
def test_a_delta_makes_the_new_page_of_the_old(unit: bytes, changes: list[tuple[int, bytes]]) -> None:
    old = unit * (PAGE // 64)
    new = bytearray(old)
    for at, data in changes:
        new[at : at + len(data)] = data
    delta = xbzrle.encode(old, bytes(new), PAGE)
    assert delta is not None
    assert xbzrle.decode(old, delta) == bytes(new)
    assert (delta == b"") == (old == new)


def test_one_byte_at_the_beginning_takes_three() -> None:
    # As a real QEMU was seen to send it.
    assert xbzrle.encode(bytes(PAGE), b"\x0c" + bytes(PAGE - 1), PAGE) == bytes.fromhex("00010c")


def test_lengths_take_two_bytes_from_128_on() -> None:
    new = bytes(128) + b"\1" * 300 + bytes(PAGE - 428)
    assert xbzrle.encode(bytes(PAGE), new, PAGE) == bytes.fromhex("8001 ac02") + b"\1" * 300


def test_a_delta_longer_than_the_page_is_none() -> None:
    assert xbzrle.encode(bytes(PAGE), b"\1\0" * (PAGE // 2), PAGE) is None
    assert xbzrle.encode(bytes(PAGE), b"\1" * PAGE, PAGE) is None


@pytest.mark.parametrize("delta", ["00", "8080", "0000", "0005 01", "8020 01 01", "80"])
def test_damaged_deltas_are_refused(delta: str) -> None:
    with pytest.raises(ValueError):
        xbzrle.decode(bytes(PAGE), bytes.fromhex(delta))
