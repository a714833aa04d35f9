# SPDX-License-Identifier: MIT
"""What types ask of their properties and of their neighbours when they are realized.

The record of a type (`outcome.py`) was taken of one device, alone and with no property. What only several devices or
properties together can bring about stands here: numbers that must differ, ports that run out, devices of which a machine
takes one. A rule belongs to a type and to all that descend from it.

QEMU: hw/pci/pcie_port.c, hw/char/virtio-serial-bus.c, hw/scsi/scsi-bus.c, hw/usb/bus.c, hw/char/serial-isa.c
"""

from __future__ import annotations

from fakeqemu.error import NotEmulated, QemuError
from fakeqemu.hw.core.qdev import BusState, DeviceState, all_devices
from fakeqemu.hw.core.tree import main_system_bus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fakeqemu.system.machine import Machine


def check_rules(device: DeviceState) -> None:
    """Apply the rules of the device's type; raises QemuError. May settle properties that were left to chance."""
    profile = device.vm.profile
    if device.find_property("mac") is not None:
        _mac(device)
    at: str | None = device.type_name
    while at is not None:
        rule = RULES.get(at)
        if rule is not None:
            rule(device)
        at = profile.type_parent(at) if profile.is_type(at) else None


def _alive(vm: Machine, type_name: str) -> list[DeviceState]:
    """The realized devices of a type that sit on a bus."""
    top = main_system_bus(vm)
    devices = all_devices(top) if top is not None else []
    return [device for device in devices if device.realized and device.is_a(type_name)]


def _users_devices(vm: Machine, type_name: str) -> list[DeviceState]:
    """The realized devices of a type that a user made, on a bus or on none."""
    listed = [*vm.qom.peripheral.children.values(), *vm.qom.peripheral_anon.children.values()]
    return [x for x in listed if isinstance(x, DeviceState) and x.realized and x.is_a(type_name)]


# --- network cards ----------------------------------------------------------------------------------------

#: cards that nobody gave an address get this, and one more each
_FIRST_MAC = 0x525400123456


def _mac(device: DeviceState) -> None:
    if "mac" in device._values:
        return
    taken = [other.get("mac") for other in all_nics(device.vm) if other is not device]
    number = _FIRST_MAC
    while _mac_text(number) in taken:
        number += 1
    device._values["mac"] = _mac_text(number)


def _mac_text(number: int) -> str:
    return ":".join(f"{byte:02x}" for byte in number.to_bytes(6, "big"))


def all_nics(vm: Machine) -> list[DeviceState]:
    """The realized devices that have a MAC address of their own, in order of appearance on their buses."""
    top = main_system_bus(vm)
    devices = all_devices(top) if top is not None else []
    return [device for device in devices if device.realized and device.find_property("mac") is not None]


# --- PCI Express ports ------------------------------------------------------------------------------------


def _pcie_slot(device: DeviceState) -> None:
    """Chassis and slot together name a port."""
    mine = (device.get("chassis"), device.get("slot"))
    for other in _users_devices(device.vm, "pcie-slot"):  # boards have none of their own
        if other is not device and (other.get("chassis"), other.get("slot")) == mine:
            raise QemuError("Can't add chassis slot, error -16")


def _pxb(device: DeviceState) -> None:
    """An expander's bus has a number that no other bus has; those behind bridges are 0 until a guest counts them."""
    bus = device.parent_bus
    number = int(device.get("bus_nr"))
    below = [below for other in bus.kids for below in other.child_buses] if bus is not None else []
    if number == 0 and any(other.is_a("PCI") for other in below):
        raise QemuError("Bus 0 is already in use")


# --- one of a kind ----------------------------------------------------------------------------------------


def _only_one(text: str, type_name: str) -> Callable[[DeviceState], None]:
    def rule(device: DeviceState) -> None:
        if any(other is not device for other in _users_devices(device.vm, type_name)):
            raise QemuError(text)

    return rule


# --- virtio -----------------------------------------------------------------------------------------------


