# SPDX-License-Identifier: MIT
"""Bytes to JSON values: any split gives the same, nothing raises, the fast way and the exact way agree."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakeqemu.qapi import json_stream
from fakeqemu.qapi.json_stream import NOTHING, JSONStream, ParseError

BOTH = pytest.mark.parametrize("errors_at_once", [True, False])

BAD_ESCAPE = "JSON parse error, invalid escape sequence in string"
BAD_UTF8 = "JSON parse error, invalid UTF-8 sequence in string"

FRAGMENTS = [
    b"{", b"}", b"[", b"]", b",", b":", b'"a"', b'"b"', b"'c'", b"1", b"0", b"-1", b"0e1", b"1e5", b"1.5", b"true", b"null",
    b"nope", b" ", b"\n", b"\t", b"\r\n", b'"', b"'", b"\\", b"\x00", b"\x01", b"\xff", b"\xfe", b"\xc3\xa9", b"\xc3", b"\x80",
    b"\xed\xa0\x80", b'"\\u12"', b'"\\ud834\\udd1e"', b'"\\ud834x"', b'"\\x"', b"(", b"%s", b".", b"e", b"E", b"+", b"-",
    b'"\xc0\x80"', b'"\xf0\x9f\x98\x80"', b'"\xef\xbf\xbf"', b'{"a":1}', b'{"a": [1, {"b": 2}]}', b'{"a":1,"a":2}',
    b"18446744073709551616", b'"\\ud83f\\udffe"', b"\x7f", b"TRUE", b'{"k": NaN}', b'{"k": 0e5}', b'{"k": -Infinity}',
]  # fmt: skip

messy = st.one_of(
    st.lists(st.sampled_from(FRAGMENTS), max_size=14).map(b"".join),
    st.binary(max_size=24),
    st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=2), max_size=10).map(b"".join),
)


def plain(value: Any) -> Any:
    """Something that compares as QEMU's values do: errors by text, numbers with their type."""
    if isinstance(value, ParseError):
        return ("error", value.desc)
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    if isinstance(value, (bool, type(None), str)):
        return value
    if isinstance(value, (int, float)):
        return (type(value).__name__, value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    return {key: plain(item) for key, item in value.items()}


def read(stream: JSONStream, *chunks: bytes) -> list[Any]:
    result = []
    for chunk in chunks:
        stream.feed(chunk)
        while (value := stream.next()) is not NOTHING:
            result.append(plain(value))
    return result


def texts(data: bytes, errors_at_once: bool = True) -> list[Any]:
    return [value[1] if value.__class__ is tuple else value for value in read(JSONStream(errors_at_once), data)]


@BOTH
@given(data=messy, cuts=st.lists(st.integers(0, 60), max_size=5))
def test_any_split_of_the_input_gives_the_same(errors_at_once: bool, data: bytes, cuts: list[int]) -> None:
    data += b"\n"
    whole = read(JSONStream(errors_at_once), data)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    parts = [data[a:b] for a, b in pairwise(edges)]
    assert read(JSONStream(errors_at_once), *parts) == whole
    assert read(JSONStream(errors_at_once), *(data[i : i + 1] for i in range(len(data)))) == whole


@BOTH
@given(data=messy)
def test_the_fast_way_agrees_with_the_exact_way(errors_at_once: bool, data: bytes) -> None:
    data += b"\n}\n"  # a position that shows whether both ways count alike, and the end that the fast way wants
    fast = read(JSONStream(errors_at_once), data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_fits", lambda _data: False)
        exact = read(JSONStream(errors_at_once), data)
    assert fast == exact


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def noncharacters(value: Any) -> bool:
    text = json.dumps(value, ensure_ascii=False)
    return any(ord(c) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(c) <= 0xFDEF or 0xD800 <= ord(c) <= 0xDFFF for c in text)


@BOTH
@given(value=st.dictionaries(st.text(max_size=5), json_values, max_size=4), ascii_only=st.booleans())
def test_what_the_standard_library_writes_is_read_back(
    errors_at_once: bool, value: dict[str, Any], ascii_only: bool
) -> None:
    if noncharacters(value):
        return
    data = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert read(JSONStream(errors_at_once), data) == [plain(value)]


def test_the_fast_way_is_taken_for_an_ordinary_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def exact(_stream: JSONStream) -> None:
        raise AssertionError("took the exact way")

    monkeypatch.setattr(JSONStream, "_enter_exact", exact)
    stream = JSONStream(True)
    message = (
        b'{"execute": "device_add", "arguments": {"driver": "e1000", "n": [1, -2.5, true, null]}, "id": "libvirt-7"}'
    )
    assert len(read(stream, message + b"\r\n", message, message + message)) == 4


@pytest.mark.parametrize(
    ("data", "at_once", "at_end"),
    [
        (b'{"a" 1}', "1:6: JSON parse error, expecting ':'", "JSON parse error, missing : in object pair"),
        (b"{1: 2}", "1:2: JSON parse error, expecting key", "JSON parse error, key is not a string in object"),
        (b"{[]: 2}", "1:2: JSON parse error, expecting key", "JSON parse error, key is not a string in object"),
        (b"{,}", "1:2: JSON parse error, expecting key", "JSON parse error, expecting value"),
        (b"[1 2]", "1:4: JSON parse error, expected ',' or ']'", "JSON parse error, expected separator in list"),
        (b"[1, 2\n 3]", "2:2: JSON parse error, expected ',' or ']'", "JSON parse error, expected separator in list"),
        (b'{"a":1,"a":2}', "1:12: JSON parse error, duplicate key", "JSON parse error, duplicate key"),
        (b"[tru]", "1:2: JSON parse error, invalid keyword 'tru'", "JSON parse error, invalid keyword 'tru'"),
        (b"[1,]", "1:4: JSON parse error, expecting value", "JSON parse error, expecting value"),
        (b"@ ", "1:1: JSON parse error, stray '@'", "JSON parse error, stray '@'"),
        (b'["\\x"]', "1:2: " + BAD_ESCAPE, BAD_ESCAPE),
        (b'["\xff', "1:2: JSON parse error, stray '\"\ufffd'", "JSON parse error, stray '\"\ufffd'"),
        (b'["\xc0\xaf"]', "1:2: " + BAD_UTF8, BAD_UTF8),
    ],
)  # fmt: skip
def test_error_texts_of_both_manners(data: bytes, at_once: str, at_end: str) -> None:
    assert texts(data, True) == [at_once]
    assert texts(data, False) == [at_end]


def test_the_module_json_is_not_needed_to_refuse_input() -> None:
    """The scanner in C wants it for its own errors; an emulator has not loaded it."""
    code = (
        "import sys; sys.path[:] = %r; from fakeqemu.qapi.json_stream import JSONStream; s = JSONStream(True)\n"
        "assert 'json' not in sys.modules; s.feed(b'{1: 2}'); print(s.next().desc)"
    )
    run = subprocess.run([sys.executable, "-S", "-c", code % (sys.path,)], capture_output=True, text=True, check=False)
    assert run.stdout == "1:2: JSON parse error, expecting key\n", run.stderr


def test_errors_at_once_come_before_the_message_ends_and_only_once() -> None:
    stream = JSONStream(True)
    assert read(stream, b'{"a": nope,') == [("error", "1:7: JSON parse error, invalid keyword 'nope'")]
    assert read(stream, b' "b": nada, @ ') == []
    assert read(stream, b'{"c": 1}') == [{"c": ("int", 1)}]


def test_errors_at_the_end_come_when_braces_balance() -> None:
    stream = JSONStream(False)
    assert read(stream, b'{"a": nope,') == []
    assert read(stream, b' "b": nada}') == [("error", "JSON parse error, invalid keyword 'nope'")]


@BOTH
@pytest.mark.parametrize("depth", [1023, 1024])
def test_nesting_up_to_the_limit_is_read(errors_at_once: bool, depth: int) -> None:
    stream = JSONStream(errors_at_once)
    stream.feed(b"[" * depth + b"]" * depth)
    value = stream.next()
    for _ in range(depth - 1):
        assert len(value) == 1
        value = value[0]
    assert value == []


def test_nesting_beyond_the_limit() -> None:
    assert texts(b"[" * 1025 + b"]" * 1025 + b'{"a": 1}') == ["JSON nesting depth limit exceeded", {"a": ("int", 1)}]
    assert texts(b"[" * 1025 + b'{"a": 1}', False) == ["JSON nesting depth limit exceeded", {"a": ("int", 1)}]


def test_a_token_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    from fakeqemu.qapi import json_lexer, json_parser

    monkeypatch.setattr(json_lexer, "MAX_TOKEN_SIZE", 100)
    monkeypatch.setattr(json_parser, "MAX_TOKEN_SIZE", 100)
    assert texts(b'["' + b"x" * 200, False)[0] == "JSON token size limit exceeded"


def test_numbers_are_integers_up_to_64_bits_and_doubles_beyond() -> None:
    (value,) = read(
        JSONStream(True),
        b"[18446744073709551615, 18446744073709551616, -9223372036854775809, 1e2, -0, 1" + b"0" * 400 + b"]",
    )
    kinds = [kind for kind, _ in value]
    assert kinds == ["int", "float", "float", "float", "int", "float"]
    assert value[-1][1] == math.inf


def test_a_number_at_the_top_ends_with_the_byte_that_does_not_belong_to_it() -> None:
    stream = JSONStream(True)
    assert read(stream, b"12") == []
    assert read(stream, b"3") == []
    assert read(stream, b" ") == [("int", 123)]
