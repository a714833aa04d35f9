# SPDX-License-Identifier: MIT
"""QMP commands of devices.

QEMU: system/qdev-monitor.c, hw/pci/pci-qmp-cmds.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.hw.core.qdev import DeviceState
from fakeqemu.hw.pci.query import query_pci
from fakeqemu.monitor.registry import qmp_command
from fakeqemu.vl import qdev_monitor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.system.machine import Machine


@qmp_command
def qmp_device_add(vm: Machine, arguments: dict[str, Any]) -> None:
    """Plug in a device; the arguments are its properties, judged by itself."""
    if vm.compat.device_add_takes_json:
        qdev_monitor.device_add(vm, arguments, from_json=True, hotplug=vm.phase == "ready")
        return
    # Before 9.2 all values went through text on their way to the properties.
    texts = qdev_monitor.as_text(arguments)
    if not isinstance(arguments.get("id"), str):
        texts.pop("id", None)
    elif not qdev_monitor.is_identifier(texts["id"]):
        raise QemuError("Parameter 'id' expects an identifier")
    qdev_monitor.device_add(vm, texts, from_json=False, hotplug=vm.phase == "ready")


@qmp_command
def qmp_device_del(vm: Machine, *, id: str) -> None:
    """Ask the guest to let a device go; DEVICE_DELETED follows when it has."""
    qdev_monitor.device_del(vm, id)


@qmp_command
def qmp_device_sync_config(vm: Machine, *, id: str) -> None:
    """Have a device read its configuration from its back end again: none of ours has such a back end."""
    target = vm.qom.find(id) if id.startswith("/") else vm.qom.peripheral.child(id)
    if not isinstance(target, DeviceState):
        raise QemuError(f"Device '{id}' not found")
    part = target.child("virtio-backend")
    type_name = part.type_name if part is not None else target.type_name
    raise QemuError(f"device-sync-config is not supported for '{type_name}'")


@qmp_command
def qmp_query_pci(vm: Machine) -> list[dict[str, Any]]:
    """Every PCI function that a guest can reach."""
    return query_pci(vm)
