# SPDX-License-Identifier: MIT
"""postcopy-preempt on the destination: the second connection, and the task that places the pages that come on it.

It is the connection that comes when all others are there. The guest is not started before it has come; when it breaks, the
main channel notices at its next section, and the migration pauses.

QEMU: postcopy_preempt_thread and postcopy_preempt_new_channel in migration/postcopy-ram.c
"""

from __future__ import annotations

from fakeqemu.error import StreamError
from fakeqemu.migration.ram_load import RAMLoadHandlers
from fakeqemu.migration.stream.qemu_file import SOCKET, EndOfStream, QEMUFile
from fakeqemu.migration.stream.ram_page import RAM_SAVE_FLAG_EOS, TARGET_PAGE_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.host.channel import Channel
    from fakeqemu.host.sync import Task
    from fakeqemu.migration.postcopy_load import PostcopyIncoming
    from fakeqemu.system.machine import Machine

_FLAGS_MASK = TARGET_PAGE_SIZE - 1


class _Pages(RAMLoadHandlers):
    """Page records of this channel."""

    __slots__ = ()

    async def load_record(self, f: QEMUFile) -> None:
        """One record, and those of the same kind behind it; raises StreamError. An EOS says nothing: more may come."""
        word = await f.get_be64()
        if word != RAM_SAVE_FLAG_EOS:
            await self._load_pages(f, word & ~_FLAGS_MASK, word & _FLAGS_MASK)


class PreemptRecv:
    """The second channel of one incoming migration; another comes after a pause."""

    __slots__ = ("_arrived", "_channel", "_task", "_vm", "error")

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self._channel: Channel | None = None
        self._arrived = vm.host.event()
        self._task: Task | None = None
        #: why its task has ended before the migration did
        self.error: StreamError | None = None

    @property
    def wanted(self) -> bool:
        """Whether it has not come yet."""
        return self._channel is None

    def add(self, channel: Channel) -> None:
        """Here it is."""
        self._vm.trace("postcopy_preempt_new_channel")
        self._channel = channel
        self._arrived.set()

    async def listen(self, postcopy: PostcopyIncoming) -> None:
        """Wait for the connection, and begin to place pages; raises StreamError when the wait is broken off."""
        await self._arrived.wait()
        if self._channel is None:
            raise EndOfStream
        self._task = self._vm.migration.start(self._run(self._channel, postcopy), "mig/dst/preempt")

    async def _run(self, channel: Channel, postcopy: PostcopyIncoming) -> None:
        self._vm.trace("postcopy_preempt_thread_entry")
        f = QEMUFile(channel, SOCKET)
        pages = _Pages(self._vm)
        pages.postcopy = postcopy
        try:
            while True:
                await pages.load_record(f)
        except StreamError as err:
            self.error = err
        except OSError as err:  # of the memory's file
            self.error = StreamError(f"postcopy-preempt: {err.strerror}")
        self._vm.trace("postcopy_preempt_thread_exit")
        postcopy.look_again()

    def shutdown(self) -> None:
        """Break the connection, or the wait for it."""
        if self._channel is not None:
            self._channel.shutdown()
        self._arrived.set()

    async def close(self) -> None:
        """Wait for the task and give the connection back; another may come."""
        self.shutdown()
        task, self._task = self._task, None
        if task is not None:
            await task.wait()
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()
        self._arrived.clear()
        self.error = None
