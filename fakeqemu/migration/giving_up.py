# SPDX-License-Identifier: MIT
"""The end of an outgoing migration that has failed, and the closing of one that has ended, however.

All ways of failing lead to `give_up`: the first error is kept, the guest goes on where it was stopped, devices get their
notice, the status ends as failed or cancelled.

QEMU: migration_iteration_finish and migration_cleanup in migration/migration.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.migration import channel as channels
from fakeqemu.migration import state as st
from fakeqemu.migration.register import FAILED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.migration.outgoing import Outgoing


async def give_up(outgoing: Outgoing, error: QemuError | None) -> None:
    """Every way of failing ends here: the guest goes on where it was, and the status says what happened."""
    vm, mig = outgoing.vm, outgoing.mig
    savevm = outgoing.savevm
    assert savevm is not None
    cancelled = mig.state == st.CANCELLING
    early = vm.compat.migration_failing_state
    if error is not None and not cancelled:
        mig.set_error(error)
    elif error is not None:
        report_broken_off(outgoing, error)
    # What failed before it was active is told of once, by its channel; otherwise twice.
    if not cancelled and outgoing.told_failed_in != st.SETUP:
        mig.set_state(st.FAILING if early else st.FAILED)
    if outgoing.multifd is not None:
        outgoing.multifd.shutdown()
    await close(outgoing)
    async with vm.bql:
        # 11.1 asks devices back before the guest goes on, older ones when all else is done.
        if early:
            await vm.savevm.notify(FAILED)
        await outgoing.switchover.give_back()
        await savevm.cleanup()
        if not early:
            await vm.savevm.notify(FAILED)
    if mig.error is not None:
        vm.error_report(mig.error.desc)
    if cancelled:
        mig.set_state(st.CANCELLED)
    elif early:
        mig.set_state(st.FAILED)
    outgoing.told_failed_in = ""


def report_broken_off(outgoing: Outgoing, error: QemuError) -> None:
    """The migration was cancelled while a write waited: its end is printed, but not the reason of anything."""
    if outgoing.mig.error is None or not outgoing.vm.compat.migration_failing_state:
        outgoing.vm.error_report(error.desc)


async def close(outgoing: Outgoing) -> None:
    """Break the channel, wait for the return path, give the channel back."""
    f = outgoing.f
    assert f is not None
    if outgoing.multifd is not None:
        await outgoing.multifd.cleanup()
    if outgoing.return_path is not None:
        f.shutdown()
        await outgoing.return_path.join()
    if outgoing.preempt is not None:
        await outgoing.preempt.close()
    assert f.channel is not None
    channels.close(outgoing.vm, outgoing.address, f.channel)
    outgoing.unregister_yank()
