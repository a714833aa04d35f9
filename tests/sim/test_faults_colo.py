# SPDX-License-Identifier: MIT
"""COLO pairs that fail at every point where one can fail, one point later each time.

After each: a half that does not talk to the other one any more has said so and waits to be told that it is alone; whoever is
told goes on with the guest, and nothing of the pair is left; the first error is the one that is printed. Then hundreds of
random mixtures: a failure prints the seed, and `pytest tests/sim/test_faults_colo.py --seed N` repeats it.
"""

from __future__ import annotations

import errno
import os
from random import Random

import pytest

from fakeqemu.faults.injector import Close, Corrupt, Fail, Injected, Kill, Rule, Stall
from fakeqemu.host.clock import NS_PER_MS
from tests.sim._colo import COLO_KINDS, ColoRun, chosen
from tests.sim._migrations import Kind, side_of
from tests.sim.test_faults_nth import random_link_fault, random_rule

SEEDS = 400
CHUNK = 100
FAILURES = 20
OTHERS = 6
SIDES = ("source", "destination")
EIO = os.strerror(errno.EIO)
EPERM = os.strerror(errno.EPERM)
ENOSPC = os.strerror(errno.ENOSPC)

#: failures of which nobody hears: QEMU says nothing, or goes on with a zero and stumbles later
SILENT = ("fake_colo_send_vmstate", "migrate_send_rp_message", "fake_channel_read", "fake_channel_write")
#: what the link is said to have met, whatever it was
LINK = ("ram_save_complete", "savevm_section_start", "multifd_send_sync_main")


def survivors(run: ColoRun) -> list[str]:
    return [side.host.name for side in run.candidates()]


def text_of(injected: Injected) -> str:
    return str(getattr(injected.error, "desc", EIO))


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", COLO_KINDS, ids=lambda kind: kind.name)
def test_after_a_failure_at_any_point_one_half_can_go_on_alone(kind: Kind, side: str) -> None:
    for n in chosen(kind, side, Fail(), FAILURES):
        run = ColoRun(kind)
        injector = run.injectors[side]
        injector.add(Rule("*", after=n))
        # From then on everything fails, in other words: none of them may take the first one's place.
        injector.add(Rule("*", Fail("ENOSPC"), after=n, times=None))
        run.go()
        injector.clear()
        try:
            run.check_pair()
            check_first_error(run, side)
            names = survivors(run)
            chosen_one = side_of(run, names[n % len(names)])
            run.go_on_with(chosen_one)
            run.check_alone(chosen_one)
        except AssertionError as err:
            raise AssertionError(f"{side}, point {n}: {injector.injected[0]}\n{err}") from err


def check_first_error(run: ColoRun, side: str) -> None:
    """The first thing that was said on stderr, or kept as the reason, is about the first fault."""
    first = run.injectors[side].injected[0]
    machine = side_of(run, side)
    text = text_of(first)
    if first.point in SILENT or not text:
        return
    if side in run.refused:
        assert text in run.refused[side]
    elif "colo" not in run.told_statuses(machine):
        if side == "source" and machine.vm.migration.error is not None:
            assert text in machine.vm.migration.error.desc
    elif first.point == "vmstate_save" and not machine.vm.compat.migration_colo_save_error_told:
        assert text not in "\n".join(machine.host.log_lines)
    elif side == "destination" and "multifd" in first.point:
        # It is kept. What the main channel met meanwhile is printed.
        assert machine.vm.migration.incoming is not None
        assert text in machine.vm.migration.incoming.query()["error-desc"]
    else:
        lines = machine.host.log_lines
        if first.point in LINK:
            text = f"Can't send COLO message: {EIO}"
        elif "multifd" in first.point:
            assert machine.vm.migration.error is not None
            assert text in machine.vm.migration.error.desc
            text = f"Can't send COLO message: {EPERM}"
        assert any(text in line for line in lines), lines
        assert not any(ENOSPC in line for line in lines[: [text in line for line in lines].index(True)])


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", COLO_KINDS, ids=lambda kind: kind.name)
def test_when_a_process_dies_at_any_point_the_other_one_goes_on(kind: Kind, side: str) -> None:
    for n in chosen(kind, side, Kill(), OTHERS):
        run = ColoRun(kind)
        run.injectors[side].add(Rule("*", Kill(), after=n))
        run.go()
        assert side_of(run, side).host.killed
        if side == "destination":
            assert survivors(run) == ["source"]
        else:
            # The guest is over there when all of it has come, which is when the two are a pair.
            pair = "colo" in run.told_statuses(run.destination)
            assert survivors(run) == (["destination"] if pair else [])
        run.check()


