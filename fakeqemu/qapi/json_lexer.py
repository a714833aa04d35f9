# SPDX-License-Identifier: MIT
"""Bytes to JSON tokens, as QEMU's lexer cuts them.

No byte needs to wait for a line end. A string ends with its quote and a brace is a token by itself, but a number or
a word ends only when a byte comes that cannot belong to it; that byte is *ahead*: it ends the token and then begins
the next one. A byte that fits nowhere is an error: it and the token it broke are the stray text, and the lexer
recovers by skipping until a byte that cannot be inside anything (a control character but tab, 0xFE, 0xFF) or that is
structural.

    START ── " ' ──► DQ SQ ⇄ escape         START ── a-z ──► WORD
      │  └─ - ─► MINUS ─► ZERO DIGITS ─ . ─► POINT ─► FRACTION
      │                      └─────── e ───► EXP ─► EXP_SIGN ─► EXP_DIGITS
      └── anything else ──► error, RECOVERY ── ahead ──► START

A token's position is noted when what stands before it ends, as one after the byte read then. Where that byte is
ahead and begins the token itself, the column is one too high: QEMU's quirk, and a client sees it.

This is the exact and slow way; `json_stream` asks for it when its fast way does not fit.

QEMU: qobject/json-lexer.c, util/unicode.c
"""

from __future__ import annotations

(
    START,
    DQ,
    DQ_ESCAPE,
    SQ,
    SQ_ESCAPE,
    ZERO,
    DIGITS,
    POINT,
    FRACTION,
    EXP,
    EXP_SIGN,
    EXP_DIGITS,
    MINUS,
    WORD,
    RECOVERY,
) = range(15)

# Actions beyond the states: what is complete.
_ERROR, _STRUCTURE, _STRING, _INTEGER, _FLOAT, _KEYWORD = range(32, 38)
_AHEAD = 64

# Kinds of tokens; a structural token is its own kind.
ERROR, STRING, INTEGER, FLOAT, KEYWORD = "error", "string", "integer", "float", "keyword"
_KINDS = {_ERROR: ERROR, _STRING: STRING, _INTEGER: INTEGER, _FLOAT: FLOAT, _KEYWORD: KEYWORD}

_DIGITS = b"0123456789"
_STRUCTURAL = b"{}[],:"
#: bytes of a string that end nothing: 0x20 to 0xFD without quotes and backslash
_PLAIN = bytes(b for b in range(0x20, 0xFE) if b not in b"\"'\\")

MAX_TOKEN_SIZE = 64 << 20


class Token:
    """One token: its kind, its bytes as they came (quotes included), and where it began."""

    __slots__ = ("column", "kind", "line", "text")

    def __init__(self, kind: str, text: bytes, line: int, column: int) -> None:
        self.kind = kind
        self.text = text
        self.line = line
        self.column = column


class Lexer:
    """Cuts tokens out of bytes that come in pieces of any size."""

    __slots__ = (
        "_arrived",
        "_at",
        "_base",
        "_data",
        "_from",
        "_prefix",
        "_start_column",
        "_start_line",
        "_state",
        "line",
    )

    def __init__(self) -> None:
        self._data = b""
        self._at = 0  # the next byte to look at
        self._arrived = 0  # bytes whose position is counted: one that is ahead is looked at twice
        self._from = 0  # where the current token began in _data ...
        self._prefix = b""  # ... after these bytes of it from earlier pieces
        self._base = 0  # column = index - base + 1
        self._state = START
        self.line = 1
        self._start_line = 1
        self._start_column = 1

    @property
    def idle(self) -> bool:
        """Whether the next byte begins something new."""
        return self._state == START

    @property
    def column(self) -> int:
        """Column of the next byte, counted from 1."""
        return self._at - self._base + 1

    def jump(self, line: int, column: int) -> None:
        """Go on at a position that someone else has read up to. Only when idle and all data is read."""
        self._data = b""
        self._at = self._arrived = self._from = 0
        self._base = 1 - column
        self.line = self._start_line = line
        self._start_column = column

    def feed(self, data: bytes) -> None:
        """Take more bytes; those given before have been read."""
        assert self._at == len(self._data)
        self._prefix += self._data[self._from :]
        self._base -= self._at
        self._data = data
        self._at = self._arrived = self._from = 0

    def next_token(self) -> Token | None:
        """The next token, or None when more bytes are needed."""
        data, state = self._data, self._state
        at, end = self._at, len(data)
        while at < end:
            byte = data[at]
            if at == self._arrived:
                self._arrived += 1
                if byte == 10:
                    self.line += 1
                    self._base = at + 1
            action = _TABLE[state][byte]
            if action < _ERROR:
                at += 1
                if action == START:
                    self._note_start(at)
                elif action in (DQ, SQ) and state != START:
                    at = self._skip_plain(at)
                state = action
                continue
            ahead = action & _AHEAD
            if not ahead:
                at += 1
            text = self._prefix + data[self._from : at]
            line, column = self._start_line, self._start_column
            self._note_start(at, at if ahead else at - 1)
            if action == _AHEAD | START:  # a recovery ends
                state = START
                continue
            kind = text.decode() if action == _STRUCTURE else _KINDS[action & ~_AHEAD]
            self._state = RECOVERY if kind == ERROR else START
            self._at = at
            return Token(kind, text, line, column)
        self._at = at
        self._state = state
        if state in (START, RECOVERY):
            self._prefix = b""
            self._from = at
        elif at - self._from + len(self._prefix) > MAX_TOKEN_SIZE:
            text = self._prefix + data[self._from :]
            self._state = START
            line, column = self._start_line, self._start_column
            self._note_start(at)
            return Token("oversize", text, line, column)
        return None

    def _note_start(self, at: int, current: int | None = None) -> None:
        """The next token begins at `at`; `current` is the byte being read."""
        self._prefix = b""
        self._from = at
        self._start_line = self.line
        self._start_column = (at - 1 if current is None else current) - self._base + 2

    def _skip_plain(self, at: int) -> int:
        """Skip what can only be inside of a string: spares the table for long ones."""
        data = self._data
        end = min(at + 256, len(data))
        rest = data[at:end].lstrip(_PLAIN)
        at = end - len(rest)
        self._arrived = max(self._arrived, at)
        return at


