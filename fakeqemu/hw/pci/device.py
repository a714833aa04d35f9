# SPDX-License-Identifier: MIT
"""A function on a PCI bus.

Realizing one goes from the outside in: its properties are judged, the bus gives it a place, its configuration space is
made, and then the type itself has its turn (`pci_realize`). What fails gives everything back.

QEMU: hw/pci/pci.c (pci_qdev_realize, do_pci_register_device)
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.hw.core.qdev import DeviceState
from fakeqemu.hw.pci.bus import PCIBus, function_of, slot_of
from fakeqemu.hw.pci.config_space import ConfigSpace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.qom.object import Property
    from fakeqemu.system.machine import Machine

#: an `addr` of -1: the bus chooses
ANY = -1
PCI_CLASS_NETWORK_ETHERNET = 0x0200


class PCIDevice(DeviceState):
    """Base of all PCI devices. Subclasses override `pci_realize`, `exit` and, if theirs is known before, `make_config`."""

    __slots__ = ("_config", "_devfn")

    def __init__(self, vm: Machine, type_name: str) -> None:
        super().__init__(vm, type_name)
        self._config: ConfigSpace | None = None
        self._devfn: int | None = None

    @property
    def devfn(self) -> int:
        """Slot * 8 + function; -1 while the bus has not given the device a place."""
        if self._devfn is None:
            self._devfn = int(self.get("addr")) if self.realized else ANY
        return self._devfn

    @property
    def bus(self) -> PCIBus:
        """The bus that the device sits on."""
        bus = self.parent_bus
        assert isinstance(bus, PCIBus), f"{self} is on no PCI bus"
        return bus

    @property
    def config(self) -> ConfigSpace:
        """The configuration space."""
        if self._config is None:
            self._config = self.make_config()
        return self._config

    @property
    def multifunction(self) -> bool:
        return bool(self.get("multifunction"))

    def read(self, prop: Property) -> Any:
        if self._devfn is not None and self._devfn >= 0:
            if prop.name == "addr":
                return self._devfn
            if prop.name == "legacy-addr":
                return f"{slot_of(self._devfn):02x}.{function_of(self._devfn):x}"
        if prop.name == "busnr" and isinstance(self.parent_bus, PCIBus):
            return self.parent_bus.bus_number()
        return super().read(prop)

    # --- life -----------------------------------------------------------------------------------------

    def device_realize(self) -> None:
        """Take a place on the bus, then let the type realize itself; raises QemuError."""
        self._check_rom_size()
        bus = self.bus
        wanted = self._values.get("addr", ANY)
        self._devfn = bus.claim(self, wanted)
        try:
            self._config = self.make_config()
            self._config.multifunction = self.multifunction
            self.pci_realize()
            try:
                self._check_failover()
                self._check_sriov()
                self._check_rom_file()
                self._take_acpi_index()
            except QemuError:
                self.exit()
                raise
        except BaseException:
            bus.release(self)
            self._devfn = ANY
            self._config = None
            raise

    def make_config(self) -> ConfigSpace:
        """The configuration space as it is when the device appears; for subclasses."""
        return ConfigSpace(0xFFFF, 0xFFFF, 0)

    def pci_realize(self) -> None:
        """What the type does when realized; for subclasses. Raises QemuError with everything undone."""

    def exit(self) -> None:
        """What the type does when unrealized; for subclasses. Must not fail."""

    def device_unrealize(self) -> None:
        self.exit()
        self.bus.release(self)

    # --- checks of every PCI device -------------------------------------------------------------------

    def _set_value(self, name: str, default: Any) -> Any:
        return self._values.get(name, default)

    def _check_rom_size(self) -> None:
        size = self._set_value("romsize", 0xFFFFFFFF)
        if size != 0xFFFFFFFF and (size == 0 or size & (size - 1)):
            raise QemuError(f"ROM size {size} is not a power of two")

    def _check_failover(self) -> None:
        """The primary of a failover pair, whatever its id, must be a network card that can be pulled alone."""
        if "failover_pair_id" not in self._values:
            return
        if not self.bus.is_express:
            raise QemuError("failover primary device must be on PCIExpress bus")
        if self.config.class_code != PCI_CLASS_NETWORK_ETHERNET:
            raise QemuError("failover primary device is not an Ethernet device")
        if self.multifunction or function_of(self.devfn) != 0:
            raise QemuError("failover: primary device must be in its own PCI slot")

    def _check_sriov(self) -> None:
        """Virtual functions are made by users for few types only."""
        if "sriov-pf" in self._values and not self.is_a("virtio-net-pci-base"):
            raise QemuError("user cannot create SR-IOV VF with this device type")

    def _check_rom_file(self) -> None:
        """A ROM named by hand must be there. What is in it is of no interest: nobody runs it."""
        name = self._set_value("romfile", "")
        if not name or ("/" not in name and name.endswith((".rom", ".bin"))):
            return  # what is named like firmware lies in a folder of QEMU's
        try:
            self.vm.host.open_channel(name, 0).close()
        except OSError:
            raise QemuError(f'failed to find romfile "{name}"') from None

    def _take_acpi_index(self) -> None:
        index = self._set_value("acpi-index", 0)
        if not index:
            return
        for device in pci_devices(self.vm):
            if (
                device is not self
                and device.find_property("acpi-index") is not None
                and device.get("acpi-index") == index
            ):
                raise QemuError(f"a PCI device with acpi-index = {index} already exist")

    def describe_place(self) -> str:
        """`00:02.0`, as `info qtree` prints it."""
        return f"{self.bus.bus_number():02x}:{slot_of(self.devfn):02x}.{function_of(self.devfn):x}"


def pci_devices(vm: Machine) -> list[PCIDevice]:
    """Every PCI device that has a place."""
    from fakeqemu.hw.core.qdev import all_devices
    from fakeqemu.hw.core.tree import main_system_bus

    top = main_system_bus(vm)
    devices = all_devices(top) if top is not None else []
    return [device for device in devices if isinstance(device, PCIDevice) and device.devfn >= 0]