@pytest.mark.parametrize("action", [Close(), Corrupt(), Corrupt(3)], ids=["close", "corrupt", "corrupt-later"])
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", COLO_KINDS, ids=lambda kind: kind.name)
def test_after_a_link_that_breaks_or_lies_one_half_can_go_on_alone(
    kind: Kind, side: str, action: Close | Corrupt
) -> None:
    for n in chosen(kind, side, action, OTHERS):
        for survivor in (0, 1):
            run = ColoRun(kind)
            run.injectors[side].add(Rule("*", action, after=n))
            run.go()
            try:
                if not run.source.host.killed and run.source_status in ("active", "device"):
                    run.source.execute("migrate_cancel")  # a changed length has both wait for each other
                    run.settle()
                run.check_pair()
                names = survivors(run)
                chosen_one = side_of(run, names[survivor % len(names)])
                run.go_on_with(chosen_one)
                run.check_alone(chosen_one)
            except AssertionError as err:
                raise AssertionError(f"{side}, point {n}: {run.injectors[side].injected[0]}\n{err}") from err


@pytest.mark.parametrize("told", SIDES)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", COLO_KINDS, ids=lambda kind: kind.name)
def test_a_failover_at_every_point_where_one_waits(kind: Kind, side: str, told: str) -> None:
    for n in chosen(kind, side, Stall(), OTHERS):
        run = ColoRun(kind)
        injector = run.injectors[side]
        injector.add(Rule("*", Stall(), after=n))
        run.go()
        survivor = side_of(run, told)
        if run.waits(survivor) and not survivor.vm.bql.locked:
            task = survivor.host.start(survivor.vm.colo.lost_heartbeat(), "failover")  # one more than it does by itself
            run.world.run_ready()
            assert task.done
            injector.release()
            run.world.run_until(lambda survivor=survivor: survivor.vm.runstate.running and not survivor.host.tasks)  # type: ignore[misc]
            run.check_alone(survivor)
        else:
            injector.release()
            run.world.run_for(1000 * NS_PER_MS)
            run.check()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", COLO_KINDS, ids=lambda kind: kind.name)
def test_a_cancel_at_every_point_where_one_waits(kind: Kind, side: str) -> None:
    for n in chosen(kind, side, Stall(), OTHERS):
        run = ColoRun(kind)
        injector = run.injectors[side]
        injector.add(Rule("*", Stall(), after=n))
        run.go()
        run.source.vm.migration.cancel()
        injector.release()
        run.world.run_for(1000 * NS_PER_MS)
        run.check_pair()
        if "colo" in run.told_statuses(run.source):
            # The one who was cancelled stays what it is; the other one does not know, and goes on when told.
            assert run.source_status == "cancelling"
            run.go_on_with(run.destination)
            run.check_alone(run.destination)
        else:
            run.check()


# --- chance -----------------------------------------------------------------------------------------------


def random_run(seed: int) -> ColoRun:
    """A pair of some kind with some faults, and a failover of either half at some time, all from the seed."""
    chance = Random(seed)
    run = ColoRun(chance.choice(COLO_KINDS), seed)
    for _ in range(chance.randint(1, 3)):
        injector = run.injectors[chance.choice(SIDES)]
        if chance.random() < 0.3:
            injector.add_link(random_link_fault(chance))
        else:
            rule = random_rule(chance)
            if chance.random() < 0.5:
                rule.where = "*colo_*"
            injector.add(rule)
    run.go()
    run.world.run_for(chance.randint(0, 300) * NS_PER_MS)
    for injector in run.injectors.values():
        injector.clear()
    run.world.run_for(2000 * NS_PER_MS)
    return run


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK), ids=lambda first: f"from-{first}")
def test_hundreds_of_random_faults(first: int, request: pytest.FixtureRequest) -> None:
    only = request.config.getoption("--seed")
    if only is not None and first:
        pytest.skip("one seed is looked at")
    pairs = 0
    for seed in [int(only)] if only is not None else range(first, first + CHUNK):
        try:
            run = random_run(seed)
            if run.source_status == "active":
                run.source.execute("migrate_cancel")
                run.settle()
            run.check_pair()
            candidates = run.candidates()
            if candidates:
                survivor = Random(seed).choice(candidates)
                run.go_on_with(survivor)
                run.check_alone(survivor)
                pairs += "colo" in run.told_statuses(survivor)
        except BaseException as err:
            raise AssertionError(f"repeat with: pytest {__file__} --seed {seed}") from err
    assert only is not None or pairs > CHUNK // 3
