# SPDX-License-Identifier: MIT
"""What VFIO devices write to memory behind QEMU's back while it is sent: logged by the devices, or by the IOMMU.

Devices log where all of them can; else the container is asked, which takes every pinned page for written. The make-believe
devices write nothing, so nothing is ever found. What is here is the asking, and what becomes of a refusal:

    start     the setup of the RAM fails, and the migration with it
    report    the stream has the error from then on
    stop      a warning

QEMU: hw/vfio/listener.c (vfio_listener_log_global_start, _stop, vfio_listener_log_sync), hw/vfio/container.c
"""

from __future__ import annotations

import os

from fakeqemu.error import QemuError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.hw.vfio.device import VFIODevice, VFIODevices
    from fakeqemu.system.machine import Machine

#: the flags of VFIO_IOMMU_DIRTY_PAGES
_FLAG_START, _FLAG_STOP = 1, 2


class VFIODirtyLog:
    """The dirty tracking of all VFIO devices of one machine; see `DirtyLog`."""

    def __init__(self, vm: Machine, owner: VFIODevices) -> None:
        self._vm = vm
        self._owner = owner
        #: devices that log
        self._logging: list[VFIODevice] = []
        self._container_logs = False

    def start(self) -> None:
        """Raises QemuError; nothing is logged then."""
        devices = [one for one in self._owner.devices if one.migration is not None]
        try:
            if not devices:
                return
            if all(one.logs_dma for one in devices):
                self._start_devices(devices)
            else:
                self._ask_container(_FLAG_START)
                self._container_logs = True
        except QemuError as err:
            raise err.prefixed("vfio: Could not start dirty page tracking - ") from None

    def _start_devices(self, devices: list[VFIODevice]) -> None:
        for one in devices:
            try:
                self._vm.faults.check("vfio_device_dirty_tracking_start", device=one.name)
            except OSError as err:
                self._stop_devices()
                raise QemuError(f"{one.name}: Failed to start DMA logging: {os.strerror(err.errno or 0)}") from None
            self._logging.append(one)

    def _ask_container(self, flag: int) -> None:
        try:
            self._vm.faults.check("fake_vfio_set_dirty_page_tracking", flag=flag)
        except OSError as err:
            text = f"Failed to set dirty tracking flag 0x{flag:x}: {os.strerror(err.errno or 0)}"
            raise QemuError(text) from None

    def sync(self) -> None:
        """Ask what was written to, the RAM being one range here; the first refusal is the stream's error."""
        size = self._vm.ram_blocks[0].used_length if self._vm.ram_blocks else 0
        text = ""
        try:
            for one in self._logging:
                text = f"{one.name}: Failed to get DMA logging report, iova: 0x0, size: 0x{size:x}"
                self._vm.faults.check("vfio_container_query_dirty_bitmap", device=one.name)
            if self._container_logs:
                text = f"Failed to get dirty bitmap for iova: 0x0 size: 0x{size:x}"
                self._vm.faults.check("vfio_container_query_dirty_bitmap", device="")
        except OSError as err:
            self._vm.savevm.report_stream_error(QemuError(f"{text}: {os.strerror(err.errno or 0)}"))

    def stop(self) -> None:
        """Nothing is logged any more. What refuses is warned of."""
        self._stop_devices()
        if self._container_logs:
            self._container_logs = False
            try:
                self._ask_container(_FLAG_STOP)
            except QemuError as err:
                self._vm.error_report(f"vfio: Could not stop dirty page tracking - {err.desc}")

    def _stop_devices(self) -> None:
        devices, self._logging = self._logging, []
        for one in devices:
            try:
                self._vm.faults.check("fake_vfio_dma_logging_stop", device=one.name)
            except OSError as err:
                text = f"Failed to stop DMA logging, err {err.errno} ({os.strerror(err.errno or 0)})"
                self._vm.error_report(f"warning: {one.name}: {text}")
