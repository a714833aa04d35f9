# SPDX-License-Identifier: MIT
"""Numbers, sizes and switches in text."""

from __future__ import annotations

import pytest

from fakeqemu.qapi.cutils import EINVAL, ERANGE, NumberError, parse_bool, parse_int64, parse_size, parse_uint64

M = 1 << 20


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0), ("1", 1), (" 7", 7), ("+8", 8), ("4k", 4096), ("4K", 4096), ("1.5M", 3 * M // 2), ("64b", 64), ("0x10", 16),
        ("-0", 0), ("1.0", 1), (".5k", 512), ("1.M", M), ("16E", None), ("15E", 15 << 60),
        ("18446744073709551615", (1 << 64) - 1),
        ("0.1k", 102), ("1e", 1 << 60),
    ],
)  # fmt: skip
def test_sizes(text: str, value: int | None) -> None:
    if value is None:
        with pytest.raises(NumberError) as caught:
            parse_size(text)
        assert caught.value.errno == ERANGE
    else:
        assert parse_size(text) == value


@pytest.mark.parametrize(
    ("text", "errno"),
    [
        ("", EINVAL), ("k", EINVAL), ("1X", EINVAL), ("1kk", EINVAL), ("0x10k", EINVAL), ("1.5", EINVAL), (".", EINVAL),
        ("-1", ERANGE), ("-x", EINVAL), ("99999999999999999999", ERANGE), ("0x10000000000000000", ERANGE), ("on", EINVAL),
    ],
)  # fmt: skip
def test_what_is_no_size(text: str, errno: int) -> None:
    with pytest.raises(NumberError) as caught:
        parse_size(text)
    assert caught.value.errno == errno


def test_integers() -> None:
    assert parse_int64("-0x10") == -16
    assert parse_int64("010") == 8
    assert parse_uint64("-1") == (1 << 64) - 1
    assert parse_uint64("18446744073709551615") == (1 << 64) - 1
    for text, errno in (("9223372036854775808", ERANGE), ("", EINVAL), ("1a", EINVAL), ("08", EINVAL), ("- 1", EINVAL)):
        with pytest.raises(NumberError) as caught:
            parse_int64(text)
        assert caught.value.errno == errno


def test_switches() -> None:
    assert [parse_bool(text) for text in ("on", "yes", "true", "y")] == [True] * 4
    assert [parse_bool(text) for text in ("off", "no", "false", "n")] == [False] * 4
    assert [parse_bool(text) for text in ("On", "1", "", "maybe")] == [None] * 4
