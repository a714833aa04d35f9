# SPDX-License-Identifier: MIT
"""Finding buses in the tree of devices: by path, by name, or the first of a kind.

    /q35-pcihost/pcie.0/rp1      from the main system bus on: device, bus, device, bus ...
    pcie.0/rp1                   from the first bus of that name on
    rp1                          the first bus of that name, wherever it is

A device in a path is named by its id, its type, or its type's other name; a path may end in a device that has one bus.

QEMU: qbus_find and its kin in system/qdev-monitor.c
"""

from __future__ import annotations

from fakeqemu.error import DEVICE_NOT_FOUND, QemuError
from fakeqemu.hw.core.inventory import alias_of
from fakeqemu.hw.core.qdev import BusState, DeviceState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.qom.object import Object
    from fakeqemu.system.machine import Machine

#: the name of the root in paths, and where it is in the QOM tree
MAIN_SYSTEM_BUS = "main-system-bus"
_SYSBUS_PATH = "/machine/unattached/sysbus"


def main_system_bus(vm: Machine) -> BusState | None:
    """The root of all buses; None before there is a board."""
    bus = vm.qom.find(_SYSBUS_PATH)
    return bus if isinstance(bus, BusState) else None


def bus_name(bus: BusState) -> str:
    """How a bus is called by users."""
    return MAIN_SYSTEM_BUS if bus.name == "sysbus" else bus.name


def find_recursive(bus: BusState, name: str | None, type_name: str | None) -> BusState | None:
    """The first bus at or below `bus` with that name and of that kind; a full one only if there is no other."""
    match = (name is None or bus_name(bus) == name) and (type_name is None or bus.is_a(type_name))
    if match and not bus.is_full():
        return bus
    full = bus if match else None
    for device in bus.kids:
        for below in device.child_buses:
            found = find_recursive(below, name, type_name)
            if found is not None and not found.is_full():
                return found
            if found is not None and full is None:
                full = found
    return full


def find_bus(vm: Machine, path: str) -> BusState:
    """The bus that `bus=` names; raises QemuError, with a hint for people who can see hints."""
    top = main_system_bus(vm)
    if path.startswith("/"):
        bus = top
        rest = path[1:]
    else:
        first, _, rest = path.partition("/")
        bus = find_recursive(top, first, None) if top is not None and first else None
        if bus is None:
            raise QemuError(f"Bus '{first}' not found")
    if bus is None:
        raise QemuError(f"Bus '{path}' not found")
    while True:
        rest = rest.lstrip("/")
        if not rest:
            return _not_full(bus, path)
        part, _, rest = rest.partition("/")
        device = find_device(bus, part)
        if device is None:
            raise QemuError(f"Device '{part}' not found", DEVICE_NOT_FOUND, _devices_hint(bus))
        rest = rest.lstrip("/")
        if not rest:
            return _not_full(_only_bus(device, part), path)
        part, _, rest = rest.partition("/")
        child = next((below for below in device.child_buses if below.name == part), None)
        if child is None:
            raise QemuError(f"Bus '{part}' not found", hint=_buses_hint(device))
        bus = child


def _not_full(bus: BusState, path: str) -> BusState:
    if bus.is_full():
        raise QemuError(f"Bus '{path}' is full")
    return bus


def _only_bus(device: DeviceState, part: str) -> BusState:
    buses = device.child_buses
    if not buses:
        raise QemuError(f"Device '{part}' has no child bus")
    if len(buses) > 1:
        raise QemuError(f"Device '{part}' has multiple child buses", hint=_buses_hint(device))
    return buses[0]


def find_device(bus: BusState, name: str) -> DeviceState | None:
    """The device on a bus with that id, else of that type, else of the type with that other name."""
    kids = bus.kids
    for device in kids:
        if device.id is not None and device.id == name:
            return device
    for device in kids:
        if device.type_name == name:
            return device
    for device in kids:
        if alias_of(bus.vm.profile, device.type_name) == name:
            return device
    return None


def _devices_hint(bus: BusState) -> str:
    names = ", ".join(f'"{device.id or device.type_name}"' for device in bus.kids)
    return f'devices at "{bus_name(bus)}": {names}'


def _buses_hint(device: DeviceState) -> str:
    names = ", ".join(f'"{bus.name}"' for bus in device.child_buses)
    return f'child buses at "{device.id or device.type_name}": {names}'


def device_by_id(vm: Machine, text: str) -> Object:
    """The device (or CPU) that an id of /machine/peripheral or a QOM path names; raises QemuError."""
    target = vm.qom.find(text) if text.startswith("/") or text == "" else vm.qom.peripheral.child(text)
    if text == "":
        target = vm.qom.peripheral
    if target is None:
        raise QemuError(f"Device '{text}' not found", DEVICE_NOT_FOUND)
    if not target.is_a("device"):
        raise QemuError(f"{text} is not {vm.compat.device_not_a_device_text}")
    return target
