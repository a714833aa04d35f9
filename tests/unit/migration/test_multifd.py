# SPDX-License-Identifier: MIT
"""The scheduler of multifd packets, and what its channels do to pages."""

from __future__ import annotations

import random
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakeqemu.error import NotEmulated, StreamError
from fakeqemu.migration import multifd_compress
from fakeqemu.migration.multifd import Payload, Scheduler
from fakeqemu.migration.multifd_compress import Compression, ZlibCompression, ZstdCompression
from fakeqemu.migration.multifd_ram import sort_out_zero_pages

PAGE = 4096


def test_idle_channels_take_turns_from_where_the_last_migration_stopped() -> None:
    scheduler = Scheduler(3, position=2)
    assert [scheduler.pick(lambda _: True) for _ in range(7)] == [2, 0, 1, 2, 0, 1, 2]


def test_a_busy_channel_is_passed_over() -> None:
    scheduler = Scheduler(4)
    assert scheduler.pick(lambda channel: channel != 0) == 1
    assert scheduler.pick(lambda channel: channel in (0, 1)) == 0


@pytest.mark.parametrize("channels", [(5, 2, 7), (255, 1, 255), (3, 3, 1)])
def test_the_position_wraps_when_the_next_migration_has_fewer_channels(channels: tuple[int, ...]) -> None:
    position = 0
    chance = random.Random(1)
    for n in channels:
        scheduler = Scheduler(n, position=position)
        for _ in range(chance.randrange(1, 600)):
            assert scheduler.pick(lambda _: True) < n
            assert scheduler.next < n
        position = scheduler.next


def test_no_channel_idles_while_a_packet_waits() -> None:
    chance = random.Random(4)
    n = 6
    scheduler = Scheduler(n)
    busy_until = [0.0] * n
    now = 0.0
    for _ in range(2000):
        now = max(now, min(busy_until))  # a packet goes as soon as some channel is idle
        idle = [until <= now for until in busy_until]
        channel = scheduler.pick(idle.__getitem__)
        assert idle[channel]
        busy_until[channel] = now + chance.random()


@pytest.mark.parametrize("busy", range(4))
def test_how_often_the_number_of_channels_is_read_for_a_packet(busy: int) -> None:
    latched, per_call = Scheduler(5), Scheduler(5, latched=False)
    for scheduler in (latched, per_call):
        scheduler.pick(lambda channel: channel >= busy)
    assert (latched.count_reads, per_call.count_reads) == (1, 2 + busy)


@pytest.mark.parametrize("n", [1, 2, 16, 255])
def test_how_often_the_number_of_channels_is_read_for_a_barrier(n: int) -> None:
    latched, per_call = Scheduler(n), Scheduler(n, latched=False)
    assert list(latched.everyone()) == list(per_call.everyone()) == list(range(n))
    assert (latched.count_reads, per_call.count_reads) == (1, 2 * (n + 1))


# --- zero pages ---------------------------------------------------------------------------------------------


def packet_of(kinds: list[tuple[int, bool]]) -> tuple[Payload, list[bool]]:
    """A packet of runs (how many pages, whether they are zero); each page's bytes are its number."""
    payload, zeroes, at = Payload("ram"), [], 0
    for n, zero in kinds:
        if zero:
            payload.zero.append((at, n))
        else:
            payload.normal.append((at, n))
            payload.data.append(b"".join(bytes((page,)) * PAGE for page in range(at, at + n)))
        zeroes.append(zero)
        at += n
    payload.pages = at
    return payload, zeroes


def flat(runs: list[tuple[int, int]]) -> list[int]:
    return [page for first, n in runs for page in range(first, first + n)]


@pytest.mark.parametrize(
    ("kinds", "normal", "zero"),
    [
        ([(1, True)], [], [0]),
        ([(4, True)], [], [1, 2, 3, 0]),
        ([(2, True), (2, True)], [], [1, 2, 3, 0]),
        ([(2, False), (2, True)], [0, 1], [3, 2]),
        ([(2, True), (2, False)], [3, 2], [1, 0]),
        ([(1, False), (2, True), (2, False)], [0, 4, 3], [2, 1]),
    ],
)
def test_a_zero_page_changes_places_with_the_last_that_was_not_looked_at(
    kinds: list[tuple[int, bool]], normal: list[int], zero: list[int]
) -> None:
    payload, zeroes = packet_of(kinds)
    sort_out_zero_pages(payload, zeroes)
    assert (flat(payload.normal), flat(payload.zero)) == (normal, zero)


