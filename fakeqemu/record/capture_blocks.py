# SPDX-License-Identifier: MIT
"""RAM blocks that devices bring: where their ROMs and their video memory lie. What is in them is of no interest."""

from __future__ import annotations

from typing import Any

from fakeqemu.record.capture_realize import DEVICE_ID, MACHINES
from fakeqemu.record.capture_vm import CaptureVm, Died, Emulator

#: one machine is enough: a device's blocks are the same on all
MACHINE = "q35"
_PARENT = "pci-device"


def capture_blocks(emulator: Emulator, realize: dict[str, Any], types: dict[str, Any]) -> dict[str, Any]:
    """PCI device type -> [name, size] of each block that it adds when made cold with no property."""
    args = MACHINES[MACHINE]
    with CaptureVm(emulator, args) as vm:
        plain = _blocks(vm)
    result: dict[str, Any] = {}
    for name, outcomes in realize.items():
        if not outcomes.get(MACHINE, {}).get("cold", {}).get("ok") or not _is_pci(name, types):
            continue
        try:
            with CaptureVm(emulator, [*args, "-device", f"{name},id={DEVICE_ID}"]) as vm:
                added = [[block, size] for block, size in _blocks(vm).items() if block not in plain]
        except Died:
            continue
        if added:
            result[name] = added
    return result


def _is_pci(name: str, types: dict[str, Any]) -> bool:
    while name and name != _PARENT:
        name = types.get(name, {}).get("parent", "")
    return name == _PARENT


def _blocks(vm: CaptureVm) -> dict[str, int]:
    """Name -> used size, as `info ramblock` lists them."""
    rows = [line.split() for line in vm.hmp("info ramblock").splitlines()[1:]]
    return {row[0]: int(row[4], 16) for row in rows if len(row) > 5}
