# SPDX-License-Identifier: MIT
"""vCPUs that dirty memory too fast are limited, one by one or by a migration (dirty-limit)."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.error import QemuError
from fakeqemu.host.clock import NS_PER_S
from tests.sim._busy import MIB, Pair

VERSIONS = ("7.2", "10.0", "11.1")
#: releases that have the capability
LATER = VERSIONS[1:]
LIMITED = ("dirty-limit", "events")
#: MB/s by which a vCPU may be off its limit
TOLERANCE = 25
#: a guest that is faster than the link
FAST: dict[str, Any] = {"max-bandwidth": 100 * MIB, "downtime-limit": 300}


def pair(profile: str = "11.1", *, ring: int = 4096, rate: int = 300 * MIB, working_set: int = 1024 * MIB) -> Pair:
    """A guest of 1 GiB whose machine has a dirty ring, with a destination."""
    made = Pair(profile, size=1024 * MIB, rate=rate, working_set=working_set, ram="model")
    for side in (made.source, made.destination):
        side.vm.kvm_enabled = bool(ring)
        side.vm.dirty_ring_size = ring
    return made


def hmp(made: Pair, line: str) -> str:
    return str(made.source.execute("human-monitor-command", **{"command-line": line}))


def limits(made: Pair) -> list[dict[str, int]]:
    found: list[dict[str, int]] = made.source.execute("query-vcpu-dirty-limit")
    return found


def rate_of(made: Pair, seconds: int) -> float:
    """MB/s that the guest really writes, which goes round in its memory."""
    guest = made.source.vm.guest
    total = sum(pages for _, pages in guest.working_blocks())
    guest.sync()
    written = 0
    for _ in range(seconds * 10):
        before = guest._position
        made.world.run_for(NS_PER_S // 10)
        guest.sync()
        written += (guest._position - before) % total
    return written * 4096 / MIB / seconds


# --- limits of vCPUs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", VERSIONS)
@pytest.mark.parametrize("limit", [50, 100, 200])
def test_the_rate_goes_to_the_limit(profile: str, limit: int) -> None:
    made = pair(profile)
    assert limits(made) == []
    made.source.execute("set-vcpu-dirty-limit", dirty_rate=limit)
    assert limits(made) == [{"cpu-index": 0, "limit-rate": limit, "current-rate": 0}]
    made.world.run_for(NS_PER_S)
    assert limits(made)[0]["current-rate"] in (299, 300)  # measured before anything was done
    made.world.run_for(15 * NS_PER_S)
    for _ in range(5):
        made.world.run_for(NS_PER_S)
        assert abs(limits(made)[0]["current-rate"] - limit) <= TOLERANCE
    assert abs(rate_of(made, 10) - limit) <= TOLERANCE


def test_a_limit_that_is_given_up_gives_the_speed_back() -> None:
    made = pair()
    made.source.execute("set-vcpu-dirty-limit", dirty_rate=50)
    made.world.run_for(10 * NS_PER_S)
    made.source.execute("cancel-vcpu-dirty-limit")
    made.world.run_for(NS_PER_S)  # who sleeps sleeps on
    assert rate_of(made, 4) == pytest.approx(300, abs=1)
    assert limits(made) == []
    made.source.execute("cancel-vcpu-dirty-limit")


def test_a_limit_of_nothing_is_none() -> None:
    made = pair()
    made.source.execute("set-vcpu-dirty-limit", dirty_rate=50, cpu_index=0)
    made.source.execute("set-vcpu-dirty-limit", dirty_rate=0)
    assert limits(made) == []


def test_a_vcpu_whose_memory_fits_into_its_ring_cannot_be_limited() -> None:
    made = pair(ring=65536, working_set=64 * MIB)
    made.source.execute("set-vcpu-dirty-limit", dirty_rate=10)
    made.world.run_for(20 * NS_PER_S)
    assert rate_of(made, 4) == pytest.approx(300, abs=1)
    assert limits(made)[0]["current-rate"] == 64  # each page counts once a period


def test_a_limit_far_too_low_lets_the_vcpu_sleep_and_run_by_turns() -> None:
    made = pair()
    made.source.execute("set-vcpu-dirty-limit", dirty_rate=1)
    seen = []
    for _ in range(20):
        made.world.run_for(NS_PER_S)
        seen.append(limits(made)[0]["current-rate"])
    assert seen.count(0) > 10  # asleep
    assert max(seen[1:]) > 0


@pytest.mark.parametrize("profile", VERSIONS)
def test_what_is_no_vcpu_is_refused(profile: str) -> None:
    made = pair(profile)
    for index in (-1, 1, 99):
        for command, arguments in (("set", {"dirty_rate": 5}), ("cancel", {})):
            with pytest.raises(QemuError, match=r"^incorrect cpu index specified$"):
                made.source.execute(f"{command}-vcpu-dirty-limit", cpu_index=index, **arguments)


@pytest.mark.parametrize("profile", VERSIONS)
def test_without_a_ring_nothing_is_limited(profile: str) -> None:
    made = pair(profile, ring=0)
    with pytest.raises(QemuError, match="dirty page limit feature requires KVM"):
        made.source.execute("set-vcpu-dirty-limit", dirty_rate=5, cpu_index=99)
    made.source.execute("cancel-vcpu-dirty-limit", cpu_index=99)
    assert limits(made) == []


@pytest.mark.parametrize("profile", VERSIONS)
def test_people_set_limits_too(profile: str) -> None:
    made = pair(profile)
    hint = "[Please use 'info vcpu_dirty_limit' to query dirty limit for virtual CPU]\r\n"
    assert hmp(made, "info vcpu_dirty_limit") == "Dirty page limit not enabled!\r\n"
    assert hmp(made, "set_vcpu_dirty_limit 50") == (hint if profile == "7.2" else "")
    assert hmp(made, "info vcpu_dirty_limit") == "vcpu[0], limit rate 50 (MB/s), current rate 0 (MB/s)\r\n"
    assert hmp(made, "cancel_vcpu_dirty_limit 7") == "Error: incorrect cpu index specified\r\n"
    assert hmp(made, "cancel_vcpu_dirty_limit") == hint
    assert hmp(made, "info vcpu_dirty_limit") == "Dirty page limit not enabled!\r\n"


def test_an_older_release_takes_a_negative_number_for_a_large_one() -> None:
    made = pair("7.2")
    hmp(made, "set_vcpu_dirty_limit -5")
    assert limits(made)[0]["limit-rate"] == (1 << 64) - 5
    assert "limit rate -5 (MB/s)" in hmp(made, "info vcpu_dirty_limit")


def test_what_is_done_is_traced() -> None:
    made = pair()
    seen: list[tuple[str, dict[str, Any]]] = []
    made.source.vm.trace.watch(lambda name, fields: seen.append((name, fields)), "dirtylimit_*")
    made.source.execute("set-vcpu-dirty-limit", dirty_rate=50)
    made.world.run_for(2 * NS_PER_S)
    made.source.execute("cancel-vcpu-dirty-limit")
    assert seen[:2] == [
        ("dirtylimit_state_initialize", {"max_cpus": 1}),
        ("dirtylimit_set_vcpu", {"cpu_index": 0, "quota": 50}),
    ]
    # A ring of 16 MiB is full within 53511 us at 299 MB/s; 83 per cent of its time are to be slept.
    assert ("dirtylimit_throttle_pct", {"cpu_index": 0, "pct": 83, "time_us": 53511 * 83 // 17}) in seen
    assert ("dirtylimit_vcpu_execute", {"cpu_index": 0, "sleep_time_us": 53511 * 83 // 17}) in seen
    assert seen[-2:] == [
        ("dirtylimit_set_vcpu", {"cpu_index": 0, "quota": 0}),
        ("dirtylimit_state_finalize", {}),
    ]


# --- migration --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", LATER)
def test_a_guest_that_is_too_fast_converges_with_the_capability(profile: str) -> None:
    made = pair(profile)
    made.begin(LIMITED, vcpu_dirty_limit=50, **FAST)
    made.world.run_until(lambda: made.status == "completed")
    assert made.info["downtime"] <= 600
    assert limits(made)[0]["limit-rate"] == 50  # stays, as in QEMU


@pytest.mark.parametrize("profile", LATER)
def test_and_without_it_never(profile: str) -> None:
    made = pair(profile)
    made.begin(("events",), **FAST)
    made.world.run_for(120 * NS_PER_S)
    assert made.status == "active"
    assert limits(made) == []


@pytest.mark.parametrize("profile", LATER)
def test_how_long_vcpus_sleep_is_told_while_they_are_limited(profile: str) -> None:
    made = pair(profile)
    names = ["dirty-limit-ring-full-time", "dirty-limit-throttle-time-per-round"]
    made.begin(LIMITED, vcpu_dirty_limit=50, **FAST)
    assert not set(names) & set(made.info)
    made.world.run_until(lambda: bool(limits(made)))
    made.world.run_for(5 * NS_PER_S)
    info = made.info
    # 16 MiB at 299 MB/s, the fastest that was seen
    assert info["dirty-limit-ring-full-time"] == pytest.approx(53511, rel=0.1)
    assert info["dirty-limit-throttle-time-per-round"] > 100_000
    sleep, full = info["dirty-limit-throttle-time-per-round"], info["dirty-limit-ring-full-time"]
    if profile == "11.1":
        assert f"Dirty-limit Throttle (us): {sleep}\r\nDirty-limit Ring Full (us): {full}\r\n" in hmp(
            made, "info migrate -a"
        )
        assert "Dirty-limit" not in hmp(made, "info migrate")
    else:
        assert f"dirty-limit throttle time: {sleep} us\r\ndirty-limit ring full time: {full} us\r\n" in hmp(
            made, "info migrate"
        )
    made.source.execute("migrate_cancel")
    made.world.run_until(lambda: made.status == "cancelled")
    assert not set(names) & set(made.info)


@pytest.mark.parametrize("profile", LATER)
def test_limits_are_the_migrations_while_it_runs(profile: str) -> None:
    made = pair(profile)
    made.begin(LIMITED, vcpu_dirty_limit=50, **FAST)
    made.source.execute("set-vcpu-dirty-limit", dirty_rate=70)  # none is in force yet
    with pytest.raises(QemuError, match=r"^can't set dirty page rate limit while migration is running$"):
        made.source.execute("set-vcpu-dirty-limit", dirty_rate=80)
    with pytest.raises(QemuError, match=r"^can't cancel dirty page rate limit while migration is running$"):
        made.source.execute("cancel-vcpu-dirty-limit")
    made.world.run_until(lambda: limits(made)[0]["limit-rate"] == 50)


@pytest.mark.parametrize("profile", LATER)
def test_a_cancelled_migration_leaves_its_limits_behind(profile: str) -> None:
    made = pair(profile)
    made.begin(LIMITED, vcpu_dirty_limit=50, **FAST)
    made.world.run_until(lambda: bool(limits(made)))
    made.world.run_for(5 * NS_PER_S)
    made.source.execute("migrate_cancel")
    made.world.run_until(lambda: made.status == "cancelled")
    # QEMU wants to give them up, but finds that the migration runs.
    assert limits(made)[0]["limit-rate"] == 50
    made.world.run_for(5 * NS_PER_S)
    assert rate_of(made, 5) <= 50 + TOLERANCE
    made.source.execute("migrate_cancel")
    assert limits(made) == []
    made.world.run_for(NS_PER_S)
    assert rate_of(made, 4) == pytest.approx(300, abs=1)


def test_pages_that_travel_are_limited_the_same() -> None:
    made = Pair(size=64 * MIB, working_set=64 * MIB, rate=300 * MIB)
    made.source.vm.kvm_enabled = made.destination.vm.kvm_enabled = True
    made.source.vm.dirty_ring_size = made.destination.vm.dirty_ring_size = 1024
    made.begin(LIMITED, vcpu_dirty_limit=30, **{**FAST, "max-bandwidth": 80 * MIB})
    made.world.run_until(lambda: made.status == "completed")
    assert made.info["ram"]["dirty-sync-count"] > 3


@pytest.mark.parametrize("profile", LATER)
def test_a_failed_migration_leaves_its_limits_behind_too(profile: str) -> None:
    made = pair(profile)
    made.begin(LIMITED, vcpu_dirty_limit=50, **FAST)
    made.world.run_until(lambda: bool(limits(made)))
    made.destination.host.kill()
    made.world.run_until(lambda: made.status == "failed")
    assert limits(made)[0]["limit-rate"] == 50
    made.source.execute("cancel-vcpu-dirty-limit")
    assert limits(made) == []


def test_a_second_migration_finds_the_limits_as_they_are() -> None:
    made = pair()
    made.begin(LIMITED, vcpu_dirty_limit=50, **FAST)
    made.world.run_until(lambda: bool(limits(made)))
    made.source.execute("migrate_cancel")
    made.world.run_until(lambda: made.status == "cancelled")
    seen: list[int] = []
    made.source.vm.trace.watch(lambda _, fields: seen.append(fields["dirtyrate"]), "migration_dirty_limit_guest")
    for limit in (50, 80):
        made.set(vcpu_dirty_limit=limit, max_bandwidth=10 * MIB)
        made.source.execute("migrate", uri="file:/tmp/saved")
        made.world.run_for(300 * NS_PER_S)
        made.source.execute("migrate_cancel")
        made.world.run_until(lambda: made.status == "cancelled")
    assert seen == [80]
    assert limits(made)[0]["limit-rate"] == 80


def test_rates_are_measured_as_often_as_the_parameter_says() -> None:
    made = pair()
    made.begin(LIMITED, vcpu_dirty_limit=50, x_vcpu_dirty_limit_period=250, **FAST)
    made.world.run_until(lambda: bool(limits(made)))
    rates: list[int] = []
    made.source.vm.trace.watch(lambda _, fields: rates.append(fields["rate"]), "dirtyrate_do_calculate_vcpu")
    made.world.run_for(3 * NS_PER_S)
    assert len(rates) == 12


@pytest.mark.parametrize("profile", LATER)
def test_the_capability_is_refused_where_it_cannot_work(profile: str) -> None:
    on = {"capability": "dirty-limit", "state": True}
    with pytest.raises(QemuError, match=r"^dirty-limit requires KVM with accelerator property 'dirty-ring-size' set$"):
        pair(profile, ring=0).source.execute("migrate-set-capabilities", capabilities=[on])
    with pytest.raises(QemuError, match=r"^dirty-limit conflicts with auto-converge either of then available"):
        pair(profile).source.execute(
            "migrate-set-capabilities", capabilities=[on, {"capability": "auto-converge", "state": True}]
        )
