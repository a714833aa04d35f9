# SPDX-License-Identifier: MIT
"""How a VFIO device travels: its SaveVMHandlers.

Section `<pci path>/vfio`, version 1. Inside, markers of 64 bits:

    START  SETUP_STATE END_OF_STATE
    PART   [DATA_STATE length bytes] END_OF_STATE        or INIT_DATA_SENT in place of the end, once
    END    (DATA_STATE length bytes)* END_OF_STATE
    FULL   CONFIG_STATE <VFIOPCIDevice> END_OF_STATE

A device without PRE_COPY sends nothing before the guest stops. Leaving STOP_COPY, which can take long, waits for the
cleanup after the migration: it is no part of the downtime.

QEMU: hw/vfio/migration.c (savevm_vfio_handlers)
"""

from __future__ import annotations

import errno
import os

from fakeqemu.error import QemuError, StreamError
from fakeqemu.hw.vfio import fsm
from fakeqemu.hw.vfio.vendor import LoadingSession, SavingSession
from fakeqemu.migration.register import Pending, SaveVMHandlers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.hw.vfio.migration import VFIOMigration
    from fakeqemu.migration.stream.qemu_file import QEMUFile
    from fakeqemu.system.machine import Machine

VFIO_MIG_FLAG_END_OF_STATE = 0xFFFFFFFFEF100001
VFIO_MIG_FLAG_DEV_CONFIG_STATE = 0xFFFFFFFFEF100002
VFIO_MIG_FLAG_DEV_SETUP_STATE = 0xFFFFFFFFEF100003
VFIO_MIG_FLAG_DEV_DATA_STATE = 0xFFFFFFFFEF100004
VFIO_MIG_FLAG_DEV_INIT_DATA_SENT = 0xFFFFFFFFEF100005

#: what a device is taken to hold when it does not say: so much that no downtime limit is ever met
VFIO_MIG_STOP_COPY_SIZE = 100 << 30
VFIO_MIG_DEFAULT_DATA_BUFFER_SIZE = 1 << 20

#: how much of a data record is read from the stream and written to the device in one go
_LOAD_STEP = 1 << 20


