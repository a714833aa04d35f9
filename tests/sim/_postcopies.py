# SPDX-License-Identifier: MIT
"""Postcopies of each kind on the simulated host, made to go wrong, and what has to hold afterwards."""

from __future__ import annotations

from functools import cache
from typing import Any

from fakeqemu.error import QemuError
from fakeqemu.faults.injector import Injector
from fakeqemu.host.clock import NS_PER_MS
from fakeqemu.sim.world import SimStalled
from fakeqemu.system.ramblock import RAMBlock
from fakeqemu.testing.sim_machine import SimMachine
from tests.sim._migrations import ENDED, PATIENCE_NS, Kind, Run

PAGES = 256
LIMITS = {"max-bandwidth": 64 << 10, "max-postcopy-bandwidth": 1 << 20, "downtime-limit": 1}
START = {"active": "migrate-start-postcopy"}
#: (a kind that is broken) when, the guest running there
BREAK_NS = 100 * NS_PER_MS


def _kind(name: str, profile: str, *more: str, **settings: Any) -> Kind:
    faster = {"max-postcopy-bandwidth": 4 << 20} if "multifd" in more else {}
    touching = {"guest.touch-rate": "32M" if "multifd" in more else "8M"}
    return Kind(
        f"{name}-{profile}", profile, capabilities=("postcopy-ram", *more), parameters={**LIMITS, **faster},
        fake=touching, told=dict(START), **settings,
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
    _kind("tls-preempt", "11.1", "postcopy-preempt", tls=True),
    # a link that breaks when the guest runs there, and what has changed before it left is stale
    *(_kind("broken", profile, breaks=True, dirty_rate=64 << 10) for profile in ("7.2", "10.0", "11.1")),
    _kind("broken-preempt", "11.1", "postcopy-preempt", breaks=True, dirty_rate=64 << 10),
]
next(kind for kind in KINDS if kind.name == "blocktime-11.1").told["pre-switchover"] = "migrate-continue"


class Recorder(Injector):
    """Does nothing but note the points that are passed, in their order."""

    def __init__(self, vm: Any) -> None:
        super().__init__(vm)
        self.names: list[str] = []

    def check(self, point: str, fields: dict[str, Any], /) -> None:
        self.names.append(point)
        super().check(point, fields)


class PostcopyRun(Run):
    """A migration that turns to postcopy, and is resumed when it pauses."""

    def __init__(self, kind: Kind, seed: int | str = 0) -> None:
        super().__init__(kind, seed)
        for side in (self.source, self.destination):
            side.vm.guest.configure(side.vm.fake)
        self.recoveries = 0
        if kind.breaks:
            self.destination.vm.trace.watch(self._guest_runs_there, "loadvm_postcopy_handle_run")

    def _machine(self, name: str) -> SimMachine:
        machine = super()._machine(name)
        pages = pages_of(self.kind)
        block = machine.vm.ram_blocks[0] = RAMBlock("ram", pages * 4096)
        if name == "source":
            block.write_pages(16, b"".join(bytes((1 + page % 255,)) * 4096 for page in range(pages - 32)))
        return machine

    def _guest_runs_there(self, _event: str, _fields: dict[str, Any]) -> None:
        clock = self.destination.host.clock
        clock.call_at(clock.now_ns() + BREAK_NS, self._break)

    def _break(self) -> None:
        incoming = self.destination.vm.migration.incoming
        if not self.destination.host.killed and incoming is not None and incoming.state == "postcopy-active":
            incoming.break_off()

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
            except (QemuError, EOFError):
                pass  # it may be tried again; or one of them has died of it
            self.settle()

    def finish(self) -> None:
        """What a tool does until nothing more is to be done."""
        self.give_up_waiting()
        self.recover()
        self.give_up_waiting()

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
        self._check_nothing_left(self.source, status)
        self._check_nothing_left(self.destination, self.destination_status)
        if status == "completed":
            self._check_content()

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

    def _check_nothing_left(self, side: SimMachine, status: str) -> None:
        """Whose migration has ended has no task and no descriptor of it."""
        if status in ("completed", "failed", "cancelled"):
            assert side.host.tasks == [], [task.name for task in side.host.tasks]
            assert side.host.open_fds() == self.fds[side.host.name]

    def _check_content(self) -> None:
        contents = [
            side.vm.ram_blocks[0].read_pages(0, pages_of(self.kind)) for side in (self.source, self.destination)
        ]
        assert contents[0] == contents[1]


@cache
def passed(number: int) -> dict[str, tuple[str, ...]]:
    """The points that each side of a kind passes, in their order. All goes well, which is tried, once a kind."""
    run = PostcopyRun(KINDS[number])
    recorders = {side.host.name: Recorder(side.vm) for side in (run.source, run.destination)}
    run.go()
    assert (run.source_status == "postcopy-paused") == run.kind.breaks
    run.finish()
    run.check()
    assert run.source_status == "completed"
    assert "postcopy-active" in run.statuses
    assert run.source.vm.migration.stats.postcopy_requests > 0
    return {name: tuple(recorder.names) for name, recorder in recorders.items()}


def first_of_each(number: int, side: str) -> list[int]:
    """At which of the points of a side one of a name is passed for the first time, and which no kind before has."""
    known = {name for earlier in range(number) for name in passed(earlier)[side]}
    found: dict[str, int] = {}
    for n, name in enumerate(passed(number)[side]):
        if name not in known:
            found.setdefault(name, n)
    return list(found.values())
