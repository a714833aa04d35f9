# SPDX-License-Identifier: MIT
"""JSON tokens to messages, in the two manners that QEMU had.

- `PushParser` (11.1 on): takes token by token and fails at the first that does not fit. The error is the answer there
  and then; the rest of the message, up to the balance of its braces and brackets, is dropped without a word.
- `GatherParser` (before): collects tokens until braces and brackets balance, then parses them. A stray byte drops what
  was collected.

The texts differ, and so do positions: only the first names line and column. Which one a QEMU has is the compat row
`json_errors_at_once`.

QEMU: qobject/json-parser.c, qobject/json-streamer.c
"""

from __future__ import annotations

from fakeqemu.qapi.json_lexer import (
    ERROR,
    FLOAT,
    INTEGER,
    KEYWORD,
    MAX_TOKEN_SIZE,
    STRING,
    Token,
    is_valid_codepoint,
    read_codepoint,
    shown,
)
from fakeqemu.qapi.json_stream import NOTHING, ParseError, to_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_TOKEN_COUNT = 2 << 20
MAX_NESTING = 1024
_REASON_SIZE = 1023  # QEMU formats a reason into a buffer of 1 KiB

_WORDS: dict[bytes, bool | None] = {b"true": True, b"false": False, b"null": None}
_ESCAPES = {0x22: '"', 0x27: "'", 0x5C: "\\", 0x2F: "/", 0x62: "\b", 0x66: "\f", 0x6E: "\n", 0x72: "\r", 0x74: "\t"}
_DELTAS = {"{": (1, 0), "}": (-1, 0), "[": (0, 1), "]": (0, -1)}


class _BadToken(Exception):
    """Why a token cannot be; `reason` as bytes, since it may quote bytes that are no text."""

    def __init__(self, token: Token, reason: bytes) -> None:
        super().__init__(reason)
        self.token = token
        self.reason = reason


class _Balance:
    """Open braces and brackets of the message at hand, and how much of it there is."""

    __slots__ = ("braces", "brackets", "count", "size")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.braces = self.brackets = self.count = self.size = 0

    def add(self, token: Token) -> str | None:
        """Count a token in; the text of the limit that it breaks, or None."""
        braces, brackets = _DELTAS.get(token.kind, (0, 0))
        self.braces += braces
        self.brackets += brackets
        if self.size + len(token.text) + 1 > MAX_TOKEN_SIZE:
            return "JSON token size limit exceeded"
        if self.count + 1 > MAX_TOKEN_COUNT:
            return "JSON token count limit exceeded"
        if self.braces + self.brackets > MAX_NESTING:
            return "JSON nesting depth limit exceeded"
        self.size += len(token.text)
        self.count += 1
        return None

    @property
    def open(self) -> bool:
        """Whether the message goes on: something is open and nothing was closed too often."""
        return self.braces >= 0 and self.brackets >= 0 and self.braces + self.brackets > 0


# --- values of single tokens ------------------------------------------------------------------------------


def _scalar(token: Token) -> Any:
    if token.kind == STRING:
        return _string(token)
    if token.kind == INTEGER or token.kind == FLOAT:
        return to_number(token.text.decode(), token.kind == INTEGER)
    if token.text not in _WORDS:
        raise _BadToken(token, b"invalid keyword '%b'" % token.text)
    return _WORDS[token.text]


def _string(token: Token) -> str:
    data = token.text
    end = len(data) - 1
    if data.isascii() and b"\\" not in data:
        return data[1:end].decode()
    out = []
    at = 1
    while at < end:
        if data[at] != 0x5C:
            cp, at = read_codepoint(data, at)
            if cp < 0:
                raise _BadToken(token, b"invalid UTF-8 sequence in string")
            out.append(chr(cp))
        elif data[at + 1] == 0x75:  # u
            char, at = _unicode_escape(token, at)
            out.append(char)
        else:
            known = _ESCAPES.get(data[at + 1])
            if known is None:
                raise _BadToken(token, b"invalid escape sequence in string")
            out.append(known)
            at += 2
    return "".join(out)


