# SPDX-License-Identifier: MIT
"""The smallest valid value of a type: what `{}` would be if nothing were mandatory.

For tests that call every command, and for hints to people who write a scenario. Of a union's branches, an alternate's
types and an enum's values the first is taken that leads to an end.

QEMU: nothing of its own
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.qapi.schema import ObjectType

_SCALARS: dict[str, Any] = {"string": "x", "int": 1, "number": 1, "boolean": True, "null": None, "value": 1}


class NoExample(ValueError):
    """Every value of a type contains another of that type."""


def example(type_: Any, within: tuple[str, ...] = ()) -> Any:
    """A value of `type_`; raises NoExample. `within`: the types that this one is inside of."""
    kind = type_.kind
    if kind == "builtin":
        return _SCALARS[type_.json_type]
    if kind == "enum":
        return next(iter(type_.values))
    if kind == "array":
        return []
    if type_.name in within:
        raise NoExample(type_.name)
    within = (*within, type_.name)
    if kind == "alternate":
        return _first([lambda choice=choice: example(choice, within) for choice in type_.choices.values()], type_.name)
    return _object(type_, within)


def _object(type_: ObjectType, within: tuple[str, ...]) -> dict[str, Any]:
    base = {member.name: example(member.type, within) for member in type_.members if not member.optional}
    tag = type_.tag
    if tag is None:
        return base

    def branch(case: str) -> dict[str, Any]:
        variant = type_.variant(case)
        return {**base, tag: case, **({} if variant is None else example(variant, within))}

    values = type_.member_names[tag].type.values
    result: dict[str, Any] = _first([lambda case=case: branch(case) for case in values], type_.name)
    return result


def _first(attempts: list[Any], name: str) -> Any:
    for attempt in attempts:
        try:
            return attempt()
        except NoExample:
            continue
    raise NoExample(name)