def _virtio_pci(device: DeviceState) -> None:
    if device.find_property("disable-modern") is None:
        return
    # With `auto` the old interface is there on a plain bus only.
    if device.get("disable-modern") and device.get("disable-legacy") == "on":
        raise QemuError(
            "device cannot work as neither modern nor legacy mode is enabled",
            hint="Set either disable-modern or disable-legacy to off",
        )


def _virtio_net(device: DeviceState) -> None:
    for name, low in (("rx_queue_size", 256), ("tx_queue_size", 256)):
        size = device._values.get(name, low)
        if size < low or size > 1024 or size & (size - 1):
            raise QemuError(f"Invalid {name} (= {size}), must be a power of 2 between {low} and 1024.")


def _virtio_serial_port(device: DeviceState) -> None:
    """Ports of one controller have numbers; 0 is for a console."""
    bus = device.parent_bus
    assert bus is not None
    assert bus.owner is not None
    console = device.is_a("virtconsole")
    taken = [int(other.get("nr")) for other in bus.kids if other is not device and other.realized]
    limit = int(bus.owner.get("max_ports"))
    number = device._values.get("nr", 0xFFFFFFFF)
    if number == 0 and not console:
        raise QemuError(
            "Port number 0 on virtio-serial devices reserved for virtconsole devices for backward compatibility."
        )
    if number in taken:
        raise QemuError(f"virtio-serial-bus: A port already exists at id {number}")
    if number == 0xFFFFFFFF:
        first = 0 if console and 0 not in taken else 1
        number = next(free for free in range(first, len(taken) + 2) if free not in taken)
    if number >= limit:
        raise QemuError(f"virtio-serial-bus: Out-of-range port id specified, max. allowed: {limit - 1}")
    device._values["nr"] = number


# --- SCSI -------------------------------------------------------------------------------------------------


def _scsi_device(device: DeviceState) -> None:
    """Channel, target and logical unit; targets get the first free number if they name none."""
    bus = device.parent_bus
    assert bus is not None
    assert bus.owner is not None
    channels, targets, units = _SCSI_LIMITS.get(bus.owner.type_name, (0, 7, 0))
    channel, target, unit = (device._values.get(name, default) for name, default in _SCSI_PLACE)
    if channel > channels:
        raise QemuError(f"bad scsi channel id: {channel}")
    if target != -1 and target > targets:
        raise QemuError(f"bad scsi device id: {target}")
    if unit != -1 and unit > units:
        raise QemuError(f"bad scsi device lun: {unit}")
    taken = [
        tuple(int(other.get(name)) for name, _ in _SCSI_PLACE)
        for other in bus.kids
        if other is not device and other.realized
    ]
    if target == -1:
        unit = max(unit, 0)
        target = next((free for free in range(targets + 1) if (channel, free, unit) not in taken), -1)
        if target == -1:
            raise QemuError("no free target")
    elif unit == -1:
        unit = next((free for free in range(units + 1) if (channel, target, free) not in taken), -1)
        if unit == -1:
            raise QemuError("no free lun")
    elif (channel, target, unit) in taken:
        raise QemuError(f"lun already used by '{_name_at(bus, (channel, target, unit))}'")
    for (name, _), value in zip(_SCSI_PLACE, (channel, target, unit), strict=True):
        device._values[name] = value


#: property of the place -> what it is when nobody says
_SCSI_PLACE = (("channel", 0), ("scsi-id", -1), ("lun", -1))
#: controller -> highest channel, target, unit
_SCSI_LIMITS = {
    "virtio-scsi-device": (0, 255, 16383),
    "megasas": (0, 255, 255),
    "pvscsi": (0, 63, 0),
    "lsi53c895a": (0, 7, 0),
}


def _name_at(bus: BusState, place: tuple[int, ...]) -> str:
    for other in bus.kids:
        if other.realized and tuple(int(other.get(name)) for name, _ in _SCSI_PLACE) == place:
            return other.id or ""
    return ""


# --- USB --------------------------------------------------------------------------------------------------


