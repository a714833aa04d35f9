# SPDX-License-Identifier: MIT
"""Plugging CPUs in and out.

A CPU goes where its topology says: socket, core, thread, and die and module where the machine has more than one of them.
Taking one out needs the guest's consent (ACPI), and nobody gives it here; the CPU that the machine started with stays.

QEMU: x86_cpu_pre_plug in hw/i386/x86-common.c, hw/i386/pc.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.system.cpus import X86CPU

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.qom.object import Object
    from fakeqemu.system.board import Board
    from fakeqemu.system.machine import Machine

#: levels of the topology as they are asked for; those that may be left out where there is one of them
_LEVELS = (("socket", True), ("die", False), ("module", False), ("core", True), ("thread", True))


def board_for_cpus(vm: Machine, type_name: str) -> Board:
    """The board, which takes CPUs; raises QemuError."""
    board = vm.board
    if board is None or board.cpu_type is None:
        raise QemuError(f"Device '{type_name}' can not be hotplugged on this machine")
    return board


def plug_cpu(cpu: X86CPU, options: dict[str, Any], *, from_json: bool) -> None:
    """Set the properties of a CPU that is in the tree, and give it its place; raises QemuError."""
    for name, value in options.items():
        if from_json:
            cpu.set(name, value)
        else:
            cpu.set_str(name, value)
    board = board_for_cpus(cpu.vm, cpu.type_name)
    if cpu.type_name != board.cpu_type:
        raise QemuError(f"Invalid CPU type, expected cpu type: '{board.cpu_type}'")
    index = _index(board, cpu)
    other = next((one for one in board.cpus if one.index == index), None)
    if other is not None:
        raise QemuError(f"CPU[{index}] with APIC ID {board.smp.apic_id(index)} exists")
    cpu.features = {name: cpu.get(name) for name in options if name not in _PLACE}
    cpu.plug(index, board)
    board.cpus.append(cpu)
    from fakeqemu.migration import plugged_cpus

    plugged_cpus.register(cpu.vm, index)


_PLACE = tuple(f"{level}-id" for level, _ in _LEVELS)


def _index(board: Board, cpu: X86CPU) -> int:
    """The number of the place that the CPU's properties name."""
    place: dict[str, int] = {}
    for level, required in _LEVELS:
        if cpu.find_property(f"{level}-id") is None:
            continue
        count = board.smp.levels.get(f"{level}s", 1)
        number: int = cpu._values.get(f"{level}-id", -1)
        if number < 0:
            if required or count > 1:
                raise QemuError(f"CPU {level}-id is not set")
            number = 0
        if number >= count:
            raise QemuError(f"Invalid CPU {level}-id: {number} must be in range 0:{count - 1}")
        place[f"{level}-id"] = number
    for index in range(board.smp.maxcpus):
        ids = board.smp.ids(index)
        if all(place.get(name, 0) == number for name, number in ids.items()):
            return index
    raise AssertionError(f"no place {place}")


def unplug_cpu(cpu: Object) -> None:
    """Ask the guest to let a CPU go, which it does not; raises QemuError."""
    assert isinstance(cpu, X86CPU)
    board = cpu.vm.board
    assert board is not None
    if board.family == "microvm":
        raise QemuError("unplug not supported by microvm")
    if cpu.index == 0:
        raise QemuError("Boot CPU is unpluggable")
    if not cpu.vm.compat.cpu_unplug_asked_by_acpi:
        raise QemuError(f"acpi: device unplug request for not supported device type: {cpu.type_name}")
