# SPDX-License-Identifier: MIT
"""The migration half of a VFIO device: its state as QEMU keeps it, its run state handlers, its blockers.

Stopping and starting the guest moves the device, whether or not anything migrates:

                    stop                                        start
    prepare (P2P)   PRE_COPY ► PRE_COPY_P2P, else RUNNING_P2P    RUNNING_P2P
    main            PRE_COPY* ► STOP_COPY, else STOP             RUNNING
                    (STOP_COPY in the run states finish-migrate and paused only)

A request that fails puts the device into a recover state, or resets it; the first error is what the migration reports.

QEMU: hw/vfio/migration.c
"""

from __future__ import annotations

import errno
import os

from fakeqemu.error import QemuError
from fakeqemu.hw.vfio import fsm
from fakeqemu.hw.vfio.device import VFIODevice
from fakeqemu.hw.vfio.migration_stream import VFIOSaveHandlers
from fakeqemu.hw.vfio.parallel import ParallelTransitions
from fakeqemu.migration.register import FAILED, PRECOPY_SETUP
from fakeqemu.system.runstate import FINISH_MIGRATE, PAUSED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.hw.vfio.vendor import DataSession
    from fakeqemu.system.runstate import ChangeStateEntry

#: what the event says before a device is asked for PRE_COPY_P2P
PRE_COPY_P2P_PREPARE = "pre-copy-p2p-prepare"


def realize(
    vbasedev: VFIODevice, *, enable: str, dirty_tracking: bool, parallel: bool, events: bool, multifd_transfer: str
) -> None:
    """Give the device its migration half, or the machine a reason against migration.

    `enable` is the property enable-migration: with `on`, the reason is raised instead (QemuError).
    """
    vm = vbasedev.vm
    if enable == "off":
        _block(vbasedev, f"{vbasedev.name}: Migration is disabled for VFIO device", enable)
        return
    if not vm.compat.vfio_migration_v2:
        _block(vbasedev, "VFIO device doesn't support migration", enable)
        return
    try:
        flags = _query_flags(vbasedev)
    except QemuError as err:
        _block(vbasedev, err.desc, enable)
        return
    vbasedev.logs_dma = vbasedev.function.migration.dma_logging and dirty_tracking
    if not vbasedev.logs_dma:
        text = f"{vbasedev.name}: VFIO device doesn't support device and IOMMU dirty tracking"
        if enable == "auto":
            _block(vbasedev, text, enable)
            return
        vm.error_report(f"warning: {text}")
        _check_ram_size(vbasedev)
    vbasedev.migration = VFIOMigration(
        vbasedev, flags, parallel=parallel, events=events, multifd_transfer=multifd_transfer
    )
    try:
        vm.vfio.block_multiple(required=enable == "on")
    except QemuError:
        exit_migration(vbasedev)
        raise
    vm.trace("vfio_migration_realize", name=vbasedev.name)


def exit_migration(vbasedev: VFIODevice) -> None:
    """Undo `realize`."""
    vm = vbasedev.vm
    if vbasedev.migration is not None:
        vbasedev.migration.deinit()
        vbasedev.migration = None
    if vbasedev.blocker is not None:
        vm.savevm.del_blocker(vbasedev.blocker)
        vbasedev.blocker = None


def _block(vbasedev: VFIODevice, text: str, enable: str) -> None:
    if enable == "on":
        raise QemuError(text)
    vbasedev.blocker = vbasedev.vm.savevm.add_blocker(vbasedev, text)


