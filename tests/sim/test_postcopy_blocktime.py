# SPDX-License-Identifier: MIT
"""What the destination of a postcopy tells about vCPUs that waited, on whole machines of the simulated host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fakeqemu.error import QemuError
from fakeqemu.host.clock import NS_PER_MS, NS_PER_S
from fakeqemu.migration.blocktime import HashEngine
from fakeqemu.migration.hmp_cmds import info_migrate
from fakeqemu.migration.stats import query_migrate
from tests.sim.test_postcopy import MIB, Pair

PAIRED = {"postcopy-blocktime", "postcopy-vcpu-blocktime"}
ALL = PAIRED | {
    "postcopy-latency", "postcopy-latency-dist", "postcopy-non-vcpu-latency", "postcopy-vcpu-latency",
}  # fmt: skip
PROFILES = ["7.2", "10.0", "11.1"]


def told(machine: Any) -> set[str]:
    return {name for name in query_migrate(machine.vm.migration) if name.startswith("postcopy-")}


def set_capability(machine: Any, *, on: bool) -> None:
    machine.execute("migrate-set-capabilities", capabilities=[{"capability": "postcopy-blocktime", "state": on}])


def migrated(profile: str = "11.1", *, postcopy: bool = True, fake: dict[str, str] | None = None, **more: bool) -> Pair:
    """A pair whose guest has moved, at a rate at which it waits for pages."""
    pair = Pair(profile, fake={"guest.touch-rate": "4M", **(fake or {})}, postcopy_blocktime=True, **more)
    if postcopy:
        pair.start(postcopy=MIB)
    else:
        pair.source.execute("migrate", uri="unix:/tmp/d")
    pair.completed()
    return pair


def engine_of(pair: Pair) -> Any:
    incoming = pair.destination.vm.migration.incoming
    assert incoming is not None
    assert incoming.postcopy is not None
    return incoming.postcopy.blocktime


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("ends_in", ["postcopy", "precopy"])
@pytest.mark.parametrize("who", ["neither", "source", "destination", "both"])
def test_who_tells_what_when(profile: str, ends_in: str, who: str) -> None:
    pair = Pair(profile, fake={"guest.touch-rate": "4M"})
    set_capability(pair.source, on=who in ("source", "both"))
    set_capability(pair.destination, on=who in ("destination", "both"))
    if ends_in == "postcopy":
        pair.start(postcopy=MIB)
        pair.wait(pair.destination, "postcopy-active")
        assert told(pair.destination) == set(), "not before it is completed"
    else:
        pair.source.execute("migrate", uri="unix:/tmp/d")
    pair.completed()
    expected = PAIRED if profile != "11.1" else ALL if ends_in == "postcopy" else set()
    counts = who in ("destination", "both")
    assert told(pair.destination) == (expected if counts else set())
    assert told(pair.source) == set()
    if counts and ends_in == "precopy" and expected:
        info = query_migrate(pair.destination.vm.migration)
        assert (info["postcopy-blocktime"], info["postcopy-vcpu-blocktime"]) == (0, [0])
    set_capability(pair.destination, on=False)
    assert told(pair.destination) == (expected if counts else set()), "the values stay"


@pytest.mark.parametrize("profile", ["10.0", "11.1"])
def test_it_may_be_switched_on_until_the_state_is_made(profile: str) -> None:
    """10.0 makes it at advise or, when it was off then, on listen; 11.1 on listen."""
    pair = Pair(profile, fake={"guest.touch-rate": "4M"})
    pair.source.execute("migrate-set-parameters", max_bandwidth=MIB, max_postcopy_bandwidth=MIB)
    pair.source.execute("migrate", uri="unix:/tmp/d")
    pair.wait(pair.destination, "active")
    set_capability(pair.destination, on=True)
    pair.source.execute("migrate-start-postcopy")
    pair.completed()
    assert told(pair.destination) == (ALL if profile == "11.1" else PAIRED)


@pytest.mark.parametrize("fake", [{}, {"guest.touch-order": "random"}, {"guest.other-faults": "50"}])
@pytest.mark.parametrize("preempt", [False, True])
def test_every_wait_ends_and_is_in_one_class(fake: dict[str, str], preempt: bool) -> None:
    pair = migrated(fake=fake, postcopy_preempt=preempt)
    engine = engine_of(pair)
    info = query_migrate(pair.destination.vm.migration)
    assert isinstance(engine, HashEngine)
    assert (engine.pending, engine.down) == (0, 0)
    faults = sum(engine.vcpu_count) + engine.other_count
    assert faults > 0
    assert sum(info["postcopy-latency-dist"]) == faults
    assert (engine.other_count > 0) == ("guest.other-faults" in fake)
    total = sum(engine.vcpu_total) + engine.other_total
    assert info["postcopy-latency"] == total // faults
    assert info["postcopy-vcpu-blocktime"] == [one // NS_PER_MS for one in engine.vcpu_total]


def _starts_into(asked: list[int]) -> Callable[[str, dict[str, Any]], None]:
    return lambda _, fields: asked.append(fields["start"])


def test_pages_touched_at_random_are_other_ones_and_the_same_for_a_seed() -> None:
    stories = []
    for order in ("sequential", "random", "random"):
        pair = Pair(fake={"guest.touch-rate": "4M", "guest.touch-order": order})
        asked: list[int] = []
        pair.destination.vm.trace.watch(_starts_into(asked), "fake_migrate_send_rp_req_pages")
        pair.start(postcopy=MIB)
        pair.completed()
        stories.append(asked)
    assert stories[0] == sorted(stories[0])
    assert stories[1] != sorted(stories[1])
    assert stories[1] == stories[2]


@pytest.mark.parametrize("delay_ns", ["0", "1000000"])
def test_a_vcpu_that_waits_again_before_the_end_is_booked_has_two_waits(delay_ns: str) -> None:
    """4 MiB a second is a page in 976 us: with ends booked 1 ms late, a second wait is in the books before the first has left."""
    pair = Pair(fake={"guest.touch-rate": "4M", "guest.fault-booking": delay_ns}, postcopy_blocktime=True,
                postcopy_preempt=True)  # fmt: skip
    left: list[int] = []
    pair.destination.vm.trace.watch(lambda _, fields: left.append(fields["left_faults"]), "postcopy_blocktime_end_one")
    pair.start(postcopy=MIB)
    pair.completed()
    assert (max(left) > 0) == (delay_ns != "0")
    engine = engine_of(pair)
    assert (engine.pending, engine.down) == (0, 0)
    # Only the wait that leaves none behind counts: less than what the classes hold.
    if delay_ns != "0":
        assert sum(engine.vcpu_total) < sum(engine.buckets) * int(delay_ns)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_break_of_10_seconds_is_10_seconds_of_waiting(profile: str) -> None:
    pair = Pair(profile, fake={"guest.touch-rate": "4M"}, postcopy_blocktime=True)
    pair.start(postcopy=MIB)
    pair.wait(pair.source, "postcopy-active")
    pair.wait(pair.destination, "postcopy-active")
    pair.world.run_until(lambda: engine_of(pair).pending > 0)
    pair.break_link()
    pair.wait(pair.source, "postcopy-paused")
    pair.wait(pair.destination, "postcopy-paused")
    assert told(pair.destination) == set()
    assert (engine_of(pair).pending, engine_of(pair).down) == (1, 1)
    before = sum(engine_of(pair).vcpu_total)
    pair.world.run_for(10 * NS_PER_S)
    assert (engine_of(pair).pending, engine_of(pair).down) == (1, 1)
    assert sum(engine_of(pair).vcpu_total) == before  # a pause resets nothing, and books nothing
    pair.destination.execute("migrate-recover", uri="unix:/tmp/r")
    pair.source.execute("migrate", uri="unix:/tmp/r", resume=True)
    pair.completed()
    info = query_migrate(pair.destination.vm.migration)
    whole_ms = pair.world.clock.now_ns() // NS_PER_MS
    assert 10_000 <= info["postcopy-vcpu-blocktime"][0] < whole_ms
    assert info["postcopy-blocktime"] == info["postcopy-vcpu-blocktime"][0]  # there is no other vCPU
    if profile == "11.1":
        assert info["postcopy-latency-dist"][23] == 1
        assert sum(info["postcopy-latency-dist"]) == sum(engine_of(pair).vcpu_count)


@pytest.mark.parametrize("profile", PROFILES)
def test_accounting_costs_the_guest_no_time(profile: str) -> None:
    """Who waits for which page, and for how long, is the same with it and without."""
    stories = []
    for on in (False, True):
        pair = Pair(profile, fake={"guest.touch-rate": "4M"}, postcopy_blocktime=on)
        asked: list[tuple[int, int]] = []
        now = pair.world.clock.now_ns
        pair.destination.vm.trace.watch(
            lambda _, fields, asked=asked, now=now: asked.append((now(), fields["start"])),  # type: ignore[misc]
            "fake_migrate_send_rp_req_pages",
        )
        pair.start(postcopy=MIB)
        pair.completed()
        stories.append((asked, now()))
    assert stories[0][0]
    assert stories[0] == stories[1]


@pytest.mark.parametrize(("profile", "expected"), [("7.2", set()), ("10.0", set()), ("11.1", ALL)])
def test_where_the_kernel_does_not_tell_the_threads(profile: str, expected: set[str]) -> None:
    pair = migrated(profile, fake={"guest.fault-threads": "off"})
    assert told(pair.destination) == expected
    if expected:
        assert sum(query_migrate(pair.destination.vm.migration)["postcopy-latency-dist"]) == 0


@pytest.mark.parametrize("profile", PROFILES)
def test_trace_lines(profile: str) -> None:
    """10.0 and 7.2 trace the end for every page that comes, 11.1 for those that somebody waits for (seen on the real ones)."""
    pair = Pair(profile, fake={"guest.touch-rate": "4M"}, postcopy_blocktime=True)
    seen: list[str] = []
    pair.destination.vm.trace.watch(lambda name, _: seen.append(name), "*blocktime*")
    pair.start(postcopy=MIB)
    pair.completed()
    faults = sum(engine_of(pair).vcpu_count)
    if profile == "11.1":
        assert seen.count("postcopy_blocktime_tid_cpu_map") == 1
        assert seen.count("postcopy_blocktime_begin") == seen.count("postcopy_blocktime_end_one") == faults
        assert seen.count("postcopy_blocktime_end") == faults
    else:
        assert seen.count("mark_postcopy_blocktime_begin") == faults
        placed = pair.source.vm.migration.stats.duplicate + pair.source.vm.migration.stats.normal
        assert faults < seen.count("mark_postcopy_blocktime_end") <= placed
    assert seen[-1] == "postcopy_ram_incoming_cleanup_blocktime"


@pytest.mark.parametrize("profile", PROFILES)
def test_lines_for_people(profile: str) -> None:
    pair = migrated(profile)
    short, long = (info_migrate(pair.destination.vm, flags) for flags in (None, ["-a"]))
    if profile == "11.1":
        assert "Blocktime" not in short
        assert "Postcopy vCPU Blocktime (ms):\n [" in long
        assert "Postcopy Latency Distribution:\n  [     1 us -     2 us ]:          " in long
    else:
        assert "postcopy vcpu blocktime: " in short


@pytest.mark.parametrize("profile", PROFILES)
def test_it_goes_with_everything_but_a_snapshot(profile: str) -> None:
    pair = Pair(profile, postcopy_ram=False, postcopy_blocktime=True)
    wanted = [{"capability": "background-snapshot", "state": True}]
    with pytest.raises(QemuError, match=r"^Background-snapshot is not compatible with postcopy-blocktime$"):
        pair.source.execute("migrate-set-capabilities", capabilities=wanted)
