# SPDX-License-Identifier: MIT
"""postcopy-preempt on the source: a second connection, for pages that somebody waits for.

    main     PART: pages, as they come         (bandwidth limit, full buffers)
    second   a page that was asked for         at once, by whoever has read the request

Nothing introduces it: it is a bare run of page records, and the destination knows it by its coming after all others. It is
made when the source turns to postcopy, once the destination has answered the first PING: then its main channel is at
work. Releases before 8.0, and later ones with the property x-preempt-pre-7-2, make it right behind the main one, send
on it from the main task, when that comes to it, and end it with an EOS.

QEMU: postcopy_preempt_setup in migration/postcopy-ram.c, ram_save_host_page_urgent in migration/ram.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.host.sync import Cancelled
from fakeqemu.migration import channel as channels
from fakeqemu.migration.page_sink import PageSink, postcopy_sink
from fakeqemu.migration.stream.qemu_file import SOCKET, QEMUFile
from fakeqemu.migration.stream.ram_page import RAM_SAVE_FLAG_EOS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.host.sync import Task
    from fakeqemu.migration.outgoing import Outgoing
    from fakeqemu.system.machine import Machine
    from fakeqemu.system.ramblock import RAMBlock


def is_early(vm: Machine) -> bool:
    """Whether the connection is made with the main one, and served by the main task."""
    return vm.compat.migration_preempt_early or bool(vm.migration.settings.get("x-preempt-pre-7-2"))


class PreemptSend:
    """The second channel of one outgoing migration; made anew when a broken one goes on."""

    __slots__ = ("_error", "_f", "_outgoing", "_sink", "_task", "_vm", "early")

    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing
        self._vm = outgoing.vm
        self.early = is_early(self._vm)
        self._task: Task | None = None
        self._f: QEMUFile | None = None
        self._sink: PageSink = postcopy_sink(outgoing)
        #: why it could not be connected
        self._error: QemuError | None = None

    # --- connecting -----------------------------------------------------------------------------------

    def main_connected(self) -> None:
        """The main channel is there."""
        if self.early:
            self._start()

    def _start(self) -> None:
        self._task = self._outgoing.mig.start(self._connect(), "mig/src/preempt")

    async def _connect(self) -> None:
        try:
            channel = await channels.connect(self._vm, self._outgoing.address, further="preempt")
        except QemuError as err:
            self._error = err
        except Cancelled:
            self._error = QemuError("Channel error: Input/output error")
        else:
            self._sink = postcopy_sink(self._outgoing)
            self._f = QEMUFile(channel, SOCKET)
            self._vm.trace("postcopy_preempt_new_channel")

    async def main_answered(self) -> None:
        """Wait until the destination reads the main channel: its next connection is this one. Raises what has gone wrong."""
        path = self._outgoing.return_path
        assert path is not None
        if not self.early:
            await path.answered.wait()
            self._outgoing.check()
            if path.failed:
                raise self._outgoing.failure_of_return_path()

    async def establish(self, says: str) -> None:
        """Wait until it is there; raises QemuError, having printed `says`, when it cannot be, or what has gone wrong."""
        if not self.early:
            self._start()
        assert self._task is not None
        await self._task.wait()
        self._outgoing.check()
        if self._error is not None:
            self._vm.error_report(says)
            raise self._error

    # --- pages ----------------------------------------------------------------------------------------

    async def put(self, block: RAMBlock, first: int, n: int, kind: str) -> None:
        """Send pages that hold the same kind of thing; raises QemuError."""
        f = self._f
        assert f is not None
        self._vm.trace("postcopy_preempt_send_host_page", ramblock=block.idstr, offset=first << 12)
        await self._vm.faults.pass_through(
            "postcopy_preempt_send_host_page", ramblock=block.idstr, start_addr=f"{first << 12:x}"
        )
        put, counted = f.bytes_transferred, self._sink.counted(f)
        await self._sink.put_pages(f, block, first, n, kind)
        stats = self._outgoing.mig.stats
        stats.preempt_bytes += f.bytes_transferred - put
        stats.postcopy_bytes += self._sink.counted(f) - counted
        await f.flush()

    async def end(self) -> None:
        """All pages are sent. QEMU: postcopy_preempt_shutdown_file"""
        if self.early and self._f is not None:
            self._f.put_be64(RAM_SAVE_FLAG_EOS)
            await self._f.flush()

    def check(self) -> None:
        """Raise the error of an earlier write."""
        if self._f is not None and self._f.write_error is not None:
            raise self._f.write_error

    # --- the end --------------------------------------------------------------------------------------

    def shutdown(self) -> None:
        """Break the connection, made or in the making."""
        if self._f is not None:
            self._f.shutdown()
        elif self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        """Give the connection back; another may be made."""
        task, self._task = self._task, None
        if task is not None:
            if not task.done:
                task.cancel()
            await task.wait()
        f, self._f = self._f, None
        self._error = None
        if f is not None:
            assert f.channel is not None
            f.channel.close()