def _query_flags(vbasedev: VFIODevice) -> int:
    """The flags of a device that can migrate; raises QemuError with the reason that blocks it."""
    name = vbasedev.name
    detailed = vbasedev.vm.compat.vfio_init_failed_text
    try:
        flags = vbasedev.migration_flags()
    except OSError as err:
        text = os.strerror(err.errno or 0)
        if detailed:
            what = (
                "migration is not supported in kernel"
                if err.errno == errno.ENOTTY
                else "failed to query migration flags"
            )
            raise QemuError(f"{name}: VFIO migration init failed: {what}: {text}") from None
        if err.errno == errno.ENOTTY:
            raise QemuError(f"{name}: VFIO migration is not supported in kernel") from None
        raise QemuError(
            f"{name}: Migration couldn't be initialized for VFIO device, err: -{err.errno} ({text})"
        ) from None
    if not flags & fsm.FLAG_STOP_COPY:
        if detailed:
            raise QemuError(f"{name}: VFIO migration init failed: VFIO_MIGRATION_STOP_COPY is not supported")
        raise QemuError(
            f"{name}: Migration couldn't be initialized for VFIO device, "
            f"err: -{errno.EOPNOTSUPP} ({os.strerror(errno.EOPNOTSUPP)})"
        )
    if flags & fsm.FLAG_PRE_COPY and detailed:
        try:
            vbasedev.set_precopy_info_v2()
        except OSError as err:
            text = f"failed to set precopy info v2: {os.strerror(err.errno or 0)}"
            raise QemuError(f"{name}: VFIO migration init failed: {text}") from None
    return flags


#: what a type1 container's bitmap can describe with its defaults: 256 MiB of bits, a page each
_BITMAP_RAM_LIMIT = 8 << 40


def _check_ram_size(vbasedev: VFIODevice) -> None:
    """Without any tracking the container's bitmap must describe all of RAM; raises QemuError (11.1)."""
    vm = vbasedev.vm
    if vm.compat.vfio_large_ram_check and sum(block.used_length for block in vm.ram_blocks) > _BITMAP_RAM_LIMIT:
        raise QemuError(
            f"{vbasedev.name}: Migration is currently not supported with large memory VM due to dirty tracking "
            "limitation in backend"
        )


