# SPDX-License-Identifier: MIT
"""Sections of CPUs beyond the first: the profile's machines were recorded with one.

Each further CPU looks like the first one, and is numbered behind it (seen on 7.2, 10.0 and 11.1):

    one CPU      ... cpu_common 4, cpu 5, kvm-tpr-opt 6, apic 7, fw_cfg 8 ...
    two          ... cpu_common 4, cpu 5, kvm-tpr-opt 6, apic 7, cpu_common 8, cpu 9, apic 10, fw_cfg 11 ...

Those that are plugged in come behind, as all that comes later does (plugged_cpus.py). Where APICs stand in the stream is another
matter: in 11.1 all of them come first.

A device that plugs CPUs has a row with a place for each that there may be (`maxcpus`), which grows within its section (11.1;
older releases send a bitmap of all that there could ever be):

    subsection ich9_pm/cpuhp or piix4_pm/cpuhp     CPU hotplug state: selector 4, command 1, devs 10 for each

QEMU: hw/core/cpu-system.c, target/i386/cpu-apic.c, hw/acpi/cpu.c
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.system.board import Board

    Section = dict[str, Any]

APIC = "apic"
#: of the row of CPUs: whose field it is, which, and the end of the name of the subsection that ends with it
_PLUGS, _ROW, _SUBSECTION = "CPU hotplug state", "devs", "/cpuhp"
#: what each CPU has, as QEMU registers it; the first one has `kvm-tpr-opt` between
OF_EACH = ("cpu_common", "cpu", APIC)
_OF_FIRST = (*OF_EACH, "kvm-tpr-opt")


def with_further_cpus(board: Board, sections: list[Section]) -> list[Section]:
    """`sections` with those of all CPUs that the board began with; a further one has `like`: the instance that it resembles."""
    firsts = [one for one in sections if one["name"] in _OF_FIRST]
    further = [cpu.index for cpu in board.cpus if 0 < cpu.index < board.smp.cpus]
    if not further or not firsts:
        return sections
    last_id: int = max(one["section_id"] for one in firsts)
    each = [one for name in OF_EACH for one in firsts if one["name"] == name]
    added: dict[str, list[Section]] = {one["name"]: [] for one in each}
    next_id = last_id + 1
    for index in further:
        for one in each:
            instance = board.smp.apic_id(index) if one["name"] == APIC else index
            added[one["name"]].append({**one, "instance": instance, "section_id": next_id, "like": one["instance"]})
            next_id += 1
    apic_first = sections[0]["name"] == APIC
    behind = [copies for name, copies in added.items() if name != APIC or not apic_first]
    result: list[Section] = []
    last = [one for one in firsts if one is not sections[0] or not apic_first][-1]
    for one in sections:
        moved = (
            one if one["section_id"] <= last_id else {**one, "section_id": one["section_id"] + next_id - last_id - 1}
        )
        result.append(moved)
        if one is sections[0] and apic_first:
            result += added[APIC]
        if one is last:
            for of_one in zip(*behind, strict=True):
                result += of_one
    return result


def places_of(desc: Section) -> int:
    """For how many CPUs a description has places; 0 when its device has none."""
    for part in (*desc.get("fields", ()), *desc.get("subsections", ())):
        struct = part.get("struct", part)
        if struct.get("vmsd_name") == _PLUGS:
            return sum(field.get("array_len", 1) for field in struct["fields"] if field["name"] == _ROW)
        if places := places_of(struct):
            return places
    return 0


def with_places(desc: Section, count: int) -> Section:
    """A description with places for `count` CPUs; one that has none stays as it is."""
    return _grown(desc, count)[0]


def place_size(desc: Section) -> int:
    """Bytes of one place."""
    return _grown(desc, 2)[1] - _grown(desc, 1)[1]


def _grown(desc: Section, count: int) -> tuple[Section, int]:
    """The description and by how many bytes its section has grown."""
    grown = 0
    result = dict(desc)
    for key in ("fields", "subsections"):
        if key not in desc:
            continue
        parts = []
        for part in desc[key]:
            more = 0
            if desc.get("vmsd_name") == _PLUGS and part["name"] == _ROW:
                more = part["size"] * (count - part.get("array_len", 1))
                part = {name: value for name, value in part.items() if name != "array_len"}
                if count > 1:  # where QEMU puts it
                    part = {"name": part.pop("name"), "array_len": count, **part}
            elif "struct" in part:
                struct, more = _grown(part["struct"], count)
                if more:
                    part = {**part, "struct": struct, "size": part["size"] + more}
            elif key == "subsections" or "fields" in part:
                part, more = _grown(part, count)
            parts.append(part)
            grown += more
        result[key] = parts
    return result, grown


def with_place_bytes(data: bytes, desc: Section, count: int) -> bytes:
    """A section's body of a machine with one CPU, with places for `count` of them; nothing happens in them yet."""
    more = _grown(desc, count)[1]
    at = data.find(_SUBSECTION.encode())
    if not more or at < 0:
        return data
    # name, version, what was there
    at += len(_SUBSECTION) + 4 + _size_before(desc)
    return data[:at] + bytes(more) + data[at:]


def _size_before(desc: Section) -> int:
    """Bytes of the state that plugs CPUs, in a machine with one."""
    for part in (*desc.get("fields", ()), *desc.get("subsections", ())):
        struct = part.get("struct", part)
        if struct.get("vmsd_name") == _PLUGS:
            return int(part["size"])
        if size := _size_before(struct):
            return size
    return 0
