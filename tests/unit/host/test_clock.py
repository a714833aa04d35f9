# SPDX-License-Identifier: MIT
"""Real, scaled and manual time, and the timers on it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakeqemu.host.clock import Clock
from fakeqemu.host.host import Host


class Outside(Host):
    """Turns, and a monotonic time that the test sets."""

    def __init__(self) -> None:
        super().__init__()
        self.ready: list[Callable[[], None]] = []
        self.monotonic_ns = 1_000

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.ready.append(callback)

    def run(self) -> None:
        while self.ready:
            self.ready.pop(0)()

    def make_clock(self, rate: float) -> Clock:
        return Clock(self, lambda: self.monotonic_ns, lambda: 0, rate)


def test_a_scaled_clock_starts_now_and_then_runs_faster() -> None:
    outside = Outside()
    clock = outside.make_clock(10)
    assert clock.now_ns() == 1_000
    outside.monotonic_ns += 5
    assert clock.now_ns() == 1_050
    clock.call_at(1_100, lambda: None)
    # 50 of its ns are 5 of ours; a poller that wakes too early would find nothing due.
    due = clock.next_due_in_real_ns()
    assert due is not None
    outside.monotonic_ns += due
    assert clock.run_due()


def test_a_manual_clock_only_moves_when_it_is_advanced() -> None:
    outside, fired = Outside(), []
    clock = outside.make_clock(0)
    start = clock.now_ns()
    outside.monotonic_ns += 10_000
    assert clock.now_ns() == start
    clock.call_at(start + 20, lambda: fired.append(clock.now_ns() - start))
    clock.call_at(start + 10, lambda: fired.append(clock.now_ns() - start))
    assert clock.next_due_in_real_ns() is None
    clock.advance(15)
    assert fired == [10]
    clock.advance(15)
    assert fired == [10, 20]
    assert clock.now_ns() == start + 30


@given(st.lists(st.integers(0, 50), max_size=20))
def test_timers_fire_by_deadline_then_by_age(deadlines: list[int]) -> None:
    clock = Outside().make_clock(0)
    start, fired = clock.now_ns(), []

    def note(index: int) -> Callable[[], None]:
        return lambda: fired.append(index)

    for index, deadline in enumerate(deadlines):
        clock.call_at(start + deadline, note(index))
    clock.advance(100)
    assert fired == sorted(range(len(deadlines)), key=lambda index: (deadlines[index], index))


def test_a_cancelled_timer_neither_fires_nor_counts_as_due() -> None:
    outside, fired = Outside(), []
    clock = outside.make_clock(1)
    timer = clock.call_at(1_010, lambda: fired.append("cancelled"))
    clock.call_at(1_020, lambda: fired.append("kept"))
    timer.cancel()
    assert clock.next_deadline_ns() == 1_020
    outside.monotonic_ns = 1_030
    assert clock.run_due()
    assert fired == ["kept"]
    assert clock.next_deadline_ns() is None


def test_a_timer_that_sets_itself_again_does_not_starve_the_loop() -> None:
    outside, fired = Outside(), []
    clock = outside.make_clock(1)

    def again() -> None:
        fired.append(1)
        clock.call_at(clock.now_ns(), again)

    clock.call_at(clock.now_ns(), again)
    assert clock.run_due()
    assert fired == [1]
    assert clock.next_due_in_real_ns() == 0


def test_a_poller_is_woken_only_for_a_timer_before_all_others() -> None:
    outside, woken = Outside(), []
    clock = outside.make_clock(1)
    clock.woken = lambda: woken.append(1)
    clock.call_at(1_100, lambda: None)
    clock.call_at(1_200, lambda: None)
    assert woken == [1]
    clock.call_at(1_050, lambda: None)
    assert woken == [1, 1]


@pytest.mark.parametrize("delay", [0, -5])
def test_sleeping_for_nothing_does_not_wait(delay: int) -> None:
    outside = Outside()
    clock = outside.make_clock(0)
    task = outside.start(clock.sleep(delay), "t")
    assert task.done


def test_a_cancelled_sleep_leaves_no_timer() -> None:
    outside = Outside()
    clock = outside.make_clock(0)
    task = outside.start(clock.sleep(50), "t")
    assert clock.next_deadline_ns() is not None
    task.cancel()
    outside.run()
    assert task.done
    assert clock.next_deadline_ns() is None
