# SPDX-License-Identifier: MIT
"""Guest memory: blocks of pages over one of two stores.

    SparseStore   pages are absent (zero), a generation number whose bytes are made from it, or real bytes once somebody
                  wrote them: a terabyte costs what was done with it
    MappedStore   the pages of a descriptor (memory-backend-file, -memfd), which others may read and write; what is a
                  hole in the file is zero

Which pages are dirty is kept in runs (`PageRuns`), never an entry a page.

QEMU: system/physmem.c, include/exec/ramblock.h
"""

from __future__ import annotations

import os
from _bisect import bisect_left, bisect_right
from _struct import Struct
from itertools import count

from fakeqemu.system.page_runs import PageRuns as PageRuns  # it is known by this name too

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE_SIZE = 4096
PAGE_BITS = 12
ZERO_PAGE = bytes(PAGE_SIZE)

#: what a run of pages holds
ZERO = "zero"
MADE = "made"
REAL = "real"

_ENXIO = 6
#: pages of a file that are read at once when somebody asks what they hold
_LOOK_AHEAD_PAGES = 256
_made_unit = Struct("<QQ")


def made_page(generation: int, page: int) -> bytes:
    """The bytes of a make-believe page: never all zero, different for each generation and page."""
    return _made_unit.pack(generation, page) * (PAGE_SIZE // 16)


class SparseStore:
    """Pages that cost nothing until somebody writes real bytes."""

    __slots__ = ("_generations", "_real", "_starts")

    #: whether others can write to it behind our back
    shared = False

    def __init__(self) -> None:
        # A step function from page to generation: from _starts[i] on it is _generations[i]; 0 is a zero page.
        self._starts = [0]
        self._generations = [0]
        self._real: dict[int, bytes] = {}

    def runs(self, first: int, n: int) -> Iterator[tuple[int, int, str]]:
        """The pages as runs (first, length, ZERO | MADE | REAL), in order."""
        at = first
        last = first + n
        step = bisect_right(self._starts, at) - 1
        if n < len(self._real):
            real = [page for page in range(first, last) if page in self._real]
        else:
            real = sorted(page for page in self._real if first <= page < last)
        while at < last:
            end = min(last, self._starts[step + 1] if step + 1 < len(self._starts) else last)
            kind = MADE if self._generations[step] else ZERO
            while real and real[0] < end:
                if real[0] > at:
                    yield at, real[0] - at, kind
                length = 1
                while length < len(real) and real[length] == real[0] + length and real[length] < end:
                    length += 1
                yield real[0], length, REAL
                at = real[0] + length
                del real[:length]
            if at < end:
                yield at, end - at, kind
            at = end
            step += 1

    def read(self, first: int, n: int) -> bytes:
        """The bytes of `n` pages."""
        return b"".join(self._page(page) for page in range(first, first + n))

    def buffers(self, first: int, n: int) -> list[bytes | memoryview]:
        """The bytes of `n` pages, a buffer each."""
        return [self._page(page) for page in range(first, first + n)]

    def buffer(self, first: int, n: int) -> bytes | memoryview:
        """The bytes of `n` pages."""
        return self.read(first, n)

    def _page(self, page: int) -> bytes:
        real = self._real.get(page)
        if real is not None:
            return real
        generation = self._generations[bisect_right(self._starts, page) - 1]
        return made_page(generation, page) if generation else ZERO_PAGE

    def copy(self, other: SparseStore, first: int, n: int) -> None:
        """The same content as another store has in these pages."""
        for start, length, kind in other.runs(first, n):
            if kind is REAL:
                for page in range(start, start + length):
                    self._real[page] = other._real[page]
            else:
                self._set_generation(start, length, other._generations[bisect_right(other._starts, start) - 1])

    def write(self, page: int, data: bytes | memoryview) -> None:
        """Real bytes for whole pages; a page of zeroes becomes absent."""
        for at in range(0, len(data), PAGE_SIZE):
            content = bytes(data[at : at + PAGE_SIZE])
            if content == ZERO_PAGE:
                self.zero(page, 1)
            else:
                self._real[page] = content
            page += 1

    def write_scattered(self, page: int, pages: list[memoryview]) -> None:
        """Real bytes for pages that follow each other, one buffer each."""
        for number, content in enumerate(pages, page):
            self.write(number, content)

    def zero(self, first: int, n: int) -> None:
        self._set_generation(first, n, 0)

    def make(self, first: int, n: int, generation: int) -> None:
        """New make-believe content."""
        self._set_generation(first, n, generation)

    def _set_generation(self, first: int, n: int, generation: int) -> None:
        last = first + n
        if self._real:
            if n < len(self._real):
                for page in range(first, last):
                    self._real.pop(page, None)
            else:
                self._real = {p: data for p, data in self._real.items() if not first <= p < last}
        after = self._generations[bisect_right(self._starts, last) - 1]
        low = bisect_left(self._starts, first)
        high = bisect_right(self._starts, last)
        starts = [first]
        generations = [generation]
        if low and self._generations[low - 1] == generation:
            starts, generations = [], []
        if after != generation:
            starts.append(last)
            generations.append(after)
        self._starts[low:high] = starts
        self._generations[low:high] = generations

    def close(self) -> None:
        pass


class MappedStore:
    """Pages that live in a file or memfd. The descriptor is ours from now on."""

    __slots__ = ("_gap", "_in_order", "_looked_at", "_offset", "fd")

    shared = True

    def __init__(self, fd: int, offset: int = 0) -> None:
        self.fd = fd
        self._offset = offset
        #: what `runs` has read last, to find out what is zero: who asks then sends it
        self._looked_at: tuple[int, bytearray] = (0, bytearray())
        #: room in front of each page there
        self._gap = 0
        #: whether that is used until `forget`
        self._in_order = False

    def read_in_order(self, gap: int) -> None:
        """All pages are going to be read, one after the other, and `forget` is called when they may have changed.

        `gap`: room that `records` is to have in front of each page, a multiple of 8 bytes.
        """
        self.forget()
        self._gap, self._in_order = gap, True

    def read_anyhow(self) -> None:
        """What `read_in_order` has asked for is over."""
        self.forget()
        self._gap, self._in_order = 0, False

    def forget(self) -> None:
        """What was read ahead is not wanted any more."""
        self._looked_at = (0, bytearray())

    def runs(self, first: int, n: int) -> Iterator[tuple[int, int, str]]:
        """The pages as runs: holes and pages of zeroes are ZERO, all others REAL."""
        at = first
        last = first + n
        while at < last:
            data = self._next_data(at, last)
            if data > at:
                yield at, data - at, ZERO
            at = data
            if at < last:
                length = self._look(at, min(_LOOK_AHEAD_PAGES, last - at))
                yield from self._split_by_zero(at, length)
                at += length

    def _look(self, first: int, n: int) -> int:
        """Read pages; or go on with those that were. How many there are now from `first` on, at most `n`."""
        start, data = self._looked_at
        step = self._gap + PAGE_SIZE
        left = start + len(data) // step - first
        if self._in_order and start <= first and left > 0:
            return min(n, left)
        data = _as_new(data, n * step)
        self._looked_at = 0, bytearray()
        self._read_into(data, first)
        self._looked_at = first, data
        return n

    def _split_by_zero(self, first: int, n: int) -> Iterator[tuple[int, int, str]]:
        """What `_look` has read as runs. Most of the time only the first one is wanted."""
        start, data = self._looked_at
        step = self._gap + PAGE_SIZE
        at = (first - start) * step
        words = memoryview(data)[at : at + n * step].cast("Q")[self._gap // 8 :: step // 8].tolist()
        if 0 not in words:  # no page begins with zeroes
            yield first, n, REAL
            return
        begun, kind = 0, ""
        for page, word in enumerate(words):
            content = at + page * step + self._gap
            this = REAL if word or not data.startswith(ZERO_PAGE, content) else ZERO
            if this != kind:
                if page:
                    yield first + begun, page - begun, kind
                begun, kind = page, this
        yield first + begun, n - begun, kind

    def _next_data(self, first: int, last: int) -> int:
        """First page in [first, last) that is no hole, `last` when there is none.

        Where the data ends is not asked: a file system may have to look at every page up to there.
        """
        try:
            start = os.lseek(self.fd, self._offset + first * PAGE_SIZE, os.SEEK_DATA)
        except OSError as err:
            return last if err.errno == _ENXIO else first  # nothing but a hole up to the end; or one that cannot tell
        return min(last, max(first, (start - self._offset) // PAGE_SIZE))

    def read(self, first: int, n: int) -> bytes:
        size = n * PAGE_SIZE
        data = os.pread(self.fd, size, self._offset + first * PAGE_SIZE)
        return data if len(data) == size else data + bytes(size - len(data))

    def _read_into(self, data: bytearray, first: int) -> None:
        """Fill memory with pages and the gaps in front of them."""
        view = memoryview(data)
        step = self._gap + PAGE_SIZE
        pages = [view[at + self._gap : at + step] for at in range(0, len(data), step)] if self._gap else [view]
        count = os.preadv(self.fd, pages, self._offset + first * PAGE_SIZE)
        for number in range(count // len(pages[0]), len(pages)):  # behind the end of the file
            found = max(0, count - number * len(pages[0]))
            pages[number][found:] = bytes(len(pages[number]) - found)

    def records(self, first: int, n: int) -> memoryview | None:
        """`n` pages that `runs` has just looked at, each behind its gap; None where there are no gaps."""
        start, data = self._looked_at
        step = self._gap + PAGE_SIZE
        at = (first - start) * step
        if not self._gap or at < 0 or at + n * step > len(data):
            return None
        return memoryview(data)[at : at + n * step]

    def buffers(self, first: int, n: int) -> list[bytes | memoryview]:
        """The bytes of `n` pages, a buffer each."""
        view = self.records(first, n)
        if view is None:
            view = self.buffer(first, n)
            return [view[at : at + PAGE_SIZE] for at in range(0, n * PAGE_SIZE, PAGE_SIZE)]
        step = self._gap + PAGE_SIZE
        return [view[at + self._gap : at + step] for at in range(0, n * step, step)]

    def buffer(self, first: int, n: int) -> memoryview:
        """The bytes of `n` pages; those that `runs` has just looked at are not read again."""
        start, data = self._looked_at
        at = (first - start) * PAGE_SIZE
        end = at + n * PAGE_SIZE
        if self._gap or at < 0 or end > len(data):
            return memoryview(self.read(first, n))
        return memoryview(data)[at:end]

    def write(self, page: int, data: bytes | memoryview) -> None:
        self.forget()
        os.pwrite(self.fd, data, self._offset + page * PAGE_SIZE)

    def write_scattered(self, page: int, pages: list[memoryview]) -> None:
        """Pages that follow each other, one buffer each, not more than 1024."""
        self.forget()
        if os.pwritev(self.fd, pages, self._offset + page * PAGE_SIZE) != len(pages) * PAGE_SIZE:
            for number, content in enumerate(pages, page):  # the disk is full, most likely: say so
                self.write(number, content)

    def zero(self, first: int, n: int) -> None:
        for start, length, kind in list(self.runs(first, n)):
            if kind is not ZERO:
                for at in range(start, start + length, 256):
                    self.write(at, bytes(PAGE_SIZE * min(256, start + length - at)))

    def make(self, first: int, n: int, generation: int) -> None:
        for at in range(first, first + n, 256):
            self.write(at, b"".join(made_page(generation, p) for p in range(at, min(at + 256, first + n))))

    def close(self) -> None:
        self.forget()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def file_system_of(fd: int) -> str:
    """The type of the file system that a descriptor's file lies on, "" when nobody can tell (memfd)."""
    device = os.fstat(fd).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
            for line in mounts:
                columns, _, rest = line.partition(" - ")
                if columns.split()[2] == wanted:
                    return rest.split()[0]
    except OSError:
        pass
    return ""


def _as_new(data: bytearray, size: int) -> bytearray:
    """Memory of that size: this one, unless somebody still looks at it."""
    if len(data) == size:
        try:
            data.pop()  # which is not allowed then
            data.append(0)
        except BufferError:
            return bytearray(size)
        return data
    return bytearray(size)


class RAMBlock:
    """One block of guest memory, under the name by which a migration knows it (`idstr`)."""

    __slots__ = ("dirty", "generation", "guard", "guest_address", "idstr", "logs", "max_length", "moment", "named_file", "number",
                 "page_size", "received", "resizeable", "share", "store", "used_length")  # fmt: skip

    #: blocks of all machines, in the order of making
    _numbers = count()

    def __init__(
        self,
        idstr: str,
        length: int,
        store: SparseStore | MappedStore | None = None,
        *,
        share: bool = False,
        named_file: bool = False,
        page_size: int = PAGE_SIZE,
        max_length: int = 0,
    ) -> None:
        """`share`: another process sees what is written; `named_file`: it is a file with a name, which others can open;
        `page_size`: that of the host memory behind it; `max_length`: the size to which it may grow.
        """
        self.idstr = idstr
        self.used_length = length
        self.max_length = max_length or length
        #: whether it takes the size that a stream has for it
        self.resizeable = False
        #: what orders blocks of one size (system/ram_list.py)
        self.moment = 0
        self.number = next(self._numbers)
        self.store: SparseStore | MappedStore = store if store is not None else SparseStore()
        self.share = share
        self.named_file = named_file
        self.page_size = page_size
        #: where it stands in the memory that it is a part of
        self.guest_address = 0
        #: pages that changed since the migration last looked; None while nobody looks
        self.dirty: PageRuns | None = None
        #: for others who look: pages that changed since they began to
        self.logs: list[PageRuns] = []
        #: pages that have come in, while a migration is loaded
        self.received: PageRuns | None = None
        self.generation = 0
        #: told which pages the guest is about to write; None while nobody wants to know
        self.guard: Callable[[int, int], None] | None = None

    @property
    def pages(self) -> int:
        return self.used_length >> PAGE_BITS

    def runs(self, first: int = 0, n: int | None = None) -> Iterator[tuple[int, int, str]]:
        """Pages as runs (first, length, ZERO | MADE | REAL)."""
        return self.store.runs(first, self.pages - first if n is None else n)

    def read_pages(self, first: int, n: int = 1) -> bytes:
        return self.store.read(first, n)

    def buffers(self, first: int, n: int) -> list[bytes | memoryview]:
        """The bytes of pages, a buffer each: as they were when `runs` looked at them."""
        return self.store.buffers(first, n)

    def read_in_order(self, gap: int) -> None:
        """All pages are going to be read, with room for so many bytes in front of each in `records`, where that costs
        nothing; `forget` says when they may have changed, `read_anyhow` that it is over.
        """
        if isinstance(self.store, MappedStore):
            self.store.read_in_order(gap)

    def read_anyhow(self) -> None:
        if isinstance(self.store, MappedStore):
            self.store.read_anyhow()

    def records(self, first: int, n: int) -> memoryview | None:
        """The bytes of pages as they were when `runs` looked at them, each behind its gap; None where there are no gaps."""
        return self.store.records(first, n) if isinstance(self.store, MappedStore) else None

    def buffer(self, first: int, n: int) -> bytes | memoryview:
        """The bytes of pages in one piece, as they were when `runs` looked at them."""
        return self.store.buffer(first, n)

    def forget(self) -> None:
        """Pages may have changed: nothing of what was read counts any more."""
        if isinstance(self.store, MappedStore):
            self.store.forget()

    def write_pages(self, first: int, data: bytes | memoryview) -> None:
        """Put whole pages of real bytes, without marking them dirty."""
        self.store.write(first, data)

    def write_scattered(self, first: int, pages: list[memoryview]) -> None:
        """Put pages of real bytes that follow each other, one buffer each, without marking them dirty."""
        self.store.write_scattered(first, pages)

    def zero_pages(self, first: int, n: int) -> None:
        self.store.zero(first, n)

    def guest_write(self, offset: int, data: bytes) -> None:
        """The guest writes bytes anywhere in the block."""
        first = offset >> PAGE_BITS
        last = -(-(offset + len(data)) // PAGE_SIZE)
        if self.guard is not None:
            self.guard(first, last - first)
        content = bytearray(self.store.read(first, last - first))
        start = offset - (first << PAGE_BITS)
        content[start : start + len(data)] = data
        self.store.write(first, bytes(content))
        self.set_dirty(first, last - first)

    def guest_dirties(self, first: int, n: int) -> None:
        """The guest gives `n` pages some new content."""
        self.generation += 1
        if self.guard is not None:
            self.guard(first, n)
        if self.received is not None:  # those that have not come yet cannot be written to
            for start, length in self.received.within(first, n):
                self.store.make(start, length, self.generation)
                self.set_dirty(start, length)
            return
        self.store.make(first, n, self.generation)
        self.set_dirty(first, n)

    def read(self, offset: int, size: int) -> bytes:
        first = offset >> PAGE_BITS
        last = -(-(offset + size) // PAGE_SIZE)
        return self.store.read(first, last - first)[offset - (first << PAGE_BITS) :][:size]

    def set_dirty(self, first: int, n: int) -> None:
        if self.dirty is not None:
            self.dirty.add(first, n)
        for log in self.logs:
            log.add(first, n)

    def close(self) -> None:
        self.store.close()
