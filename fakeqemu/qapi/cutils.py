# SPDX-License-Identifier: MIT
"""Numbers, sizes and switches as QEMU reads them from text.

All of these take the whole text or nothing, and say what went wrong as a number of errno's: EINVAL for what is no number,
ERANGE for one that does not fit.

QEMU: util/cutils.c, qapi/qapi-util.c
"""

from __future__ import annotations

EINVAL = 22
ERANGE = 34

_SPACE = " \t\n\v\f\r"
_SUFFIXES = {"B": 0, "K": 10, "M": 20, "G": 30, "T": 40, "P": 50, "E": 60}
_TRUE = ("on", "yes", "true", "y")
_FALSE = ("off", "no", "false", "n")
HEX_DIGITS = "0123456789abcdefABCDEF"


class NumberError(ValueError):
    """Text that is no such number; `errno` is EINVAL or ERANGE."""

    def __init__(self, errno: int) -> None:
        super().__init__(errno)
        self.errno = errno


def parse_bool(text: str) -> bool | None:
    """on/yes/true/y or off/no/false/n; None for anything else."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    return None


def split_integer(text: str) -> tuple[int, str]:
    """The integer at the beginning, as C's strtoll with base 0 finds it, and the rest; NumberError if there is none."""
    body = text.lstrip(_SPACE)
    sign = 1
    if body[:1] in ("+", "-"):
        sign = -1 if body[0] == "-" else 1
        body = body[1:]
    base, digits = 10, "0123456789"
    if body[:2] in ("0x", "0X") and body[2:3] and body[2] in HEX_DIGITS:
        base, digits, body = 16, HEX_DIGITS, body[2:]
    elif body[:1] == "0":
        base, digits = 8, "01234567"
    end = 0
    while end < len(body) and body[end] in digits:
        end += 1
    if not end:
        raise NumberError(EINVAL)
    return sign * int(body[:end], base), body[end:]


def parse_uint64(text: str) -> int:
    """As qemu_strtou64 with base 0: a minus sign wraps around, as in C."""
    value, rest = split_integer(text)
    if rest:
        raise NumberError(EINVAL)
    if not -(1 << 64) < value < 1 << 64:
        raise NumberError(ERANGE)
    return value & 0xFFFFFFFFFFFFFFFF


def parse_int64(text: str) -> int:
    """As qemu_strtoi64 with base 0."""
    value, rest = split_integer(text)
    if rest:
        raise NumberError(EINVAL)
    if not -(1 << 63) <= value < 1 << 63:
        raise NumberError(ERANGE)
    return value


def parse_size(text: str, default_suffix: str = "B") -> int:
    """As qemu_strtosz: `64`, `1.5G`, `0x1000`, `4k`; a hexadecimal number takes no fraction and no suffix."""
    body = text.lstrip(_SPACE)
    if body.startswith("-"):
        # Only a true number below zero is out of range; "-0" is zero, other text is no number.
        value, rest = split_integer(body)
        if value == 0 and not rest:
            return 0
        raise NumberError(ERANGE if not rest.strip("0123456789.kKmMgGtTpPeEbB") else EINVAL)
    whole_text = body[1:] if body.startswith("+") else body
    if whole_text[:2] in ("0x", "0X"):
        value, rest = split_integer(body)
        if rest:
            raise NumberError(EINVAL)
        if value >= 1 << 64:
            raise NumberError(ERANGE)
        return value
    end = 0
    while end < len(whole_text) and whole_text[end] in "0123456789":
        end += 1
    whole, rest = whole_text[:end], whole_text[end:]
    fraction = ""
    if rest.startswith("."):
        end = 1
        while end < len(rest) and rest[end] in "0123456789":
            end += 1
        fraction, rest = rest[1:end], rest[end:]
    if not whole and not fraction:
        raise NumberError(EINVAL)
    shift = _SUFFIXES.get(rest[:1].upper()) if rest else _SUFFIXES[default_suffix]
    if shift is None or len(rest) > 1:
        raise NumberError(EINVAL)
    value = int(whole or "0") << shift
    if fraction and int(fraction):
        if shift == 0:
            raise NumberError(EINVAL)  # half a byte
        value += (int(fraction) << shift) // 10 ** len(fraction)
    if value >= 1 << 64:
        raise NumberError(ERANGE)
    return value
