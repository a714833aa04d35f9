# SPDX-License-Identifier: MIT
"""Texts of the command line read as a QAPI type.

Two ways, with different words for what is wrong: `KeyvalVisitor` for a tree of strings (-display, -incoming, -blockdev,
-machine), `OptsVisitor` for the flat parameters of -object.

QEMU: qapi/qobject-input-visitor.c (keyval), qapi/opts-visitor.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.qapi.cutils import NumberError, parse_bool, parse_int64, parse_size, parse_uint64
from fakeqemu.qapi.visitor import InputVisitor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.qapi.schema import BuiltinType, ObjectType

#: members whose QAPI type is `size`, which takes suffixes: introspection shows it as any other integer
_SIZES = ("align", "size", "max-size", "x-vga-size")


class KeyvalVisitor(InputVisitor):
    """Reads a tree of strings."""

    __slots__ = ()

    def builtin(self, type_: BuiltinType, width: str, value: Any) -> Any:
        json_type = type_.json_type
        text = self.text(value)
        if json_type == "boolean":
            return self._bool(text)
        if json_type == "int":
            return self._int(width, text)
        if json_type == "number":
            try:
                return float(text)
            except ValueError:
                self.wrong_type("number")
        return text

    def _bool(self, text: str) -> bool:
        value = parse_bool(text)
        if value is None:
            raise QemuError(f"Parameter '{self.path}' expects 'on' or 'off'")
        return value

    def _int(self, width: str, text: str) -> int:
        if self.last in _SIZES:
            try:
                return parse_size(text)
            except NumberError:
                raise QemuError(f"Parameter '{self.path}' expects size") from None
        unsigned = width.startswith("u")
        try:
            value = parse_uint64(text) if unsigned else parse_int64(text)
        except NumberError:
            raise QemuError(f"Parameter '{self.path}' expects integer") from None
        return self.sized_int(width, value)

    def kind_of(self, value: Any) -> str:
        if isinstance(value, dict):
            return "object"
        return "array" if isinstance(value, list) else "string"


class OptsVisitor(KeyvalVisitor):
    """Reads flat parameters: each key with all the values given for it; a list member takes all, others the last."""

    __slots__ = ()

    def visit_object(self, type_: ObjectType, values: list[tuple[str, str]]) -> dict[str, Any]:
        """The object of `type_` that the parameters say; raises QemuError."""
        given: dict[str, list[str]] = {}
        for key, value in values:
            given.setdefault(key, []).append(value)
        result: dict[str, Any] = {}
        at: ObjectType | None = type_
        while at is not None:
            for member in at.members:
                name = member.name
                if name in given:
                    self._path.append(name)
                    result[name] = self._value(member.type, member.width, given[name])
                    self._path.pop()
                elif not member.optional:
                    raise QemuError(f"Parameter '{name}' is missing")
            at = at.variant(result[at.tag]) if at.tag is not None else None
        for key in given:
            if key not in result:
                raise QemuError(f"Invalid parameter '{key}'")
        return result

    def text(self, value: Any) -> str:
        return value if isinstance(value, str) else str(value[-1])

    def list_at(self, value: Any) -> list[Any]:
        """Each value by itself; `1-4` in a list of integers is a range."""
        result: list[str] = []
        for text in value:
            low, dash, high = text.partition("-")
            if dash and low.isdigit() and high.isdigit() and int(low) <= int(high) < int(low) + 65536:
                result += [str(n) for n in range(int(low), int(high) + 1)]
            else:
                result.append(text)
        return result

    def kind_of(self, value: Any) -> str:  # noqa: ARG002  a flat parameter is never anything else
        return "string"

    def _bool(self, text: str) -> bool:
        value = parse_bool(text)
        if value is None:
            raise QemuError(f"Parameter '{self._member}' expects 'on' or 'off'")
        return value

    def _int(self, width: str, text: str) -> int:
        if self._member in _SIZES:
            try:
                return parse_size(text)
            except NumberError:
                raise QemuError(f"Parameter '{self._member}' expects a size value") from None
        unsigned = width.startswith("u")
        try:
            value = parse_uint64(text) if unsigned else parse_int64(text)
        except NumberError:
            in_list = bool(self._path) and isinstance(self._path[-1], int)
            what = f"{'a uint64' if unsigned else 'an int64'} value{' or range' if in_list else ''}"
            raise QemuError(f"Parameter '{self._member}' expects {what}") from None
        return self.sized_int(width, value)

    @property
    def _member(self) -> str:
        return str(self._path[0]) if self._path else ""
