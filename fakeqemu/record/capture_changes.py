# SPDX-License-Identifier: MIT
"""What older machine types and other CPUs change in the state of a board, against that of the newest type with its usual CPU.

A change of one section is told as shortly as it can be:

    patch           [offset, hexadecimal bytes] ...     what is in other places the same
    more, subsections                                   and what stands behind it: bytes, and what describes them
    data, vmdesc                                        or all of it, where it is another one
"""

from __future__ import annotations

import base64
from typing import Any

from fakeqemu.record.capture_queries import VARIANTS
from fakeqemu.record.capture_vm import CaptureVm, Died, Emulator
from fakeqemu.record.capture_vmstate import NotUnderstood, dissect, migrated

#: the time of day is in them
TIMES = ("timer", "mc146818rtc")
FAMILIES = {"q35": "pc-q35-", "pc": "pc-i440fx-"}
CPU_MACHINE = "q35-nodefaults"
CPU_SUFFIX = "-x86_64-cpu"

Section = dict[str, Any]
State = dict[tuple[str, int], tuple[Section, Section]]


def capture_changes(emulator: Emulator, machines: list[str], types: dict[str, Any]) -> dict[str, Any]:
    """`MACHINE/VARIANT` and `cpu/MODEL` -> `changed`, `added` and `missing` sections; those without a change are left out.

    `renumbered`: the missing ones have left no numbers free.
    """
    plain = {variant: _state(emulator, args) for variant, args in VARIANTS.items()}
    result: dict[str, Any] = {}
    for variant, args in VARIANTS.items():
        begin = FAMILIES.get(variant.removesuffix("-nodefaults"), "/")
        for machine in machines:
            if machine.startswith(begin):
                _keep(
                    result, f"{machine}/{variant}", plain[variant], _state(emulator, ["-machine", machine, *args[2:]])
                )
    for name in types:
        model = name.removesuffix(CPU_SUFFIX)
        if model != name and not types[name]["abstract"]:
            state = _state(emulator, [*VARIANTS[CPU_MACHINE], "-cpu", model])
            _keep(result, f"cpu/{model}", plain[CPU_MACHINE], state)
    return result


def _state(emulator: Emulator, args: list[str]) -> State | None:
    """Sections and their descriptions by name and instance; None where there is no such machine here."""
    try:
        with CaptureVm(emulator, args) as vm:
            record = dissect(migrated(vm))
    except (Died, NotUnderstood):
        return None
    described = {(device["name"], device["instance_id"]): device for device in record["vmdesc"]["devices"]}
    keys = [(one["name"], one["instance"]) for one in record["sections"]]
    return {key: (one, described[key]) for key, one in zip(keys, record["sections"], strict=True)}


def _keep(result: dict[str, Any], key: str, plain: State | None, other: State | None) -> None:
    if plain is None or other is None:
        return
    changed = []
    for name, (one, desc) in other.items():
        if name in plain and name[0] not in TIMES:
            change = _change(*plain[name], one, desc)
            if change:
                changed.append({"name": name[0], "instance": name[1], **change})
    kept = {
        "changed": changed,
        "added": [list(name) for name in other if name not in plain],
        "missing": [list(name) for name in plain if name not in other],
    }
    if any(kept.values()):
        result[key] = {part: value for part, value in kept.items() if value}
        if any(name in plain and plain[name][0]["section_id"] != one["section_id"] for name, (one, _) in other.items()):
            result[key]["renumbered"] = True


def _change(plain: Section, plain_desc: Section, other: Section, desc: Section) -> dict[str, Any]:
    before, after = base64.b64decode(plain["data"]), base64.b64decode(other["data"])
    version = {} if plain["version"] == other["version"] else {"version": other["version"]}
    subsections, known = desc.get("subsections", []), plain_desc.get("subsections", [])
    alike = {**desc, "subsections": known} == {**plain_desc, "subsections": known}
    if not alike or subsections[: len(known)] != known or len(after) < len(before):
        return {**version, "data": other["data"], "vmdesc": desc}
    result = version
    if patch := _patch(before, after):
        result["patch"] = patch
    if len(after) > len(before):
        result |= {"more": after[len(before) :].hex(), "subsections": subsections[len(known) :]}
    return result


def _patch(before: bytes, after: bytes) -> list[list[Any]]:
    patch: list[list[Any]] = []
    for at, (old, new) in enumerate(zip(before, after, strict=False)):
        if old == new:
            continue
        if patch and patch[-1][0] + len(patch[-1][1]) // 2 == at:
            patch[-1][1] += f"{new:02x}"
        else:
            patch.append([at, f"{new:02x}"])
    return patch