def _unicode_escape(token: Token, begin: int) -> tuple[str, int]:
    """The character of a backslash-u, or of two that are a surrogate pair, and the index after it."""
    data = token.text
    at = begin + 6
    cp = _hex4(data[begin + 2 : at])
    if 0xD800 <= cp <= 0xDBFF and data[at : at + 2] == b"\\u":
        trailing = _hex4(data[at + 2 : at + 6])
        if 0xDC00 <= trailing <= 0xDFFF:
            cp = 0x10000 + ((cp & 0x3FF) << 10 | trailing & 0x3FF)
            at += 6
    if not is_valid_codepoint(cp):
        raise _BadToken(token, data[begin:at] + b" is not a valid Unicode character")
    return chr(cp), at


def _hex4(data: bytes) -> int:
    if len(data) == 4 and not data.strip(b"0123456789abcdefABCDEF"):
        return int(data, 16)
    return -1


# --- building a value -------------------------------------------------------------------------------------

# What the builder waits for.
_VALUE, _VALUE_OR_END, _KEY, _KEY_OR_END, _COLON, _OBJECT_NEXT, _ARRAY_NEXT = range(7)


class _Words:
    """How one manner of parsing says what is wrong; `bad_key` None where only a string may stand for a key."""

    __slots__ = ("array_next", "bad_key", "colon", "key", "object_next")

    def __init__(self, key: bytes, bad_key: bytes | None, colon: bytes, object_next: bytes, array_next: bytes) -> None:
        self.key = key
        self.bad_key = bad_key
        self.colon = colon
        self.object_next = object_next
        self.array_next = array_next


_AT_ONCE = _Words(b"expecting key", None, b"expecting ':'", b"expected ',' or '}'", b"expected ',' or ']'")
# Before 11.1 a key was read as any value, and found not to be a string afterwards.
_AT_END = _Words(
    b"expecting value",
    b"key is not a string in object",
    b"missing : in object pair",
    b"expected separator in dict",
    b"expected separator in list",
)


class _Open:
    """An object or array that is not closed yet; `key` is the name that the next value of an object gets."""

    __slots__ = ("key", "value")

    def __init__(self, value: dict[str, Any] | list[Any]) -> None:
        self.value = value
        self.key: str | None = None


class _Builder:
    """Makes a value of tokens, one at a time: a stack instead of recursion, for messages 1,024 deep."""

    __slots__ = ("_expect", "_stack", "_words")

    def __init__(self, words: _Words) -> None:
        self._words = words
        self.reset()

    def reset(self) -> None:
        self._stack: list[_Open] = []
        self._expect = _VALUE

    @property
    def idle(self) -> bool:
        return not self._stack

    def step(self, token: Token) -> Any:
        """The value that this token completes, or NOTHING; raises _BadToken."""
        expect, kind, words = self._expect, token.kind, self._words
        if expect == _COLON:
            if kind != ":":
                raise _BadToken(token, words.colon)
            self._expect = _VALUE
        elif expect == _OBJECT_NEXT:
            if kind == "}":
                return self._put(token, self._stack.pop().value)
            if kind != ",":
                raise _BadToken(token, words.object_next)
            self._expect = _KEY
        elif expect == _ARRAY_NEXT:
            if kind == "]":
                return self._put(token, self._stack.pop().value)
            if kind != ",":
                raise _BadToken(token, words.array_next)
            self._expect = _VALUE
        elif (kind == "}" and expect == _KEY_OR_END) or (kind == "]" and expect == _VALUE_OR_END):
            return self._put(token, self._stack.pop().value)
        elif expect in (_KEY, _KEY_OR_END) and words.bad_key is None and kind != STRING:
            raise _BadToken(token, words.key)
        else:
            return self._value(token)
        return NOTHING

    def _value(self, token: Token) -> Any:
        kind = token.kind
        if kind == "{":
            self._stack.append(_Open({}))
            self._expect = _KEY_OR_END
        elif kind == "[":
            self._stack.append(_Open([]))
            self._expect = _VALUE_OR_END
        elif kind in (STRING, INTEGER, FLOAT, KEYWORD):
            return self._put(token, _scalar(token))
        else:
            raise _BadToken(token, b"expecting value")
        return NOTHING

    def _put(self, token: Token, value: Any) -> Any:
        """A value is complete: it is the message, or goes into what holds it."""
        if not self._stack:
            self._expect = _VALUE
            return value
        top = self._stack[-1]
        holder = top.value
        if isinstance(holder, list):
            holder.append(value)
            self._expect = _ARRAY_NEXT
        elif top.key is None:
            if not isinstance(value, str):
                assert self._words.bad_key is not None
                raise _BadToken(token, self._words.bad_key)
            top.key = value
            self._expect = _COLON
        else:
            if top.key in holder:
                raise _BadToken(token, b"duplicate key")
            holder[top.key] = value
            top.key = None
            self._expect = _OBJECT_NEXT
        return NOTHING


