# SPDX-License-Identifier: MIT
"""Runs of page records are made and found as one record after the other would be."""

from __future__ import annotations

import os
import random

import pytest

from fakeqemu.migration.stream.ram_page import (
    PAGE_RECORD_SIZE,
    RAM_SAVE_FLAG_CONTINUE,
    RAM_SAVE_FLAG_PAGE,
    TARGET_PAGE_SIZE,
    WORD,
    count_page_records,
    page_words,
)
from fakeqemu.system.private_store import PrivateStore
from fakeqemu.system.ramblock import REAL, ZERO, MappedStore, RAMBlock, SparseStore

FLAGS = RAM_SAVE_FLAG_PAGE | RAM_SAVE_FLAG_CONTINUE


def records(first: int, n: int) -> bytes:
    return b"".join(
        WORD.pack(page * TARGET_PAGE_SIZE | FLAGS) + bytes(TARGET_PAGE_SIZE) for page in range(first, first + n)
    )


@pytest.mark.parametrize("n", [1, 2, 31, 256])
def test_words_are_those_of_single_records(n: int) -> None:
    single = b"".join(WORD.pack(page * TARGET_PAGE_SIZE | FLAGS) for page in range(7, 7 + n))
    assert bytes(page_words(7, n)) == single


def test_records_are_counted_up_to_the_first_that_is_another() -> None:
    data = b"xyz" + records(5, 4) + records(11, 1)
    assert count_page_records(data, 3, 5, 100) == 4
    assert count_page_records(data, 3, 5, 2) == 2
    assert count_page_records(data, 3, 6, 100) == 0
    assert count_page_records(data, 3 + 4 * PAGE_RECORD_SIZE, 11, 100) == 1


def test_a_record_that_has_not_all_arrived_does_not_count() -> None:
    data = records(0, 3)
    assert count_page_records(data[:-1], 0, 0, 100) == 2
    assert count_page_records(data[: 2 * PAGE_RECORD_SIZE + 4], 0, 0, 100) == 2
    assert count_page_records(b"", 0, 0, 100) == 0


@pytest.mark.parametrize("kind", ["sparse", "mapped"])
def test_scattered_pages_are_as_pages_in_one_piece(kind: str) -> None:
    stores = [SparseStore() if kind == "sparse" else MappedStore(os.memfd_create("ram")) for _ in range(2)]
    blocks = [RAMBlock("ram", 64 * TARGET_PAGE_SIZE, store) for store in stores]
    chance = random.Random(1)
    pages = [chance.choice((bytes(TARGET_PAGE_SIZE), chance.randbytes(TARGET_PAGE_SIZE))) for _ in range(40)]
    blocks[0].write_pages(3, b"".join(pages))
    blocks[1].write_scattered(3, [memoryview(page) for page in pages])
    assert blocks[0].read_pages(0, 64) == blocks[1].read_pages(0, 64)
    assert list(blocks[0].runs()) == list(blocks[1].runs())
    for block in blocks:
        block.close()


def test_what_a_file_holds_is_found_across_holes_of_all_lengths() -> None:
    block = RAMBlock("ram", 4096 * TARGET_PAGE_SIZE, MappedStore(os.memfd_create("ram")))
    chance = random.Random(2)
    real: list[int] = sorted(chance.sample(range(4096), 60))
    for page in real:
        block.write_pages(page, chance.randbytes(TARGET_PAGE_SIZE))
    for first, n in ((0, 4096), (real[5], 1), (real[5] + 1, 700), (4000, 96)):
        found: list[int] = []
        at = first
        for start, length, kind in block.runs(first, n):
            assert start == at
            at += length
            found += range(start, start + length) if kind == "real" else ()
        assert at == first + n
        assert found == [page for page in real if first <= page < first + n]
    block.close()


@pytest.mark.parametrize("kind", ["sparse", "mapped", "private"])
def test_buffers_of_pages_hold_what_the_pages_held_when_they_were_looked_at(kind: str) -> None:
    def store() -> SparseStore | MappedStore:
        if kind == "sparse":
            return SparseStore()
        return (MappedStore if kind == "mapped" else PrivateStore)(os.memfd_create("ram"))

    block = RAMBlock("ram", 64 * TARGET_PAGE_SIZE, store())
    chance = random.Random(3)
    content = [chance.randbytes(TARGET_PAGE_SIZE) for _ in range(64)]
    for page in (*range(10), *range(30, 64)):
        block.write_pages(page, content[page])
    first = [
        b"".join(block.buffers(start, length)) for start, length, what in block.runs() if what == REAL
    ]  # fmt: skip
    assert first == [b"".join(content[:10]), b"".join(content[30:])]
    held = block.buffers(30, 34)
    next(iter(block.runs(0, 10)))  # another look does not change what somebody holds
    assert b"".join(held) == bytes(block.buffer(30, 34)) == b"".join(content[30:])
    block.write_pages(31, content[0])
    next(iter(block.runs(30, 34)))
    assert bytes(block.buffers(31, 1)[0]) == content[0]
    assert bytes(block.buffer(28, 4)) == bytes(2 * TARGET_PAGE_SIZE) + content[30] + content[0]
    block.forget()
    block.close()


def test_of_a_stream_only_what_has_arrived_is_counted() -> None:
    data = bytearray(records(5, 4))
    assert count_page_records(data, 0, 5, 100, 3 * PAGE_RECORD_SIZE) == 3
    assert count_page_records(data, 0, 5, 100, 3 * PAGE_RECORD_SIZE - 1) == 2
    assert count_page_records(data, PAGE_RECORD_SIZE, 6, 100, PAGE_RECORD_SIZE) == 0


@pytest.mark.parametrize("kind", ["sparse", "mapped", "private"])
def test_pages_with_gaps_are_the_same_pages(kind: str) -> None:
    """Room in front of each page, where there is any, is for whoever sends it, and no part of it."""
    pages = 300  # more than are looked at in one go
    fd = os.memfd_create("ram")
    store = SparseStore() if kind == "sparse" else MappedStore(fd) if kind == "mapped" else PrivateStore(fd)
    block = RAMBlock("ram", pages * TARGET_PAGE_SIZE, store)
    chance = random.Random(4)
    content = [
        bytes(TARGET_PAGE_SIZE) if 50 <= page < 60 else chance.randbytes(TARGET_PAGE_SIZE) for page in range(pages)
    ]
    content[70] = bytes(8) + content[70][8:]  # begins as a page of zeroes does
    block.write_pages(0, b"".join(content[:290]))  # the file is shorter than the block
    gap = PAGE_RECORD_SIZE - TARGET_PAGE_SIZE
    block.read_in_order(gap)
    found: dict[int, bytes] = {}
    for first, n, what in block.runs():
        assert what == (ZERO if 50 <= first < 60 or first >= 290 else REAL)
        if what == ZERO:
            continue
        wanted = b"".join(content[first : first + n])
        assert b"".join(block.buffers(first, n)) == wanted == bytes(block.buffer(first, n))
        records = block.records(first, n)
        assert (records is None) == (kind != "mapped")
        if records is not None:
            assert len(records) == n * PAGE_RECORD_SIZE
            ends = range(PAGE_RECORD_SIZE, len(records) + 1, PAGE_RECORD_SIZE)
            assert b"".join(records[end - TARGET_PAGE_SIZE : end] for end in ends) == wanted
        found.update((page, content[page]) for page in range(first, first + n))
    assert sorted(found) == [*range(50), *range(60, 290)]
    block.read_anyhow()
    assert block.records(0, 1) is None
    block.close()
