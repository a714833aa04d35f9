# SPDX-License-Identifier: MIT
"""Futures, tasks, groups, events and locks, on a queue that the test turns by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakeqemu.host.host import Host
from fakeqemu.host.sync import Cancelled, Event, Future, Lock, Task, TaskGroup, WouldWait, run_sync


class Turns(Host):
    """A host that only has turns."""

    def __init__(self) -> None:
        super().__init__()
        self.ready: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.ready.append(callback)

    def run(self) -> None:
        while self.ready:
            self.ready.pop(0)()


def test_a_task_runs_at_once_up_to_its_first_wait() -> None:
    host, log = Turns(), []
    future = host.future()

    async def body() -> str:
        log.append("started")
        log.append(await future)
        return "result"

    task = host.start(body(), "t")
    assert log == ["started"]
    assert host.tasks == [task]
    future.set_result("value")
    assert log == ["started"], "nothing runs within set_result"
    host.run()
    assert log == ["started", "value"]
    assert task.result() == "result"
    assert host.tasks == []


def test_joining_gives_the_result_or_raises_the_error() -> None:
    host, seen = Turns(), []

    async def child(fail: bool) -> int:
        await _soon(host)
        if fail:
            raise ValueError("child")
        return 5

    async def parent() -> None:
        seen.append(await host.start(child(False), "good").join())
        with pytest.raises(ValueError, match="child"):
            await host.start(child(True), "bad").join()
        seen.append("end")

    task = host.start(parent(), "p")
    host.run()
    task.result()
    assert seen == [5, "end"]


def _soon(host: Turns) -> Future:
    future = host.future()
    host.call_soon(future.set_result)
    return future


def test_a_failure_that_nobody_joins_is_reported_once() -> None:
    host, reported = Turns(), []
    host.on_task_failure = lambda task, error: reported.append((task.name, str(error)))

    async def body() -> None:
        raise ValueError("lost")

    host.start(body(), "t")
    host.run()
    assert reported == [("t", "lost")]


def test_a_failure_that_is_joined_is_not_reported() -> None:
    host, reported = Turns(), []
    host.on_task_failure = lambda task, error: reported.append(error)

    async def child() -> None:
        raise ValueError("known")

    async def parent() -> None:
        with pytest.raises(ValueError):
            await host.start(child(), "c").join()

    host.start(parent(), "p")
    host.run()
    assert reported == []


def test_cancelling_throws_where_the_task_waits_and_lets_it_clean_up() -> None:
    host, log = Turns(), []

    async def body() -> None:
        try:
            await host.future()
        finally:
            log.append("cleaned")

    task = host.start(body(), "t")
    task.cancel()
    assert log == []
    host.run()
    assert log == ["cleaned"]
    assert isinstance(task.error(), Cancelled)


def test_a_wake_up_that_comes_after_the_cancellation_does_not_resume_the_clean_up() -> None:
    """The future is given its result after cancel() and before the turn: the task must wait on for what it waits for now."""
    host, log = Turns(), []
    first, second = host.future(), host.future()

    async def body() -> None:
        try:
            await first
        finally:
            await second
            log.append("cleaned")

    task = host.start(body(), "t")
    task.cancel()
    first.set_result()
    host.run()
    assert not task.done
    second.set_result()
    host.run()
    assert log == ["cleaned"]


def test_a_task_that_cancels_itself_stops_at_its_next_wait() -> None:
    host, log = Turns(), []
    task: Task | None = None

    async def body() -> None:
        await _soon(host)
        assert task is not None
        task.cancel()
        log.append("after")
        await host.future()
        log.append("never")

    task = host.start(body(), "t")
    host.run()
    assert log == ["after"]
    assert task.done


def test_a_group_joins_all_its_tasks() -> None:
    host, log = Turns(), []

    async def child(name: str, future: Future) -> None:
        await future
        log.append(name)

    futures = [host.future(), host.future()]

    async def parent() -> None:
        async with TaskGroup(host) as group:
            group.start(child("a", futures[0]), "a")
            group.start(child("b", futures[1]), "b")
        log.append("joined")

    task = host.start(parent(), "p")
    futures[1].set_result()
    host.run()
    assert log == ["b"]
    futures[0].set_result()
    host.run()
    assert log == ["b", "a", "joined"]
    task.result()


def test_the_first_failure_of_a_group_cancels_the_others_and_is_raised() -> None:
    host, log = Turns(), []

    async def stays() -> None:
        try:
            await host.future()
        finally:
            log.append("cancelled")

    async def fails(text: str) -> None:
        await _soon(host)
        raise ValueError(text)

    async def parent() -> None:
        async with TaskGroup(host) as group:
            group.start(stays(), "stays")
            group.start(fails("first"), "first")
            group.start(fails("second"), "second")

    task = host.start(parent(), "p")
    task.claim()
    host.run()
    assert log == ["cancelled"]
    with pytest.raises(ValueError, match="first"):
        task.result()


def test_cancelling_the_owner_of_a_group_ends_its_tasks_first() -> None:
    host, log = Turns(), []
    gate = host.future()

    async def child() -> None:
        try:
            await host.future()
        finally:
            await gate
            log.append("child")

    async def parent() -> None:
        try:
            async with TaskGroup(host) as group:
                group.start(child(), "c")
        finally:
            log.append("parent")

    task = host.start(parent(), "p")
    host.run()
    task.cancel()
    host.run()
    assert log == []
    gate.set_result()
    host.run()
    assert log == ["child", "parent"]
    assert isinstance(task.error(), Cancelled)


def test_an_event_wakes_all_who_wait_and_lets_others_pass() -> None:
    host, log = Turns(), []
    event = Event(host)

    async def body(name: str) -> None:
        await event.wait()
        log.append(name)

    host.start(body("a"), "a")
    host.start(body("b"), "b")
    event.set()
    host.run()
    host.start(body("late"), "late")
    assert log == ["a", "b", "late"]
    event.clear()
    waiting = host.start(body("again"), "again")
    host.run()
    assert not waiting.done


@given(cancelled=st.sets(st.integers(0, 4)))
def test_a_lock_is_handed_over_in_order_whoever_gives_up(cancelled: set[int]) -> None:
    host, order = Turns(), []
    lock = Lock(host)
    assert lock.try_acquire()
    assert not lock.try_acquire()

    async def body(number: int) -> None:
        async with lock:
            order.append(number)
            await _soon(host)

    tasks = [host.start(body(number), str(number)) for number in range(5)]
    for number in sorted(cancelled):
        tasks[number].cancel()
    host.run()
    lock.release()
    host.run()
    assert order == [number for number in range(5) if number not in cancelled]
    assert not lock.locked


def test_a_lock_given_to_a_task_that_is_cancelled_in_the_same_turn_goes_on_to_the_next() -> None:
    host, order = Turns(), []
    lock = Lock(host)
    assert lock.try_acquire()

    async def body(name: str) -> None:
        async with lock:
            order.append(name)

    first = host.start(body("first"), "first")
    host.start(body("second"), "second")
    first.cancel()
    lock.release()
    host.run()
    assert order == ["second"]
    assert not lock.locked


def test_run_sync_refuses_a_coroutine_that_waits() -> None:
    host = Turns()

    async def quick() -> int:
        return 3

    async def slow() -> None:
        await host.future()

    assert run_sync(quick()) == 3
    with pytest.raises(WouldWait):
        run_sync(slow())
