# SPDX-License-Identifier: MIT
"""The types of one QEMU's interface, made of what it says in query-qmp-schema.

Introspection names types by numbers and shows integers without their width; the profile has the widths and the names
of alternates beside it. A type is made when it is first asked for, and with it no other: its members name theirs.

    ObjectType ── members ──► Member ── type ──► BuiltinType  EnumType  ArrayType ── element ──► ...
        └─ tag, variants ──► ObjectType            AlternateType ── by kind of JSON value ──► ...

QEMU: qapi/introspect.json
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.qapi.profile import VersionProfile

    SchemaType = "BuiltinType | EnumType | ArrayType | AlternateType | ObjectType"

BUILTIN, ENUM, ARRAY, ALTERNATE, OBJECT = "builtin", "enum", "array", "alternate", "object"


class BuiltinType:
    """`json_type`: string, number, int, boolean, null, value (anything)."""

    __slots__ = ("json_type", "name")
    kind = BUILTIN

    def __init__(self, name: str, json_type: str) -> None:
        self.name = name
        self.json_type = json_type


class EnumType:
    """`values`: each value with its features, in order."""

    __slots__ = ("name", "values")
    kind = ENUM

    def __init__(self, name: str, values: dict[str, list[str]]) -> None:
        self.name = name
        self.values = values


class ArrayType:
    """A list of `element`s."""

    __slots__ = ("_element", "_schema", "name")
    kind = ARRAY

    def __init__(self, schema: QapiSchema, name: str, element: str) -> None:
        self._schema = schema
        self.name = name
        self._element = element

    @property
    def element(self) -> Any:
        return self._schema.type(self._element)


class AlternateType:
    """One of several types, told apart by the kind of JSON value."""

    __slots__ = ("_choices", "_members", "_schema", "c_name", "name")
    kind = ALTERNATE

    def __init__(self, schema: QapiSchema, name: str, c_name: str, members: list[str]) -> None:
        self._schema = schema
        self._members = members
        self._choices: dict[str, Any] | None = None
        self.name = name
        #: its name in error texts
        self.c_name = c_name

    @property
    def choices(self) -> dict[str, Any]:
        """Kind of JSON value (string, number, boolean, null, object, array) -> type."""
        if self._choices is None:
            self._choices = {json_kind(member): member for member in map(self._schema.type, self._members)}
        return self._choices


class Member:
    """A member of an object type; `width` is the C type behind an integer or behind the elements of a list."""

    __slots__ = ("_schema", "_type", "features", "name", "optional", "width")

    def __init__(self, schema: QapiSchema, owner: str, entry: dict[str, Any]) -> None:
        self._schema = schema
        self._type: str = entry["type"]
        self.name: str = entry["name"]
        self.optional = "default" in entry
        self.features: list[str] = entry.get("features", [])
        widths = schema.profile.get("int-types", owner, None) or {}
        self.width: str = widths.get(self.name) or widths.get(self.name + "[]") or "int64"

    @property
    def type(self) -> Any:
        return self._schema.type(self._type)


class ObjectType:
    """A struct or union: `members` in order; with `tag`, further members by the value of that one."""

    __slots__ = ("_schema", "_variants", "features", "member_names", "members", "name", "tag")
    kind = OBJECT

    def __init__(self, schema: QapiSchema, entity: dict[str, Any]) -> None:
        self._schema = schema
        self.name: str = entity["name"]
        self.members = [Member(schema, self.name, entry) for entry in entity["members"]]
        self.member_names = {member.name: member for member in self.members}
        self.features: list[str] = entity.get("features", [])
        self.tag: str | None = entity.get("tag")
        self._variants: dict[str, str] = {entry["case"]: entry["type"] for entry in entity.get("variants", ())}

    def variant(self, case: str) -> ObjectType | None:
        """The members that this value of the tag adds; None when it adds none."""
        name = self._variants.get(case)
        return None if name is None else self._schema.type(name)

    @property
    def cases(self) -> list[str]:
        return list(self._variants)


class QapiSchema:
    """The types of a profile. One for each profile: `schema_of`."""

    __slots__ = ("_types", "profile")

    def __init__(self, profile: VersionProfile) -> None:
        self.profile = profile
        self._types: dict[str, Any] = {}

    def type(self, name: str) -> Any:
        """A type by its name in query-qmp-schema; KeyError if there is none."""
        found = self._types.get(name)
        if found is None:
            found = self._types[name] = self._make(name)
        return found

    def arguments(self, command: str) -> ObjectType:
        """What a command takes; KeyError if there is no such command."""
        return self._arguments(self.profile.get("schema", command))

    def event_data(self, event: str) -> ObjectType:
        """What an event carries; KeyError if there is no such event."""
        return self._arguments(self.profile.get("schema", event))

    def returns(self, command: str) -> Any:
        """The type of what a command returns."""
        return self.type(self.profile.get("schema", command)["ret-type"])

    def _arguments(self, entity: dict[str, Any]) -> ObjectType:
        return self.type(entity["arg-type"])  # type: ignore[no-any-return]

    def _make(self, name: str) -> Any:
        entity = self.profile.schema_entity(name)
        if entity is None:
            raise KeyError(name)
        kind = entity["meta-type"]
        if kind == BUILTIN:
            return BuiltinType(name, entity["json-type"])
        if kind == ENUM:
            if "members" in entity:
                return EnumType(name, {entry["name"]: entry.get("features", []) for entry in entity["members"]})
            return EnumType(name, {value: [] for value in entity["values"]})
        if kind == ARRAY:
            return ArrayType(self, name, entity["element-type"])
        if kind == ALTERNATE:
            c_name = self.profile.alternate_name(name) or name
            return AlternateType(self, name, c_name, [entry["type"] for entry in entity["members"]])
        return ObjectType(self, entity)


_JSON_KINDS = {"int": "number"}


def json_kind(type_: Any) -> str:
    """The kind of JSON value that a type is written as."""
    kind: str = type_.kind
    if kind == BUILTIN:
        kind = type_.json_type
        return _JSON_KINDS.get(kind, kind)
    return "string" if kind == ENUM else kind


_schemas: dict[int, QapiSchema] = {}


def schema_of(profile: VersionProfile) -> QapiSchema:
    """The schema of a profile, made once."""
    schema = _schemas.get(id(profile))
    if schema is None or schema.profile is not profile:
        schema = _schemas[id(profile)] = QapiSchema(profile)
    return schema
