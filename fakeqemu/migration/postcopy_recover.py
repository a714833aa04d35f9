# SPDX-License-Identifier: MIT
"""A postcopy whose link broke: both sides wait, and go on over a new connection.

    source                                             destination
    postcopy-paused                                    postcopy-paused          its guest runs, but for those that wait
    migrate resume=true: postcopy-recover-setup        migrate-recover: listens
    connected: postcopy-recover                        connected: postcopy-recover
    RECV_BITMAP for each block                    ->   the bitmap of the pages that have come
    what has not come is dirty again              <-
    POSTCOPY_RESUME                               ->   postcopy-active, RESUME_ACK, and all open requests once more
    postcopy-active                               <-

QEMU: postcopy_pause, postcopy_do_resume in migration/migration.c, ram_dirty_bitmap_reload in migration/ram.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.migration import channel as channels
from fakeqemu.migration import state as st
from fakeqemu.migration.outgoing import GivenUp
from fakeqemu.migration.return_path import ReturnPath
from fakeqemu.migration.stream import section
from fakeqemu.migration.stream.qemu_file import QEMUFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from fakeqemu.host.channel import Channel
    from fakeqemu.host.sync import Future
    from fakeqemu.migration.outgoing import Outgoing
    from fakeqemu.migration.ram import RAMHandlers
    from fakeqemu.system.ramblock import PageRuns, RAMBlock


class SourceRecovery:
    """The source's half."""

    __slots__ = ("_ack", "_bitmaps", "_channel", "_failed", "_outgoing", "_ram", "_vm", "_wakeup")

    def __init__(self, outgoing: Outgoing, ram: RAMHandlers) -> None:
        self._outgoing = outgoing
        self._ram = ram
        self._vm = outgoing.vm
        #: delivers the new channel to the migration
        self._channel: Future | None = None
        #: blocks whose bitmaps have not come
        self._bitmaps: list[str] = []
        self._ack = False
        self._failed = False
        #: something of the above has changed
        self._wakeup: Future | None = None

    async def pause(self, error: QemuError | None) -> None:
        """The link is gone, for the reason `error`. QEMU: postcopy_pause"""
        mig = self._outgoing.mig
        if error is not None:
            mig.set_error(error)
        if not self._vm.compat.migration_postcopy_pause_told:
            mig.clear_error()
        await self._disconnect()
        for line in st.postcopy_paused_lines(self._vm):
            self._vm.error_report(line)
        self._vm.trace("fake_postcopy_pause")
        mig.set_state(st.POSTCOPY_PAUSED)

    async def wait_until_resumed(self) -> None:
        """Come back when the migration goes on."""
        while True:
            self._channel = self._vm.host.future()
            channel: Channel | None = await self._channel
            self._channel = None
            if channel is None:
                raise GivenUp
            try:
                await self._try(channel)
            except (QemuError, GivenUp) as err:
                await self.pause(err if isinstance(err, QemuError) else None)
            else:
                self._vm.trace("postcopy_pause_continued")
                return

    async def _try(self, channel: Channel) -> None:
        outgoing, mig = self._outgoing, self._outgoing.mig
        self._ack = self._failed = False
        self._bitmaps = [block.idstr for block, _ in self._ram.dirty_runs()]
        self._use(channel)
        if outgoing.preempt is not None:
            outgoing.preempt.main_connected()
        mig.set_state(st.POSTCOPY_RECOVER)
        assert outgoing.return_path is not None
        outgoing.return_path.open()
        f = outgoing.f
        assert f is not None
        for name in list(self._bitmaps):
            section.put_command(f, section.MIG_CMD_RECV_BITMAP, bytes((len(name.encode()),)) + name.encode())
        self._vm.trace("ram_dirty_bitmap_sync_wait")
        await self._said("resume_prepare() failure detected: -1", self._bitmaps_came(f))
        if outgoing.preempt is not None:
            await outgoing.preempt.establish("postcopy_do_resume: postcopy_preempt_establish_channel(): -1")
        self._ram.restart()
        section.put_command(f, section.MIG_CMD_POSTCOPY_RESUME)
        await self._said("handshake failed: -1", self._acknowledged(f))
        mig.set_state(st.POSTCOPY_ACTIVE)

    async def _bitmaps_came(self, f: QEMUFile) -> None:
        await f.flush()
        await self._vm.faults.pass_through("ram_dirty_bitmap_sync_wait")
        await self._until(lambda: not self._bitmaps)

    async def _acknowledged(self, f: QEMUFile) -> None:
        await f.flush()
        await self._vm.faults.pass_through("savevm_send_postcopy_resume")
        await self._until(lambda: self._ack)

    async def _said(self, line: str, step: Coroutine[Any, Any, None]) -> None:
        """Do a step of the resume, and say on stderr when it fails; raises what it raises."""
        try:
            await step
        except (QemuError, GivenUp):
            self._vm.error_report(f"postcopy_do_resume: {line}")
            raise

    async def _disconnect(self) -> None:
        """The link is broken: give its channel back."""
        outgoing = self._outgoing
        assert outgoing.f is not None
        assert outgoing.return_path is not None
        assert outgoing.f.channel is not None
        outgoing.f.shutdown()
        if outgoing.preempt is not None:
            outgoing.preempt.shutdown()
        await outgoing.return_path.join()
        if outgoing.preempt is not None:
            await outgoing.preempt.close()
        channels.close(self._vm, outgoing.address, outgoing.f.channel)

    def _use(self, channel: Channel) -> None:
        """Go on over another channel."""
        outgoing = self._outgoing
        stats = outgoing.mig.stats
        before = stats.stream_bytes()
        f = outgoing.f = QEMUFile(channel, channels.kind_of(outgoing.address, channel))
        assert outgoing.savevm is not None
        outgoing.savevm.use(f)
        stats.stream_bytes = lambda: before + f.flushed
        outgoing.return_path = ReturnPath(outgoing)
        outgoing.rate.open(self._vm.host.clock.now_ns())

    # --- waiting --------------------------------------------------------------------------------------

    async def _until(self, condition: Any) -> None:
        while not condition():
            if self._failed:
                raise self._outgoing.failure_of_return_path()
            self._outgoing.check()
            self._wakeup = self._vm.host.future()
            await self._wakeup
            self._wakeup = None
        self._outgoing.check()

    def _wake(self) -> None:
        if self._wakeup is not None:
            self._wakeup.set_result()

    def cancelled(self) -> None:
        """A pause ends for good. QEMU 7.2 stays in `cancelling` then, and later ones do not let it come so far."""
        if self._channel is not None:
            self._channel.set_result(None)
        self._wake()

    def lost(self) -> None:
        """The return path has ended."""
        self._failed = True
        self._wake()

    # --- the command ----------------------------------------------------------------------------------

    def resume(self, address: dict[str, Any]) -> None:
        """Connect anew; raises QemuError when that fails at once."""
        mig = self._outgoing.mig
        mig.clear_error()
        if self._vm.compat.migration_postcopy_recover_setup:
            mig.set_state(st.POSTCOPY_RECOVER_SETUP)
        if channels.is_background(address):
            mig.start(self._connect(address), "mig/src/recover")
            return
        try:
            channel = channels.open_now(self._vm, address)
        except QemuError as err:
            self._not_connected(err)
            raise
        mig.start(self._connect(address, channel), "mig/src/recover")

    async def _connect(self, address: dict[str, Any], opened: Channel | None = None) -> None:
        try:
            if opened is None:
                channel = await channels.connect(self._vm, address)
            else:
                channel = await channels.secure(self._vm, address, opened)
        except QemuError as err:
            if not self._vm.compat.migration_failing_state:
                self._vm.error_report(err.desc)
            await self._outgoing.turn()
            self._not_connected(err)
            return
        await self._outgoing.turn()
        self._connected(address, channel)

    def _connected(self, address: dict[str, Any], channel: Channel) -> None:
        if self._channel is None:
            channel.close()
            return
        self._outgoing.address = address
        self._channel.set_result(channel)

    def _not_connected(self, error: QemuError) -> None:
        mig = self._outgoing.mig
        mig.set_error(error)
        if mig.state == st.POSTCOPY_RECOVER_SETUP:
            mig.set_state(st.POSTCOPY_PAUSED)

    # --- messages -------------------------------------------------------------------------------------

    def bitmap_came(self, block: RAMBlock, missing: PageRuns) -> None:
        """What the destination lacks of a block is what is left to send."""
        self._ram.set_left(block, missing)
        if block.idstr in self._bitmaps:
            self._bitmaps.remove(block.idstr)
        self._wake()

    def resume_ack_came(self) -> None:
        """The destination is ready to go on."""
        self._ack = True
        self._wake()