class VFIOMigration:
    """What QEMU knows of a device that can migrate."""

    def __init__(
        self, vbasedev: VFIODevice, flags: int, *, parallel: bool, events: bool, multifd_transfer: str
    ) -> None:
        vm = vbasedev.vm
        self.vbasedev = vbasedev
        self.flags = flags
        self.device_state = fsm.RUNNING
        #: the open data session; a device that leaves a session by itself leaves a dead one here
        self.data: DataSession | None = None
        self.multifd_transfer = multifd_transfer
        self._vm = vm
        self._events = events
        path = vbasedev.dev.qdev_path()
        self.handlers = VFIOSaveHandlers(self)
        self._entry = vm.savevm.register_live(f"{path}/vfio" if path else "vfio", -1, 1, self.handlers)
        prepare = self._vmstate_change_prepare if flags & fsm.FLAG_P2P else None
        depth = vbasedev.dev.depth
        self._change: ParallelTransitions | ChangeStateEntry
        if parallel:
            self._change = ParallelTransitions(vm, self._vmstate_change, prepare, depth)
        else:
            self._change = vm.runstate.add_change_handler(self._vmstate_change, prepare, (depth, 0))
        vm.savevm.notifiers.add(self._migration_event)

    def deinit(self) -> None:
        """Forget everything that the constructor registered."""
        self._vm.savevm.notifiers.remove(self._migration_event)
        self._change.remove()
        self._vm.savevm.unregister(self._entry)
        self.close_data()

    @property
    def can_precopy(self) -> bool:
        return self.flags & fsm.FLAG_PRE_COPY != 0

    @property
    def in_precopy(self) -> bool:
        return self.device_state in fsm.PRE_COPYING

    def close_data(self) -> None:
        """Give the data descriptor back."""
        if self.data is not None:
            self.data.close()
            self.data = None

    # --- states ---------------------------------------------------------------------------------------

    def _record(self, state: str) -> None:
        self._vm.trace("vfio_migration_set_device_state", name=self.vbasedev.name, state=state)
        self.device_state = state
        if state != fsm.ERROR:
            self._send_event(state)

    def _send_event(self, state: str) -> None:
        if self._events:
            dev = self.vbasedev.dev
            self._vm.emit("VFIO_MIGRATION", {"device-id": dev.id or "", "qom-path": dev.path, "device-state": state})

    async def set_state(self, new: str, recover: str) -> None:
        """Bring the device into `new`; where that fails, into `recover` (ERROR: reset it) and raise QemuError."""
        vbasedev = self.vbasedev
        self._vm.trace("vfio_migration_set_state", name=vbasedev.name, new_state=new, recover_state=recover)
        if new == self.device_state:
            return
        try:
            await self._vm.faults.pass_through("vfio_migration_set_state", device=vbasedev.name, to=new)
            opened = await vbasedev.set_state(new)
        except OSError as err:
            raise await self._recover(new, recover, err) from None
        self._record(new)
        if opened is not None:
            if self.data is not None:
                # The device left its session by itself and began another one.
                opened.close()
                raise QemuError(f"{vbasedev.name}: data_fd out of sync")
            self.data = opened

    async def set_state_or_reset(self, new: str) -> None:
        """As `set_state`; a device that does not follow is reset, hence RUNNING."""
        await self.set_state(new, fsm.ERROR)

    async def _recover(self, new: str, recover: str, cause: OSError) -> QemuError:
        """Get out of a failed request as well as can be; returns the error that tells of it."""
        name = self.vbasedev.name
        what = "Recover state is ERROR. Resetting device"
        if recover != fsm.ERROR:
            what = f"Setting device in recover state {_upper(recover)}"
        failure = QemuError(f"{name}: Failed setting device state to {_upper(new)}. {what}: {_strerror(cause)}")
        if recover != fsm.ERROR:
            try:
                await self._vm.faults.pass_through("vfio_migration_set_state", device=name, to=recover)
                await self.vbasedev.set_state(recover)
            except OSError as err:
                self._vm.error_report(
                    f"{name}: Failed setting device in recover state, err: {_strerror(err)}. Resetting device"
                )
            else:
                self._record(recover)
                return failure
        self._reset()
        return failure

    def _reset(self) -> None:
        try:
            self.vbasedev.reset()
        except OSError as err:
            # QEMU aborts here. The device stays in ERROR, and every further request fails.
            self._vm.error_report(f"{self.vbasedev.name}: Failed resetting device, err: {_strerror(err)}")
            self._record(fsm.ERROR)
        else:
            self._record(fsm.RUNNING)

    # --- run state ------------------------------------------------------------------------------------

    async def _vmstate_change_prepare(self, running: bool, state: str) -> None:
        new = fsm.RUNNING_P2P
        if self.device_state == fsm.PRE_COPY:
            new = fsm.PRE_COPY_P2P
            if self._vm.compat.vfio_p2p_prepare_event:
                self._send_event(PRE_COPY_P2P_PREPARE)
        await self._change_or_report(new)
        self._vm.trace(
            "vfio_vmstate_change_prepare", name=self.vbasedev.name, running=int(running), reason=state, dev_state=new
        )

    async def _vmstate_change(self, running: bool, state: str) -> None:
        if running:
            new = fsm.RUNNING
        else:
            new = fsm.STOP_COPY if self.in_precopy and state in (FINISH_MIGRATE, PAUSED) else fsm.STOP
        await self._change_or_report(new)
        self._vm.trace(
            "vfio_vmstate_change", name=self.vbasedev.name, running=int(running), reason=state, dev_state=new
        )

    async def _change_or_report(self, new: str) -> None:
        """Run state handlers cannot fail: an error goes to the outgoing migration, else to the log."""
        try:
            await self.set_state_or_reset(new)
        except QemuError as err:
            self._vm.savevm.report_stream_error(err)

    async def _migration_event(self, event: str) -> None:
        if event == PRECOPY_SETUP:
            self._vm.vfio.bytes_transferred = 0
        elif event == FAILED:
            self._vm.trace("vfio_migration_state_notifier", name=self.vbasedev.name, state=event)
            try:
                await self.set_state_or_reset(fsm.RUNNING)
            except QemuError as err:
                self._vm.error_report(err.desc)


def _upper(state: str) -> str:
    """A state as QEMU's messages write it."""
    return state.upper().replace("-", "_")


def _strerror(err: OSError) -> str:
    return os.strerror(err.errno or errno.EIO)
