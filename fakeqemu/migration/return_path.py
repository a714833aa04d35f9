# SPDX-License-Identifier: MIT
"""The source's ear: messages that the destination sends back while, and after, the stream goes out.

QEMU: migration/migration.c (source_return_path_thread)
"""

from __future__ import annotations

import errno

from fakeqemu.error import QemuError
from fakeqemu.migration.page_requests import PageRequests, Refused, data_of
from fakeqemu.migration.stream import return_path as rp
from fakeqemu.migration.stream.qemu_file import EndOfStream, strerror

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.host.sync import Task
    from fakeqemu.migration.outgoing import Outgoing

_SIZE_MAX = (1 << 64) - 1


class ReturnPath:
    """The return path of one outgoing migration: a task that ends with SHUT or with an error."""

    __slots__ = ("_f", "_outgoing", "_requests", "_task", "answered", "failed")

    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing
        #: something went wrong: the migration is to fail, whatever its own side of the stream says
        self.failed = False
        #: the destination has answered a PING, or never will
        self.answered = outgoing.vm.host.event()
        self._task: Task | None = None
        assert outgoing.f is not None
        self._f = outgoing.f
        self._requests = PageRequests(outgoing)

    def open(self) -> None:
        self._task = self._outgoing.mig.start(self._run(), "mig/src/return")

    async def finish(self) -> None:
        """Wait for the destination's last word; raises QemuError when that is not that all went well."""
        assert self._task is not None
        self._outgoing.vm.trace("migration_return_path_end_before")
        await self._task.join()
        self._outgoing.vm.trace("migration_return_path_end_after", rp_error=int(self.failed))
        if self.failed:
            raise self._outgoing.failure_of_return_path()

    async def join(self) -> None:
        """Wait until the task has ended, whatever it found. The channel was shut down before."""
        if self._task is not None:
            await self._task.join()

    async def _run(self) -> None:
        vm = self._outgoing.vm
        vm.trace("source_return_path_thread_entry")
        try:
            await self._read_messages()
        except EndOfStream as err:
            self._lost(err)
        except QemuError as err:
            self._fail(err)
        vm.trace("source_return_path_thread_end")
        self.answered.set()
        if self.failed and self._outgoing.postcopy is not None:
            self._outgoing.postcopy.lost()

    def _lost(self, err: EndOfStream) -> None:
        """The connection is gone. Older releases hear of it when they write: to a descriptor that was closed for it."""
        if self._outgoing.vm.compat.migration_return_path_errors:
            self._fail(QemuError(err.reason))
        else:
            self._close()

    def _fail(self, err: QemuError) -> None:
        self.failed = True
        vm = self._outgoing.vm
        if vm.compat.migration_return_path_errors:
            self._outgoing.mig.set_error(err)
        else:
            vm.error_report(err.old if isinstance(err, Refused) else f"RP: {err.desc}")
            self._close()

    def _close(self) -> None:
        """(older releases) Whoever listens closes the channel when it has heard enough."""
        f = self._f
        self.failed = True
        if f.write_error is None:
            f.write_error = QemuError(f"Unable to write to {f.kind}: {strerror(errno.EBADF)}")

    async def _read_messages(self) -> None:
        f, vm = self._f, self._outgoing.vm
        if f.channel is not None and not f.channel.can_read:
            raise QemuError(f"Unable to read from {f.kind}: {strerror(errno.EBADF)}")
        while True:
            await vm.faults.pass_through("source_return_path_thread_loop_top")
            kind, length = rp.HEADER.unpack(await f.get_buffer(rp.HEADER.size))
            known = rp.MESSAGES.get(kind)
            if known is None:
                raise QemuError(f"Received invalid message 0x{kind:04x} length 0x{length:04x}")
            name, expected = known
            if expected not in (-1, length) or length > rp.MAX_LENGTH:
                # No blank in between, and any length as an unsigned -1: QEMU prints it like that.
                raise QemuError(
                    f"Received '{name}' message (0x{kind:04x}) withincorrect length {length} expecting {expected & _SIZE_MAX}"
                )
            data = await data_of(f, kind, length)
            if kind == rp.MIG_RP_MSG_SHUT:
                value = rp.be32(data)
                vm.trace("source_return_path_thread_shut", sibling_error=value)
                if value:
                    raise QemuError(f"Sibling indicated error {value}")
                return
            if kind == rp.MIG_RP_MSG_PONG:
                vm.trace("source_return_path_thread_pong", val=rp.be32(data))
                self.answered.set()
                if self._outgoing.postcopy is not None:
                    self._outgoing.postcopy.pong(rp.be32(data))
            elif kind == rp.MIG_RP_MSG_SWITCHOVER_ACK:
                self._outgoing.switchover_ack.received()
            else:
                await self._requests.message(kind, data, f)
