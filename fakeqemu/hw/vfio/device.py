# SPDX-License-Identifier: MIT
"""An opened VFIO device, and all of them in one machine.

Opening goes the way of the legacy interface: the device's IOMMU group, its node /dev/vfio/N, the container, then the
device itself; each step has its own error.

QEMU: hw/vfio/device.c, hw/vfio/container-legacy.c, hw/vfio/helpers.c
"""

from __future__ import annotations

import errno
import os

from fakeqemu.error import QemuError
from fakeqemu.hw.vfio import fsm
from fakeqemu.hw.vfio.dirty_log import VFIODirtyLog
from fakeqemu.hw.vfio.vendor import DataSession, VendorDriver, os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.hw.vfio.hostmodel import HostFunction
    from fakeqemu.hw.vfio.migration import VFIOMigration
    from fakeqemu.hw.vfio.pci import VFIOPCIDevice
    from fakeqemu.migration.register import Blocker
    from fakeqemu.system.machine import Machine

MULTIPLE_DEVICES = "Multiple VFIO devices migration is supported only if all of them support P2P migration"


class VFIODevices:
    """What the VFIO devices of one machine share (`vm.vfio`)."""

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        #: in order of realizing
        self.devices: list[VFIODevice] = []
        #: data bytes sent for all devices since the migration began
        self.bytes_transferred = 0
        self._multiple_blocker: Blocker | None = None
        vm.on_reset.add(self._guest_reset)
        vm.savevm.dirty_logs.append(VFIODirtyLog(vm, self))
        vm.savevm.info.append(self._query_migrate)

    def _query_migrate(self) -> dict[str, Any]:
        """What query-migrate says of these devices: only where none of them blocks migration by itself."""
        if not self.devices or any(device.blocker is not None for device in self.devices):
            return {}
        return {"vfio": {"transferred": self.bytes_transferred}}

    def _guest_reset(self, cause: str) -> None:  # noqa: ARG002
        for device in self.devices:
            device.guest_reset()

    def _all_together(self) -> bool:
        """Whether the migratable devices can migrate together: stopping several needs P2P of each."""
        migrations = [device.migration for device in self.devices if device.migration is not None]
        return len(migrations) <= 1 or all(migration.flags & fsm.FLAG_P2P for migration in migrations)

    def block_multiple(self, *, required: bool) -> None:
        """Add the shared blocker if the devices need it; with `required`, raise its text instead (QemuError)."""
        if self._all_together():
            return
        if required:
            raise QemuError(MULTIPLE_DEVICES)
        if self._multiple_blocker is None:
            self._multiple_blocker = self._vm.savevm.add_blocker(self, MULTIPLE_DEVICES)

    def unblock_multiple(self) -> None:
        """Take the shared blocker back where the devices that are left do not need it."""
        if self._multiple_blocker is not None and self._all_together():
            self._vm.savevm.del_blocker(self._multiple_blocker)
            self._multiple_blocker = None


class VFIODevice:
    """One device of the host, opened for the guest."""

    def __init__(self, vm: Machine, dev: VFIOPCIDevice, name: str, function: HostFunction) -> None:
        self.vm = vm
        self.dev = dev
        self.name = name
        self.function = function
        kind = function.vendor_id << 16 | function.device_id
        self.driver = VendorDriver(vm, name, kind, function.migration)
        #: whether the device itself tells what it writes to
        self.logs_dma = False
        #: None where the device cannot migrate
        self.migration: VFIOMigration | None = None
        #: this device's own reason against migration
        self.blocker: Blocker | None = None

    # --- opening --------------------------------------------------------------------------------------

    def attach(self) -> None:
        """Open the device; raises QemuError without its name in front."""
        group = self.function.group
        if group is None:
            raise QemuError("no iommu_group found: No such file or directory")
        self._open_group(group)
        if self.name in self.vm.hardware.attached:
            raise QemuError("device is already attached")
        if not self.function.usable:
            raise QemuError(
                f"error getting device from group {group}: No such device",
                hint=f"Verify all devices in group {group} are bound to vfio-<bus> or pci-stub and not already in use",
            )
        self.vm.hardware.attached.append(self.name)
        self.vm.vfio.devices.append(self)

    def _open_group(self, group: int) -> None:
        hardware = self.vm.hardware
        number = hardware.group_node_error(group)
        if number:
            node = f"/dev/vfio/{group}"
            words = self.vm.compat.vfio_group_open_text
            raise QemuError(f"{words.format(node)}: {os.strerror(number)}")
        if not hardware.group_is_viable(group):
            raise QemuError(
                f"group {group} is not viable",
                hint="Please ensure all devices within the iommu_group are bound to their vfio bus driver.",
            )

    def detach(self) -> None:
        """Close the device; nothing happens when it is not open."""
        if self in self.vm.vfio.devices:
            self.vm.vfio.devices.remove(self)
            self.vm.hardware.attached.remove(self.name)

    # --- what the kernel is asked ---------------------------------------------------------------------

    def migration_flags(self) -> int:
        """The migration feature's flags; raises OSError where the kernel has no such feature for the device."""
        self.vm.faults.check("fake_vfio_query_migration_flags", device=self.name)
        features = self.function.migration
        if not features.flags:
            raise os_error(features.errno)
        return features.flags

    def set_precopy_info_v2(self) -> None:
        """Ask for the form of sizes that tells of new initial data; raises OSError. Kernels without it say so, which is fine."""
        self.vm.faults.check("fake_vfio_set_precopy_info_v2", device=self.name)

    async def set_state(self, state: str) -> DataSession | None:
        """Ask for a state; raises OSError. See `VendorDriver.set_state`."""
        return await self.driver.set_state(state)

    def reset(self) -> None:
        """Reset the device; raises OSError."""
        if not self.function.reset_works:
            raise os_error(errno.ENOTTY)
        self.driver.reset()

    def guest_reset(self) -> None:
        """The machine is reset, and the device with it: RUNNING, whatever QEMU last asked for, sessions lost."""
        self.vm.trace("vfio_pci_reset", name=self.name)
        try:
            self.reset()
        except OSError as err:
            self.vm.trace("fake_vfio_reset_failed", name=self.name, error=os.strerror(err.errno or 0))
            self.vm.error_report(f"vfio: Cannot reset device {self.name}, no available reset mechanism.")
