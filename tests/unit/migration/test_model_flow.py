# SPDX-License-Identifier: MIT
"""When pages go over a link in windows: in closed form, as a loop over batches would have it."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from fakeqemu.host.clock import NS_PER_MS
from fakeqemu.migration.model_flow import Flow

RATE = 1_000_000_000  # a byte a ns
WINDOW_NS = 100 * NS_PER_MS
BATCH = 32
PAGE = 4104


def whole_batches(room: int) -> int:
    return -(-room // (BATCH * PAGE)) * BATCH


def flow(limit: int) -> Flow:
    made = Flow(0, RATE)
    made.set_limit(limit)
    return made


def by_batches(n: int, limit: int) -> int:
    """When the last of `n` pages has gone, in ns."""
    window = at = used = 0
    while n:
        if limit and used >= limit:
            window += WINDOW_NS
            at = max(at, window)
            used = 0
        put = min(n, BATCH)
        at += put * PAGE
        used += put * PAGE
        n -= put
    return at


LIMITS = st.sampled_from([0, 100_000, 131_328, 131_329, 1_258_291, 13_421_772])


@given(n=st.integers(1, 50_000), limit=LIMITS)
def test_all_at_once_is_one_batch_after_the_other(n: int, limit: int) -> None:
    made = flow(limit)
    assert made.send(n, PAGE, whole_batches, batch=BATCH) == n
    assert made.at_ns == by_batches(n, limit)


@given(limit=LIMITS, looks=st.lists(st.integers(0, 400 * NS_PER_MS), max_size=8))
def test_whoever_looks_in_between_changes_nothing(limit: int, looks: list[int]) -> None:
    n = 3000
    made, other = flow(limit), flow(limit)
    made.send(n, PAGE, whole_batches, batch=BATCH)
    done = sum_of_looks(other, n, sorted(looks))
    done += other.send(n - done, PAGE, whole_batches)
    assert done == n
    # A look may come within a batch: what is left of it may be one more.
    assert abs(other.at_ns - made.at_ns) <= WINDOW_NS * (len(looks) if limit else 0) + len(looks)


def sum_of_looks(made: Flow, n: int, looks: list[int]) -> int:
    done = 0
    for until_ns in looks:
        before = made.at_ns
        done += made.send(n - done, PAGE, whole_batches, until_ns)
        assert made.at_ns <= max(until_ns, before) + 1
    return done


def test_nothing_goes_between_windows() -> None:
    made = flow(1_258_291)
    burst = whole_batches(1_258_291)
    assert made.send(10_000, PAGE, whole_batches, 50 * NS_PER_MS, batch=BATCH) == burst
    assert made.send(10_000, PAGE, whole_batches, 99 * NS_PER_MS, batch=BATCH) == 0
    assert made.window_end_ns == WINDOW_NS
    assert made.send(10_000, PAGE, whole_batches, 150 * NS_PER_MS, batch=BATCH) == burst
    assert made.parts == 1


def test_an_hour_is_one_step() -> None:
    calls = 0

    def counted(room: int) -> int:
        nonlocal calls
        calls += 1
        return whole_batches(room)

    made = flow(26_843_545)
    assert made.send(1 << 28, PAGE, counted, batch=BATCH) == 1 << 28
    assert made.at_ns > 3600 * 1_000_000_000
    assert calls < 10


def test_pages_without_bytes_take_no_time() -> None:
    burst: Callable[[int], int] = whole_batches
    made = flow(100_000)
    assert made.send(1 << 30, 0, burst) == 1 << 30
    assert made.at_ns == 0


def test_a_limit_above_the_link_is_none() -> None:
    assert not flow(RATE // 10).limited
    assert flow(RATE // 10 - 1).limited
