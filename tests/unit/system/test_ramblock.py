# SPDX-License-Identifier: MIT
"""RAM blocks over both stores, and sets of pages kept in runs, against plain models."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakeqemu.system.ramblock import (
    PAGE_SIZE,
    ZERO,
    ZERO_PAGE,
    MappedStore,
    PageRuns,
    RAMBlock,
    SparseStore,
    made_page,
)

PAGES = 40
STEPS = st.lists(st.tuples(st.sampled_from("zmwW"), st.integers(0, PAGES - 1), st.integers(1, 9)), max_size=25)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 60), st.integers(0, 9)), max_size=60))
def test_runs_are_a_set(steps: list[tuple[bool, int, int]]) -> None:
    runs, model = PageRuns(), set[int]()
    for add, first, n in steps:
        if add:
            runs.add(first, n)
            model |= set(range(first, first + n))
        else:
            runs.discard(first, n)
            model -= set(range(first, first + n))
        listed = list(runs)
        assert [page for first, n in listed for page in range(first, first + n)] == sorted(model)
        assert all(a + n < b for (a, n), (b, _) in pairwise(listed))
        assert runs.count == len(model)
        assert all((page in runs) == (page in model) for page in range(70))
        assert (runs.first_run(5) or (None,))[0] == min((p for p in model if p >= 5), default=None)


def check(store: SparseStore | MappedStore, steps: list[tuple[str, int, int]]) -> None:
    model = [ZERO_PAGE] * PAGES
    for number, (action, first, n) in enumerate(steps, 1):
        n = min(n, PAGES - first)
        if action == "z":
            store.zero(first, n)
            new = [ZERO_PAGE] * n
        elif action == "m":
            store.make(first, n, number)
            new = [made_page(number, page) for page in range(first, first + n)]
        else:
            new = [bytes((number,)) * PAGE_SIZE if action == "w" or page % 2 else ZERO_PAGE for page in range(n)]
            store.write(first, b"".join(new))
        model[first : first + n] = new
    assert store.read(0, PAGES) == b"".join(model)
    seen: list[bool] = []
    for first, n, kind in store.runs(0, PAGES):
        assert first == len(seen)
        seen += [kind == ZERO] * n
    assert seen == [page == ZERO_PAGE for page in model]


@given(STEPS)
def test_the_sparse_store_holds_what_was_put(steps: list[tuple[str, int, int]]) -> None:
    check(SparseStore(), steps)


@given(STEPS)
@settings(max_examples=40)
def test_the_mapped_store_holds_what_was_put(steps: list[tuple[str, int, int]]) -> None:
    fd = os.memfd_create("ram")
    os.ftruncate(fd, PAGES * PAGE_SIZE)
    store = MappedStore(fd)
    check(store, steps)
    store.close()


def test_others_write_to_a_mapped_store(tmp_path: Path) -> None:
    path = tmp_path / "ram"
    path.write_bytes(bytes(PAGES * PAGE_SIZE))
    block = RAMBlock("ram0", PAGES * PAGE_SIZE, MappedStore(os.open(path, os.O_RDWR)), share=True)
    with path.open("r+b") as other:
        other.seek(3 * PAGE_SIZE + 5)
        other.write(b"hello")
    assert block.read(3 * PAGE_SIZE + 5, 5) == b"hello"
    assert [(first, n) for first, n, kind in block.runs() if kind != ZERO] == [(3, 1)]
    block.close()


def test_a_terabyte_costs_what_was_done_with_it() -> None:
    block = RAMBlock("pc.ram", 1 << 40)
    block.dirty = PageRuns()
    block.guest_dirties(1 << 20, 1 << 27)
    block.guest_write((1 << 39) + 100, b"x")
    assert block.dirty.count == (1 << 27) + (0 if (1 << 27) in block.dirty else 1)
    assert len(list(block.runs())) <= 5


def test_generations_differ_in_their_bytes() -> None:
    assert made_page(1, 5) != made_page(2, 5) != made_page(2, 6)
    assert len(made_page(1, 5)) == PAGE_SIZE


@pytest.mark.parametrize("offset", [0, 100, PAGE_SIZE - 2])
def test_the_guest_writes_across_pages(offset: int) -> None:
    block = RAMBlock("ram", PAGES * PAGE_SIZE)
    block.dirty = PageRuns()
    data = os.urandom(3 * PAGE_SIZE)
    block.guest_write(offset, data)
    assert block.read(offset, len(data)) == data
    assert block.read(0, offset) == bytes(offset)
    assert block.dirty.count == (3 if offset == 0 else 4)
