# SPDX-License-Identifier: MIT
"""A ring is full after so many pages, whatever the steps in which time passes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fakeqemu.host.clock import NS_PER_MS, NS_PER_S
from fakeqemu.system.dirty_ring import VcpuRing, mib_per_s

PAGE = 4096 * NS_PER_S
FULL = 1000 * PAGE


def limited(throttle_us: int) -> VcpuRing:
    vcpu = VcpuRing(0)
    vcpu.throttle_us = throttle_us
    vcpu.limited = True
    return vcpu


def test_a_vcpu_sleeps_for_each_ring_that_it_fills() -> None:
    vcpu = limited(9000)
    # 1000 pages a millisecond, then nine of sleep
    done, fulls = vcpu.run(NS_PER_S, 4096 * 1000 * 1000, FULL, 10 * FULL)
    assert (done, fulls, vcpu.pages, vcpu.sleep_ns) == (100 * FULL, 100, 100_000, 0)


def test_without_a_limit_it_only_fills_rings() -> None:
    vcpu = limited(9000)
    vcpu.limited = False
    done, fulls = vcpu.run(NS_PER_S, 4096 * 1000 * 1000, FULL, 10 * FULL)
    assert (done, fulls) == (1000 * FULL, 1000)


def test_who_sleeps_sleeps_on_when_the_limit_is_gone() -> None:
    vcpu = limited(9000)
    vcpu.run(NS_PER_MS, 4096 * 1000 * 1000, FULL, 10 * FULL)
    vcpu.limited = False
    assert vcpu.run(9 * NS_PER_MS, 4096 * 1000 * 1000, FULL, 10 * FULL) == (0, 0)
    assert vcpu.run(NS_PER_MS, 4096 * 1000 * 1000, FULL, 10 * FULL) == (FULL, 1)


def test_what_fits_into_the_ring_counts_once_until_it_is_emptied() -> None:
    vcpu = limited(9000)
    span = 10 * PAGE
    assert vcpu.run(NS_PER_S, 4096 * 1000, FULL, span) == (1000 * PAGE, 0)
    vcpu.reap()
    assert vcpu.pages == 10
    vcpu.run(NS_PER_S, 4096 * 5, FULL, span)
    vcpu.reap()
    assert vcpu.pages == 15


@given(
    st.lists(st.integers(1, 50 * NS_PER_MS), min_size=1, max_size=20), st.integers(1, 1 << 31), st.integers(0, 20_000)
)
def test_steps_make_no_difference(steps: list[int], rate: int, throttle_us: int) -> None:
    one, many = limited(throttle_us), limited(throttle_us)
    whole = one.run(sum(steps), rate, FULL, 10 * FULL)
    parts = [many.run(step, rate, FULL, 10 * FULL) for step in steps]
    assert whole == (sum(done for done, _ in parts), sum(fulls for _, fulls in parts))
    assert (one.credit, one.pages, one.sleep_ns) == (many.credit, many.pages, many.sleep_ns)


def test_older_releases_lose_what_is_less_than_a_mebibyte() -> None:
    assert mib_per_s(384, 500, exact=True) == 3
    assert mib_per_s(384, 500, exact=False) == 2