def _usb_device(device: DeviceState) -> None:
    """A USB device takes a port of its controller, or of a hub there."""
    bus = device.parent_bus
    assert bus is not None
    assert bus.owner is not None
    ports = _usb_ports(bus)
    if ports is None:
        return
    kids = [other for other in bus.kids if other is not device and other.realized]
    taken = [other.port for other in kids]
    for hub in kids:
        if hub.is_a("usb-hub"):
            ports += [f"{hub.port}.{number}" for number in range(1, int(hub.get("ports")) + 1)]
    free = [port for port in ports if port not in taken]
    wanted = device._values.get("port", "")
    if wanted:
        if wanted not in free:
            raise QemuError(f"usb port {wanted} (bus {bus.name}) not found (in use?)")
        device.port = wanted
        return
    if len(free) == 1 and not device.is_a("usb-hub"):
        raise NotEmulated(f"{device.type_name}: not emulated on the last free port (QEMU adds a hub)")
    if not free:
        raise QemuError(f"tried to attach usb device {device.type_name} to a bus with no free ports")
    device.port = free[0]


def unplug_from_hub(hub: DeviceState) -> None:
    """A hub that goes takes along what is plugged into it."""
    bus = hub.parent_bus
    for device in bus.kids if bus is not None else ():
        if device.port.startswith(f"{hub.port}."):
            device.unparent()


def _usb_ports(bus: BusState) -> list[str] | None:
    """The ports of a controller; None where we do not know them."""
    owner = bus.owner
    assert owner is not None
    if owner.is_a("pci-xhci") or owner.is_a("base-xhci"):
        count = max(int(owner.get("p2")), int(owner.get("p3")))
    elif owner.is_a("pci-uhci-usb"):
        count = 2
    elif owner.is_a("pci-ehci-usb"):
        count = 6
    elif owner.is_a("pci-ohci"):
        count = int(owner.get("num-ports"))
    else:
        return None
    return [str(number) for number in range(1, count + 1)]


# --- ISA --------------------------------------------------------------------------------------------------

_MAX_ISA_SERIAL = 4


def _isa_serial(device: DeviceState) -> None:
    index = device._values.get("index", 0xFFFFFFFF)
    if index == 0xFFFFFFFF:
        index = sum(1 for other in _alive(device.vm, "isa-serial") if other is not device)
    if index >= _MAX_ISA_SERIAL:
        raise QemuError(f"Max. supported number of ISA serial ports is {_MAX_ISA_SERIAL}.")
    for name, values in _ISA_SERIAL_DEFAULTS.items():
        if device._values.get(name, 0xFFFFFFFF) == 0xFFFFFFFF:
            device._values[name] = values[index]
    device._values["index"] = index


_ISA_SERIAL_DEFAULTS = {"iobase": (0x3F8, 0x2F8, 0x3E8, 0x2E8), "irq": (4, 3, 4, 3)}

RULES: dict[str, Callable[[DeviceState], None]] = {
    "pxb-pcie": _pxb,
    "pxb-cxl": _pxb,
    "pcie-slot": _pcie_slot,
    "virtio-balloon-base": _only_one("Only one balloon device is supported", "virtio-balloon-base"),
    "virtio-balloon-pci": _only_one("Only one balloon device is supported", "virtio-balloon-pci"),
    "vmcoreinfo": _only_one("at most one vmcoreinfo device is permitted", "vmcoreinfo"),
    "vmgenid": _only_one("at most one vmgenid device is permitted", "vmgenid"),
    "pvpanic": _only_one("duplicate fw_cfg file name: etc/pvpanic-port", "pvpanic"),
    "x86-iommu": _only_one("QEMU does not support multiple vIOMMUs for x86 yet.", "x86-iommu"),
    "virtio-pci": _virtio_pci,
    "virtio-net-pci-base": _virtio_net,
    "virtio-serial-port": _virtio_serial_port,
    "scsi-device": _scsi_device,
    "usb-device": _usb_device,
    "isa-serial": _isa_serial,
}
