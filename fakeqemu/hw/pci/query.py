# SPDX-License-Identifier: MIT
"""`query-pci`: every function of every root bus, read from the configuration spaces.

What lies behind a bridge is shown once a guest has numbered its bus, and none has.

QEMU: hw/pci/pci-qmp-cmds.c
"""

from __future__ import annotations

from fakeqemu.hw.pci.bus import PCIBus, function_of, root_buses, slot_of
from fakeqemu.hw.pci.config_space import (
    PCI_DEVICE_ID,
    PCI_INTERRUPT_LINE,
    PCI_INTERRUPT_PIN,
    PCI_PRIMARY_BUS,
    PCI_SECONDARY_BUS,
    PCI_SUBORDINATE_BUS,
    PCI_SUBSYSTEM_ID,
    PCI_SUBSYSTEM_VENDOR_ID,
    PCI_VENDOR_ID,
)
from fakeqemu.hw.pci.ids import class_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.hw.pci.device import PCIDevice
    from fakeqemu.system.machine import Machine


def query_pci(vm: Machine) -> list[dict[str, Any]]:
    """One PciInfo for each root bus."""
    return [{"bus": bus.bus_number(), "devices": _devices(bus)} for bus in root_buses(vm)]


def _devices(bus: PCIBus) -> list[dict[str, Any]]:
    return [_device(device) for device in bus.functions.values()]


def _device(device: PCIDevice) -> dict[str, Any]:
    config = device.config
    code = config.class_code
    name = class_name(code)
    ids = {"device": config.word(PCI_DEVICE_ID), "vendor": config.word(PCI_VENDOR_ID)}
    info: dict[str, Any] = {
        "bus": device.bus.bus_number(),
        "slot": slot_of(device.devfn),
        "function": function_of(device.devfn),
        "class_info": {"class": code} if name is None else {"class": code, "desc": name},
        "id": ids,
        "regions": _regions(device),
        "qdev_id": device.id or "",
        "irq_pin": config.byte(PCI_INTERRUPT_PIN),
    }
    if config.byte(PCI_INTERRUPT_PIN):
        info["irq"] = config.byte(PCI_INTERRUPT_LINE)
    if config.is_bridge:
        info["pci_bridge"] = _bridge(device)
    else:
        ids["subsystem"] = config.word(PCI_SUBSYSTEM_ID)
        ids["subsystem-vendor"] = config.word(PCI_SUBSYSTEM_VENDOR_ID)
    return info


def _regions(device: PCIDevice) -> list[dict[str, Any]]:
    config = device.config
    regions = []
    for bar in sorted(config.bars.values(), key=lambda bar: bar.number):
        region: dict[str, Any] = {
            "bar": bar.number,
            "type": "io" if bar.is_io else "memory",
            "size": bar.size,
            "address": config.bar_address(bar),
        }
        if not bar.is_io:
            region["prefetch"] = bar.prefetch
            region["mem_type_64"] = bar.is_64
        regions.append(region)
    return regions


def _bridge(device: PCIDevice) -> dict[str, Any]:
    config = device.config
    secondary = config.byte(PCI_SECONDARY_BUS)
    windows = zip(
        ("io_range", "memory_range", "prefetchable_range"),
        (config.io_window(), config.memory_window(), config.prefetchable_window()),
        strict=True,
    )
    bus: dict[str, Any] = {
        "number": config.byte(PCI_PRIMARY_BUS),
        "secondary": secondary,
        "subordinate": config.byte(PCI_SUBORDINATE_BUS),
    }
    bus.update({name: {"base": base, "limit": limit} for name, (base, limit) in windows})
    info: dict[str, Any] = {"bus": bus}
    if secondary:
        below = [bus for bus in device.child_buses if isinstance(bus, PCIBus)]
        if below:
            info["devices"] = _devices(below[0])
    return info
