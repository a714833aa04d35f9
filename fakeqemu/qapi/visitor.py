# SPDX-License-Identifier: MIT
"""Checking a value against its type, in QEMU's words and QEMU's order.

Members are visited in the order of the schema, depth first, those of a union's branch after the common ones; a
member that nobody visited is reported when its object is done. The result is a new value: in the order of the schema,
unsigned numbers taken modulo 2^64, and without defaults (a function knows its own).

`InputVisitor` walks; what a scalar may look like, and the words for it, are a subclass's: JSON values here
(`QObjectInputVisitor`), texts of the command line in `vl.text_visitor`.

Texts name a member by its *path* (`actions[0].data.device`) or only by its last name, for which an element of a list
has `null`: see which is which below.

QEMU: qapi/qapi-visit-core.c, qapi/qobject-input-visitor.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.qapi.qdict import first_in_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from fakeqemu.qapi.policy import CompatPolicy
    from fakeqemu.qapi.schema import AlternateType, ArrayType, BuiltinType, EnumType, ObjectType

_INT64_MIN, _INT64_MAX = -(1 << 63), (1 << 63) - 1
_UINT64_MAX = (1 << 64) - 1

#: C type of an integer -> (signed, bits)
_WIDTHS = {f"{sign}int{bits}": (sign == "", bits) for sign in ("", "u") for bits in (8, 16, 32, 64)}


class InputVisitor:
    """Walks a value along its type; raises QemuError at the first thing that does not fit."""

    __slots__ = ("_path", "_policy")

    def __init__(self, policy: CompatPolicy | None = None) -> None:
        self._policy = policy if policy is not None and policy.rejected else None
        self._path: list[str | int] = []

    def visit_arguments(self, type_: ObjectType, value: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a command, or any object at the root, checked."""
        return self._object(type_, value)

    def visit(self, type_: Any, value: Any) -> Any:
        """A value of any type, checked."""
        return self._value(type_, "int64", value)

    # --- names for texts ------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """Where the visitor is, from the root."""
        text = ""
        for part in self._path:
            if isinstance(part, int):
                text += f"[{part}]"
            else:
                text += f".{part}" if text else part
        return text

    @property
    def last(self) -> str:
        """The name of the member at hand alone."""
        part = self._path[-1] if self._path else "null"
        return "null" if isinstance(part, int) else part

    def wrong_type(self, expected: str) -> NoReturn:
        raise QemuError(f"Invalid parameter type for '{self.path}', expected: {expected}")

    # --- types ----------------------------------------------------------------------------------------

    def _value(self, type_: Any, width: str, value: Any) -> Any:
        kind = type_.kind
        if kind == "builtin":
            return self.builtin(type_, width, value)
        if kind == "object":
            return self._object(type_, self.object_at(value))
        if kind == "enum":
            return self._enum(type_, value)
        if kind == "array":
            return self._array(type_, width, value)
        return self._alternate(type_, width, value)

    def _object(self, type_: ObjectType, value: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        at: ObjectType | None = type_
        while at is not None:
            self._members(at, value, result)
            at = at.variant(result[at.tag]) if at.tag is not None else None
        if len(result) != len(value):
            name = first_in_table(value, result)
            assert name is not None
            self._path.append(name)
            raise QemuError(f"Parameter '{self.path}' is unexpected")
        return result

    def _members(self, type_: ObjectType, value: dict[str, Any], result: dict[str, Any]) -> None:
        for member in type_.members:
            name = member.name
            if name in value:
                if self._policy is not None and member.features:
                    self._policy.check_input(member.features, "parameter", name)
                self._path.append(name)
                result[name] = self._value(member.type, member.width, value[name])
                self._path.pop()
            elif not member.optional:
                self._path.append(name)
                raise QemuError(f"Parameter '{self.path}' is missing")

    def _enum(self, type_: EnumType, value: Any) -> str:
        text = self.text(value)
        features = type_.values.get(text)
        if features is None:
            raise QemuError(f"Parameter '{self.last}' does not accept value '{text}'")
        if features and self._policy is not None:
            self._policy.check_input(features, "value", text)
        return text

    def _array(self, type_: ArrayType, width: str, value: Any) -> list[Any]:
        element = type_.element
        result = []
        for index, item in enumerate(self.list_at(value)):
            self._path.append(index)
            result.append(self._value(element, width, item))
            self._path.pop()
        return result

    def _alternate(self, type_: AlternateType, width: str, value: Any) -> Any:
        choice = type_.choices.get(self.kind_of(value))
        if choice is None:
            raise QemuError(f"Invalid parameter type for '{self.last}', expected: {type_.c_name}")
        return self._value(choice, width, value)

    def sized_int(self, width: str, value: int) -> int:
        """A number that came through `signed` or `unsigned`, held against the member's own width."""
        is_signed, bits = _WIDTHS[width]
        if bits < 64:
            low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if is_signed else (0, (1 << bits) - 1)
            if not low <= value <= high:
                raise QemuError(f"Parameter '{self.last}' expects {width}_t")
        return value

    # --- what a subclass knows, or knows otherwise ------------------------------------------------------------------------

    def builtin(self, type_: BuiltinType, width: str, value: Any) -> Any:
        raise NotImplementedError

    def text(self, value: Any) -> str:
        if not isinstance(value, str):
            self.wrong_type("string")
        return value

    def object_at(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.wrong_type("object")
        return value

    def list_at(self, value: Any) -> list[Any]:
        if not isinstance(value, list):
            self.wrong_type("array")
        return value

    def kind_of(self, value: Any) -> str:
        """The kind of JSON value, as `schema.json_kind` names it."""
        raise NotImplementedError


class QObjectInputVisitor(InputVisitor):
    """Values as they came over QMP, or as JSON on the command line."""

    __slots__ = ()

    def builtin(self, type_: BuiltinType, width: str, value: Any) -> Any:
        json_type = type_.json_type
        if json_type == "string":
            return self.text(value)
        if json_type == "boolean":
            if value is True or value is False:
                return value
            self.wrong_type("boolean")
        if json_type == "int":
            return self._int(width, value)
        if json_type == "number":
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                return value
            self.wrong_type("number")
        if json_type == "null":
            if value is not None:
                self.wrong_type("null")
            return None
        return value

    def _int(self, width: str, value: Any) -> int:
        is_int = isinstance(value, int) and not isinstance(value, bool)
        if _WIDTHS[width][0]:
            if not is_int or not _INT64_MIN <= value <= _INT64_MAX:
                self.wrong_type("integer")
            return self.sized_int(width, value)
        if not is_int or not _INT64_MIN <= value <= _UINT64_MAX:
            raise QemuError(f"Parameter '{self.path}' expects uint64")
        return self.sized_int(width, value & _UINT64_MAX)

    def kind_of(self, value: Any) -> str:
        if isinstance(value, str):
            return "string"
        if isinstance(value, bool):
            return "boolean"
        if isinstance(value, (int, float)):
            return "number"
        if isinstance(value, dict):
            return "object"
        if isinstance(value, list):
            return "array"
        return "null"
