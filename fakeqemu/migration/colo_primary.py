# SPDX-License-Identifier: MIT
"""The primary of a COLO pair: the guest that counts, and from time to time all that has changed goes to the secondary.

A checkpoint is due each x-checkpoint-delay ms, and whenever that parameter is set.

QEMU: colo_process_checkpoint and colo_do_checkpoint_transaction in migration/colo.c
"""

from __future__ import annotations

import errno
import os

from fakeqemu.error import QemuError
from fakeqemu.host.clock import NS_PER_MS
from fakeqemu.migration import colo
from fakeqemu.migration import colo_half as half
from fakeqemu.migration import state as st
from fakeqemu.migration.giving_up import close
from fakeqemu.migration.savevm import SaveVM
from fakeqemu.migration.stream import section
from fakeqemu.migration.stream.qemu_file import QEMUFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.host.clock import Timer
    from fakeqemu.migration.outgoing import Outgoing


class ColoPrimary(half.ColoHalf):
    """The half that the migration came from."""

    __slots__ = ("_due", "_mig", "_outgoing", "_timer")

    mode = colo.PRIMARY

    def __init__(self, outgoing: Outgoing) -> None:
        assert outgoing.f is not None
        super().__init__(outgoing.vm, outgoing.f)
        self._outgoing = outgoing
        self._mig = outgoing.mig
        #: a checkpoint is to be made
        self._due = outgoing.vm.host.event()
        self._timer: Timer | None = None
        self._mig.set_state(st.COLO)

    async def _converse(self) -> None:
        vm = self.vm
        await self.expect(half.CHECKPOINT_READY)
        async with vm.bql:
            await self.start_guest()
        self._set_timer()
        try:
            while True:
                await self._due.wait()
                self.check()
                if self._mig.state != st.COLO:  # cancelled: noticed when the next checkpoint is due
                    raise half.ConversationOver
                await self._checkpoint()
        finally:
            assert self._timer is not None
            self._timer.cancel()

    # --- when -----------------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        clock = self.vm.host.clock
        delay_ns = self._mig.options.get("x-checkpoint-delay") * NS_PER_MS
        self._timer = clock.call_at(clock.now_ns() + delay_ns, self._elapsed)

    def _elapsed(self) -> None:
        self._due.set()
        self._set_timer()

    def delay_set(self) -> None:
        if self._timer is not None and self._timer.pending:
            self._timer.cancel()
            self._elapsed()

    def wake(self) -> None:
        self._due.set()

    # --- a checkpoint ---------------------------------------------------------------------------------

    async def _checkpoint(self) -> None:
        """Bring the secondary into step; raises ConversationOver or QemuError."""
        vm = self.vm
        await self.send(half.CHECKPOINT_REQUEST)
        await self.expect(half.CHECKPOINT_REPLY)
        async with vm.bql:
            await self.stop_guest()
        await self.send(half.VMSTATE_SEND)
        devices = await self._devices()
        await self._send_pages()
        try:
            await self._send_size(len(devices))
            await self._send_devices(devices)
            await self.expect(half.VMSTATE_RECEIVED)
            self._due.clear()
            await self.expect(half.VMSTATE_LOADED)
        except QemuError as err:
            # QEMU forgets that it failed, and tries another one when the next one is due, with its guest stopped until then.
            vm.error_report(err.desc)
            return
        async with vm.bql:
            await self.start_guest()

    async def _devices(self) -> bytes:
        """The state of all devices as of now, put aside until the pages have gone. Raises QemuError, ConversationOver."""
        aside = QEMUFile()
        try:
            await SaveVM(self.vm, aside).save_devices()
        except QemuError as err:
            if not self.vm.compat.migration_colo_save_error_told:
                raise half.ConversationOver from None
            self._mig.set_error(err)
            raise
        aside.put_byte(section.QEMU_VM_EOF)
        return aside.getvalue()

    async def _send_pages(self) -> None:
        """What goes before the devices. What fails is found by the message behind it."""
        savevm, channels = self._outgoing.savevm, self._outgoing.multifd
        assert savevm is not None
        if self.vm.compat.migration_colo_announced:
            savevm.put_switchover_start()
        try:
            await savevm.complete_iterable()
        except QemuError as err:
            self.f.write_error = err
            if channels is not None and channels.error is not None:
                self.write_words = os.strerror(errno.EPERM)  # -1, as QEMU's functions say where they have no number
        self.f.put_byte(section.QEMU_VM_EOF)

    async def _send_size(self, size: int) -> None:
        """Raises QemuError."""
        await self.send(half.VMSTATE_SIZE)
        msg = half.MESSAGES[half.VMSTATE_SIZE]
        try:
            self.vm.faults.check("fake_colo_send_message_value", msg=msg)
        except QemuError as err:
            self.f.write_error = err  # it stays
            raise
        self.f.put_be64(size)
        try:
            await self.f.flush()
        except QemuError:
            raise QemuError(f"Failed to send value for message:{msg}: {half.EIO_TEXT}") from None

    async def _send_devices(self, devices: bytes) -> None:
        """Raises ConversationOver: QEMU says nothing of it."""
        try:
            self.vm.faults.check("fake_colo_send_vmstate")
            self.f.put_buffer(devices)
            self._mig.stats.package_bytes += len(devices)
            await self.f.flush()
        except (OSError, QemuError):
            raise half.ConversationOver from None

    # --- the end --------------------------------------------------------------------------------------

    async def fail_over(self) -> None:
        await super().fail_over()
        if self._outgoing.multifd is not None:
            self._outgoing.multifd.shutdown()

    def _complete(self) -> None:
        stats = self._mig.stats
        stats.completed_total_ns = stats.downtime_ns = 0  # nobody has measured them
        self._mig.set_state(st.COMPLETED)

    async def _go_on_alone(self) -> None:
        vm, savevm = self.vm, self._outgoing.savevm
        assert savevm is not None
        async with vm.bql:
            await vm.runstate.vm_start()
            await savevm.cleanup()
        await close(self._outgoing)
        if self._mig.error is not None:
            vm.error_report(self._mig.error.desc)
