# SPDX-License-Identifier: MIT
"""Postcopies of each kind that fail at every point where one can fail, one point later each time.

After each exactly one side runs the guest, or the source says plainly (postcopy-paused) that it cannot. A pause is recovered
from as far as that goes. `pytest tests/sim/test_postcopy_faults.py --seed N` repeats a random mixture.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from fakeqemu.error import QemuError
from fakeqemu.faults.catalogue import POINTS
from fakeqemu.faults.injector import Close, Fail, Injected, Injector, Kill, Rule, Stall
from fakeqemu.host.clock import NS_PER_MS
from tests.sim._migrations import Kind
from tests.sim._postcopies import KINDS, PostcopyRun, first_of_each, passed

SIDES = ("source", "destination")
SEEDS = 80
#: so many points are tried: the first ones, and others spread over all there are
EARLY, TRIED = 7, 7
#: the kind at which every point is tried
THOROUGH = "broken-11.1"
#: kinds that go well unless something is made to fail, and take no time for keys
PLAIN = [kind for kind in KINDS if not kind.breaks and not kind.tls]

#: what is heard on the return path, of which old releases keep no error
RETURN_PATH = (
    "source_return_path_thread_loop_top", "migrate_handle_rp_req_pages", "ram_dirty_bitmap_reload_begin",
    "source_return_path_thread_resume_ack",
)  # fmt: skip
#: failures of which no error is kept: nobody hears of them, or hears only that the connection is gone
PASSED_OVER = ("migrate_send_rp_message", "fake_channel_read", "fake_channel_write")


def points(kind: Kind, side: str) -> int:
    return len(passed(KINDS.index(kind))[side])


def chosen(kind: Kind, side: str) -> list[int]:
    """Numbers of points: other ones for each kind and side."""
    count = points(kind, side)
    later = Random(f"{side} of {kind.name}").sample(range(EARLY, count), min(count - EARLY, TRIED))
    return [*range(EARLY), *sorted(later)]


def check(run: PostcopyRun, where: str) -> None:
    try:
        run.finish()
        run.check()
    except AssertionError as err:
        raise AssertionError(f"{where}\n{run.statuses}, destination {run.destination_status}\n{err}") from err


def check_first_error(run: PostcopyRun, first: Injected) -> None:
    """A source that failed says why: what went wrong first."""
    if run.source_status != "failed" or first.point in PASSED_OVER or not isinstance(first.error, QemuError):
        return  # of a system call's error the code there makes words of its own
    mig = run.source.vm.migration
    if first.point in RETURN_PATH and not run.source.vm.compat.migration_return_path_errors:
        return
    if mig.error is None:
        assert run.kind.profile == "7.2"  # which keeps few
        return
    assert first.error.desc in mig.error.desc, f"{mig.error.desc}, not {first.error.desc}"


ACTIONS = [Fail(), Close(), Kill()]


def test_every_point_of_a_postcopy_is_passed_by_some_kind() -> None:
    from fakeqemu.faults import points_postcopy

    seen = {side: {name for number in range(len(KINDS)) for name in passed(number)[side]} for side in SIDES}
    snapshots = ("ram_write_tracking_ramblock_start", "migration_completion_file_err")
    missed = [one.name for one in points_postcopy.POINTS if one.name not in (*snapshots, *seen[one.side])]
    assert missed == []


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: type(action).__name__.lower())
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("number", range(len(KINDS)), ids=lambda number: KINDS[number].name)
def test_a_fault_at_each_point_of_a_name(number: int, side: str, action: Fail | Close | Kill) -> None:
    kind = KINDS[number]
    names = passed(number)[side]
    for n in range(len(names)) if kind.name == THOROUGH else first_of_each(number, side):
        if not POINTS[names[n]].can(action):
            continue
        run = PostcopyRun(kind)
        injector = run.injectors[side]
        injector.add(Rule(names[n], action, after=names[:n].count(names[n])))
        run.go()
        run.finish()
        assert injector.injected, f"{side}, point {n}: {names[n]} was not passed"
        where = f"{side}, point {n}: {injector.injected[0]}"
        check(run, where)
        if isinstance(action, Fail) and side == "source":
            check_first_error(run, injector.injected[0])


@pytest.mark.parametrize("times", [1, None], ids=["once", "from-then-on"])
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", PLAIN, ids=lambda kind: kind.name)
def test_a_failure_at_every_point(kind: Kind, side: str, times: int | None) -> None:
    ends = set()
    for n in chosen(kind, side):
        run = PostcopyRun(kind)
        run.injectors[side].add(Rule("*", after=n, times=times))
        run.go()
        check(run, f"{side}, point {n}: {run.injectors[side].injected[:1]}")
        ends.add(run.source_status)
        if times == 1 and run.recoveries:
            assert run.source_status in ("completed", "postcopy-paused", "cancelled", "failed")
    assert "failed" in ends
    assert ("completed" if times else "postcopy-paused") in ends


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", PLAIN, ids=lambda kind: kind.name)
def test_a_process_that_dies_at_any_point(kind: Kind, side: str) -> None:
    for n in chosen(kind, side):
        run = PostcopyRun(kind)
        run.injectors[side].add(Rule("*", Kill(), after=n))
        run.go()
        check(run, f"{side}, point {n}")


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", PLAIN, ids=lambda kind: kind.name)
def test_a_cancel_at_every_point_where_one_waits(kind: Kind, side: str) -> None:
    n = 0
    while True:
        run = PostcopyRun(kind)
        injector = run.injectors[side]
        injector.add(Rule("*", Stall(), after=n))
        run.go()
        if not injector.injected:
            break
        _cancel(run)
        injector.release()
        run.settle()
        check(run, f"{side}, stalled {n}: {injector.injected[0]}")
        n += 8 + n // 4


def random_run(seed: int) -> PostcopyRun:
    """A postcopy of some kind with some faults, all from the seed."""
    chance = Random(seed)
    run = PostcopyRun(chance.choice(KINDS), seed)
    for _ in range(chance.randint(1, 3)):
        action: Any = chance.choice([Fail("EIO"), Fail("ENOSPC"), Kill()])
        rule = Rule("*", action, after=chance.randint(0, 150), times=chance.choice([1, 2, None]))
        injector: Injector = run.injectors[chance.choice(SIDES)]
        injector.add(rule)
    if chance.random() < 0.2:
        at_ns = run.source.host.clock.now_ns() + chance.randint(1, 600) * NS_PER_MS
        run.source.host.clock.call_at(at_ns, lambda: _cancel(run))
    run.go()
    return run


def _cancel(run: PostcopyRun) -> None:
    try:
        run.source.vm.migration.cancel()
    except QemuError:
        pass  # too late


def test_hundreds_of_random_faults(request: pytest.FixtureRequest) -> None:
    only = request.config.getoption("--seed")
    ends: dict[str, int] = {}
    for seed in [int(only)] if only is not None else range(SEEDS):
        try:
            run = random_run(seed)
            check(run, run.kind.name)
        except BaseException as err:
            raise AssertionError(f"repeat with: pytest {__file__} --seed {seed}") from err
        ends[run.source_status] = ends.get(run.source_status, 0) + 1
    if only is None:
        assert {"completed", "failed", "postcopy-paused"} <= set(ends)