class VFIOSaveHandlers(SaveVMHandlers):
    """Saving and loading of one device."""

    __slots__ = (
        "_ack_asked", "_buffer_size", "_initial_data_sent", "_mig", "_precopy_dirty", "_precopy_initial", "_stop_copy_size",
        "_vbasedev", "_vm",
    )  # fmt: skip

    has_save_state = True

    def __init__(self, mig: VFIOMigration) -> None:
        self._mig = mig
        self._vbasedev = mig.vbasedev
        self._vm = mig.vbasedev.vm
        self._buffer_size = 0
        self._stop_copy_size = 0
        self._precopy_initial = 0
        self._precopy_dirty = 0
        self._initial_data_sent = self._ack_asked = False

    # --- source ---------------------------------------------------------------------------------------

    def save_prepare(self, vm: Machine) -> None:
        name = self._vbasedev.name
        if vm.savevm.capability("postcopy-ram"):
            raise QemuError(f"{name}: VFIO migration is not supported with postcopy migration")
        if vm.savevm.capability("background-snapshot"):
            raise QemuError(f"{name}: VFIO migration is not supported with background snapshot")

    async def save_setup(self, f: QEMUFile) -> None:
        mig, name = self._mig, self._vbasedev.name
        if mig.multifd_transfer == "on":
            # Not emulated yet, which is a configuration that does not support it.
            raise QemuError(f"{name}: Multifd device transfer requested but unsupported in the current config")
        f.put_be64(VFIO_MIG_FLAG_DEV_SETUP_STATE)
        self._query_stop_copy_size()
        self._buffer_size = min(VFIO_MIG_DEFAULT_DATA_BUFFER_SIZE, self._stop_copy_size)
        self._vm.faults.check("vfio_save_setup", device=name)
        if self._buffer_size == 0:
            raise QemuError(f"{name}: Failed to allocate migration data buffer")
        if mig.can_precopy:
            if mig.device_state == fsm.RUNNING:
                await mig.set_state(fsm.PRE_COPY, fsm.RUNNING)
                self._query_precopy_size()
            elif mig.device_state != fsm.STOP:
                raise QemuError(f"{name}: Invalid device state {fsm.NUMBERS[mig.device_state]}")
        self._vm.trace("vfio_save_setup", name=name, data_buffer_size=self._buffer_size)
        f.put_be64(VFIO_MIG_FLAG_END_OF_STATE)

    def _query_stop_copy_size(self) -> None:
        try:
            self._stop_copy_size = self._vbasedev.driver.stop_copy_size()
        except OSError as err:
            self._stop_copy_size = VFIO_MIG_STOP_COPY_SIZE
            self._warn_once("ioctl(VFIO_DEVICE_FEATURE) on VFIO_DEVICE_FEATURE_MIG_DATA_SIZE", err)

    def _query_precopy_size(self) -> None:
        try:
            self._precopy_initial, self._precopy_dirty = self._vbasedev.driver.precopy_info()
        except OSError as err:
            self._precopy_initial = self._precopy_dirty = 0
            self._warn_once("ioctl(VFIO_MIG_GET_PRECOPY_INFO)", err)

    def _warn_once(self, request: str, err: OSError) -> None:
        if self._vm.compat.vfio_query_warnings:
            text = f"VFIO device {self._vbasedev.name} {request} failed (-{err.errno})"
            self._vm.warn_report_once(f"vfio {request}", text)

    def is_active_iterate(self) -> bool:
        return self._mig.in_precopy

    def state_pending_estimate(self) -> Pending:
        if not self._mig.in_precopy:
            precopy = acks = 0
        else:
            precopy = self._precopy_initial + self._precopy_dirty
            # With the first sizes comes the wish that the destination says when it has got the initial data.
            acks = int(not self._ack_asked and self._vm.savevm.capability("switchover-ack"))
            self._ack_asked = True
        stop_copy = max(0, self._stop_copy_size - precopy) if self._vm.compat.vfio_pending_split else 0
        return Pending(precopy=precopy, stopcopy=stop_copy, acks=acks)

    async def state_pending_exact(self) -> Pending:
        self._query_stop_copy_size()
        if self._mig.in_precopy:
            self._query_precopy_size()
        pending = self.state_pending_estimate()
        if not self._vm.compat.vfio_pending_split:
            pending.precopy += self._stop_copy_size
        self._trace_pending(pending)
        return pending

    def _trace_pending(self, pending: Pending) -> None:
        """What an exact look has found, in the event that the release has for it; 7.2 has none."""
        name, initial, dirty = self._vbasedev.name, self._precopy_initial, self._precopy_dirty
        if self._vm.compat.vfio_pending_split:
            self._vm.trace(
                "vfio_state_pending", name=name, stopcopy=self._stop_copy_size, precopy_initial=initial,
                precopy_dirty=dirty, request_switchover_ack=pending.acks, exact=True, final=False,
            )  # fmt: skip
        else:
            self._vm.trace(
                "vfio_state_pending_exact", name=name, precopy=pending.precopy, postcopy=0,
                stopcopy_size=self._stop_copy_size, precopy_init_size=initial, precopy_dirty_size=dirty,
            )  # fmt: skip

    async def save_live_iterate(self, f: QEMUFile) -> bool:
        size = self._save_block(f)
        if size == 0:
            self._precopy_initial = self._precopy_dirty = 0
        else:
            from_initial = min(size, self._precopy_initial)
            self._precopy_initial -= from_initial
            self._precopy_dirty = max(0, self._precopy_dirty - (size - from_initial))
        if not self._precopy_initial and not self._initial_data_sent and self._vm.savevm.capability("switchover-ack"):
            f.put_be64(VFIO_MIG_FLAG_DEV_INIT_DATA_SENT)
            self._initial_data_sent = True
        else:
            f.put_be64(VFIO_MIG_FLAG_END_OF_STATE)
        self._vm.trace(
            "vfio_save_iterate", name=self._vbasedev.name, precopy_init_size=self._precopy_initial,
            precopy_dirty_size=self._precopy_dirty,
        )  # fmt: skip
        return not self._precopy_initial and not self._precopy_dirty

    def _save_block(self, f: QEMUFile) -> int:
        """Read one buffer from the device and send it; its size, 0 at the end, temporary or not. Raises QemuError."""
        session = self._mig.data
        try:
            self._vm.faults.check("vfio_save_block", device=self._vbasedev.name)
            if not isinstance(session, SavingSession):
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            data = session.read(self._buffer_size)
        except OSError as err:
            if err.errno == errno.ENOMSG:
                return 0
            raise _stream_error(err) from None
        if data:
            f.put_be64(VFIO_MIG_FLAG_DEV_DATA_STATE)
            f.put_be64(len(data))
            f.put_buffer(data)
            self._vm.vfio.bytes_transferred += len(data)
            self._stop_copy_size = max(0, self._stop_copy_size - len(data))
            self._vm.trace("vfio_save_block", name=self._vbasedev.name, data_size=len(data))
        return len(data)

    async def save_live_complete_precopy(self, f: QEMUFile) -> None:
        try:
            await self._mig.set_state(fsm.STOP_COPY, fsm.STOP)
        except QemuError as err:
            self._vm.error_report(err.desc)
            raise _stream_error(OSError(errno.EIO, "")) from None
        while self._save_block(f):
            await f.flush()
        f.put_be64(VFIO_MIG_FLAG_END_OF_STATE)
        self._vm.trace("vfio_save_complete_precopy", name=self._vbasedev.name, ret=0)

    async def save_state(self, f: QEMUFile) -> None:
        f.put_be64(VFIO_MIG_FLAG_DEV_CONFIG_STATE)
        self._vm.faults.check("vfio_save_device_config_state", device=self._vbasedev.name)
        self._vbasedev.dev.save_config(f)
        f.put_be64(VFIO_MIG_FLAG_END_OF_STATE)
        self._vm.trace("vfio_save_device_config_state", name=self._vbasedev.name)

    async def save_cleanup(self) -> None:
        if self._mig.device_state == fsm.STOP_COPY:
            try:
                await self._mig.set_state_or_reset(fsm.STOP)
            except QemuError as err:
                self._vm.error_report(err.desc)
        self._precopy_initial = self._precopy_dirty = 0
        self._initial_data_sent = self._ack_asked = False
        self._mig.close_data()
        self._vm.trace("vfio_save_cleanup", name=self._vbasedev.name)

    # --- destination ----------------------------------------------------------------------------------

    async def load_setup(self, f: QEMUFile) -> None:  # noqa: ARG002
        try:
            await self._mig.set_state(fsm.RESUMING, self._mig.device_state)
        except QemuError as err:
            raise StreamError(err.desc, errno.EIO) from None

    async def load_state(self, f: QEMUFile, version_id: int) -> None:  # noqa: ARG002
        name = self._vbasedev.name
        while True:
            marker = await f.get_be64()
            if marker == VFIO_MIG_FLAG_END_OF_STATE:
                return
            self._vm.trace("vfio_load_state", name=name, data=marker)
            if marker == VFIO_MIG_FLAG_DEV_DATA_STATE:
                await self._load_data(f, await f.get_be64())
                continue
            # The other markers make up a section of their own.
            if marker == VFIO_MIG_FLAG_DEV_SETUP_STATE:
                end = await f.get_be64()
                if end != VFIO_MIG_FLAG_END_OF_STATE:
                    raise StreamError(f"{name}: SETUP STATE: EOS not found 0x{end:x}")
            elif marker == VFIO_MIG_FLAG_DEV_CONFIG_STATE:
                await self._load_config(f)
            elif marker == VFIO_MIG_FLAG_DEV_INIT_DATA_SENT:
                await self._initial_data_came()
            else:
                raise StreamError(f"{name}: Unknown tag 0x{marker:x}")
            return

    async def _load_data(self, f: QEMUFile, size: int) -> None:
        session = self._mig.data
        while size:
            data = await f.get_buffer(min(size, _LOAD_STEP))
            size -= len(data)
            try:
                self._vm.faults.check("vfio_load_state_device_data", device=self._vbasedev.name)
                if not isinstance(session, LoadingSession):
                    raise OSError(errno.EBADF, os.strerror(errno.EBADF))
                session.write(data)
            except OSError as err:
                raise StreamError("", err.errno or errno.EIO) from None

    async def _load_config(self, f: QEMUFile) -> None:
        self._vm.faults.check("vfio_load_device_config_state_start", device=self._vbasedev.name)
        await self._vbasedev.dev.load_config(f)
        end = await f.get_be64()
        if end != VFIO_MIG_FLAG_END_OF_STATE:
            raise StreamError(
                f"{self._vbasedev.name}: Failed loading device config space, end flag incorrect 0x{end:x}"
            )

    async def _initial_data_came(self) -> None:
        if not self._mig.can_precopy or not self._vm.savevm.capability("switchover-ack"):
            raise StreamError(f"{self._vbasedev.name}: Received INIT_DATA_SENT but switchover ack is not used")
        if self._vm.savevm.approve_switchover is not None:
            await self._vm.savevm.approve_switchover()

    def switchover_ack_needed(self) -> bool:
        return self._mig.can_precopy

    def load_cleanup(self) -> None:
        self._mig.close_data()
        self._vm.trace("vfio_load_cleanup", name=self._vbasedev.name)


def _stream_error(err: OSError) -> QemuError:
    """An error of the stream without a text of its own: only the errno reaches the migration."""
    return QemuError(f"Channel error: {os.strerror(err.errno or errno.EIO)}")
