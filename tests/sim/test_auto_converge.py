# SPDX-License-Identifier: MIT
"""Guests that dirty memory faster than it goes over the link are slowed down, step by step (auto-converge).

The numbers of the first tests are those of a guest of 32 MiB that writes to 7 MiB again and again, over a link of 12 MiB/s:
as they were seen on 11.1.2, 10.0.13 and 7.2.22.
"""

from __future__ import annotations

import pytest

from fakeqemu.host.clock import NS_PER_S
from tests.sim._busy import MIB, SLOW, Pair

VERSIONS = ("7.2", "10.0", "11.1")


@pytest.mark.parametrize("profile", VERSIONS)
def test_the_throttle_rises_step_by_step_up_to_its_limit(profile: str) -> None:
    pair = Pair(profile)
    pair.begin(**SLOW, max_cpu_throttle=45)
    assert pair.percentages(12) == [None, 20, 30, 40, 45]


def test_it_begins_when_the_guest_was_too_fast_twice() -> None:
    pair = Pair()
    pair.begin(**SLOW)
    pair.world.run_until(lambda: pair.percentage is not None)
    # The bitmap is looked at after each pass of 0.6 s; a period ends with the first look after a second.
    assert pair.info["ram"]["dirty-sync-count"] in (5, 6)


@pytest.mark.parametrize("profile", ["10.0", "11.1"])
def test_a_step_of_the_tail_is_no_longer_than_it_must_be(profile: str) -> None:
    pair = Pair(profile)
    pair.begin(**SLOW, cpu_throttle_increment=30, cpu_throttle_tailslow=True)
    *_, first, second, third = pair.percentages(9)[:4]
    assert first == 20
    assert second == 50
    assert third is not None
    assert 70 <= third <= 80


def test_a_throttled_guest_dirties_less_and_converges() -> None:
    pair = Pair(rate=14 * MIB, working_set=32 * MIB)
    pair.begin(**SLOW)
    pair.world.run_until(lambda: pair.status == "completed")
    # what the guest asks for is more than the link takes, so nothing but the throttle made it end
    assert pair.info["downtime"] <= 250


def test_without_the_capability_it_never_converges() -> None:
    pair = Pair(rate=14 * MIB, working_set=32 * MIB)
    pair.begin((), **SLOW)
    pair.world.run_for(40 * NS_PER_S)
    assert pair.status == "active"
    assert pair.percentage is None


def test_the_trigger_is_a_share_of_what_went_over_the_link() -> None:
    for threshold, throttled in ((50, True), (100, False)):
        pair = Pair(rate=11 * MIB, working_set=32 * MIB)
        pair.begin(**SLOW, throttle_trigger_threshold=threshold)
        pair.world.run_for(6 * NS_PER_S)
        assert (pair.percentage is not None) == throttled


@pytest.mark.parametrize("end", ["migrate_cancel", "completed"])
def test_the_guest_has_its_speed_back_at_the_end(end: str) -> None:
    pair = Pair()
    pair.begin(**SLOW)
    pair.world.run_until(lambda: pair.percentage is not None)
    if end == "completed":
        pair.set(downtime_limit=5000)
        pair.world.run_until(lambda: pair.status == "completed")
    else:
        pair.source.execute("migrate_cancel")
        pair.world.run_until(lambda: pair.status == "cancelled")
    assert pair.percentage is None
    assert pair.source.vm.guest.throttle == 0


@pytest.mark.parametrize(
    ("profile", "line", "ends"),
    [
        ("7.2", "info migrate", "kbytes\r\ncpu throttle percentage: 20\r\n"),
        ("10.0", "info migrate", "kbytes\r\ncpu throttle percentage: 20\r\n"),
        ("11.1", "info migrate -a", "clear-bitmap-shift: 18\r\nCPU Throttle (%): 20\r\n"),
    ],
)
def test_people_are_told(profile: str, line: str, ends: str) -> None:
    pair = Pair(profile)
    pair.begin(**SLOW)
    pair.world.run_until(lambda: pair.percentage is not None)
    text = pair.source.execute("human-monitor-command", **{"command-line": line})
    assert text.endswith(ends)
    brief = pair.source.execute("human-monitor-command", **{"command-line": "info migrate"})
    assert ("hrottle" in brief) == (profile != "11.1")


def test_a_new_migration_begins_at_full_speed() -> None:
    pair = Pair()
    pair.begin(**SLOW)
    pair.world.run_until(lambda: pair.percentage is not None)
    pair.source.execute("migrate_cancel")
    pair.world.run_until(lambda: pair.status == "cancelled")
    pair.source.execute("migrate", uri="file:/tmp/saved")
    pair.world.run_until(lambda: pair.status == "active")
    assert pair.percentage is None


@pytest.mark.parametrize(("profile", "syncs", "percentage"), [("7.2", 2, None), ("10.0", 3, 20), ("11.1", 2, 20)])
def test_a_long_pass_is_interrupted_by_a_look_at_the_bitmap(profile: str, syncs: int, percentage: int | None) -> None:
    pair = Pair(profile, working_set=24 * MIB)
    pair.begin(**{**SLOW, "max-bandwidth": 1 * MIB})
    pair.world.run_until(lambda: pair.info["ram"]["dirty-sync-count"] == 2)
    # The first look of the timer only remembers the count; the second finds it unchanged.
    pair.world.run_for(11 * NS_PER_S)
    assert (pair.info["ram"]["dirty-sync-count"], pair.percentage) == (syncs, percentage)


def test_pages_that_only_count_are_throttled_the_same() -> None:
    pair = Pair(ram="model")
    pair.begin(**SLOW, max_cpu_throttle=45)
    assert pair.percentages(12) == [None, 20, 30, 40, 45]
