# SPDX-License-Identifier: MIT
"""Bytes to JSON values, as they come over a monitor: no framing, any split, QEMU's errors.

Values need no line end and no white space between them; what is read goes on across reads, and an error is followed
by resynchronisation, not by a closed connection. Two ways lead through it:

- *exact*: QEMU's own lexer and parser (`json_lexer`, `json_parser`), loaded when first needed;
- *fast*: the C scanner of the standard library, for a message that comes whole, in one read, between two others, and
  on which it provably agrees with QEMU. Where it would be more lenient the message takes the exact way: anything but
  ASCII, any \\u escape (lone surrogates), NaN and Infinity, duplicate keys, an exponent after a bare zero, too deep
  a nesting. Where it is stricter (single quotes, \\') it fails, and the exact way has the word. Positions are counted
  either way.

QEMU: qobject/json-streamer.c
"""

from __future__ import annotations

from _json import make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.qapi.json_lexer import Lexer
    from fakeqemu.qapi.json_parser import GatherParser, PushParser


class ParseError:
    """A message that is none; `desc` is QEMU's text."""

    __slots__ = ("desc",)

    def __init__(self, desc: str) -> None:
        self.desc = desc


class _Nothing:
    __slots__ = ()

    def __repr__(self) -> str:
        return "NOTHING"


#: what `JSONStream.next` says when more bytes are needed
NOTHING = _Nothing()

_MAX_FAST = 1 << 20  # far below the limits on tokens, which only the exact way knows
_MAX_DEPTH = 1024


class _Disagreement(ValueError):
    """The C scanner is about to accept what QEMU does not."""


def to_number(text: str, is_integer: bool = True) -> int | float:
    """The value of a JSON number: an int if it fits 64 bits, signed or not, else a double."""
    if is_integer and len(text) < 22:
        value = int(text)
        if -0x8000000000000000 <= value <= 0xFFFFFFFFFFFFFFFF:
            return value
    return float(text)


def _fast_float(text: str) -> float:
    if text.lstrip("-")[:2] in ("0e", "0E"):
        raise _Disagreement
    return float(text)


def _refuse(_text: str) -> None:
    raise _Disagreement


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _Disagreement
    return result


class _Context:
    """How the C scanner is to read."""

    strict = True
    object_hook = None
    object_pairs_hook = staticmethod(_pairs)
    parse_float = staticmethod(_fast_float)
    parse_int = staticmethod(to_number)
    parse_constant = staticmethod(_refuse)
    memo: dict[str, str] = {}  # the scanner wants it there, and clears it


_scan = make_scanner(_Context())  # type: ignore[arg-type]  # any object with these attributes will do


class JSONStream:
    """Feed it bytes; ask `next` for what they hold until it says NOTHING."""

    __slots__ = (
        "_at",
        "_column",
        "_data",
        "_errors_at_once",
        "_exact",
        "_fast_ok",
        "_lexer",
        "_line",
        "_parser",
        "_text",
    )

    def __init__(self, errors_at_once: bool) -> None:
        """`errors_at_once`: the compat row json_errors_at_once."""
        self._errors_at_once = errors_at_once
        self.reset()

    def reset(self) -> None:
        """Start afresh, as with a new connection."""
        self._data = b""
        self._at = 0
        self._text = ""  # _data as text, while the fast way may be tried
        self._fast_ok = False
        self._exact = False  # a message is being read the exact way
        self._line = 1
        self._column = 1
        self._lexer: Lexer | None = None
        self._parser: PushParser | GatherParser | None = None

    def feed(self, data: bytes) -> None:
        """Take more bytes."""
        self._data = self._data[self._at :] + data if self._at < len(self._data) else data
        self._at = 0
        self._fast_ok = not self._exact and _fits(self._data)
        self._text = self._data.decode() if self._fast_ok else ""

    def next(self) -> Any:
        """The next message: its value, a ParseError, or NOTHING when more bytes are needed. Never raises."""
        data = self._data
        if not self._exact:
            at, end = self._at, len(data)
            while at < end and data[at] in b" \t\r\n":
                at += 1
            if at == end:
                self._advance(at)
                return NOTHING
            if self._fast_ok and data[at] == 0x7B:
                try:
                    value, after = _scan(self._text, at)
                except (StopIteration, ValueError, RecursionError, SystemError, ImportError):
                    # Whatever was wrong, the exact way says it. (To say it itself the scanner needs the module json: where
                    # that is not loaded, Python up to 3.12 makes a SystemError of it, and 3.13 imports it.)
                    pass
                else:
                    self._advance(after)
                    return value
            self._enter_exact()
        return self._next_exactly()

    @property
    def unfinished(self) -> bool:
        """Whether a message has begun and is not complete."""
        return self._exact

    def finish(self) -> tuple[Any, int]:
        """No more bytes will come: what the last token makes of the message (NOTHING when it is not complete), and the
        column behind the end. QEMU ends a word or a number by a NUL, which counts.
        """
        if not self._exact:
            return NOTHING, self._column
        lexer, parser = self._lexer, self._parser
        assert lexer is not None
        assert parser is not None
        result: Any = NOTHING
        column = lexer.column
        if not lexer.idle:
            column += 1
            lexer.feed(b"\0")
            token = lexer.next_token()
            result = NOTHING if token is None else parser.push(token)
        return parser.finish() if result is NOTHING else result, column

    def _advance(self, to: int) -> None:
        """Count the position over bytes that were read."""
        data, at = self._data, self._at
        newline = data.rfind(b"\n", at, to)
        if newline < 0:
            self._column += to - at
        else:
            self._line += data.count(b"\n", at, to)
            self._column = to - newline
        self._at = to

    def _enter_exact(self) -> None:
        if self._lexer is None:
            from fakeqemu.qapi.json_lexer import Lexer
            from fakeqemu.qapi.json_parser import GatherParser, PushParser

            self._lexer = Lexer()
            self._parser = PushParser() if self._errors_at_once else GatherParser()
        self._lexer.jump(self._line, self._column)
        self._exact = True

    def _next_exactly(self) -> Any:
        lexer, parser = self._lexer, self._parser
        assert lexer is not None
        assert parser is not None
        if self._at < len(self._data):
            lexer.feed(self._data[self._at :])
            self._at = len(self._data)
        while (token := lexer.next_token()) is not None:
            result = parser.push(token)
            if result is not NOTHING:
                break
        else:
            result = NOTHING
        if result is NOTHING and parser.idle and lexer.idle:
            # All is read and nothing pending: the next read may go the fast way again.
            self._exact = False
            self._line, self._column = lexer.line, lexer.column
        return result


def _fits(data: bytes) -> bool:
    """Whether the fast way may be tried on these bytes: see the top of the module."""
    return (
        data.isascii()
        and len(data) < _MAX_FAST
        and b"\\u" not in data
        and data.rstrip()[-1:] == b"}"  # else the last message is not complete: the scanner's error costs an import
        and data.count(b"{") + data.count(b"[") <= _MAX_DEPTH
    )
