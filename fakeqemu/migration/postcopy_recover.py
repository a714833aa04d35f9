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
from fakeqemu.migration.received_bitmap import BITMAP_ENDING, bitmap_size, missing_runs
from fakeqemu.migration.return_path import ReturnPath
from fakeqemu.migration.stream import return_path as rp
from fakeqemu.migration.stream import section
from fakeqemu.migration.stream.qemu_file import QEMUFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.host.channel import Channel
    from fakeqemu.host.sync import Future
    from fakeqemu.migration.outgoing import Outgoing
    from fakeqemu.migration.postcopy_ram import PostcopySource
    from fakeqemu.migration.ram import RAMHandlers


class SourceRecovery:
    """The source's half."""

    __slots__ = ("_ack", "_bitmaps", "_channel", "_failed", "_outgoing", "_postcopy", "_ram", "_vm", "_wakeup")

    def __init__(self, postcopy: PostcopySource, outgoing: Outgoing, ram: RAMHandlers) -> None:
        self._postcopy = postcopy
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
        await self._disconnect()
        for line in st.POSTCOPY_PAUSED_LINES:
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
        self._postcopy.forget_block()
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
        await f.flush()
        await self._until(lambda: not self._bitmaps)
        if outgoing.preempt is not None:
            await outgoing.preempt.establish("postcopy_do_resume: postcopy_preempt_establish_channel(): -1")
        self._ram.restart()
        section.put_command(f, section.MIG_CMD_POSTCOPY_RESUME)
        await f.flush()
        await self._until(lambda: self._ack)
        mig.set_state(st.POSTCOPY_ACTIVE)

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

    async def reload_bitmap(self, data: bytes, f: QEMUFile) -> None:
        """A block's bitmap: what the destination lacks is what is left to send. QEMU: ram_dirty_bitmap_reload"""
        if len(data) < 1 or len(data) != 1 + data[0]:
            raise QemuError("MIG_RP_MSG_RECV_BITMAP missing block name")
        name = data[1:].decode("utf-8", "backslashreplace")
        found = [(block, runs) for block, runs in self._ram.dirty_runs() if block.idstr == name]
        if not found:
            raise QemuError(f"MIG_RP_MSG_RECV_BITMAP has invalid block name '{name}'")
        block, _ = found[0]
        if self._outgoing.mig.state != st.POSTCOPY_RECOVER:
            raise QemuError(f"Reload bitmap in incorrect state {self._outgoing.mig.state}")
        self._vm.trace("ram_dirty_bitmap_reload_begin", rbname=name)
        size = await f.get_be64()
        if size != bitmap_size(block.pages):
            raise QemuError(
                f"ramblock '{name}' bitmap size mismatch (0x{size:x} != 0x{bitmap_size(block.pages):x})"
            )  # fmt: skip
        bitmap = await f.get_buffer(size)
        ending = await f.get_be64()
        if ending != BITMAP_ENDING:
            raise QemuError(f"ramblock '{name}' end mark incorrect: 0x{ending:x}")
        self._ram.set_left(block, missing_runs(bitmap, block.pages))
        if name in self._bitmaps:
            self._bitmaps.remove(name)
        self._wake()

    def resume_ack(self, value: int) -> None:
        """The destination is ready to go on."""
        self._vm.trace("source_return_path_thread_resume_ack", v=value)
        if value != rp.RESUME_ACK_VALUE:
            raise QemuError(f"illegal resume_ack value {value}")
        self._ack = True
        self._wake()
