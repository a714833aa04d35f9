# SPDX-License-Identifier: MIT
"""Arguments of the human monitor's commands.

What a command takes is written as in QEMU: `name:type` with commas between, in the order of the line.

    -x      a flag of one letter: True when it was given; -xV: the word behind it
    s, F, B a word, or what stands in double quotes; S: all that is left of the line
    b       on or off
    i, l    a number of 32 or 64 bits, or an expression: + - * / % & | ^ ~, parentheses, 'c', registers
    ...?    may be left out, at the end of the line

An expression goes on behind white space: `1 -5` is one number, minus four.

QEMU: monitor_parse_arguments and get_expr in monitor/hmp.c
"""

from __future__ import annotations

from fakeqemu.error import NotEmulated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_MASK = (1 << 64) - 1
_SIGN = 1 << 63
#: how many parentheses and signs may stand within each other
_MAX_DEPTH = 50
_UINT32_MAX = (1 << 32) - 1


#: kinds of words, and what is said where one is missing
_WORDS = {"s": "string expected", "S": "string expected", "F": "filename expected", "B": "block device name expected"}
_ESCAPES = {"n": "\n", "r": "\r", "\\": "\\", "'": "'", '"': '"'}


class WrongArguments(Exception):
    """What is wrong with the arguments. `named`: the command's name is printed in front."""

    def __init__(self, text: str, *, named: bool = False) -> None:
        super().__init__(text)
        self.named = named


def parse(command: str, takes: str, text: str) -> dict[str, Any]:
    """The arguments that `text`, a line behind the command's name, gives; raises WrongArguments."""
    found: dict[str, Any] = {}
    names = [entry.partition(":")[::2] for entry in takes.split(",")]
    at = 0
    for number, (name, kind) in enumerate(names):
        at = _skip(text, at)
        if kind.startswith("-"):
            if text[at : at + 1] != "-":
                continue
            letter = text[at + 1 : at + 2]
            if letter == kind[1]:
                found[name] = True
                at += 2
                if kind.endswith("V"):
                    found[name], at = _word(text, _skip(text, at))
                    if found[name] is None:
                        raise WrongArguments(f"value expected for -{letter}", named=True)
            elif not any(other[:2] == "-" + letter for _, other in names[number + 1 :]):
                raise WrongArguments(f"unsupported option -{letter}", named=True)
        elif at == len(text) and kind.endswith("?"):
            continue
        elif kind[0] in _WORDS:
            word, at = (text[at:], len(text)) if kind[0] == "S" else _word(text, at)
            if not word and (word is None or kind[0] == "S"):
                raise WrongArguments(_WORDS[kind[0]], named=True)
            found[name] = word
        elif kind[0] == "b":
            word, at = _plain_word(text, at)
            if word not in ("on", "off"):
                raise WrongArguments("Expected 'on' or 'off'")
            found[name] = word == "on"
        else:
            reader = _Expression(text, at)
            found[name] = value = reader.sum()
            at = reader.at
            if kind[0] == "i" and not 0 <= value & _MASK <= _UINT32_MAX:
                raise WrongArguments(f"'{command}' has failed: integer is for 32-bit values")
    if _skip(text, at) < len(text):
        raise WrongArguments("extraneous characters at the end of line", named=True)
    return found


def _plain_word(text: str, at: int) -> tuple[str, int]:
    end = at
    while end < len(text) and not text[end].isspace():
        end += 1
    return text[at:end], end


def _word(text: str, at: int) -> tuple[str | None, int]:
    """The word at a place, and where it ends; None for none, or for quotes that are not closed."""
    if text[at : at + 1] != '"':
        word, at = _plain_word(text, at)
        return word or None, at
    result = ""
    at += 1
    while text[at : at + 1] != '"':
        char = text[at : at + 1]
        if char == "\\":
            at += 1
            char = _ESCAPES.get(text[at : at + 1], "")
        if not char:
            return None, at
        result += char
        at += 1
    return result, at + 1


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


class _Expression:
    """Reads one expression, and white space behind it; 64 bits, with a sign."""

    __slots__ = ("_depth", "_text", "at")

    def __init__(self, text: str, at: int) -> None:
        self._text = text
        self._depth = 0
        self.at = at

    def sum(self) -> int:
        return self._chain(self._bits, "+-")

    def _bits(self) -> int:
        return self._chain(self._product, "&|^")

    def _product(self) -> int:
        return self._chain(self._unary, "*/%")

    def _chain(self, operand: Callable[[], int], operators: str) -> int:
        value = operand()
        while self._next() and self._next() in operators:
            operator = self._take()
            value = _signed(_APPLY[operator](value, operand()))
        return value

    def _unary(self) -> int:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise NotEmulated(f"Expressions of the human monitor deeper than {_MAX_DEPTH} are not emulated")
        value = self._operand()
        self._depth -= 1
        return value

    def _operand(self) -> int:
        char = self._next()
        if char == "":
            raise WrongArguments("unexpected end of expression")
        if char in "+-~":
            self._take()
            value = self._unary()
            return value if char == "+" else _signed(-value if char == "-" else ~value)
        if char == "(":
            self._take()
            value = self.sum()
            if self._next() != ")":
                raise WrongArguments("')' expected")
            self._take()
            return value
        if char == "'":
            return self._character()
        if char == "$":
            raise NotEmulated("Registers in expressions of the human monitor are not emulated")
        return self._number()

    def _character(self) -> int:
        self.at += 1
        if self._next() == "":
            raise WrongArguments("character constant expected")
        value = ord(self._text[self.at])
        self.at += 1
        if self._next() != "'":
            raise WrongArguments("missing terminating ' character")
        self._take()
        return value

    def _number(self) -> int:
        text, start = self._text, self.at
        base, digits = 10, "0123456789"
        if text[start : start + 2].lower() == "0x" and text[start + 2 :][:1] in tuple(_HEX):
            base, digits, start = 16, _HEX, start + 2
        elif text[start : start + 1] == "0":
            base, digits = 8, "01234567"
        end = start
        while text[end : end + 1] and text[end] in digits:
            end += 1
        if end == start:
            raise WrongArguments(f"invalid char '{text[start]}' in expression")
        value = int(text[start:end], base)
        if value > _MASK:
            raise WrongArguments("number too large")
        self.at = _skip(text, end)
        return _signed(value)

    def _next(self) -> str:
        return self._text[self.at : self.at + 1]

    def _take(self) -> str:
        char = self._text[self.at]
        self.at = _skip(self._text, self.at + 1)
        return char


_HEX = "0123456789abcdefABCDEF"


def _signed(value: int) -> int:
    return ((value & _MASK) ^ _SIGN) - _SIGN


def _divide(a: int, b: int) -> int:
    if not b:
        raise WrongArguments("division by zero")
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


_APPLY: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "&": lambda a, b: a & b,
    "|": lambda a, b: a | b,
    "^": lambda a, b: a ^ b,
    "*": lambda a, b: a * b,
    "/": _divide,
    "%": lambda a, b: a - b * _divide(a, b),
}
