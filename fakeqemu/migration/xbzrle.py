# SPDX-License-Identifier: MIT
"""Sending pages as differences to what was sent before (capability xbzrle).

From the second pass on, the last content that was sent of a page is kept in a cache. A page that is there goes as a delta,
or not at all when nothing changed; one that is not goes as it is, and into the cache. The cache has one place for each
page modulo its size, and a page that came into it less than two passes ago is not driven out.

With `ram=model` only real bytes are compared: make-believe pages count as whole ones.

QEMU: migration/ram.c (save_xbzrle_page), migration/page_cache.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.migration.page_sink import PageSink
from fakeqemu.migration.stream import xbzrle
from fakeqemu.migration.stream.ram_page import RAM_SAVE_FLAG_PAGE, RAM_SAVE_FLAG_XBZRLE, TARGET_PAGE_SIZE
from fakeqemu.system.ramblock import ZERO_PAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.migration.outgoing import Outgoing
    from fakeqemu.migration.stream.qemu_file import QEMUFile
    from fakeqemu.system.ramblock import RAMBlock

#: passes for which a page keeps its place against others
CACHED_PAGE_LIFETIME = 2
_ENCODING_AND_LENGTH = 3
#: what a place takes in QEMU's table, and a table that no host has the memory for
_PLACE_SIZE = 24
_MAX_TABLE = 1 << 40


class PageCache:
    """Contents of pages by address. `age` is the number of the pass."""

    __slots__ = ("_items", "_places")

    def __init__(self, size: int) -> None:
        """`size` in bytes, a power of two."""
        self._places = max(1, size // TARGET_PAGE_SIZE)
        #: place -> (address, age, content)
        self._items: dict[int, tuple[int, int, bytes]] = {}

    def get(self, address: int, age: int) -> bytes | None:
        """The content at `address`, which is young again then; None when it is not there."""
        place = address // TARGET_PAGE_SIZE % self._places
        item = self._items.get(place)
        if item is None or item[0] != address:
            return None
        self._items[place] = address, age, item[2]
        return item[2]

    def insert(self, address: int, content: bytes, age: int) -> None:
        """Keep a page, unless a young one has its place."""
        place = address // TARGET_PAGE_SIZE % self._places
        item = self._items.get(place)
        if item is not None and item[0] != address and item[1] + CACHED_PAGE_LIFETIME > age:
            return
        self._items[place] = address, age, content


class XbzrleStats:
    """What query-migrate tells as xbzrle-cache."""

    __slots__ = (
        "_bytes_before", "_misses_before", "_pages_before", "_sent_before", "bytes", "cache_miss", "cache_miss_rate",
        "deltas", "encoding_rate", "overflow", "pages",
    )  # fmt: skip

    def __init__(self) -> None:
        self.bytes = 0
        #: pages that were found in the cache, and those of them that went as a delta
        self.pages = 0
        self.deltas = 0
        self.cache_miss = 0
        self.overflow = 0
        self.cache_miss_rate = 0.0
        self.encoding_rate = 0.0
        self._sent_before = self._misses_before = self._pages_before = self._bytes_before = 0

    def update_rates(self, sent: int) -> None:
        """Work the rates out for the time since the last call; `sent` pages were in all. QEMU: migration_update_rates"""
        count = sent - self._sent_before
        if not count:
            return
        self._sent_before = sent
        self.cache_miss_rate = (self.cache_miss - self._misses_before) / count
        self._misses_before = self.cache_miss
        plain = (self.pages - self._pages_before) * TARGET_PAGE_SIZE
        encoded = self.bytes - self._bytes_before
        self.encoding_rate = plain / encoded if plain and encoded else 0.0
        self._pages_before, self._bytes_before = self.pages, self.bytes

    def info(self, cache_size: int) -> dict[str, Any]:
        return {
            "cache-size": cache_size,
            "bytes": self.bytes,
            "pages": self.pages,
            "cache-miss": self.cache_miss,
            "cache-miss-rate": _number(self.cache_miss_rate),
            "encoding-rate": _number(self.encoding_rate),
            "overflow": self.overflow,
        }


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else value


class XbzrleSink(PageSink):
    """Pages of the main channel as differences, where that is shorter."""

    __slots__ = ("_addresses", "_cache", "_cache_size", "_last_stage", "_mig", "_options", "_started", "_xbzrle")

    def __init__(self, outgoing: Outgoing) -> None:
        super().__init__(outgoing)
        self._xbzrle = self._stats.xbzrle = XbzrleStats()
        self._mig = outgoing.mig
        self._options = outgoing.mig.options
        self._cache_size: int = self._options.get("xbzrle-cache-size")
        self._cache = PageCache(self._cache_size)
        self._addresses: dict[str, int] = {}
        #: the first pass is over: before it everything would be missing
        self._started = False
        self._last_stage = False

    def begin_setup(self) -> None:
        self._vm.faults.check("fake_xbzrle_init")
        if self._cache_size // TARGET_PAGE_SIZE * _PLACE_SIZE >= _MAX_TABLE:
            raise QemuError("Failed to allocate page cache")

    async def put_block_header(self, f: QEMUFile, block: RAMBlock) -> None:  # noqa: ARG002
        self._addresses[block.idstr] = sum(
            other.used_length for other in self._vm.ram_blocks if other.idstr in self._addresses
        )

    async def end_part(self, f: QEMUFile, *, pass_over: bool) -> None:  # noqa: ARG002
        self._started = self._started or pass_over

    def begin_last_stage(self) -> None:
        # Of a pair, more follows: the other half's pages are what was sent, and a delta is put on them. (QEMU keeps the older
        # page here as well, and puts a later delta on the wrong one.)
        self._last_stage = not self._options.on("x-colo")

    async def put_pages(self, f: QEMUFile, block: RAMBlock, first: int, n: int, kind: str) -> None:
        self._follow_cache_size()
        # A guest that runs on the far side changes what a delta would be put on.
        if not self._started or self._mig.state.startswith("postcopy") or block.idstr not in self._addresses:
            await super().put_pages(f, block, first, n, kind)
            return
        base, age = self._addresses[block.idstr], self._stats.dirty_sync_count
        if self.is_zero(kind):
            for page in range(first, first + n):
                self._keep(base + page * TARGET_PAGE_SIZE, ZERO_PAGE, age)
            await super().put_pages(f, block, first, n, kind)
            return
        data = block.read_pages(first, n)
        for at in range(n):
            content = data[at * TARGET_PAGE_SIZE : (at + 1) * TARGET_PAGE_SIZE]
            if not self._put_delta(f, block, first + at, content, base + (first + at) * TARGET_PAGE_SIZE, age):
                self._stats.normal += 1
                self._record(f, block, first + at, RAM_SAVE_FLAG_PAGE)
                f.put_buffer(content)

    def _put_delta(self, f: QEMUFile, block: RAMBlock, page: int, content: bytes, address: int, age: int) -> bool:
        """Put a page as a delta; False when it has to go as a whole."""
        stats = self._xbzrle
        old = self._cache.get(address, age)
        if old is None:
            stats.cache_miss += 1
            if not self._last_stage:
                self._keep(address, content, age)
            return False
        stats.pages += 1
        delta = xbzrle.encode(old, content, TARGET_PAGE_SIZE)
        if delta == b"":
            return True
        if not self._last_stage:
            self._keep(address, content, age)
        if delta is None:
            stats.overflow += 1
            stats.bytes += TARGET_PAGE_SIZE
            return False
        stats.deltas += 1
        before = f.bytes_transferred
        self._record(f, block, page, RAM_SAVE_FLAG_XBZRLE)
        header = f.bytes_transferred - before
        f.put_byte(xbzrle.ENCODING_FLAG_XBZRLE)
        f.put_be16(len(delta))
        f.put_buffer(delta)
        # The word is not counted, a block's name is.
        stats.bytes += header - 8 + _ENCODING_AND_LENGTH + len(delta)
        return True

    def _keep(self, address: int, content: bytes, age: int) -> None:
        """Put a page into the cache; one that there is no memory for is not kept, and the next time goes as a whole."""
        try:
            self._vm.faults.check("migration_pagecache_insert")
        except OSError:
            return
        self._cache.insert(address, content, age)

    def _follow_cache_size(self) -> None:
        size = self._options.get("xbzrle-cache-size")
        if size != self._cache_size:
            self._cache_size = size
            self._cache = PageCache(size)
