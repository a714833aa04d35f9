# SPDX-License-Identifier: MIT
"""The cache of pages that were sent, and its statistics."""

from __future__ import annotations

from fakeqemu.migration.xbzrle import PageCache, XbzrleStats

PAGE = 4096


def test_a_young_page_keeps_its_place_for_two_passes() -> None:
    cache = PageCache(4 * PAGE)
    cache.insert(0, b"first", 1)
    cache.insert(4 * PAGE, b"second", 2)
    assert (cache.get(0, 2), cache.get(4 * PAGE, 2)) == (b"first", None)
    cache.insert(4 * PAGE, b"second", 3)  # looked at in pass 2, it is still young
    assert cache.get(4 * PAGE, 3) is None
    cache.insert(4 * PAGE, b"second", 4)
    assert (cache.get(0, 4), cache.get(4 * PAGE, 4)) == (None, b"second")


def test_a_page_replaces_its_own_content_at_any_age() -> None:
    cache = PageCache(PAGE)
    cache.insert(7 * PAGE, b"old", 1)
    cache.insert(7 * PAGE, b"new", 1)
    assert cache.get(7 * PAGE, 1) == b"new"


def test_rates_are_those_of_the_time_since_the_last_look() -> None:
    stats = XbzrleStats()
    stats.cache_miss, stats.pages, stats.bytes = 50, 20, 4096
    stats.update_rates(100)
    assert (stats.cache_miss_rate, stats.encoding_rate) == (0.5, 20)
    stats.cache_miss, stats.pages, stats.bytes = 60, 30, 4096 + 8192
    stats.update_rates(100)  # nothing was sent
    assert stats.cache_miss_rate == 0.5
    stats.update_rates(140)
    assert (stats.cache_miss_rate, stats.encoding_rate) == (0.25, 5)
    assert stats.info(PAGE)["encoding-rate"] == 5
