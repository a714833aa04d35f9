# SPDX-License-Identifier: MIT
"""Migrations that fail at every point where one can fail, one point later each time.

After each: exactly one side runs the guest, or the source says plainly why none can; the first error is the one that is
reported; no task, descriptor or lock is left. Then thousands of random mixtures: a failure prints the seed, and
`pytest tests/sim/test_faults_nth.py --seed N` repeats it.
"""

from __future__ import annotations

import errno
import os
from random import Random
from typing import Any

import pytest

from fakeqemu.faults.catalogue import POINTS
from fakeqemu.faults.injector import Close, Corrupt, Delay, Fail, Injected, Kill, Rule, Stall
from fakeqemu.faults.link import LinkFault
from tests.sim._migrations import KINDS, Kind, Run, chosen, side_of

SEEDS = 2000
CHUNK = 200
#: at about how many points of each side of each kind: all kinds together look at every one
FAILURES = 14
OTHERS = 6
SIDES = ("source", "destination")

EIO = os.strerror(errno.EIO)
ENOSPC = os.strerror(errno.ENOSPC)

#: failures that QEMU passes over: a size is guessed, a message is not sent, a device that does not reset is only reported,
#: a page is not kept, a description is not read
PASSED_OVER = (
    "migration_pagecache_insert", "fake_loadvm_vmdescription",
    "vfio_query_stop_copy_size", "vfio_query_precopy_size", "vfio_pci_reset", "migrate_send_rp_message",
    "fake_vfio_arc", "vfio_migration_set_state", "migration_socket_incoming_accepted",
)  # fmt: skip

#: what only the return path of a source passes
RETURN_PATH = ("fake_channel_read", "source_return_path_thread_loop_top")


#: of which 7.2 keeps no error: of sections that their owner cannot send, and of the switchover
UNKEPT = (
    "savevm_section_start", "fake_xbzrle_init", "fake_ram_save_setup", "ram_save_complete", "vmstate_save",
    "vmstate_save_state_top", "vmstate_save_state_loop", "migration_completion_vm_stop", "migration_block_activation",
    "multifd_send_sync_main", "vfio_save_setup",
)  # fmt: skip

#: what is told of a failure whose own number is only on stderr
BLOCKS_KEPT = {
    "general": "Error in migration completion: Bad address",
    "own": "Block inactivate failed during switchover",
}


def text_of(injected: Injected) -> str:
    """What tells the error that was injected from others."""
    return str(getattr(injected.error, "desc", EIO))


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_failure_at_every_point_leaves_one_side_running(kind: Kind, side: str) -> None:
    for n in chosen(kind, side, Fail(), FAILURES):
        run = Run(kind)
        injector = run.injectors[side]
        injector.add(Rule("*", after=n))
        # From then on everything fails, in other words: none of them may take the first one's place.
        injector.add(Rule("*", Fail("ENOSPC"), after=n, times=None))
        run.go()
        if injector.injected[0].point == "migration_socket_incoming_accepted" and run.source_status == "active":
            # A further channel that nobody reads, which the source has nothing to send over: it waits, as QEMU does.
            run.source.execute("migrate_cancel")
            run.settle()
        where = f"{side}, point {n}: {injector.injected[0]}"
        try:
            run.check()
            if side == "source" and n in run.goodbyes:
                # All has been said before, and the release has the word only for the other side's peace of mind.
                assert (run.source_status, run.destination_status) == ("completed", "completed")
                continue
            check_first_error(run, side)
        except AssertionError as err:
            raise AssertionError(f"{where}\n{err}") from err


def check_first_error(run: Run, side: str) -> None:
    """The error that is reported is that of the first fault."""
    first = run.injectors[side].injected[0]
    if side in run.refused:
        assert text_of(first) in run.refused[side]
        return
    if any(one.point in PASSED_OVER for one in run.injectors[side].injected[:2]):
        return
    if side == "source":
        check_source_error(run, first)
    elif run.destination_status == "setup" and not run.destination.vm.compat.migration_multifd_init_fatal:
        assert "multifd" in run.kind.capabilities  # a further channel was no good: it waits for another one
    elif run.kind.tls and run.destination_status == "setup":
        # It waits for another one; what a channel that was there met is kept, and told when somebody asks.
        info = run.destination.execute("query-migrate")
        assert text_of(first) in "\n".join([*run.destination.host.log_lines, info.get("error-desc", "")])
    elif first.point == "migration_tls_incoming_handshake_start":
        # It waited for another one, which failed as well.
        assert text_of(first) in "\n".join(run.destination.host.log_lines)
    elif first.point == "fake_channel_write" or run.destination_status == "completed":
        assert run.destination_status in ("completed", "failed")
    elif first.point == "multifd_recv_unfill" and not run.destination.vm.compat.migration_exit_on_error:
        assert run.destination_status == "failed"  # a channel's error was kept, and never told
    else:
        assert run.destination_status == "failed"
        said = "\n".join(run.destination.host.log_lines)
        if first.point != "fake_channel_read":  # where a word is missing, QEMU goes on with a zero, and stumbles later
            assert text_of(first) in said
            if first.point == "multifd_recv_unfill" and not run.destination.vm.compat.migration_error_chain:
                # What the main channel met is printed at once, the channel's error, which is kept, at the end (10.0.13).
                assert text_of(first) in run.destination.host.log_lines[-1]
            else:
                assert ENOSPC not in said


