# SPDX-License-Identifier: MIT
"""XBZRLE: a page as the difference to what it was.

    { uleb128 bytes that stay, uleb128 bytes that change, those bytes }*

What stays at the end is left out. Lengths take one byte or two.

QEMU: migration/xbzrle.c
"""

from __future__ import annotations

import re

#: says that a page's delta is of this kind
ENCODING_FLAG_XBZRLE = 1
_MAX_ULEB128 = 0x3FFF
_changed_run = re.compile(rb"[^\0]+")


def encode(old: bytes, new: bytes, limit: int) -> bytes | None:
    """The delta that makes `new` of `old`: b"" when they are equal, None when it is longer than `limit`."""
    if old == new:
        return b""
    size = len(new)
    differences = (int.from_bytes(old, "little") ^ int.from_bytes(new, "little")).to_bytes(size, "little")
    delta = bytearray()
    at = 0
    for run in _changed_run.finditer(differences):
        start, end = run.span()
        # Room for two lengths of one byte each is asked for before they are known.
        if len(delta) + 2 > limit:
            return None
        delta += _uleb128(start - at)
        if len(delta) + 2 > limit:
            return None
        delta += _uleb128(end - start)
        if len(delta) + end - start > limit:
            return None
        delta += new[start:end]
        at = end
    return None if at < size and len(delta) + 2 > limit else bytes(delta)


def decode(old: bytes, delta: bytes) -> bytes:
    """What `delta` makes of `old`; raises ValueError."""
    new = bytearray(old)
    at = position = 0
    while position < len(delta):
        stay, position = _parse_uleb128(delta, position)
        at += stay
        if position >= len(delta):
            raise ValueError("a run of unchanged bytes at the end")
        changed, position = _parse_uleb128(delta, position)
        if changed == 0 or at + changed > len(new) or position + changed > len(delta):
            raise ValueError("a run of changed bytes of a wrong length")
        new[at : at + changed] = delta[position : position + changed]
        at += changed
        position += changed
    return bytes(new)


def _uleb128(value: int) -> bytes:
    assert value <= _MAX_ULEB128
    return bytes((value,)) if value < 0x80 else bytes((value & 0x7F | 0x80, value >> 7))


def _parse_uleb128(data: bytes, position: int) -> tuple[int, int]:
    if not data[position] & 0x80:
        return data[position], position + 1
    if position + 1 >= len(data) or data[position + 1] & 0x80:
        raise ValueError("a length of more than two bytes")
    return data[position] & 0x7F | data[position + 1] << 7, position + 2
