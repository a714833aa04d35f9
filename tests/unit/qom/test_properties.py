# SPDX-License-Identifier: MIT
"""What properties take, typed and as text, and the words of refusals."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakeqemu.error import QemuError
from fakeqemu.qom.properties import INTEGERS, check_typed, parse_text


@pytest.mark.parametrize(
    ("type_name", "value", "text"),
    [
        ("bool", 1, "Invalid parameter type for 'p', expected: boolean"),
        ("string", 1, "Invalid parameter type for 'p', expected: string"),
        ("int", "x", "Invalid parameter type for 'p', expected: integer"),
        ("int", 1.5, "Invalid parameter type for 'p', expected: integer"),
        ("int", True, "Invalid parameter type for 'p', expected: integer"),
        ("int", 1 << 63, "Invalid parameter type for 'p', expected: integer"),
        ("int8", 128, "Parameter 'p' expects int8_t"),
        ("uint8", 256, "Parameter 'p' expects uint8_t"),
        ("uint32", -1, "Parameter 'p' expects uint32_t"),
        ("size", "1M", "Parameter 'p' expects uint64"),
        ("uint64", 1 << 64, "Parameter 'p' expects uint64"),
        ("OnOffAuto", "x", "Parameter 'p' does not accept value 'x'"),
        ("OnOffAuto", True, "Invalid parameter type for 'p', expected: string"),
    ],
)
def test_a_wrong_value_is_refused(type_name: str, value: Any, text: str) -> None:
    with pytest.raises(QemuError) as refused:
        check_typed(type_name, "p", value)
    assert refused.value.desc == text


def test_a_negative_number_wraps_around_in_64_bits() -> None:
    assert check_typed("uint64", "p", -1) == (1 << 64) - 1


@pytest.mark.parametrize(
    ("type_name", "text", "value"),
    [("bool", "on", True), ("bool", "no", False), ("int", "0x10", 16), ("int", "-010", -8), ("size", "1.5M", 3 << 19)],
)
def test_text_is_read_as_c_reads_it(type_name: str, text: str, value: Any) -> None:
    assert parse_text(type_name, "p", text) == value


@given(st.sampled_from(sorted(INTEGERS)), st.integers(-(1 << 63), (1 << 64) - 1))
def test_what_is_taken_fits_the_type(type_name: str, value: int) -> None:
    bits, signed = INTEGERS[type_name]
    try:
        taken = check_typed(type_name, "p", value)
    except QemuError:
        return
    low, high = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)
    assert low <= taken < high
    assert (taken - value) % (1 << 64) == 0
