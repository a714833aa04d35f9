# SPDX-License-Identifier: MIT
"""Sections of CPUs that were plugged in: registered when they come, as those of any device, and made like the first CPU's.

QEMU: cpu_vmstate_register in hw/core/cpu-system.c
"""

from __future__ import annotations

from fakeqemu.migration.board_state import board_state
from fakeqemu.migration.further_cpus import APIC, OF_EACH
from fakeqemu.migration.register import MIG_PRI_APIC, MIG_PRI_DEFAULT, StockState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.system.machine import Machine

#: no interrupt waits for a CPU that comes to a complete machine
_NO_REQUEST = bytes(4)


def register(vm: Machine, index: int) -> None:
    """Put the sections of CPU `index` into the line."""
    from fakeqemu.migration.savevm import board_record

    record, board = board_record(vm), vm.board
    if record is None or board is None:
        return
    first_name: str = record["sections"][0]["name"]
    described = {(device["name"], device["instance_id"]): device for device in record["vmdesc"]["devices"]}
    firsts = {one["name"]: one for one in reversed(record["sections"])}
    for name in OF_EACH:
        if name not in firsts:
            continue
        first = firsts[name]
        instance = board.smp.apic_id(index) if name == APIC else index
        state = board_state(vm, first["data"], described[name, first["instance"]], instance)
        if name == "cpu_common" and vm.phase == "ready":
            state = _without_requests(state)
        priority = MIG_PRI_APIC if name == first_name == APIC else MIG_PRI_DEFAULT
        vm.savevm.register_stock(name, instance, first["version"], state, priority)


def _without_requests(state: StockState) -> StockState:
    def read() -> tuple[bytes, dict[str, Any]]:
        return state.data[: -len(_NO_REQUEST)] + _NO_REQUEST, state.desc

    return StockState(read)
