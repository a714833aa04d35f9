# SPDX-License-Identifier: MIT
"""Whether a migration keeps up with its guest, and what makes it: bandwidths and downtime, changed while it runs.

`wire` sends every page, `model` only counts them: both have to converge, or not, for the same reason.
"""

from __future__ import annotations

import pytest

from fakeqemu.host.clock import NS_PER_MS, NS_PER_S
from tests.sim._busy import MIB, SLOW, Pair

EVENTS = ("events",)
HOW = ("wire", "model")


def busy(how: str, profile: str = "11.1") -> Pair:
    """One whose 7 MiB get dirty in each pass, of which 1.3 MB fit into the downtime."""
    pair = Pair(profile, ram=how)
    pair.begin(EVENTS, **SLOW)
    pair.world.run_for(5 * NS_PER_S)
    assert pair.status == "active"
    return pair


def ends(pair: Pair) -> bool:
    pair.world.run_for(5 * NS_PER_S)
    return pair.status == "completed"


@pytest.mark.parametrize("how", HOW)
def test_more_downtime_ends_it(how: str) -> None:
    pair = busy(how)
    pair.set(downtime_limit=400)
    assert not ends(pair)
    pair.set(downtime_limit=700)
    assert ends(pair)


@pytest.mark.parametrize("how", HOW)
def test_more_bandwidth_ends_it(how: str) -> None:
    pair = busy(how)
    pair.set(max_bandwidth=24 * MIB)
    assert not ends(pair)
    pair.set(max_bandwidth=200 * MIB)
    assert ends(pair)


@pytest.mark.parametrize("how", HOW)
def test_less_bandwidth_slows_it(how: str) -> None:
    pair = busy(how)
    before = pair.info["ram"]["transferred"]
    pair.set(max_bandwidth=3 * MIB)
    pair.world.run_for(10 * NS_PER_S)
    assert 2.9 * MIB * 10 <= pair.info["ram"]["transferred"] - before <= 3.8 * MIB * 10  # whole batches


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("profile", ["10.0", "11.1"])
def test_the_bandwidth_of_the_switchover_may_be_promised(how: str, profile: str) -> None:
    pair = busy(how, profile)
    pair.set(avail_switchover_bandwidth=50 * MIB)
    assert not ends(pair)
    pair.set(avail_switchover_bandwidth=100 * MIB)
    assert ends(pair)


@pytest.mark.parametrize("how", HOW)
def test_a_guest_that_stops_writing_ends_it(how: str) -> None:
    pair = busy(how)
    pair.source.vm.guest.set_dirty_rate(0)
    assert ends(pair)


@pytest.mark.parametrize("how", HOW)
def test_what_is_expected_is_what_was_seen(how: str) -> None:
    # 7 MiB at 13.1 kB/ms: recorded on 11.1.2
    assert busy(how).info["expected-downtime"] in (558, 559)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("profile", ["7.2", "10.0"])
def test_older_releases_expect_what_is_left(how: str, profile: str) -> None:
    pair = busy(how, profile)
    expected = pair.info["expected-downtime"]
    assert 0 < expected <= 565
    assert expected != SLOW["downtime-limit"]


@pytest.mark.parametrize("how", HOW)
def test_rates_follow_the_guest(how: str) -> None:
    ram = busy(how).info["ram"]
    # 7 MiB twice a second, in periods of a second or a little more
    assert 2900 <= ram["dirty-pages-rate"] <= 3600
    assert 100 <= ram["mbps"] <= 110
    assert 3000 <= ram["pages-per-second"] <= 3500


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(("profile", "first"), [("7.2", 1), ("10.0", 1), ("11.1", 2)])
def test_passes_are_counted_and_told(how: str, profile: str, first: int) -> None:
    pair = busy(how, profile)
    told = [data["pass"] for _, name, data in pair.source.events if name == "MIGRATION_PASS"]
    assert told == list(range(first, pair.info["ram"]["dirty-sync-count"] + 1))


@pytest.mark.parametrize("how", HOW)
def test_the_guest_does_not_stand_longer_than_it_may(how: str) -> None:
    pair = busy(how)
    pair.set(downtime_limit=1000)
    assert ends(pair)
    info = pair.info
    assert info["downtime"] <= 1000
    assert info["downtime"] <= info["total-time"]
    # without a limit of the bandwidth once it is stopped
    assert pair.world.clock.now_ns() // NS_PER_MS >= info["total-time"]
