# SPDX-License-Identifier: MIT
"""Guest memory over a file that is mapped privately: what is written stays with us, the rest is the file's.

QEMU: util/mmap-alloc.c (MAP_PRIVATE)
"""

from __future__ import annotations

from fakeqemu.system.ramblock import PAGE_BITS, MappedStore, PageRuns, SparseStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class PrivateStore(MappedStore):
    """Pages of a file until somebody writes them; then pages of our own."""

    __slots__ = ("_ours", "_written")

    shared = False

    def __init__(self, fd: int, offset: int = 0) -> None:
        super().__init__(fd, offset)
        self._ours = SparseStore()
        self._written = PageRuns()

    def runs(self, first: int, n: int) -> Iterator[tuple[int, int, str]]:
        """The pages as runs (first, length, ZERO | MADE | REAL), in order."""
        at, last = first, first + n
        while at < last:
            run = self._written.first_run(at)
            start = last if run is None else min(run[0], last)
            if start > at:
                yield from super().runs(at, start - at)
            if run is not None and start < last:
                end = min(last, start + run[1])
                yield from self._ours.runs(start, end - start)
                start = end
            at = start

    def read(self, first: int, n: int) -> bytes:
        if not self._written.count:
            return super().read(first, n)
        return b"".join(
            self._ours.read(page, 1) if page in self._written else super(PrivateStore, self).read(page, 1)
            for page in range(first, first + n)
        )

    def read_in_order(self, gap: int) -> None:  # noqa: ARG002
        """There are no gaps: pages are put together from two places."""
        super().read_in_order(0)

    def buffers(self, first: int, n: int) -> list[bytes | memoryview]:
        if not self._written.count:
            return super().buffers(first, n)
        return [self.read(page, 1) for page in range(first, first + n)]

    def buffer(self, first: int, n: int) -> memoryview:
        return memoryview(self.read(first, n)) if self._written.count else super().buffer(first, n)

    def _read_into(self, data: bytearray, first: int) -> None:
        if self._written.count:
            data[:] = self.read(first, len(data) >> PAGE_BITS)
        else:
            super()._read_into(data, first)

    def write(self, page: int, data: bytes | memoryview) -> None:
        self._ours.write(page, data)
        self._written.add(page, len(data) >> PAGE_BITS)

    def zero(self, first: int, n: int) -> None:
        self._ours.zero(first, n)
        self._written.add(first, n)

    def make(self, first: int, n: int, generation: int) -> None:
        self._ours.make(first, n, generation)
        self._written.add(first, n)
