# SPDX-License-Identifier: MIT
"""One value read from a text that somebody typed, as the human monitor takes it.

QEMU: qapi/string-input-visitor.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.qapi.cutils import ERANGE, NumberError, parse_bool, parse_size, parse_uint64
from fakeqemu.qapi.visitor import InputVisitor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.qapi.schema import BuiltinType, Member

SIZE_HINT = (
    "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively."
)  # fmt: skip


class StringInputVisitor(InputVisitor):
    """Reads texts. An integer of 64 bits is a size, with suffixes: those that are typed are."""

    __slots__ = ("_negative_sizes",)

    def __init__(self, *, negative_sizes: bool = True) -> None:
        """`negative_sizes`: a size below zero is one out of range, not something that is no size."""
        super().__init__()
        self._negative_sizes = negative_sizes

    def visit_member(self, member: Member, text: str) -> Any:
        """The value of a member; raises QemuError."""
        self._path.append(member.name)
        try:
            return self._value(member.type, member.width, text)
        finally:
            self._path.pop()

    def builtin(self, type_: BuiltinType, width: str, value: Any) -> Any:
        if type_.json_type == "boolean":
            state = parse_bool(value)
            if state is None:
                raise QemuError(f"Parameter '{self.last}' expects 'on' or 'off'")
            return state
        if type_.json_type == "int":
            return self._size(value) if width == "uint64" else self._int(width, value)
        return value

    def _int(self, width: str, text: str) -> int:
        try:
            return self.sized_int(width, parse_uint64(text))
        except NumberError:
            raise QemuError(f"Parameter '{self.last}' expects uint64") from None

    def _size(self, text: str) -> int:
        try:
            return parse_size(text)
        except NumberError as err:
            if err.errno == ERANGE and (self._negative_sizes or not text.lstrip().startswith("-")):
                raise QemuError(f"Value '{text}' is out of range for parameter '{self.last}'") from None
            raise QemuError(
                f"Parameter '{self.last}' expects a non-negative number below 2^64", hint=SIZE_HINT
            ) from None  # fmt: skip

    def kind_of(self, value: Any) -> str:  # noqa: ARG002  what was typed is a text
        return "string"
