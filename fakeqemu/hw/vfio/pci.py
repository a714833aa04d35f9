# SPDX-License-Identifier: MIT
"""vfio-pci: a PCI function of the host, handed to the guest.

Realizing goes through what can be wrong in QEMU's order: which device is meant, whether the host has it, its group and
container, the device itself, then migration. A failure undoes everything.

QEMU: hw/vfio/pci.c
"""

from __future__ import annotations

from fakeqemu.error import NotEmulated, QemuError
from fakeqemu.hw.core.properties import is_uuid, parse_host_address, refused
from fakeqemu.hw.pci.config_space import BAR, PCI_CLASS_PROG, ConfigSpace
from fakeqemu.hw.pci.device import PCIDevice
from fakeqemu.hw.vfio.device import VFIODevice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.hw.vfio.hostmodel import HostFunction
    from fakeqemu.migration.stream.qemu_file import QEMUFile
    from fakeqemu.qom.object import Property
    from fakeqemu.system.machine import Machine

#: an id property that is not set: the device's own id stands
ANY_ID = 0xFFFFFFFF


class VFIOPCIDevice(PCIDevice):
    """vfio-pci and vfio-pci-nohotplug."""

    __slots__ = ("vbasedev",)

    def __init__(self, vm: Machine, type_name: str) -> None:
        super().__init__(vm, type_name)
        self.vbasedev: VFIODevice | None = None

    # --- properties -----------------------------------------------------------------------------------

    def _store(self, prop: Property, value: Any) -> None:
        if prop.name == "x-nv-gpudirect-clique" and not 0 <= int(value) <= 15:
            raise QemuError(f"Property {prop.name}: valid range 0-15")
        if prop.name == "host" and parse_host_address(value) is None:
            raise refused(self, prop.name, value)
        if prop.name == "vf-token" and value != "auto" and not is_uuid(value):
            raise refused(self, prop.name, value)
        if prop.name == "fd":
            self._check_fd(value)
        super()._store(prop, value)

    def _check_fd(self, text: str) -> None:
        """A name is one of the monitor's descriptors; on the command line there is no monitor."""
        try:
            if self.vm.dispatcher.current is None and not text.isdigit():
                raise QemuError(f"Invalid file descriptor number '{text}'")
            self.vm.fds.from_param(text)
        except QemuError as err:
            what = "object" if self.vm.compat.vfio_fd_error_object else "remote object"
            raise err.prefixed(f"Could not parse {what} fd {text}:") from None

    def _is_set(self, name: str) -> bool:
        return self._set_value(name, None) not in (None, "")

    # --- realize --------------------------------------------------------------------------------------

    def _sysfs_path(self) -> str:
        """The path that names the host's device; raises QemuError where nothing names one."""
        path: str | None = self._set_value("sysfsdev", None)
        if path is not None:
            return path
        address = parse_host_address(self._set_value("host", None) or "")
        if address is None:
            fd = "-device vfio-pci,fd=DEVICE_FD or " if self.find_property("fd") is not None else ""
            raise QemuError(
                "No provided host device",
                hint=f"Use -device vfio-pci,host=DDDD:BB:DD.F or {fd}-device vfio-pci,sysfsdev=PATH_TO_DEVICE",
            )
        return "/sys/bus/pci/devices/{:04x}:{:02x}:{:02x}.{:01x}".format(*address)

    def _named_function(self) -> HostFunction:
        path = self._sysfs_path()
        function = self.vm.hardware.at_path(path)
        if function is None:
            raise QemuError(f"vfio {path}: no such host device: No such file or directory")
        return function

    def make_config(self) -> ConfigSpace:
        """The host's ids, where no property puts others in their place."""
        function = self.vbasedev.function if self.vbasedev is not None else None
        if function is None:
            return ConfigSpace(0xFFFF, 0xFFFF, 0)
        code = self._id("x-pci-class-code", function.class_code)
        config = ConfigSpace(
            self._id("x-pci-vendor-id", function.vendor_id),
            self._id("x-pci-device-id", function.device_id),
            code >> 8,
            subsystem_vendor=self._id("x-pci-sub-vendor-id", function.subsystem_vendor_id),
            subsystem=self._id("x-pci-sub-device-id", function.subsystem_id),
            revision=function.revision,
            express=self.bus.is_express,
        )
        config.data[PCI_CLASS_PROG] = code & 0xFF
        for number, size in enumerate(function.bar_sizes):
            config.add_bar(BAR(2 * number, size, prefetch=True, is_64=True))
        config.multifunction = self.multifunction
        return config

    def _id(self, name: str, own: int) -> int:
        value = self._set_value(name, ANY_ID)
        return own if value == ANY_ID else int(value)

    def pci_realize(self) -> None:
        if self._is_set("fd") and not self._is_set("iommufd"):
            raise QemuError("Use FD passing only with iommufd backend")
        if self._is_set("iommufd"):
            raise NotEmulated("vfio-pci with an iommufd backend is not emulated")
        function = self._named_function()
        vbasedev = VFIODevice(self.vm, self, function.name, function)
        try:
            self._realize(vbasedev)
        except QemuError as err:
            self.vbasedev = None
            raise err.prefixed(f"vfio {vbasedev.name}: ") from None

    def _realize(self, vbasedev: VFIODevice) -> None:
        if self._set_value("x-balloon-allowed", False) and not vbasedev.function.mdev:
            raise QemuError("x-balloon-allowed only potentially compatible with mdev devices")
        vbasedev.attach()
        try:
            self.vbasedev = vbasedev
            self._config = self.make_config()
            self._check_display()
            self._realize_migration(vbasedev)
        except BaseException:
            vbasedev.detach()
            raise

    def _check_display(self) -> None:
        display = self._set_value("display", "off")
        if display == "on":
            raise QemuError("vfio: device doesn't support any (known) display method")
        if display == "off" and (self._set_value("xres", 0) or self._set_value("yres", 0)):
            raise QemuError("xres and yres properties require display=on")

    def _realize_migration(self, vbasedev: VFIODevice) -> None:
        if self._is_set("failover_pair_id"):
            return  # such a device is unplugged before a migration
        from fakeqemu.hw.vfio import migration

        migration.realize(
            vbasedev,
            enable=self._set_value("enable-migration", "auto"),
            dirty_tracking=self._set_value("x-device-dirty-page-tracking", "on") != "off",
            parallel=self.vm.compat.vfio_parallel_states and self._set_value("x-migration-parallel-states", True),
            events=bool(self._set_value("migration-events", False)),
            multifd_transfer=self._set_value("x-migration-multifd-transfer", "auto"),
        )

    def exit(self) -> None:
        vbasedev, self.vbasedev = self.vbasedev, None
        if vbasedev is not None:
            from fakeqemu.hw.vfio import migration

            migration.exit_migration(vbasedev)
            vbasedev.detach()
            self.vm.vfio.unblock_multiple()

    # --- the configuration space in the stream --------------------------------------------------------

    def save_config(self, f: QEMUFile) -> None:
        """Write the vmstate `VFIOPCIDevice` 1, without its header: the PCI device."""
        from fakeqemu.hw.vfio import config_state

        config_state.save(f, self.config)

    async def load_config(self, f: QEMUFile) -> None:
        """Read what `save_config` wrote; raises StreamError when it is the configuration of another device."""
        from fakeqemu.hw.vfio import config_state

        assert self.vbasedev is not None
        await config_state.load(self.vm, f, self.config, self.vbasedev.name)
