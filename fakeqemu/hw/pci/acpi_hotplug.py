# SPDX-License-Identifier: MIT
"""Which PCI buses ACPI hotplugs on, and what it takes away.

When the machine is ready the firmware tables are made, and each bus that takes part gets a number (bsel), depth first from
the root, the newest bridge first. A bus behind a bridge that came later has none, nor has one behind a port that was told
`hotplug=off`. The numbers say in which order a reset ejects what a guest was asked to let go; bridges that were there
from the start stay.

QEMU: hw/acpi/pcihp.c
"""

from __future__ import annotations

from fakeqemu.hw.pci.bus import BSEL, PCIBus, root_buses, slot_of
from fakeqemu.hw.pci.device import PCIDevice, pci_devices

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.system.machine import Machine


def bus_numbers(vm: Machine) -> list[PCIBus]:
    """The buses that ACPI knows, each at its number."""
    found: list[PCIBus] = []
    first = next(root_buses(vm), None)
    if first is not None:
        _number(first, found)
    return found


def is_numbered(bus: PCIBus) -> bool:
    """Whether ACPI knows the bus: it takes part, and so it hangs from the first root."""
    if not _takes_part(bus):
        return False
    root = bus
    while isinstance(root.owner, PCIDevice):
        root = root.owner.bus
    return root is next(root_buses(bus.vm), None)


def _number(bus: PCIBus, found: list[PCIBus]) -> None:
    if _takes_part(bus):
        found.append(bus)
    for device in bus.kids:
        if isinstance(device, PCIDevice):
            for below in device.child_buses:
                if isinstance(below, PCIBus):
                    _number(below, found)


def _takes_part(bus: PCIBus) -> bool:
    if BSEL not in (bus.record or {}):
        return False
    owner = bus.owner
    if not isinstance(owner, PCIDevice):
        return True
    return not owner.hotplugged and (not owner.is_a("pcie-slot") or bool(owner.get("hotplug")))


def ejected_by_reset(vm: Machine) -> list[PCIDevice]:
    """The pending devices that a reset takes away, in its order."""
    order = bus_numbers(vm)
    pending = [device for device in pci_devices(vm) if device.pending_deleted and device.bus in order]
    pending = [device for device in pending if device.hotplugged or not device.config.is_bridge]
    return sorted(pending, key=lambda device: (order.index(device.bus), slot_of(device.devfn)))
