# SPDX-License-Identifier: MIT
"""The order in which handlers hear of a stop or a start: pairs of depth and adjustment, prepare before main."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakeqemu.host.sync import run_sync
from fakeqemu.system.runstate import FINISH_MIGRATE, PAUSED, PRELAUNCH, RUNNING, TRANSITIONS, RunState
from fakeqemu.trace import Trace


class BareGuest:
    def started(self) -> None: ...

    def stopped(self) -> None: ...


class BareMachine:
    """As much of a machine as its run state needs."""

    def __init__(self) -> None:
        self.trace = Trace()
        self.guest = BareGuest()
        self.events: list[str] = []

    def emit(self, event: str, data: dict[str, Any] | None = None) -> None:
        self.events.append(event)


def run_state() -> tuple[RunState, BareMachine]:
    vm: Any = BareMachine()
    return RunState(vm), vm


def noting(log: list[str], text: str) -> Callable[[bool, str], None]:
    return lambda running, state: log.append(text)


PRIORITIES = st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 1), st.booleans()), max_size=12)


@given(PRIORITIES)
def test_starting_ascends_and_stopping_is_its_exact_reverse(handlers: list[tuple[int, int, bool]]) -> None:
    runstate, _ = run_state()
    log: list[str] = []
    for index, (depth, adjustment, prepares) in enumerate(handlers):
        runstate.add_change_handler(
            noting(log, f"main {index}"), noting(log, f"prepare {index}") if prepares else None, (depth, adjustment)
        )
    # Equal ones in order of registration: a stable sort by the pair.
    order = sorted(range(len(handlers)), key=lambda index: handlers[index][:2])
    for running, expected in ((True, order), (False, order[::-1])):
        log.clear()
        run_sync(runstate.notify(running, RUNNING if running else PAUSED))
        assert log == [f"prepare {index}" for index in expected if handlers[index][2]] + [
            f"main {index}" for index in expected
        ]


def test_the_adjustment_never_reaches_into_another_depth() -> None:
    """A plain sum would put (2, +1) on (3, 0) and (3, -1) on (2, 0)."""
    runstate, _ = run_state()
    log: list[str] = []
    for priority in ((3, 0), (2, 1), (3, -1), (2, 0), (2, -1), (3, 1)):
        runstate.add_change_handler(noting(log, str(priority)), None, priority)
    run_sync(runstate.notify(True, RUNNING))
    assert log == ["(2, -1)", "(2, 0)", "(2, 1)", "(3, -1)", "(3, 0)", "(3, 1)"]


def test_a_removed_handler_hears_nothing() -> None:
    runstate, _ = run_state()
    log: list[str] = []
    gone = runstate.add_change_handler(noting(log, "gone"))
    gone.remove()
    gone.remove()
    runstate.add_change_handler(noting(log, "stays"))
    run_sync(runstate.notify(True, RUNNING))
    assert log == ["stays"]


def test_a_start_says_resume_then_tells_the_handlers_and_a_stop_says_stop_after_them() -> None:
    runstate, vm = run_state()
    runstate.add_change_handler(lambda running, state: vm.events.append(f"{running} {state}"))
    run_sync(runstate.vm_start())
    assert vm.events == ["RESUME", "True running"]
    vm.events.clear()
    run_sync(runstate.vm_stop(FINISH_MIGRATE))
    assert vm.events == [f"False {FINISH_MIGRATE}", "STOP"]
    assert runstate.state == FINISH_MIGRATE


def test_a_handler_that_waits_holds_back_all_that_follow() -> None:
    from fakeqemu.sim.host import SimHost

    host = SimHost()
    runstate, _ = run_state()
    log: list[str] = []

    async def slow(running: bool, state: str) -> None:
        await host.clock.sleep(10)
        log.append(f"slow at {host.clock.now_ns()}")

    runstate.add_change_handler(slow, slow)
    runstate.add_change_handler(lambda running, state: log.append(f"quick at {host.clock.now_ns()}"))
    host.world.run(runstate.notify(True, RUNNING))
    assert log == ["slow at 10", "slow at 20", "quick at 20"]


@pytest.mark.parametrize(("old", "new"), list(itertools.product(TRANSITIONS, TRANSITIONS)))
def test_only_transitions_of_the_table_are_made(old: str, new: str) -> None:
    runstate, _ = run_state()
    assert runstate.state == PRELAUNCH
    runstate.state = old
    if new == old or new in TRANSITIONS[old]:
        runstate.set(new)
        assert runstate.state == new
    else:
        with pytest.raises(AssertionError):
            runstate.set(new)
        assert runstate.state == old
