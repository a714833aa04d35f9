# SPDX-License-Identifier: MIT
"""The interface language of a QEMU: schema, commands, and the facts that introspection hides.

query-qmp-schema gives every type a number for a name and every integer the type `int`. An error text
does tell the width of an integer and the name of an alternate, so each member is asked with a value that does
not fit. Every such question also has an argument nobody expects: no command ever runs.

Which commands preconfig allows is not in the schema either: an emulator that waits in preconfig refuses the
others before it looks at their arguments.

QEMU: qapi/introspect.json, qapi/qobject-input-visitor.c, qapi/qmp-dispatch.c
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from fakeqemu.record.capture_vm import CaptureVm, Died, Emulator

BOGUS = "~bogus"
MAX_DEPTH = 6

Entity = dict[str, Any]
Wrap = Callable[[Any], Any]


def capture_schema(vm: CaptureVm) -> dict[str, Entity]:
    """Entity name -> entity, in QEMU's order; raises Died if our way to write JSON is not QEMU's."""
    return {entity["name"]: entity for entity in vm("query-qmp-schema")}


def capture_commands(vm: CaptureVm, schema: dict[str, Entity], preconfig: dict[str, bool]) -> dict[str, Any]:
    """Command -> its declaration, in the order of query-commands."""
    result = {}
    for entry in vm("query-commands"):
        entity = schema[entry["name"]]
        argument = schema[entity["arg-type"]]
        empty = argument["meta-type"] == "object" and not argument["members"] and "variants" not in argument
        # A command whose arguments are not generated has an empty object too, yet takes arguments.
        takes_any = empty and entry["name"] == "device_add"
        result[entry["name"]] = {
            "arg": None if empty and not takes_any else entity["arg-type"],
            "ret": entity["ret-type"],
            "oob": entity.get("allow-oob", False),
            "preconfig": preconfig.get(entry["name"], False),
            "features": entity.get("features", []),
        }
    return result


def capture_preconfig(emulator: Emulator, commands: list[str]) -> dict[str, bool]:
    """Command -> whether it is permitted before the machine is initialized."""
    result = {}
    with CaptureVm(emulator, ["-machine", "none", "-nodefaults", "-preconfig"]) as vm:
        for name in commands:
            answer = vm.ask(name, {BOGUS: 1})
            if not isinstance(answer, dict) or "error" not in answer:
                raise Died(f"{name} took an argument that does not exist")
            result[name] = "machine initialization" not in answer["error"]["desc"]
    return result


def _in_branch(wrap: Wrap, outer: dict[str, Any], tag: dict[str, Any]) -> Wrap:
    """How a value of a union's branch is wrapped: with the common members and the tag that chooses the branch."""

    def wrapped(value: Any) -> Any:
        return wrap({**outer, **value, **tag})

    return wrapped


class HiddenFacts:
    """Widths of integers and names of alternates, asked of a QEMU command by command.

    `ints`: entity -> member -> C type; `alternates`: entity -> name or None.
    """

    def __init__(self, vm: CaptureVm, schema: dict[str, Entity]) -> None:
        self.vm = vm
        self.types = schema
        self.ints: dict[str, dict[str, str]] = {}
        self.alternates: dict[str, str | None] = {}
        self._seen: set[str] = set()
        for entity in schema.values():
            # device_add hands its arguments on unchecked.
            if entity["meta-type"] == "command" and entity["name"] != "device_add":
                self._walk(entity["name"], entity["arg-type"], lambda value: value)

    def minimal(self, name: str, depth: int = 0) -> Any:
        """The smallest value that a type takes."""
        entity = self.types[name]
        meta = entity["meta-type"]
        if meta == "builtin":
            return {"int": 1, "number": 1, "string": "x", "boolean": True, "null": None, "value": 1}[
                entity["json-type"]
            ]
        if meta == "enum":
            return entity["members"][0]["name"] if "members" in entity else entity["values"][0]
        if meta == "array":
            return []
        if meta == "alternate":
            simple = [x for x in entity["members"] if self.types[x["type"]]["meta-type"] != "object"]
            return self.minimal((simple or entity["members"])[0]["type"], depth + 1)
        out = {x["name"]: self.minimal(x["type"], depth + 1) for x in entity["members"] if "default" not in x}
        if "tag" in entity and depth < MAX_DEPTH:
            case = entity["variants"][0]
            out[entity["tag"]] = case["case"]
            for key, value in self.minimal(case["type"], depth + 1).items():
                out.setdefault(key, value)
        return out

    def _ask(self, command: str, wrap: Wrap, base: dict[str, Any], member: str, value: Any) -> str:
        arguments = {**wrap({**base, member: value}), BOGUS: 1}
        return str(self.vm.message(command, arguments)["error"]["desc"])

    def _width(self, ask: Callable[[Any], str]) -> str:
        desc = ask(1 << 63)
        match = re.search(r"expects (u?int\d+)", desc)
        if match:
            return match.group(1)
        if "expected: integer" not in desc:
            return "uint64"  # or a size: the same on the wire
        for bits in (31, 15, 7):
            match = re.search(r"expects (int\d+)", ask(1 << bits))
            if match:
                return match.group(1)
        return "int64"

    def _walk(self, command: str, name: str, wrap: Wrap) -> None:
        if name in self._seen:
            return
        self._seen.add(name)
        entity = self.types[name]
        base = self.minimal(name)
        for member in entity["members"]:
            self._member(command, name, wrap, base, member["name"], self.types[member["type"]])
        common = {member["name"] for member in entity["members"]}
        outer = {key: value for key, value in base.items() if key in common}
        for variant in entity.get("variants", ()):
            self._walk(command, variant["type"], _in_branch(wrap, outer, {entity["tag"]: variant["case"]}))

    def _member(self, command: str, owner: str, wrap: Wrap, base: dict[str, Any], member: str, entity: Entity) -> None:
        def ask(value: Any) -> str:
            return self._ask(command, wrap, base, member, value)

        def inside(value: Any) -> Any:
            return wrap({**base, member: value})

        kind = entity["meta-type"]
        if kind == "builtin" and entity["json-type"] == "int":
            self.ints.setdefault(owner, {})[member] = self._width(ask)
        elif kind == "object":
            self._walk(command, entity["name"], inside)
        elif kind == "alternate":
            self._alternate(command, entity, inside, ask)
        elif kind == "array":
            element = self.types[entity["element-type"]]
            if element["meta-type"] == "object":
                self._walk(command, element["name"], lambda value: inside([value]))
            elif element["meta-type"] == "builtin" and element["json-type"] == "int":
                self.ints.setdefault(owner, {})[member + "[]"] = self._width(lambda value: ask([value]))
            elif element["meta-type"] == "alternate":
                self._alternate(command, element, lambda value: inside([value]), lambda value: ask([value]))

    def _alternate(self, command: str, entity: Entity, wrap: Wrap, ask: Callable[[Any], str]) -> None:
        if entity["name"] in self.alternates:
            return
        self.alternates[entity["name"]] = None
        misfits: tuple[Any, ...] = (1.5, True, [], {}, "x", None)
        for value in misfits:
            match = re.search(r"Invalid parameter type for '[^']*', expected: ([A-Z]\w+)$", ask(value))
            if match:
                self.alternates[entity["name"]] = match.group(1)
                break
        for member in entity["members"]:
            if self.types[member["type"]]["meta-type"] == "object":
                self._walk(command, member["type"], wrap)
