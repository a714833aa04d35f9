# SPDX-License-Identifier: MIT
"""The orders of QEMU's two hash tables, which a client can see.

- **QDict** holds every JSON object: 512 buckets, in each the last put in comes first. Replies and events are written in
  this order, and the members of a request are checked in it.
- **GHashTable** of GLib holds what is looked up by name: which of several unexpected arguments is named, and the order
  of `qom-list` and its kin. Open addressing with a prime modulus, and a size that follows the number of entries.

QEMU: qobject/qdict.c; GLib: glib/ghash.c
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

_BUCKETS = 512
_CACHE_LIMIT = 8192

_buckets: dict[str, int] = {}


def key_bytes(key: str) -> bytes:
    """A key as QEMU holds it: UTF-8, with NUL as C0 80."""
    data = key.encode("utf-8", "surrogatepass")
    return data.replace(b"\0", b"\xc0\x80") if b"\0" in data else data


def bucket(key: str) -> int:
    """The bucket of a key in a QDict."""
    value = _buckets.get(key)
    if value is None:
        data = key_bytes(key)
        h = 0x238F13AF * len(data)
        for i, byte in enumerate(data):
            h += byte << (i * 5 % 24)
        value = (1103515243 * h + 12345 & 0xFFFFFFFF) % _BUCKETS
        if len(_buckets) < _CACHE_LIMIT:
            _buckets[key] = value
    return value


def ordered(keys: Iterable[str]) -> list[str]:
    """Keys, given in the order in which they were put in, in the order of a QDict."""
    result = list(keys)
    result.reverse()
    result.sort(key=bucket)
    return result


def items(value: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The items of an object in the order of a QDict."""
    for key in ordered(value):
        yield key, value[key]


def as_inserted(value: Any) -> Any:
    """A value out of a reply, with the members of objects in an order in which they could have been put in."""
    if isinstance(value, dict):
        return {key: as_inserted(item) for key, item in reversed(value.items())}
    return [as_inserted(item) for item in value] if isinstance(value, list) else value


# --- GHashTable -------------------------------------------------------------------------------------------

# The largest prime below each power of two, from 2^0 on.
_PRIMES = (
    1, 2, 3, 7, 13, 31, 61, 127, 251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521,
)  # fmt: skip
_MIN_SHIFT = 3
_EMPTY, _TOMBSTONE = 0, 1


def string_hash(key: str) -> int:
    """GLib's hash of a string, over signed bytes."""
    h = 5381
    for byte in key_bytes(key):
        h = h * 33 + (byte - 256 if byte > 127 else byte) & 0xFFFFFFFF
    return h


class GHashTable:
    """A hash table of strings that iterates as GLib's does.

    A removed entry leaves a tombstone, which counts as occupied until the next resize: so the order depends on the
    history, and this has to be the table itself, not a sort.
    """

    __slots__ = ("_count", "_hashes", "_occupied", "_shift", "_slots")

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._count = 0
        self._occupied = 0
        self._set_shift(_MIN_SHIFT)
        for key in keys:
            self.add(key)

    def _set_shift(self, shift: int) -> None:
        self._shift = shift
        self._hashes = [_EMPTY] * (1 << shift)
        self._slots: list[str] = [""] * (1 << shift)

    def _find(self, key: str) -> tuple[int, int, bool]:
        """(slot where the key is or would go, hash, whether it is there)"""
        h = string_hash(key)
        if h < 2:
            h = 2
        mask = len(self._slots) - 1
        at = (h * 11 & 0xFFFFFFFF) % _PRIMES[self._shift]
        step = 0
        tombstone = -1
        while self._hashes[at] != _EMPTY:
            if self._hashes[at] == h and self._slots[at] == key:
                return at, h, True
            if self._hashes[at] == _TOMBSTONE and tombstone < 0:
                tombstone = at
            step += 1
            at = at + step & mask
        return (tombstone if tombstone >= 0 else at), h, False

    def add(self, key: str) -> None:
        """Put a key in; nothing changes when it is there."""
        at, h, there = self._find(key)
        if there:
            return
        was_empty = self._hashes[at] == _EMPTY
        self._hashes[at] = h
        self._slots[at] = key
        self._count += 1
        if was_empty:
            self._occupied += 1
            self._maybe_resize()

    def remove(self, key: str) -> bool:
        """Take a key out; says whether it was there."""
        at, _, there = self._find(key)
        if there:
            self._hashes[at] = _TOMBSTONE
            self._slots[at] = ""
            self._count -= 1
            self._maybe_resize()
        return there

    def __iter__(self) -> Iterator[str]:
        for h, key in zip(self._hashes, self._slots, strict=True):
            if h > _TOMBSTONE:
                yield key

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: str) -> bool:
        return self._find(key)[2]

    def _maybe_resize(self) -> None:
        size = len(self._slots)
        if (size > self._count * 4 and size > 1 << _MIN_SHIFT) or size <= self._occupied + self._occupied // 16:
            self._resize()

    def _resize(self) -> None:
        """Move to the size that fits, in place.

        Slot by slot an entry is taken out and put where it belongs; if one that has not moved yet is there, that one is
        taken out and goes on in its stead. So the order is not that of inserting anew.
        """
        old_size = len(self._slots)
        shift = max(int(self._count * 1.333).bit_length(), _MIN_SHIFT)
        size = 1 << shift
        hashes = self._hashes + [_EMPTY] * (size - old_size)
        slots = self._slots + [""] * (size - old_size)
        settled = [False] * len(slots)
        for start in range(old_size):
            h, key = hashes[start], slots[start]
            if settled[start]:
                continue
            hashes[start], slots[start] = _EMPTY, ""
            while h > _TOMBSTONE:
                at = (h * 11 & 0xFFFFFFFF) % _PRIMES[shift]
                step = 0
                while settled[at]:
                    step += 1
                    at = at + step & size - 1
                settled[at] = True
                hashes[at], h = h, hashes[at]
                slots[at], key = key, slots[at]
        self._shift = shift
        self._hashes, self._slots = hashes[:size], slots[:size]
        self._occupied = self._count


def first_in_table(keys: Iterable[str], visited: Iterable[str]) -> str | None:
    """The unexpected argument that QEMU names: `keys` put into a table in QDict order, those `visited` taken out."""
    table = GHashTable(ordered(keys))
    for key in visited:
        table.remove(key)
    for key in table:
        return key
    return None
