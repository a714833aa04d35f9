# SPDX-License-Identifier: MIT
"""Options that take JSON, and options whose argument is a QAPI type written as JSON or as dotted keys.

QEMU: qobject_from_json in qobject/qjson.c, qobject_input_visitor_new_str
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.qapi.json_stream import NOTHING, JSONStream, ParseError
from fakeqemu.qapi.schema import schema_of
from fakeqemu.qapi.visitor import QObjectInputVisitor
from fakeqemu.vl import keyval

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.qapi.profile import VersionProfile
    from fakeqemu.qapi.schema import ObjectType


def parse_json_option(profile: VersionProfile, text: str) -> dict[str, Any]:
    """The JSON object of an argument that begins with `{`; raises QemuError."""
    stream = JSONStream(bool(profile.compat.json_errors_at_once))
    data = text.encode("utf-8", "surrogateescape")
    stream.feed(data)
    value = stream.next()
    column = 0
    if value is NOTHING:
        value, column = stream.finish()
    if value is NOTHING:
        line = data.count(b"\n") + 1
        raise QemuError(f"{line}:{column}: JSON parse error, premature end of input")
    if isinstance(value, ParseError):
        raise QemuError(value.desc)
    if stream.next() is not NOTHING or stream.unfinished:
        raise QemuError("Expecting at most one JSON value")
    result: dict[str, Any] = value
    return result


def visit_type(profile: VersionProfile, type_: ObjectType, text: str, implied: str | None) -> dict[str, Any]:
    """An argument read as a struct or union: JSON if it begins with a brace, else dotted keys; raises QemuError."""
    if text.startswith("{"):
        return QObjectInputVisitor().visit_arguments(type_, parse_json_option(profile, text))
    from fakeqemu.vl.text_visitor import KeyvalVisitor

    return KeyvalVisitor().visit_arguments(type_, keyval.parse_without_help(text, implied))


def visit_option(profile: VersionProfile, name: str, text: str, implied: str | None) -> dict[str, Any]:
    """As `visit_type`, for the two types that no command takes."""
    if name == "DisplayOptions":
        return visit_type(profile, schema_of(profile).returns("query-display-options"), text, implied)
    tree = parse_json_option(profile, text) if text.startswith("{") else keyval.parse_without_help(text, implied)
    return _compat_policy(tree)


#: QAPI's CompatPolicy: introspection does not reach it
_COMPAT_POLICY = {
    "deprecated-input": ("accept", "reject", "crash"),
    "deprecated-output": ("accept", "hide"),
    "unstable-input": ("accept", "reject", "crash"),
    "unstable-output": ("accept", "hide"),
}


def _compat_policy(tree: dict[str, Any]) -> dict[str, Any]:
    result = {}
    for name, words in _COMPAT_POLICY.items():
        if name not in tree:
            continue
        value = tree[name]
        if not isinstance(value, str):
            raise QemuError(f"Invalid parameter type for '{name}', expected: string")
        if value not in words:
            raise QemuError(f"Parameter '{name}' does not accept value '{value}'")
        result[name] = value
    for name in tree:
        if name not in result:
            raise QemuError(f"Parameter '{name}' is unexpected")
    return result