@given(st.lists(st.tuples(st.integers(1, 16), st.booleans()), min_size=1, max_size=8))
def test_the_bytes_go_with_their_pages(kinds: list[tuple[int, bool]]) -> None:
    payload, zeroes = packet_of(kinds)
    before = sorted(flat(payload.normal)), sorted(flat(payload.zero))
    if payload.zero:
        sort_out_zero_pages(payload, zeroes)
    assert (sorted(flat(payload.normal)), sorted(flat(payload.zero))) == before
    data = b"".join(payload.data)
    assert [data[at] for at in range(0, len(data), PAGE)] == flat(payload.normal)


# --- compression ------------------------------------------------------------------------------------------


def packets(count: int = 5) -> list[list[bytes]]:
    chance = random.Random(9)
    pages = (bytes((7,)) * PAGE, b"text " * 819 + b"!", chance.randbytes(PAGE))
    return [[chance.choice(pages) for _ in range(chance.randrange(1, 128))] for _ in range(count)]


def test_pages_travel_as_they_are_without_compression() -> None:
    plain = Compression()
    for pages in packets():
        assert plain.pack(pages) == pages
        assert plain.unpack(b"".join(pages), len(pages) * PAGE, 0) == b"".join(pages)


@pytest.mark.parametrize("level", [0, 1, 9])
def test_a_zlib_stream_lasts_as_long_as_its_channel(level: int) -> None:
    out, back = ZlibCompression(level), ZlibCompression(None)
    whole = zlib.decompressobj()
    for pages in packets():
        data = b"".join(out.pack(pages))
        assert whole.decompress(data) == b"".join(pages)
        assert back.unpack(data, len(pages) * PAGE, 0) == b"".join(pages)


@pytest.mark.parametrize("level", [0, 1, 20])
def test_a_zstd_frame_lasts_as_long_as_its_channel(level: int) -> None:
    try:
        out, back = ZstdCompression(level), ZstdCompression(None)
    except NotEmulated:
        pytest.skip("no library for zstd")
    for pages in packets():
        data = b"".join(out.pack(pages))
        assert back.unpack(data, len(pages) * PAGE, 0) == b"".join(pages)


@pytest.mark.parametrize("pages", [1, 128])
def test_a_zstd_packet_is_not_unpacked_beyond_what_it_may_hold(pages: int) -> None:
    try:
        out, back = ZstdCompression(1), ZstdCompression(None)
    except NotEmulated:
        pytest.skip("no library for zstd")
    data = b"".join(out.pack([bytes(1 << 20)] * 64))
    assert len(data) < 64 << 10
    tracemalloc.start()
    with pytest.raises(StreamError, match=f"packet size received {pages * PAGE + 1} size expected {pages * PAGE}"):
        back.unpack(data, pages * PAGE, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_a_zstd_frame_of_raw_blocks_made_without_a_library_is_taken() -> None:
    try:
        back = ZstdCompression(None)
    except NotEmulated:
        pytest.skip("no library for zstd")
    pages = packets(1)[0]
    data = bytes.fromhex("28b52ffd0050")
    for page in pages:
        data += (PAGE << 3).to_bytes(3, "little") + page
    assert back.unpack(data, len(pages) * PAGE, 0) == b"".join(pages)


@pytest.mark.parametrize("method", ["qpl", "uadk", "qatzip"])
def test_methods_for_hardware_that_is_not_there_are_refused(method: str) -> None:
    with pytest.raises(NotEmulated, match=method):
        multifd_compress.check(method)


def test_compressed_bytes_have_a_bound() -> None:
    with pytest.raises(StreamError, match="multifd 3: next_packet_size 1048577 exceeds allocated 1048576"):
        ZlibCompression(None).wire_size(1048577, PAGE, 3)
