# SPDX-License-Identifier: MIT
"""The header and the bitmap of a block in a mapped-ram file."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakeqemu.error import StreamError
from fakeqemu.migration.stream import mapped_ram
from fakeqemu.system.ramblock import PageRuns


def test_a_header_is_as_a_real_one_was_seen() -> None:
    # -machine none with 8 MiB in "ram0": the header begins at 0x66 of the file.
    seen = bytes.fromhex("00000001 0000000000001000 0000000000000082 0000000000100000")
    assert mapped_ram.layout(0x66, 2048).pack() == seen
    header = mapped_ram.parse_header(seen)
    assert (header.bitmap_offset, header.pages_offset) == (0x82, 0x100000)


def test_pages_begin_at_a_mebibyte_behind_the_bitmap() -> None:
    assert mapped_ram.layout((1 << 20) - 28 - 8, 64).pages_offset == 1 << 20
    assert mapped_ram.layout((1 << 20) - 28 - 8, 65).pages_offset == 2 << 20


@pytest.mark.parametrize(("version", "page_size"), [(2, 4096), (1, 8192), (1, 0)])
def test_headers_of_another_format_are_refused(version: int, page_size: int) -> None:
    with pytest.raises(StreamError):
        mapped_ram.parse_header(mapped_ram.HEADER.pack(version, page_size, 0, 0))


def test_releases_before_11_take_any_page_size_but_none() -> None:
    header = mapped_ram.parse_header(mapped_ram.HEADER.pack(1, 512, 0, 0), any_page_size=True)
    assert header.page_size == 512
    with pytest.raises(StreamError):
        mapped_ram.parse_header(mapped_ram.HEADER.pack(1, 0, 0, 0), any_page_size=True)


@given(st.integers(1, 300).flatmap(lambda pages: st.tuples(st.just(pages), st.sets(st.integers(0, pages - 1)))))
def test_a_bitmap_says_which_pages_are_there(case: tuple[int, set[int]]) -> None:
    pages, present = case
    runs = PageRuns()
    for page in sorted(present):
        runs.add(page, 1)
    bitmap = mapped_ram.pack_bitmap(runs, pages)
    assert len(bitmap) % 8 == 0
    assert int.from_bytes(bitmap, "little") == sum(1 << page for page in present)
    parsed = list(mapped_ram.parse_bitmap(bitmap, pages))
    assert sum(n for _, n, _ in parsed) == pages
    assert {page for first, n, there in parsed if there for page in range(first, first + n)} == present
    assert all(a[0] + a[1] == b[0] and a[2] != b[2] for a, b in itertools.pairwise(parsed))
