# SPDX-License-Identifier: MIT
"""What goes out, byte for byte; expected texts are those of a real QEMU 11.1."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakeqemu.qapi.json_out import RawJSON, encode, encode_line, encode_pretty
from fakeqemu.qapi.json_stream import JSONStream
from fakeqemu.qapi.qdict import bucket


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"id": 1, "return": {}}, '{"return": {}, "id": 1}'),
        ({"error": {"desc": "d", "class": "c"}, "id": 1}, '{"id": 1, "error": {"class": "c", "desc": "d"}}'),
        ("a\x7f\u2028\U0001f600<>/\"\\\b\f\n\r\t\x01", '"a\\u007F\\u2028\\uD83D\\uDE00<>/\\"\\\\\\b\\f\\n\\r\\t\\u0001"'),
        ([-0.0, math.inf, -math.inf, 1e16, 123456789012345678.0, 0.1, 1e-5, 1e-4, 1.0],
         "[-0, inf, -inf, 10000000000000000, 1.2345678901234568e+17, 0.10000000000000001, 1.0000000000000001e-05, 0.0001, 1]"),
        ([True, False, None, 18446744073709551615], "[true, false, null, 18446744073709551615]"),
        ({"a": RawJSON(b'[{"x": 1}]')}, '{"a": [{"x": 1}]}'),
    ],
)  # fmt: skip
def test_compact_form(value: Any, text: str) -> None:
    assert encode(value) == text


def test_pretty_form_opens_a_line_even_for_what_is_empty() -> None:
    assert encode_pretty({"return": {}}) == '{\n    "return": {\n    }\n}'
    assert encode_pretty([[], 1]) == "[\n    [\n    ],\n    1\n]"
    assert encode_line({"return": []}, True) == b'{\r\n    "return": [\r\n    ]\r\n}\r\n'


def test_of_keys_in_one_bucket_the_last_put_in_comes_first() -> None:
    assert bucket("status") == bucket("singlestep")
    # the order of QEMU 7.2's members
    assert (
        encode({"running": True, "singlestep": False, "status": "x"})
        == '{"status": "x", "singlestep": false, "running": true}'
    )


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=6), st.integers(), max_size=8))
def test_objects_come_in_the_order_of_buckets(value: dict[str, int]) -> None:
    text = encode(value)
    assert text.isascii()
    stream = JSONStream(True)
    if "\\u" not in text:
        stream.feed(text.encode())
        keys = list(stream.next())
        assert [bucket(key) for key in keys] == sorted(bucket(key) for key in value)


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(TypeError):
        encode({"a": object()})
