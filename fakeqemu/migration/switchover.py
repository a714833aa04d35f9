# SPDX-License-Identifier: MIT
"""The switch of a migration, as the guest of the source sees it: it is stopped, and given back when the rest fails.

    active ─ stop ─┬──────────────────────────────────────────────┬─ device (or, in older releases, active)
                   └─ pre-switchover ─ migrate-continue ─ device ──┘

QEMU: migration_stop_vm, migration_completion_precopy and migration_iteration_finish in migration/migration.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.migration import state as st
from fakeqemu.migration.savevm import globals_of
from fakeqemu.system import runstate as rs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.migration.outgoing import Outgoing


class Switchover:
    """The guest of one outgoing migration."""

    __slots__ = ("_old_state", "_outgoing", "_was_live", "guest_left", "stopped")

    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing
        #: whether the guest was stopped: from then on there is no limit of the bandwidth
        self.stopped = False
        #: what the guest was when we stopped it
        self._was_live = False
        self._old_state = ""
        #: whether it has left for good: it runs on the other side
        self.guest_left = False

    async def stop_guest(self) -> None:
        """Stop the guest; with pause-before-switchover wait for migrate-continue. Raises what has gone wrong meanwhile."""
        outgoing = self._outgoing
        vm, mig = outgoing.vm, outgoing.mig
        async with vm.bql:
            outgoing.check()
            mig.stats.downtime_start_ns = vm.host.clock.now_ns()
            vm.trace("vmstate_downtime_checkpoint", checkpoint="src-downtime-start")
            self.stopped = True
            if vm.runstate.state == rs.SUSPENDED and not vm.runstate.live:
                self._wake_guest()
            self._was_live = vm.runstate.live
            self._old_state = vm.runstate.state
            globals_of(vm).store()
            await vm.runstate.vm_stop_force_state(rs.FINISH_MIGRATE)
            vm.trace("vmstate_downtime_checkpoint", checkpoint="src-vm-stopped")
            vm.trace("migration_completion_vm_stop", ret=0)
            await vm.faults.pass_through("migration_completion_vm_stop")
            self._check_interrupted()
            outgoing.check()
        if mig.options.on("pause-before-switchover") and mig.state == st.ACTIVE:
            mig.set_state(st.PRE_SWITCHOVER)
            await mig.continue_event.wait()
            self._check_interrupted()
            mig.set_state(st.DEVICE)
        elif vm.compat.migration_continue_to_device_state and mig.state == st.ACTIVE:
            mig.set_state(st.DEVICE)
        if vm.compat.migration_blocks_given_first or outgoing.postcopy is not None:
            self.give_blocks_away()

    def _check_interrupted(self) -> None:
        """Raise when migrate_cancel was there. Releases that have words for it keep them as the error all the same."""
        mig = self._outgoing.mig
        words = self._words("Switchover is interrupted", "Channel error: Input/output error")
        if mig.state == st.CANCELLING and words:
            mig.set_error(QemuError(words))
        self._outgoing.check_cancelled()

    def _words(self, own: str, general: str) -> str:
        """What the release says of a switchover that cannot be; of one to postcopy it says `own` as soon as it says a thing."""
        how = self._outgoing.vm.compat.migration_switchover_errors
        if how == "none":
            return ""
        return own if how == "own" or self._outgoing.postcopy is not None else general

    def _wake_guest(self) -> None:
        """Releases that cannot stop a suspended guest let it run first; the event comes when the main loop has its turn."""
        vm = self._outgoing.vm
        vm.runstate.set(rs.RUNNING)
        vm.guest.started()
        vm.host.call_soon(lambda: vm.emit("WAKEUP"))

    def give_blocks_away(self) -> None:
        """The other side is to have the block devices; raises QemuError. QEMU: migration_block_inactivate"""
        vm = self._outgoing.vm
        if self._outgoing.mig.options.on("x-colo"):
            return
        try:
            vm.faults.check("migration_block_activation")
        except OSError as err:
            if vm.compat.migration_blocks_given_first:
                vm.error_report(f"migration_block_inactivate: bdrv_inactivate_all() failed: -{err.errno}")
            elif self._outgoing.postcopy is None:
                where = "qemu_savevm_state_complete_precopy_non_iterable"
                vm.error_report(f"{where}: bdrv_inactivate_all() failed (-{err.errno})")
            words = self._words(
                "Block inactivate failed during switchover", "Error in migration completion: Bad address"
            )
            raise QemuError(words) from None

    async def give_back(self) -> None:
        """The migration has failed: the guest goes on as it was. Call with the BQL held."""
        if not self.stopped:
            return
        state = self._outgoing.vm.runstate
        if self.guest_left:  # a postcopy that 7.2 has cancelled
            state.set(rs.POSTMIGRATE)
        elif self._was_live:
            await state.vm_start()
        elif state.state == rs.FINISH_MIGRATE:
            forgotten = self._outgoing.vm.compat.migration_paused_guest_forgotten
            state.set(rs.POSTMIGRATE if forgotten else self._old_state)
