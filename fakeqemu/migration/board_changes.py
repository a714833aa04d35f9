# SPDX-License-Identifier: MIT
"""What a machine type of an older release, and another CPU than the usual one, change in the recorded state of a board.

The profile's table `vmstate-changes` has it, as differences of the sections of table `vmstate`: `pc-q35-7.2/q35` of a machine
on that record, `cpu/max` of a CPU on all of them.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.system.machine import Machine

    Record = dict[str, Any]

TABLE = "vmstate-changes"
_CPU_SUFFIX = "-x86_64-cpu"


def with_changes(vm: Machine, variant: str, record: Record) -> Record:
    """`record`, of table `vmstate` under that name, as it is for this machine's type and CPU."""
    board, profile = vm.board, vm.profile
    if board is None:
        return record
    model = (board.cpu_type or "").removesuffix(_CPU_SUFFIX)
    for key in (f"{board.name}/{variant}", f"cpu/{model}"):
        change: Record | None = profile.get(TABLE, key, None)
        if change is not None:
            record = _changed(record, change)
    return record


def _changed(record: Record, change: Record) -> Record:
    changed = {(one["name"], one["instance"]): one for one in change.get("changed", ())}
    missing = [tuple(name) for name in change.get("missing", ())]
    is_free = not change.get("renumbered")
    gone = [one["section_id"] for one in record["sections"] if _key(one) in missing and not is_free]
    sections = [
        {**_section(one, changed.get(_key(one))), "section_id": _number(one["section_id"], gone)}
        for one in record["sections"]
        if _key(one) not in missing
    ]
    devices = [
        _description(device, changed.get((device["name"], device["instance_id"])))
        for device in record["vmdesc"]["devices"]
        if (device["name"], device["instance_id"]) not in missing
    ]
    return {**record, "sections": sections, "vmdesc": {**record["vmdesc"], "devices": devices}}


def _key(section: Record) -> tuple[str, int]:
    return section["name"], section.get("instance", 0)


def _number(section_id: int, gone: list[int]) -> int:
    """A section's number where those before it are not there."""
    return section_id - sum(number < section_id for number in gone)


def _section(section: Record, change: Record | None) -> Record:
    if change is None:
        return section
    result = {**section, "version": change.get("version", section["version"])}
    if "data" in change:
        return {**result, "data": change["data"]}
    body = bytearray(a2b_base64(section["data"]))
    for at, text in change.get("patch", ()):
        content = bytes.fromhex(text)
        body[at : at + len(content)] = content
    body += bytes.fromhex(change.get("more", ""))
    return {**result, "data": b2a_base64(body, newline=False).decode()}


def _description(device: Record, change: Record | None) -> Record:
    if change is None:
        return device
    if "vmdesc" in change:
        own: Record = change["vmdesc"]
        return own
    more = change.get("subsections", [])
    return {**device, "subsections": [*device.get("subsections", []), *more]} if more else device
