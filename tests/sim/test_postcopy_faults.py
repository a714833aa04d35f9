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
from fakeqemu.faults.injector import Fail, Injector, Kill, Rule, Stall
from fakeqemu.host.clock import NS_PER_MS
from fakeqemu.sim.world import SimStalled
from fakeqemu.system.ramblock import RAMBlock
from fakeqemu.testing.sim_machine import SimMachine
from tests.sim._migrations import ENDED, PATIENCE_NS, Kind, Run

SIDES = ("source", "destination")
SEEDS = 80
PAGES = 256
#: so many points are tried: the first ones, and others spread over all there are
EARLY, TRIED = 8, 8
LIMITS = {"max-bandwidth": 64 << 10, "max-postcopy-bandwidth": 1 << 20, "downtime-limit": 1}
START = {"active": "migrate-start-postcopy"}


def _kind(name: str, profile: str, *more: str) -> Kind:
    faster = {"max-postcopy-bandwidth": 4 << 20} if "multifd" in more else {}
    touching = {"guest.touch-rate": "32M" if "multifd" in more else "8M"}
    return Kind(
        f"{name}-{profile}", profile, capabilities=("postcopy-ram", *more), parameters={**LIMITS, **faster},
        fake=touching, told=dict(START),
    )  # fmt: skip


def pages_of(kind: Kind) -> int:
    """Packets of multifd hold 128 pages, and several are on their way before the limit is looked at."""
    return 4 * PAGES if "multifd" in kind.capabilities else PAGES


KINDS = [
    *(_kind("postcopy", profile) for profile in ("7.2", "10.0", "11.1")),
    *(_kind("preempt", profile, "postcopy-preempt") for profile in ("7.2", "10.0", "11.1")),
    *(_kind("multifd", profile, "multifd") for profile in ("7.2", "11.1")),
    _kind("both", "11.1", "multifd", "postcopy-preempt"),
    _kind("blocktime", "11.1", "postcopy-blocktime", "pause-before-switchover"),
]
KINDS[-1].told["pre-switchover"] = "migrate-continue"


class PostcopyRun(Run):
    """A migration that turns to postcopy, and is resumed when it pauses."""

    def __init__(self, kind: Kind, seed: int | str = 0) -> None:
        super().__init__(kind, seed)
        for side in (self.source, self.destination):
            side.vm.guest.configure(side.vm.fake)
        self.recoveries = 0

    def _machine(self, name: str) -> SimMachine:
        machine = super()._machine(name)
        pages = pages_of(self.kind)
        block = machine.vm.ram_blocks[0] = RAMBlock("ram", pages * 4096)
        if name == "source":
            block.write_pages(16, b"".join(bytes((1 + page % 255,)) * 4096 for page in range(pages - 32)))
        return machine

    def settle(self) -> None:
        """Let time pass. Where both wait for something that does not come, as real ones do, the destination is ended."""
        try:
            self.world.run_until_idle(PATIENCE_NS)
        except SimStalled:
            assert self.source_status == "active", self.source_status
            self.source.execute("migrate_cancel")
            self.world.run_until_idle(PATIENCE_NS)

    def give_up_waiting(self) -> None:
        if not self.source.host.killed and self.source_status not in (*ENDED, "postcopy-paused"):
            self.destination.host.kill()
            self.settle()

    def recover(self) -> None:
        """What a tool does about a pause."""
        while self.recoveries < 3 and not self.source.host.killed and not self.destination.host.killed:
            if (self.source_status, self.destination_status) != ("postcopy-paused", "postcopy-paused"):
                return
            self.recoveries += 1
            address = f"unix:/tmp/again{self.recoveries}"
            try:
                self.destination.execute("migrate-recover", uri=address)
                self.source.execute("migrate", uri=address, resume=True)
            except QemuError:
                pass  # it may be tried again
            self.settle()

    @property
    def here(self) -> bool:
        return self.alive(self.source)

    @property
    def there(self) -> bool:
        return self.alive(self.destination)

    def check(self) -> None:
        for side in (self.source, self.destination):
            if not side.host.killed:
                assert side.vm.bugs == 0, side.host.log_lines
                assert not side.vm.bql.locked
        if self.source.host.killed:
            assert self.destination_status in ("none", "setup", "failed", "active", "postcopy-paused", "completed")
            return
        status = self.source_status
        assert status in ("none", "completed", "failed", "cancelled", "postcopy-paused"), status
        if self.destination.host.killed:
            cancelled_too_late = self.kind.profile == "7.2" and status == "cancelled"
            assert self.here == (status in ("none", "failed", "cancelled")) or cancelled_too_late
            return
        self._check_one_runs(status)
        if status == "completed":
            self._check_complete()

    def _check_one_runs(self, status: str) -> None:
        if status == "completed":
            assert self.there
            assert not self.here
        elif status == "postcopy-paused":
            assert not self.here
            assert self.there or self.destination_status in ("failed", "active", "none", "setup"), (
                self.destination_status
            )
        elif self.here and self.there:
            # What the destination said last got lost with the link: two generals (as in Run).
            assert self.destination_status in ("completed", "postcopy-paused", "postcopy-active")
            assert status == "failed"
        elif not self.here:
            # 7.2 cancels a postcopy, too, and leaves the guest where it is.
            assert (self.kind.profile, status) == ("7.2", "cancelled")

    def _check_complete(self) -> None:
        for side in (self.source, self.destination):
            assert side.host.tasks == [], [task.name for task in side.host.tasks]
            assert side.host.open_fds() == self.fds[side.host.name]
        contents = [
            side.vm.ram_blocks[0].read_pages(0, pages_of(self.kind)) for side in (self.source, self.destination)
        ]
        assert contents[0] == contents[1]


def points(kind: Kind, side: str) -> int:
    run = PostcopyRun(kind)
    run.go()
    run.check()
    assert run.source_status == "completed"
    assert "postcopy-active" in run.statuses
    assert run.source.vm.migration.stats.postcopy_requests > 0
    return run.injectors[side].passed


def chosen(kind: Kind, side: str) -> list[int]:
    """Numbers of points: other ones for each kind and side."""
    count = points(kind, side)
    later = Random(f"{kind.name} {side}").sample(range(EARLY, count), min(count - EARLY, TRIED))
    return [*range(EARLY), *sorted(later)]


def check(run: PostcopyRun, where: str) -> None:
    try:
        run.give_up_waiting()
        run.recover()
        run.give_up_waiting()
        run.check()
    except AssertionError as err:
        raise AssertionError(f"{where}\n{run.statuses}, destination {run.destination_status}\n{err}") from err


@pytest.mark.parametrize("times", [1, None], ids=["once", "from-then-on"])
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
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
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_process_that_dies_at_any_point(kind: Kind, side: str) -> None:
    for n in chosen(kind, side):
        run = PostcopyRun(kind)
        run.injectors[side].add(Rule("*", Kill(), after=n))
        run.go()
        check(run, f"{side}, point {n}")


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
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