def _make_table() -> list[bytes]:
    table = [[_ERROR] * 256 for _ in range(15)]

    def put(state: int, chars: bytes, action: int) -> None:
        for char in chars:
            table[state][char] = action

    lower = bytes(range(97, 123))
    put(START, b" \t\r\n", START)
    put(START, _STRUCTURAL, _STRUCTURE)
    put(START, b'"', DQ)
    put(START, b"'", SQ)
    put(START, b"0", ZERO)
    put(START, b"123456789", DIGITS)
    put(START, b"-", MINUS)
    put(START, lower, WORD)
    for state, escape, quote in ((DQ, DQ_ESCAPE, b'"'), (SQ, SQ_ESCAPE, b"'")):
        put(state, bytes(range(0x20, 0xFE)), state)
        put(state, b"\\", escape)
        put(state, quote, _STRING)
        put(escape, bytes(range(0x20, 0xFE)), state)
    every = bytes(range(256))
    put(MINUS, b"0", ZERO)
    put(MINUS, b"123456789", DIGITS)
    put(ZERO, every, _INTEGER | _AHEAD)
    put(ZERO, _DIGITS, _ERROR)
    put(ZERO, b".", POINT)
    put(DIGITS, every, _INTEGER | _AHEAD)
    put(DIGITS, _DIGITS, DIGITS)
    put(DIGITS, b".", POINT)
    put(DIGITS, b"eE", EXP)
    put(POINT, _DIGITS, FRACTION)
    put(FRACTION, every, _FLOAT | _AHEAD)
    put(FRACTION, _DIGITS, FRACTION)
    put(FRACTION, b"eE", EXP)
    put(EXP, b"+-", EXP_SIGN)
    put(EXP, _DIGITS, EXP_DIGITS)
    put(EXP_SIGN, _DIGITS, EXP_DIGITS)
    put(EXP_DIGITS, every, _FLOAT | _AHEAD)
    put(EXP_DIGITS, _DIGITS, EXP_DIGITS)
    put(WORD, every, _KEYWORD | _AHEAD)
    put(WORD, lower, WORD)
    put(RECOVERY, every, START | _AHEAD)
    put(RECOVERY, bytes(range(0x20, 0xFE)) + b"\t", RECOVERY)
    put(RECOVERY, _STRUCTURAL, START | _AHEAD)
    return [bytes(row) for row in table]


_TABLE = _make_table()


# --- modified UTF-8 ---------------------------------------------------------------------------------------

_LEAST = (0, 0, 0x80, 0x800, 0x10000, 0x200000, 0x4000000)  # the first code point that needs so many bytes


def is_valid_codepoint(cp: int) -> bool:
    """Whether QEMU takes a code point in a string: no surrogate, no noncharacter."""
    return 0 <= cp <= 0x10FFFF and not (0xD800 <= cp <= 0xDFFF or 0xFDD0 <= cp <= 0xFDEF or cp & 0xFFFE == 0xFFFE)


def read_codepoint(data: bytes, at: int) -> tuple[int, int]:
    """(code point, index after it) at `at`; -1 for a malformed sequence, which is skipped as far as it looks like one.

    NUL is written C0 80 in modified UTF-8. Lead bytes of five and six byte forms are followed, then refused.
    """
    lead = data[at]
    at += 1
    if lead < 0x80:
        return lead, at
    if lead >= 0xFE or lead < 0xC0:
        return -1, at
    length = 2
    while lead & (0x80 >> length):
        length += 1
    cp = lead & (0x7F >> length)
    for _ in range(length - 1):
        if at >= len(data) or data[at] & 0xC0 != 0x80:
            return -1, at
        cp = cp << 6 | data[at] & 0x3F
        at += 1
    if not is_valid_codepoint(cp) or (cp < _LEAST[length] and not (cp == 0 and length == 2)):
        return -1, at
    return cp, at


def shown(data: bytes) -> str:
    """Bytes as QEMU shows them in a text: up to a NUL, one U+FFFD for each malformed sequence."""
    data = data.partition(b"\0")[0]
    if data.isascii():
        return data.decode()
    out = []
    at = 0
    while at < len(data):
        cp, at = read_codepoint(data, at)
        out.append(chr(cp) if cp >= 0 else "\ufffd")
    return "".join(out)
