# SPDX-License-Identifier: MIT
"""The primary of a COLO pair: the guest that counts, and from time to time all that has changed goes to the secondary.

A checkpoint is due each x-checkpoint-delay ms, and whenever that parameter is set.

QEMU: colo_process_checkpoint and colo_do_checkpoint_transaction in migration/colo.c
"""

from __future__ import annotations

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
        savevm = self._outgoing.savevm
        assert savevm is not None
        if vm.compat.migration_colo_announced:
            savevm.put_switchover_start()
        await savevm.complete_iterable()
        self.f.put_byte(section.QEMU_VM_EOF)
        self.put(half.VMSTATE_SIZE)
        self.f.put_be64(len(devices))
        self.f.put_buffer(devices)
        self._mig.stats.package_bytes += len(devices)
        await self.flush()
        try:
            await self.expect(half.VMSTATE_RECEIVED)
            await self.expect(half.VMSTATE_LOADED)
        except half.ConversationOver as over:
            # QEMU forgets that it failed, and tries another one at once, with its guest stopped.
            vm.error_report(over.args[0])
            return
        self._due.clear()
        async with vm.bql:
            await self.start_guest()

    async def _devices(self) -> bytes:
        """The state of all devices as of now, put aside until the pages have gone."""
        aside = QEMUFile()
        await SaveVM(self.vm, aside).save_devices()
        aside.put_byte(section.QEMU_VM_EOF)
        return aside.getvalue()

    # --- the end --------------------------------------------------------------------------------------

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
