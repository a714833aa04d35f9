# SPDX-License-Identifier: MIT
"""Arguments and expressions of the human monitor; what is wrong is said as seen on 11.1.2, 10.0.13 and 7.2.22."""

from __future__ import annotations

import pytest

from fakeqemu.error import NotEmulated
from fakeqemu.monitor.hmp_arguments import WrongArguments, parse

NUMBERS = "first:l,second:l?"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("1+1", 2), ("1 + 2 * 3", 7), ("(1 + 2) * 3", 9), ("0x10", 16), ("010", 8), ("-5", -5), ("~0", -1),
        ("'a'", 97), ("7/2", 3), ("-7/2", -3), ("-7%4", -3), ("6&3", 2), ("6|3", 7), ("6^3", 5), ("1 -5", -4),
        ("0xffffffffffffffff", -1), ("+3", 3), ("0", 0), ("1+2&2", 3), ("2*3&2", 2),
    ],
)  # fmt: skip
def test_a_number_may_be_an_expression(text: str, value: int) -> None:
    assert parse("calc", NUMBERS, " " + text) == {"first": value}


@pytest.mark.parametrize(
    ("text", "complaint", "named"),
    [
        ("", "unexpected end of expression", False),
        ("x", "invalid char 'x' in expression", False),
        ("1 x", "invalid char 'x' in expression", False),
        ("1 2 3", "extraneous characters at the end of line", True),
        ("5M", "invalid char 'M' in expression", False),
        ("99999999999999999999", "number too large", False),
        ("(1 5", "')' expected", False),
        ("1/0", "division by zero", False),
        ("1%0", "division by zero", False),
    ],
)
def test_what_is_wrong_is_said(text: str, complaint: str, named: bool) -> None:
    with pytest.raises(WrongArguments, match=r".*") as wrong:
        parse("calc", NUMBERS, text)
    assert (str(wrong.value), wrong.value.named) == (complaint, named)


def test_the_last_arguments_may_be_left_out() -> None:
    assert parse("calc", NUMBERS, " 1 ") == {"first": 1}
    assert parse("calc", NUMBERS, " 1 512") == {"first": 1, "second": 512}
    assert parse("calc", "only:l?", "") == {}


def test_flags_stand_before_numbers() -> None:
    takes = "ring:-r,bitmap:-b,second:l"
    assert parse("calc", takes, " -r -b 1") == {"ring": True, "bitmap": True, "second": 1}
    assert parse("calc", takes, " -b 1") == {"bitmap": True, "second": 1}
    with pytest.raises(WrongArguments, match="unsupported option -x"):
        parse("calc", takes, " -x 1")
    with pytest.raises(WrongArguments, match="unsupported option -1"):
        parse("calc", takes, " -1")


def test_a_number_of_32_bits_has_no_more() -> None:
    assert parse("calc", "index:i", "7") == {"index": 7}
    with pytest.raises(WrongArguments, match="integer is for 32-bit values"):
        parse("calc", "index:i", "0x100000000")


@pytest.mark.parametrize("deep", ["(" * 5000 + "1" + ")" * 5000, "-" * 5000 + "1"])
def test_depth_has_an_end(deep: str) -> None:
    with pytest.raises(NotEmulated, match="deeper than"):
        parse("x", "n:l", deep)
    assert parse("x", "n:l", "(" * 40 + "7" + ")" * 40 + "+1" * 500) == {"n": 507}


def test_registers_are_not_emulated() -> None:
    with pytest.raises(NotEmulated):
        parse("calc", NUMBERS, "$pc")