# --- the two manners --------------------------------------------------------------------------------------


class PushParser:
    """Token by token; `push` answers each with a message, an error or NOTHING."""

    __slots__ = ("_balance", "_builder", "_skipping")

    def __init__(self) -> None:
        self._balance = _Balance()
        self._builder = _Builder(_AT_ONCE)
        self._skipping = False

    @property
    def idle(self) -> bool:
        """Whether the next token begins a message."""
        return self._builder.idle and not self._skipping

    def finish(self) -> Any:
        """No more tokens will come: all that was wrong has been said."""
        return NOTHING

    def push(self, token: Token) -> Any:
        if token.kind == ERROR:
            silent = self._skipping
            self._skipping = False
            self._balance.clear()
            self._builder.reset()
            return NOTHING if silent else self._error(token, _stray(token))
        limit = self._balance.add(token)
        result: Any = NOTHING
        if not self._skipping:
            if limit is not None:
                result = ParseError(limit)
            else:
                try:
                    result = self._builder.step(token)
                except _BadToken as bad:
                    result = self._error(token, bad.reason)
            if isinstance(result, ParseError):
                self._skipping = True
                self._builder.reset()
        if not self._balance.open:
            self._skipping = False
            self._balance.clear()
        return result

    @staticmethod
    def _error(token: Token, reason: bytes) -> ParseError:
        return ParseError(f"{token.line}:{token.column}: JSON parse error, {shown(_cut(reason))}")


class GatherParser:
    """Tokens are kept until they balance; `push` then answers with a message or an error."""

    __slots__ = ("_balance", "_builder", "_tokens")

    def __init__(self) -> None:
        self._balance = _Balance()
        self._builder = _Builder(_AT_END)
        self._tokens: list[Token] = []

    @property
    def idle(self) -> bool:
        """Whether the next token begins a message."""
        return not self._tokens

    def push(self, token: Token) -> Any:
        result: Any
        if token.kind == ERROR:
            result = ParseError("JSON parse error, " + shown(_stray(token)))  # of any length
        else:
            limit = self._balance.add(token)
            if limit is None:
                self._tokens.append(token)
                if self._balance.open:
                    return NOTHING
                result = self._parse()
            else:
                result = ParseError(limit)
        self._balance.clear()
        self._tokens = []
        return result

    def finish(self) -> Any:
        """No more tokens will come: what is wrong with those that are there; NOTHING when none are."""
        return self._parse() if self._tokens else NOTHING

    def _parse(self) -> Any:
        self._builder.reset()
        result: Any = NOTHING
        try:
            for token in self._tokens:
                result = self._builder.step(token)
            if result is NOTHING:
                raise _BadToken(self._tokens[-1], b"premature EOI")
        except _BadToken as bad:
            return ParseError("JSON parse error, " + shown(_cut(bad.reason)))
        return result


def _stray(token: Token) -> bytes:
    return b"stray '%b'" % token.text.partition(b"\0")[0]


def _cut(reason: bytes) -> bytes:
    """A reason as it fits QEMU's buffer, without half a character at its end."""
    if len(reason) <= _REASON_SIZE:
        return reason
    end = _REASON_SIZE
    while end > 0 and reason[end] & 0xC0 == 0x80:
        end -= 1
    return reason[:end]
