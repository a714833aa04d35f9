# SPDX-License-Identifier: MIT
"""What differs between two profiles, as text for people: interface, inventory, defaults, behaviour."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from fakeqemu.qapi.profile import VersionProfile

WIDTH = 110


def diff(old: VersionProfile, new: VersionProfile) -> Iterator[str]:
    """The lines of the comparison; nothing when the profiles are equal."""
    for title, compare in SECTIONS:
        lines = list(compare(old, new))
        if lines:
            yield ""
            yield title
            yield from lines


def _version(old: VersionProfile, new: VersionProfile) -> Iterator[str]:
    if old.version_line != new.version_line:
        yield f"  - {old.version_line}"
        yield f"  + {new.version_line}"


def _keys(old: list[str], new: list[str]) -> Iterator[str]:
    """Names that went and came, folded to the width of a page."""
    before, after = set(old), set(new)
    for sign, names in (("-", sorted(before - after)), ("+", sorted(after - before))):
        line = ""
        for name in names:
            if line and len(line) + len(name) > WIDTH:
                yield f"  {sign} {line}"
                line = ""
            line = f"{line} {name}" if line else name
        if line:
            yield f"  {sign} {line}"


def _table(name: str, prefix: str = "") -> Callable[[VersionProfile, VersionProfile], Iterator[str]]:
    def compare(old: VersionProfile, new: VersionProfile) -> Iterator[str]:
        yield from _keys(*([key for key in p.keys(name) if key.startswith(prefix)] for p in (old, new)))

    return compare


def _common(old: VersionProfile, new: VersionProfile, table: str) -> Iterator[tuple[str, Any, Any]]:
    """Records of both that differ, read in one go and parsed only then."""
    before = dict(old.records(table))
    for key, data in new.records(table):
        if key in before and before[key] != data:
            yield key, old.get(table, key), new.get(table, key)


# --- the interface ------------------------------------------------------------------------------------


def _commands(old: VersionProfile, new: VersionProfile) -> Iterator[str]:
    yield from _keys(old.keys("commands"), new.keys("commands"))
    for name in old.keys("commands"):
        before, after = old.command(name), new.command(name)
        if before is None or after is None:
            continue
        changes = [
            f"{what} {_word(before[what])} -> {_word(after[what])}"
            for what in ("oob", "preconfig", "features")
            if before[what] != after[what]
        ]
        changes += _members(old, new, before["arg"], after["arg"], "")
        changes += _members(old, new, before["ret"], after["ret"], "returns ")
        if changes:
            yield f"  {name}: {', '.join(changes)}"


def _events(old: VersionProfile, new: VersionProfile) -> Iterator[str]:
    before, after = (_entities(p, "event") for p in (old, new))
    yield from _keys(list(before), list(after))
    for name, entity in after.items():
        if name in before:
            changes = _members(old, new, before[name]["arg-type"], entity["arg-type"], "")
            if changes:
                yield f"  {name}: {', '.join(changes)}"


def _entities(profile: VersionProfile, kind: str) -> dict[str, Any]:
    mark = f'"meta-type": "{kind}"'.encode()
    return {name: profile.get("schema", name) for name, data in profile.records("schema") if mark in data}


def _members(old: VersionProfile, new: VersionProfile, before: str | None, after: str | None, what: str) -> list[str]:
    """How the members of an object type changed. Type names mean nothing across profiles: members do."""
    had, has = _member_shapes(old, before), _member_shapes(new, after)
    changes = [f"{what}-{name}" for name in had if name not in has]
    changes += [f"{what}+{name}" for name in has if name not in had]
    changes += [
        f"{what}{name}: {_change(had[name], has[name])}" for name in has if name in had and had[name] != has[name]
    ]
    return changes


ENUM = "enum "


def _change(before: str, after: str) -> str:
    """From one shape to another; of an enum only the values that went and came."""
    had, has = (shape.removeprefix(ENUM).split("|") for shape in (before, after))
    if not before.startswith(ENUM) or not after.startswith(ENUM):
        return " -> ".join("enum" if shape.startswith(ENUM) else shape for shape in (before, after))
    return " ".join(
        [f"-{value}" for value in had if value not in has] + [f"+{value}" for value in has if value not in had]
    )


def _member_shapes(profile: VersionProfile, name: str | None) -> dict[str, str]:
    entity = profile.schema_entity(name) if name is not None else None
    if entity is None:
        return {}
    if entity["meta-type"] == "array":
        return {f"[].{key}": value for key, value in _member_shapes(profile, entity["element-type"]).items()}
    shapes = {}
    for member in entity.get("members", ()):
        if isinstance(member, dict) and "type" in member and "name" in member:
            # The widths of arguments are known; nobody sees those of what is returned.
            known = profile.has("int-types", str(name))
            width = profile.int_width(str(name), member["name"]) if known else "int"
            shape = _shape(profile, member["type"], width)
            shapes[member["name"]] = shape if shape.startswith(ENUM) or "default" not in member else shape + "?"
    for variant in entity.get("variants", ()):
        shapes[f"{entity['tag']}={variant['case']}"] = "branch"
    return shapes


def _shape(profile: VersionProfile, name: str, width: str) -> str:
    entity = profile.schema_entity(name)
    if entity is None:
        return name
    kind = str(entity["meta-type"])
    if kind == "builtin":
        return width if entity["json-type"] == "int" else str(entity["json-type"])
    if kind == "array":
        return f"[{_shape(profile, entity['element-type'], width)}]"
    if kind == "enum":
        values = entity.get("values") or [member["name"] for member in entity["members"]]
        return ENUM + "|".join(values)
    return kind


# --- inventory ----------------------------------------------------------------------------------------


def _properties(old: VersionProfile, new: VersionProfile) -> Iterator[str]:
    for name, before, after in _common(old, new, "device-properties"):
        if isinstance(before, dict) or isinstance(after, dict):
            continue
        had, has = ({entry["name"]: entry for entry in listed} for listed in (before, after))
        changes = [f"-{key}" for key in had if key not in has] + [f"+{key}" for key in has if key not in had]
        for key, entry in has.items():
            if key in had:
                changes += [
                    f"{key}: {what} {_word(had[key].get(member))} -> {_word(entry.get(member))}"
                    for what, member in (("type", "type"), ("default", "default-value"))
                    if had[key].get(member) != entry.get(member)
                ]
        if changes:
            yield f"  {name}: {', '.join(changes)}"


def _machines(old: VersionProfile, new: VersionProfile) -> Iterator[str]:
    yield from _keys(old.keys("machines"), new.keys("machines"))
    for name, before, after in _common(old, new, "machines"):
        if isinstance(before, str):
            yield f"  {name.removeprefix('alias:')}: {before} -> {after}"
            continue
        changes = [
            f"{key} {_word(before.get(key))} -> {_word(after.get(key))}"
            for key in {**before, **after}
            if before.get(key) != after.get(key)
        ]
        yield f"  {name}: {', '.join(changes)}"


def _defaults(table: str) -> Callable[[VersionProfile, VersionProfile], Iterator[str]]:
    def compare(old: VersionProfile, new: VersionProfile) -> Iterator[str]:
        yield from _keys(old.keys(table), new.keys(table))
        for name, before, after in _common(old, new, table):
            yield f"  {name}: {_word(before)} -> {_word(after)}"

    return compare


def _realize(old: VersionProfile, new: VersionProfile) -> Iterator[str]:
    for name, before, after in _common(old, new, "realize"):
        for machine in after:
            for when in after[machine]:
                was, now = (_outcome(x.get(machine, {}).get(when, {})) for x in (before, after))
                if was != now and was:
                    yield f"  {name} on {machine}, {when}: {was} -> {now}"


def _outcome(outcome: dict[str, Any]) -> str:
    if outcome.get("ok"):
        return "made"
    return next((key for key in ("crash", "hang") if key in outcome), str(outcome.get("error", "")))


def _options(old: VersionProfile, new: VersionProfile) -> Iterator[str]:
    yield from _keys(old.keys("options"), new.keys("options"))
    for name, before, after in _common(old, new, "options"):
        had, has = ([entry["name"] for entry in x["params"] or ()] for x in (before, after))
        changes = [f"-{key}" for key in had if key not in has] + [f"+{key}" for key in has if key not in had]
        if changes:
            yield f"  -{name}: {', '.join(changes)}"


def _vmstate(old: VersionProfile, new: VersionProfile) -> Iterator[str]:
    for variant, before, after in _common(old, new, "vmstate"):
        had, has = (
            {f"{x['name']}#{x['instance']}": x["version"] for x in state["sections"]} for state in (before, after)
        )
        changes = [f"-{key}" for key in had if key not in has] + [f"+{key}" for key in has if key not in had]
        changes += [f"{key}: version {had[key]} -> {has[key]}" for key in has if key in had and had[key] != has[key]]
        if changes:
            yield f"  {variant}: {', '.join(changes)}"


# --- behaviour ----------------------------------------------------------------------------------------


def _compat(old: VersionProfile, new: VersionProfile) -> Iterator[str]:
    for (row, before), (_, after) in zip(old.compat.items(), new.compat.items(), strict=True):
        if before != after:
            yield f"  {row.name}: {_word(before)} -> {_word(after)}"
            yield f"      {row.effect}"


def _word(value: Any) -> str:
    if value is True or value is False:
        return "on" if value else "off"
    return "none" if value is None else str(value)


SECTIONS: tuple[tuple[str, Callable[[VersionProfile, VersionProfile], Iterator[str]]], ...] = (
    ("Version", _version),
    ("Commands", _commands),
    ("Events", _events),
    ("Command line options", _options),
    ("Machines", _machines),
    ("Types", _table("types")),
    ("Device properties", _properties),
    ("Outcome of making a device without properties", _realize),
    ("Device state of default machines", _vmstate),
    ("Migration capabilities", _defaults("capabilities")),
    ("Migration parameters", _defaults("parameters")),
    ("Behaviour (fakeqemu/qapi/compat_rows.py)", _compat),
)
