# SPDX-License-Identifier: MIT
"""Sets of pages: which are dirty, which have come. A terabyte of them costs what its pieces cost."""

from __future__ import annotations

from _bisect import bisect_left, bisect_right

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class PageRuns:
    """A set of page numbers as sorted runs that neither overlap nor touch."""

    __slots__ = ("_ends", "_starts", "count")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        #: number of pages
        self.count = 0

    def add(self, first: int, n: int) -> None:
        """Put `n` pages from `first` in."""
        if n <= 0:
            return
        last = first + n
        low = bisect_left(self._ends, first)
        high = bisect_right(self._starts, last)
        if low < high:  # runs that overlap or touch become one
            first = min(first, self._starts[low])
            last = max(last, self._ends[high - 1])
            self.count -= sum(self._ends[low:high]) - sum(self._starts[low:high])
        self._starts[low:high] = [first]
        self._ends[low:high] = [last]
        self.count += last - first

    def discard(self, first: int, n: int) -> None:
        """Take `n` pages from `first` out; those that are not in do not matter."""
        last = first + n
        low = bisect_right(self._ends, first)
        high = bisect_left(self._starts, last)
        if n <= 0 or low >= high:
            return
        starts: list[int] = []
        ends: list[int] = []
        if self._starts[low] < first:
            starts.append(self._starts[low])
            ends.append(first)
        if self._ends[high - 1] > last:
            starts.append(last)
            ends.append(self._ends[high - 1])
        self.count += sum(ends) - sum(starts) - (sum(self._ends[low:high]) - sum(self._starts[low:high]))
        self._starts[low:high] = starts
        self._ends[low:high] = ends

    def clear(self) -> None:
        self._starts.clear()
        self._ends.clear()
        self.count = 0

    def first_run(self, start: int = 0) -> tuple[int, int] | None:
        """First page and length of the first run at or after page `start`."""
        at = bisect_right(self._ends, start)
        if at == len(self._starts):
            return None
        first = max(start, self._starts[at])
        return first, self._ends[at] - first

    def within(self, first: int, n: int) -> Iterator[tuple[int, int]]:
        """The runs, or parts of runs, among `n` pages from `first`."""
        at, last = first, first + n
        while at < last and (run := self.first_run(at)) is not None and run[0] < last:
            yield run[0], min(run[1], last - run[0])
            at = run[0] + run[1]

    def gaps(self, first: int, n: int) -> Iterator[tuple[int, int]]:
        """The runs of pages among `n` from `first` that are not in."""
        at, last = first, first + n
        for start, length in list(self.within(first, n)):
            if start > at:
                yield at, start - at
            at = start + length
        if at < last:
            yield at, last - at

    def __contains__(self, page: int) -> bool:
        at = bisect_right(self._starts, page) - 1
        return at >= 0 and page < self._ends[at]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter([(s, e - s) for s, e in zip(self._starts, self._ends, strict=True)])

    def __len__(self) -> int:
        """Number of runs."""
        return len(self._starts)
