# SPDX-License-Identifier: MIT
"""Both generations of postcopy blocktime, with a clock turned by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakeqemu.migration.blocktime import ENGINES, ArrayEngine, BlocktimeEngine, HashEngine, compact_text, old_text

MS = 1_000_000
A, B, C = 0x1000, 0x2000, 0x3000
OTHER = 999


class Bench:
    """An engine, its clock and its trace lines."""

    def __init__(self, kind: str, vcpus: int = 1) -> None:
        self.now = 0
        self.lines: list[tuple[str, dict[str, Any]]] = []
        self.engine: BlocktimeEngine = ENGINES[kind](
            range(1, vcpus + 1), lambda: self.now, lambda name, **fields: self.lines.append((name, fields))
        )

    def begin(self, ms: float, page: int, vcpu: int = 0) -> None:
        self.now = int(ms * MS)
        self.engine.begin(page, OTHER if vcpu < 0 else vcpu + 1)

    def end(self, ms: float, page: int) -> None:
        self.now = int(ms * MS)
        self.engine.end(page)


@pytest.mark.parametrize(
    ("kind", "order", "total"),
    [("hash", (A, B, C), 30), ("hash", (C, B, A), 50), ("array", (A, B, C), 30), ("array", (C, B, A), 10)],
)
def test_three_pages_of_one_vcpu(kind: str, order: tuple[int, ...], total: int) -> None:
    bench = Bench(kind)
    for ms, page in ((1, A), (10, B), (20, C)):
        bench.begin(ms, page)
    for ms, page in zip((30, 40, 50), order, strict=True):
        bench.end(ms, page)
    total -= kind == "hash" and order == (C, B, A)  # A began at 1 here: the array engine has no time 0
    assert bench.engine.report()["postcopy-vcpu-blocktime"] == [total]
    assert bench.engine.pending == bench.engine.down == 0


@pytest.mark.parametrize("kind", ["hash", "array"])
def test_a_fault_booked_before_the_end_of_the_one_before(kind: str) -> None:
    bench = Bench(kind)
    bench.begin(100, A)
    bench.begin(1100, B)
    bench.end(1200, A)
    bench.end(2000, B)
    assert bench.engine.report()["postcopy-vcpu-blocktime"] == [900]
    if isinstance(bench.engine, HashEngine):
        assert sum(bench.engine.buckets) == 2


def test_a_fault_booked_before_the_end_of_the_one_before_to_the_nanosecond() -> None:
    """Placed at 10 ms, which wakes the vCPU, whose next fault at 10.1 is in the books before the end of the first at 10.2."""
    bench = Bench("hash")
    for ms, page, what in ((0, A, bench.begin), (10.1, B, bench.begin), (10.2, A, bench.end), (20, B, bench.end)):
        what(ms, page)
    report = bench.engine.report()
    assert bench.engine.vcpu_total == [9_900_000]
    assert report["postcopy-vcpu-latency"] == [4_950_000]  # of two faults: less than either took
    assert report["postcopy-latency-dist"][13] == 2  # 8,192 to 16,383 us, both


def test_of_three_waits_at_once_only_the_last_counts_and_the_average_is_low() -> None:
    """The numbers are those of a real 11.1."""
    bench = Bench("hash")
    for page in (A, B, C):
        bench.engine.begin(page, 1)
        bench.now += 1000
    bench.now = 2000 + 111_572
    for page in (A, B, C):
        bench.engine.end(page)
    report = bench.engine.report()
    assert bench.engine.vcpu_total == [111_572]
    assert report["postcopy-vcpu-latency"] == [37_190]
    assert sum(report["postcopy-latency-dist"]) == 3


def test_one_wait_of_one_vcpu_of_two() -> None:
    """The report is that of a real 11.1 in the same case."""
    bench = Bench("hash", 2)
    bench.engine.begin(A, 1)
    bench.now = 44_501_283
    bench.engine.end(A)
    assert bench.engine.report() == {
        "postcopy-blocktime": 0,
        "postcopy-vcpu-blocktime": [44, 0],
        "postcopy-latency": 44_501_283,
        "postcopy-latency-dist": [0] * 15 + [1] + [0] * 8,
        "postcopy-vcpu-latency": [44_501_283, 0],
        "postcopy-non-vcpu-latency": 0,
    }


@pytest.mark.parametrize(("kind", "total"), [("hash", 30), ("array", 20)])
def test_the_kernel_repeats_a_fault(kind: str, total: int) -> None:
    bench = Bench(kind)
    bench.begin(10, A)
    bench.begin(20, A)
    assert bench.engine.down == 1
    bench.end(40, A)
    assert bench.engine.report()["postcopy-vcpu-blocktime"] == [total]
    assert bench.engine.down == bench.engine.pending == 0
    if isinstance(bench.engine, HashEngine):  # the newer of the two is looked at first, the older one counts
        dist = bench.engine.report()["postcopy-latency-dist"]
        assert (dist[14], sum(dist)) == (2, 2)


@pytest.mark.parametrize(("kind", "total"), [("hash", 30), ("array", 20)])
def test_all_down_counts_from_the_latest_going_down(kind: str, total: int) -> None:
    """A vCPU of a complete set waits for a second page before the first is booked: for the array it goes down once more."""
    bench = Bench(kind, 2)
    bench.begin(5, A, 0)
    bench.begin(10, B, 1)
    bench.begin(20, C, 0)
    bench.end(30, A)
    assert bench.engine.report()["postcopy-blocktime"] == 0  # it waits for C still
    bench.end(40, C)
    assert bench.engine.report()["postcopy-blocktime"] == total
    bench.end(50, B)
    assert bench.engine.report()["postcopy-blocktime"] == total
    assert bench.engine.down == 0


@pytest.mark.parametrize("kind", ["hash", "array"])
def test_all_down_again_counts_on(kind: str) -> None:
    bench = Bench(kind, 2)
    bench.begin(10, A, 0)
    bench.begin(20, B, 1)
    bench.end(25, B)
    bench.begin(30, C, 1)
    bench.end(37, A)
    bench.end(50, C)
    report = bench.engine.report()
    assert report["postcopy-blocktime"] == (25 - 20) + (37 - 30)
    assert report["postcopy-vcpu-blocktime"] == [27, 5 + 20]


def test_the_array_has_no_time_0_and_wraps_after_32_bits() -> None:
    bench = Bench("array")
    bench.begin(0, A)
    bench.end(10, A)
    assert bench.engine.report()["postcopy-vcpu-blocktime"] == [9]
    bench.begin((1 << 32) - 5, B)
    bench.end((1 << 32) + 7, B)
    assert bench.engine.report()["postcopy-vcpu-blocktime"] == [9 + 12]


def test_what_is_told_in_milliseconds_has_32_bits_and_nanoseconds_have_64() -> None:
    bench = Bench("hash")
    bench.begin(0, A)
    bench.end((1 << 32) + 7, A)
    report = bench.engine.report()
    assert (report["postcopy-blocktime"], report["postcopy-vcpu-blocktime"]) == (7, [7])
    assert report["postcopy-latency"] == report["postcopy-vcpu-latency"][0] == ((1 << 32) + 7) * MS


@pytest.mark.parametrize("kind", ["hash", "array"])
def test_averages_are_whole_numbers_and_0_where_nobody_waited(kind: str) -> None:
    bench = Bench(kind, 3)
    for vcpu, ns in ((0, 10), (0, 7), (2, 5), (-1, 9), (-1, 4)):
        bench.engine.begin(A, OTHER if vcpu < 0 else vcpu + 1)
        bench.now += ns
        bench.engine.end(A)
    report = bench.engine.report()
    if kind == "array":
        assert report == {"postcopy-blocktime": 0, "postcopy-vcpu-blocktime": [0, 0, 0]}
        return
    assert report["postcopy-vcpu-latency"] == [17 // 2, 0, 5]
    assert report["postcopy-non-vcpu-latency"] == 13 // 2
    assert report["postcopy-latency"] == (10 + 7 + 5 + 9 + 4) // 5
    assert report["postcopy-latency-dist"] == [5] + [0] * 23
    assert all(type(value) is int for value in report.values() if not isinstance(value, list))


@pytest.mark.parametrize("kind", ["hash", "array"])
def test_two_vcpus_on_one_page_are_both_let_go_and_all_down_counts_from_the_latest(kind: str) -> None:
    bench = Bench(kind, 2)
    bench.begin(10, A, 0)
    bench.begin(25, A, 1)
    bench.end(40, A)
    report = bench.engine.report()
    assert report["postcopy-vcpu-blocktime"] == [30, 15]
    assert report["postcopy-blocktime"] == 15
    bench.end(50, A)  # once more
    bench.end(50, B)  # nobody waited
    assert bench.engine.report() == report


def test_other_threads_are_counted_apart_by_the_new_engine_only() -> None:
    new, old = Bench("hash", 2), Bench("array", 2)
    for bench in (new, old):
        bench.begin(10, A, -1)
        bench.engine.begin(B, 0)  # the kernel did not tell who
        bench.end(14, A)
    report = new.engine.report()
    assert report["postcopy-non-vcpu-latency"] == report["postcopy-latency"] == 4 * MS
    assert report["postcopy-vcpu-latency"] == [0, 0]
    assert old.engine.report() == {"postcopy-blocktime": 0, "postcopy-vcpu-blocktime": [0, 0]}


@pytest.mark.parametrize(
    ("us", "bucket"),
    [(0, 0), (1, 0), (2, 1), (3, 1), (1023, 9), (1024, 10), (44_501, 15), (8_388_608, 23), (10**9, 23)],
)
def test_classes_of_the_distribution(us: int, bucket: int) -> None:
    bench = Bench("hash")
    bench.begin(0, A)
    bench.end(us / 1000, A)
    assert [n for n, count in enumerate(bench.engine.report()["postcopy-latency-dist"]) if count] == [bucket]


@pytest.mark.parametrize("vcpus", [1, 8, 80, 800])
def test_cost_of_a_placed_page(vcpus: int) -> None:
    new, old = Bench("hash", vcpus), Bench("array", vcpus)
    for bench in (new, old):
        bench.engine.end_run(0, 1000, 4096)
        bench.begin(1, A)
        bench.engine.end_run(0, 1000, 4096)
    assert new.engine.steps == 2001
    assert old.engine.steps == 2000 * vcpus


def test_cost_of_a_page_that_400_vcpus_wait_for() -> None:
    bench = Bench("hash", 400)
    for vcpu in range(400):
        bench.begin(1, A, vcpu)
    bench.end(2, B)
    assert bench.engine.steps == 1
    bench.end(3, A)
    assert bench.engine.steps == 2 + 400
    assert bench.engine.report()["postcopy-blocktime"] == 2


def test_trace_lines() -> None:
    for kind, expected in (
        ("hash", ["tid_cpu_map", "begin", "end_one", "end"]),
        ("array", ["begin", "end"]),
    ):
        bench = Bench(kind)
        bench.begin(1, A)
        bench.end(2, A)
        prefix = "postcopy_blocktime_" if kind == "hash" else "mark_postcopy_blocktime_"
        assert [name for name, _ in bench.lines] == [prefix + name for name in expected]


waits = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50), st.integers(1, 50)), max_size=40)


@given(waits)
def test_without_reentrancy_both_engines_say_what_the_intervals_say(story: list[tuple[int, int, int]]) -> None:
    free_at = [1, 1, 1, 1]
    intervals: list[tuple[int, int, int, int]] = []
    for number, (vcpu, pause, length) in enumerate(story):
        start = free_at[vcpu] + pause
        free_at[vcpu] = start + length
        intervals.append((start, start + length, vcpu, (number + 1) * 4096))
    moments = [(end, 0, vcpu, page) for _, end, vcpu, page in intervals]
    moments += [(start, 1, vcpu, page) for start, _, vcpu, page in intervals]
    moments.sort()
    benches = [Bench("hash", 4), Bench("array", 4)]
    for ms, begins, vcpu, page in moments:
        for bench in benches:
            bench.begin(ms, page, vcpu) if begins else bench.end(ms, page)
    down = [{ms for start, end, vcpu, _ in intervals if vcpu == one for ms in range(start, end)} for one in range(4)]
    for bench in benches:
        report = bench.engine.report()
        assert report["postcopy-vcpu-blocktime"] == [len(one) for one in down]
        assert report["postcopy-blocktime"] == len(set.intersection(*down))
        assert bench.engine.down == bench.engine.pending == 0
    assert isinstance(benches[0].engine, HashEngine)
    assert sum(benches[0].engine.buckets) == len(intervals)


@pytest.mark.parametrize("vcpus", [1, 10, 11, 23])
def test_text_for_people_of_the_new_engine(vcpus: int) -> None:
    bench = Bench("hash", vcpus)
    lines = compact_text(bench.engine.report()).splitlines()
    rows = [", ".join(["0"] * min(10, vcpus - at)) for at in range(0, vcpus, 10)]
    shown = [(" [" if n == 0 else "  ") + row + ("]" if n == len(rows) - 1 else ",") for n, row in enumerate(rows)]
    assert lines[: 2 + len(rows)] == ["Postcopy Blocktime (ms): 0", "Postcopy vCPU Blocktime (ms):", *shown]
    assert lines[-24] == "  [     1 us -     2 us ]:          0"
    assert lines[-15] == "  [   512 us -     1 ms ]:          0"
    assert lines[-1] == "  [    8 sec -   16 sec ]:          0"


@pytest.mark.parametrize(("values", "text"), [([82, 0], "0,82"), ([0, 0], "0"), ([1, 2, 3], "1-3")])
def test_text_for_people_of_the_old_engine(values: list[int], text: str) -> None:
    info = {"postcopy-blocktime": 7, "postcopy-vcpu-blocktime": values}
    assert old_text(info) == f"postcopy blocktime: 7\npostcopy vcpu blocktime: {text}\n"
    assert old_text({}) == compact_text({}) == ""


def test_a_vcpu_that_came_later_is_none_of_the_known_ones() -> None:
    engine = Bench("array").engine
    assert isinstance(engine, ArrayEngine)
    engine.begin(A, 17)
    assert engine.pending == 0
    bench = Bench("hash")
    bench.engine.begin(A, 17)
    bench.end(3, A)
    assert isinstance(bench.engine, HashEngine)
    assert (bench.engine.other_count, bench.engine.other_total, bench.engine.vcpu_count) == (1, 3 * MS, [0])
    assert bench.engine.down == 0
