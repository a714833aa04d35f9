# SPDX-License-Identifier: MIT
"""Migrations whose pages travel as differences."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.system.ramblock import RAMBlock
from tests.sim._pair import MIB, Pair

PAGES = 2048


def content(machine: Any) -> bytes:
    block: RAMBlock = machine.vm.ram_blocks[0]
    return block.read_pages(0, block.pages)


def slow_pair(profile: str = "11.1", **parameters: Any) -> Pair:
    pair = Pair(profile)
    pair.capabilities(xbzrle=True)
    pair.fill(PAGES)
    pair.source.execute("migrate-set-parameters", max_bandwidth=4 * MIB, downtime_limit=1, **parameters)
    return pair


def touch(pair: Pair, pages: range, value: int) -> None:
    for page in pages:
        pair.ram.guest_write(page * 4096 + 100, bytes((value,)))


@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
def test_small_changes_travel_as_deltas(profile: str) -> None:
    pair = slow_pair(profile)
    pair.start()
    stats = pair.source.vm.migration.stats
    rounds = 0
    while rounds < 4:
        before = stats.dirty_sync_count
        pair.world.run_until(lambda before=before: stats.dirty_sync_count > before)  # type: ignore[misc]
        rounds += 1
        touch(pair, range(400), 100 + rounds)
    info = pair.finish()
    assert info["status"] == "completed"
    assert content(pair.source) == content(pair.destination)
    cache = info["xbzrle-cache"]
    assert cache["cache-miss"] == 400
    assert cache["pages"] >= 400
    # A delta of one byte somewhere: flag, length, two counts and the byte.
    assert cache["bytes"] % 6 == 0
    assert cache["bytes"] >= 400 * 6
    assert info["ram"]["normal"] == PAGES + 400
    if profile != "7.2":
        outgoing = pair.source.vm.migration.outgoing
        assert outgoing is not None
        assert outgoing.f is not None
        assert info["ram"]["transferred"] == outgoing.f.flushed


def test_a_small_cache_misses() -> None:
    pair = slow_pair(xbzrle_cache_size=4096)
    pair.start()
    stats = pair.source.vm.migration.stats
    for value in (1, 2):
        before = stats.dirty_sync_count
        pair.world.run_until(lambda before=before: stats.dirty_sync_count > before)  # type: ignore[misc]
        touch(pair, range(10), value)
    info = pair.finish()
    assert info["xbzrle-cache"]["cache-size"] == 4096
    assert info["xbzrle-cache"]["cache-miss"] > 10
    assert content(pair.source) == content(pair.destination)


def test_pages_that_changed_wholly_overflow() -> None:
    pair = slow_pair()
    pair.start()
    stats = pair.source.vm.migration.stats
    for value in (1, 2, 3):
        before = stats.dirty_sync_count
        pair.world.run_until(lambda before=before: stats.dirty_sync_count > before)  # type: ignore[misc]
        for page in range(300):
            pair.ram.guest_write(page * 4096, bytes((value, 0x55)) * 2048)
    info = pair.finish()
    assert info["xbzrle-cache"]["overflow"] > 0
    assert info["xbzrle-cache"]["bytes"] >= info["xbzrle-cache"]["overflow"] * 4096
    assert content(pair.source) == content(pair.destination)


def test_people_are_told_too() -> None:
    pair = slow_pair()
    pair.migrate()
    text = pair.source.execute("human-monitor-command", command_line="info migrate -a")
    assert (
        "XBZRLE: size=67108864, transferred=0, pages=0, miss=0\r\n  miss_rate=0.00, encode_rate=0.00, overflow=0"
        in text
    )
