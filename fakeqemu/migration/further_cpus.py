# SPDX-License-Identifier: MIT
"""Sections of CPUs beyond the first: the profile's machines were recorded with one.

Each further CPU looks like the first one, and is numbered behind it (seen on 7.2, 10.0 and 11.1):

    one CPU      ... cpu_common 4, cpu 5, kvm-tpr-opt 6, apic 7, fw_cfg 8 ...
    two          ... cpu_common 4, cpu 5, kvm-tpr-opt 6, apic 7, cpu_common 8, cpu 9, apic 10, fw_cfg 11 ...

Where APICs stand in the stream is another matter: in 11.1 all of them come first.

QEMU: hw/core/cpu-system.c, target/i386/cpu-apic.c
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.system.board import Board

    Section = dict[str, Any]

APIC = "apic"
#: what each CPU has, as QEMU registers it; the first one has `kvm-tpr-opt` between
_OF_EACH = ("cpu_common", "cpu", APIC)
_OF_FIRST = (*_OF_EACH, "kvm-tpr-opt")


def with_further_cpus(board: Board, sections: list[Section]) -> list[Section]:
    """`sections` with those of all CPUs of the board; a further one has `like`: the instance that it resembles."""
    firsts = [one for one in sections if one["name"] in _OF_FIRST]
    further = [cpu.index for cpu in board.cpus if cpu.index]
    if not further or not firsts:
        return sections
    last_id: int = max(one["section_id"] for one in firsts)
    each = [one for name in _OF_EACH for one in firsts if one["name"] == name]
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
