# SPDX-License-Identifier: MIT
"""Runs of zero page records."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fakeqemu.migration.stream.ram_page import (
    RAM_SAVE_FLAG_CONTINUE,
    RAM_SAVE_FLAG_ZERO,
    WORD,
    ZERO_RECORD_SIZE,
    count_zero_records,
    zero_records,
)

PAGES = st.integers(0, 1 << 40)


@given(PAGES, st.integers(0, 200))
def test_a_run_is_made_of_single_records(first: int, n: int) -> None:
    flags = RAM_SAVE_FLAG_ZERO | RAM_SAVE_FLAG_CONTINUE
    singles = b"".join(WORD.pack((first + page) << 12 | flags) + b"\0" for page in range(n))
    assert zero_records(first, n) == singles


@given(PAGES, st.integers(0, 90), st.integers(0, 100), st.binary(max_size=12), st.integers(0, 5))
def test_a_run_is_recognised_whole(first: int, n: int, limit: int, behind: bytes, before: int) -> None:
    data = bytes(before) + bytes(zero_records(first, n)) + b"\xff" + behind
    assert count_zero_records(data, before, first, limit) == min(n, limit)


@given(st.integers(1, 90), st.data())
def test_a_changed_byte_ends_the_run(n: int, data: st.DataObject) -> None:
    records = bytearray(zero_records(5, n))
    at = data.draw(st.integers(0, len(records) - 1))
    records[at] ^= data.draw(st.integers(1, 255))
    assert count_zero_records(bytes(records), 0, 5, n) == at // ZERO_RECORD_SIZE