def check_source_error(run: Run, first: Injected) -> None:
    assert run.source_status == "failed"
    mig = run.source.vm.migration
    if first.point in RETURN_PATH and not run.source.vm.compat.migration_return_path_errors:
        return  # noticed at the next write, or printed
    told = run.source.vm.compat.migration_switchover_errors
    if first.point == "ram_write_tracking_ramblock_start":  # whatever the reason was
        said = "Failed to start write tracking" if run.source.vm.compat.migration_snapshot_words else None
        assert (None if mig.error is None else mig.error.desc) == said
        return
    if mig.error is None:  # one that this release does not keep
        assert told == "none"
        if first.point == "fake_channel_write":  # of the last bytes, the guest being stopped
            assert "STOP" in run.source.event_names() or not run.kind.guest_runs
        else:
            assert first.point in UNKEPT
        return
    assert told != "none" or first.point not in UNKEPT
    text = BLOCKS_KEPT[told] if first.point == "migration_block_activation" else text_of(first)
    assert text in mig.error.desc
    assert ENOSPC not in mig.error.desc


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_process_that_dies_at_any_point_leaves_the_other_well(kind: Kind, side: str) -> None:
    for n in chosen(kind, side, Kill(), OTHERS):
        run = Run(kind)
        run.injectors[side].add(Rule("*", Kill(), after=n))
        run.go()
        run.check()
        assert side_of(run, side).host.killed
        if side == "destination":
            completed = run.source_status == "completed"
            assert run.alive(run.source) == (kind.copies or not completed)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_cancel_at_every_point_where_one_waits(kind: Kind, side: str) -> None:
    for n in chosen(kind, side, Stall(), OTHERS):
        run = Run(kind)
        injector = run.injectors[side]
        injector.add(Rule("*", Stall(), after=n))
        run.go()
        run.source.vm.migration.cancel()  # not over QMP: who is stalled may hold the BQL
        injector.release()
        run.settle()
        try:
            run.check()
            assert run.source_status in ("cancelled", "completed", "failed")
        except AssertionError as err:
            raise AssertionError(f"{side}, stalled {n}: {injector.injected[0]}\n{err}") from err


@pytest.mark.parametrize("action", [Close(), Corrupt(), Corrupt(3)], ids=["close", "corrupt", "corrupt-later"])
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_connections_that_end_and_bytes_that_change_anywhere_leave_one_side_running(
    kind: Kind, side: str, action: Close | Corrupt
) -> None:
    for n in chosen(kind, side, action, OTHERS):
        run = Run(kind)
        run.changed = isinstance(action, Corrupt)
        run.injectors[side].add(Rule("*", action, after=n))
        run.go()
        run.give_up_waiting()
        try:
            run.check()
        except AssertionError as err:
            raise AssertionError(f"{side}, point {n}: {run.injectors[side].injected[0]}\n{err}") from err


# --- chance -----------------------------------------------------------------------------------------------


#: kinds without a whole board
QUICK = [kind for kind in KINDS if not kind.vfio]


def random_run(seed: int) -> Run:
    """A migration of some kind with some faults, all from the seed."""
    chance = Random(seed)
    run = Run(chance.choice(KINDS if chance.random() < 0.1 else QUICK), seed)
    for _ in range(chance.randint(1, 3)):
        injector = run.injectors[chance.choice(SIDES)]
        if chance.random() < 0.3:
            injector.add_link(random_link_fault(chance))
        else:
            injector.add(random_rule(chance))
    cancel_at_ns = chance.choice([0, chance.randint(1, 400_000_000)])
    if cancel_at_ns:
        run.source.host.clock.call_at(run.source.host.clock.now_ns() + cancel_at_ns, run.source.vm.migration.cancel)
    run.changed = any(fault.corrupt_at is not None for one in run.injectors.values() for fault in one.links)
    run.go()
    for injector in run.injectors.values():
        for fault in injector.links:
            fault.release()
    run.settle()
    if any(one.point == "migration_socket_incoming_accepted" for one in run.injectors["destination"].injected):
        run.give_up_waiting()  # a further channel that nobody reads: it waits, as QEMU does
    return run


def random_rule(chance: Random) -> Rule:
    point = chance.choice(["*", *POINTS])
    action: Any = chance.choice([Fail("EIO"), Fail("ENOSPC"), Delay(chance.randint(1, 1000))])
    return Rule(
        point,
        action,
        after=chance.randint(0, 20),
        times=chance.choice([1, 2, None]),
        probability=chance.choice([1, 0.2]),
    )


def random_link_fault(chance: Random) -> LinkFault:
    fault = LinkFault(direction=chance.choice(["read", "write", "both"]))
    at = chance.choice([0, 5, 300, 9000, 100_000, 270_000])
    how = chance.choice(["latency_ms", "bandwidth", "slice", "stall_at", "reset_at", "close_at", "corrupt_at"])
    value = {"latency_ms": 5, "bandwidth": 1 << 20, "slice": chance.randint(100, 5000)}.get(
        how, at + chance.randint(0, 99)
    )
    setattr(fault, how, value)
    return fault


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK), ids=lambda first: f"from-{first}")
def test_thousands_of_random_faults(first: int, request: pytest.FixtureRequest) -> None:
    only = request.config.getoption("--seed")
    if only is not None and first:
        pytest.skip("one seed is looked at")
    ends: dict[str, int] = {}
    for seed in [int(only)] if only is not None else range(first, first + CHUNK):
        try:
            run = random_run(seed)
            run.check()
        except BaseException as err:
            raise AssertionError(f"repeat with: pytest {__file__} --seed {seed}") from err
        ends[run.source_status] = ends.get(run.source_status, 0) + 1
    if only is None:
        assert ends["completed"] > CHUNK // 20
        assert ends["failed"] > CHUNK // 20
        assert ends["cancelled"] > CHUNK // 100


def test_the_same_seed_does_the_same_again() -> None:
    stories = []
    for _ in range(2):
        run = random_run(11)
        stories.append((run.source.events, run.destination.events, run.source.host.log_lines))
    assert stories[0] == stories[1]
