# SPDX-License-Identifier: MIT
"""PCI buses: 32 slots of 8 functions, and who may have which.

A function is `devfn`: slot * 8 + function. A device names its place (`addr=`) or gets the first slot whose function 0 is
free. What holds when it takes the place:

- the function is free and its slot not reserved;
- function 0 says whether the slot has more functions (`multifunction=on`): who comes after a function 0 that does not
  say so, or comes as such a function 0 after others, is refused;
- a guest would not notice a function added to a slot whose function 0 is already there, so a hotplugged device is
  refused there. Behind a PCI Express port there is one slot, 0, only.

QEMU: hw/pci/pci.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.hw.core.qdev import BusState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from fakeqemu.hw.core.qdev import DeviceState
    from fakeqemu.hw.pci.device import PCIDevice
    from fakeqemu.qom.object import Property
    from fakeqemu.system.machine import Machine

#: property of a bus that ACPI hotplugs on
BSEL = "acpi-pcihp-bsel"
SLOTS = 32
FUNCTIONS = 8
#: types of handlers that hotplug by ACPI: they take only devices of buses that ACPI knows
_ACPI_HANDLERS = ("ICH9-LPC", "PIIX4_PM")
#: devices whose bus has one slot, each with what they are in PCI Express
PORT_TYPES = ("pcie-root-port-base", "pcie-root-port", "ioh3420", "xio3130-downstream", "cxl-rp", "cxl-downstream")


def slot_of(devfn: int) -> int:
    return devfn >> 3


def function_of(devfn: int) -> int:
    return devfn & 7


class PCIBus(BusState):
    """A PCI or PCI Express bus."""

    __slots__ = ("_by_devfn", "reserved_slots")

    def __init__(self, vm: Machine, type_name: str) -> None:
        super().__init__(vm, type_name)
        self._by_devfn: dict[int, PCIDevice] | None = None
        #: slots that nobody may use
        self.reserved_slots: tuple[int, ...] = ()

    @property
    def is_express(self) -> bool:
        return self.is_a("PCIE")

    @property
    def is_root(self) -> bool:
        """Whether the bus hangs from a host bridge."""
        from fakeqemu.hw.pci.device import PCIDevice

        return not isinstance(self.owner, PCIDevice)

    @property
    def functions(self) -> dict[int, PCIDevice]:
        """devfn -> function, in order."""
        if self._by_devfn is None:
            from fakeqemu.hw.pci.device import PCIDevice

            self._by_devfn = {
                device.devfn: device for device in self.kids if isinstance(device, PCIDevice) and device.devfn >= 0
            }
        return {devfn: self._by_devfn[devfn] for devfn in sorted(self._by_devfn)}

    def function(self, devfn: int) -> PCIDevice | None:
        return self.functions.get(devfn)

    def is_hotpluggable(self) -> bool:
        path = self.handler()
        if path == "":
            return False
        handler = self.vm.qom.find(path)
        if handler is not None and handler.type_name in _ACPI_HANDLERS:
            # ACPI sees only the buses that it numbered when the machine started.
            from fakeqemu.hw.pci.acpi_hotplug import is_numbered

            return is_numbered(self)
        return True

    def acpi_bus_number(self) -> int | None:
        """The number by which ACPI selects the bus; None if it does not know it."""
        from fakeqemu.hw.pci.acpi_hotplug import bus_numbers

        known = bus_numbers(self.vm)
        return known.index(self) if self in known else None

    def find_property(self, name: str) -> Property | None:
        found = super().find_property(name)
        return None if name == BSEL and self.acpi_bus_number() is None else found

    def properties(self) -> list[Property]:
        unknown = self.acpi_bus_number() is None
        return [prop for prop in super().properties() if not (unknown and prop.name == BSEL)]

    def read(self, prop: Property) -> Any:
        return self.acpi_bus_number() if prop.name == BSEL else super().read(prop)

    # --- places ---------------------------------------------------------------------------------------

    def free_function(self, wanted: int, name: str) -> int:
        """The devfn for a device of type `name`: `wanted`, or the first free slot if that is -1; raises QemuError."""
        taken = self.functions
        if wanted < 0:
            for devfn in range(0, SLOTS * FUNCTIONS, FUNCTIONS):
                if devfn not in taken and slot_of(devfn) not in self.reserved_slots:
                    return devfn
            raise QemuError(f"PCI: no slot/function available for {name}, all in use or reserved")
        place = f"PCI: slot {slot_of(wanted)} function {function_of(wanted)}"
        if slot_of(wanted) in self.reserved_slots:
            raise QemuError(f"{place} not available for {name}, reserved")
        other = taken.get(wanted)
        if other is not None:
            raise QemuError(f"{place} not available for {name}, in use by {other.type_name},id={other.id or '(null)'}")
        return wanted

    def function_0_of(self, devfn: int) -> PCIDevice | None:
        """Function 0 of the slot of `devfn`; behind a port, of the only slot."""
        if self.behind_port and self.vm.compat.pci_port_has_one_slot:
            return self.function(0)
        return self.function(devfn & ~7)

    @property
    def behind_port(self) -> bool:
        """Whether the bus is the far side of a PCI Express port."""
        return self.owner is not None and self.owner.type_name in PORT_TYPES

    def claim(self, device: PCIDevice, wanted: int) -> int:
        """Give a device its place; raises QemuError. Returns the devfn."""
        devfn = self.free_function(wanted, device.type_name)
        first = self.function_0_of(devfn)
        if device.hotplugged and first is not None:
            raise QemuError(
                f"PCI: slot {slot_of(first.devfn)} function 0 already occupied by {first.type_name}, "
                f"new func {device.type_name} cannot be exposed to guest."
            )
        if self.behind_port and slot_of(devfn) and self.vm.compat.pci_port_has_one_slot and not device.hotplugged:
            self.vm.error_report(
                f"warning: PCI: slot {slot_of(devfn)} is not valid for {device.type_name}, "
                "parent device only allows plugging into slot 0."
            )
        self.check_multifunction(device, devfn)
        assert self._by_devfn is not None
        self._by_devfn[devfn] = device
        return devfn

    def check_multifunction(self, device: PCIDevice, devfn: int) -> None:
        """Refuse a function that function 0 of its slot does not announce; raises QemuError."""
        slot = slot_of(devfn)
        if function_of(devfn):
            first = self.function(slot << 3)
            if first is not None and not first.multifunction:
                raise QemuError(
                    f"PCI: single function device can't be populated in function {slot:x}.{function_of(devfn):x}"
                )
            return
        if device.multifunction:
            return
        for function in range(1, FUNCTIONS):
            if self.function(slot << 3 | function) is not None:
                raise QemuError(
                    f"PCI: {slot:x}.0 indicates single function, but {slot:x}.{function:x} is already populated."
                )

    def release(self, device: PCIDevice) -> None:
        """Free a device's place; nothing if it has none."""
        if self._by_devfn is not None and self._by_devfn.get(device.devfn) is device:
            del self._by_devfn[device.devfn]

    # --- names ----------------------------------------------------------------------------------------

    def dev_path(self, device: DeviceState) -> str:
        """`0000:00:02.0`, with a further `:SLOT.FN` for each bridge on the way (bus numbers are the guest's)."""
        places: list[str] = []
        at: DeviceState | None = device
        while at is not None:
            devfn = getattr(at, "devfn", -1)
            places.append(f"{slot_of(devfn):02x}.{function_of(devfn):x}")
            bus = at.parent_bus
            assert isinstance(bus, PCIBus)
            if bus.is_root:
                break
            at = bus.owner
        return ":".join(["0000:00", *reversed(places)])

    def bus_number(self) -> int:
        """What a guest has numbered the bus: 0 for a root, and behind a bridge that no guest has set up."""
        from fakeqemu.hw.pci.device import PCIDevice

        owner = self.owner
        return (
            owner.config.byte(0x19) if isinstance(owner, PCIDevice) and owner.config.is_bridge else self.root_number()
        )

    def root_number(self) -> int:
        owner = self.owner
        if owner is None or not self.is_root or owner.find_property("bus_nr") is None:
            return 0
        return int(owner.get("bus_nr"))


def root_buses(vm: Machine) -> Iterator[PCIBus]:
    """The PCI buses that hang from host bridges, the board's first."""
    from fakeqemu.hw.core.qdev import each_device
    from fakeqemu.hw.core.tree import main_system_bus

    top = main_system_bus(vm)
    for device in each_device(top) if top is not None else ():
        if device.is_a("pci-host-bridge"):
            yield from (bus for bus in device.child_buses if isinstance(bus, PCIBus))
