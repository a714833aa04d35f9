# SPDX-License-Identifier: MIT
"""State of devices on multifd channels, beside the sections of the main one.

    source       device ── task of its own, at the switchover ── send(part) ──► next idle channel
    destination  packet ── section's name, instance ──► device's `load_state_buffer`

Each device that wants it (`SaveVMHandlers.has_save_thread`) gets a task while the END sections are written; these are
not over before all tasks are. Parts travel on whatever channel is idle, among the packets with pages: nothing says that
they arrive in their order, so a device numbers them itself; and nothing says that they have arrived when the main channel
ends, so a device that expects some starts a task (`SaveRegistry.start_load_thread`) which ends when it has them: the load
waits for it.

QEMU: migration/multifd-device-state.c; qemu_loadvm_load_state_buffer, qemu_loadvm_start_load_thread in migration/savevm.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError, StreamError
from fakeqemu.host.sync import Cancelled
from fakeqemu.migration.multifd import DeviceState
from fakeqemu.migration.register import StateSender

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from fakeqemu.host.sync import Task
    from fakeqemu.migration.multifd import MultiFDSend
    from fakeqemu.migration.register import SaveStateEntry
    from fakeqemu.system.machine import Machine


async def send_meanwhile(vm: Machine, entries: list[SaveStateEntry], main: Coroutine[Any, Any, None]) -> None:
    """Run `main`, the writing of END sections, while devices send state; over when all is. Raises QemuError."""
    senders = DeviceStateSenders(vm)
    for entry in entries:
        senders.start(entry)
    try:
        await main
    except BaseException:
        await senders.abort()
        raise
    await senders.join()


class DeviceStateSenders:
    """The tasks of one outgoing migration that send devices' state."""

    __slots__ = ("_error", "_multifd", "_tasks", "_vm", "aborted")

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        outgoing = vm.migration.outgoing
        self._multifd: MultiFDSend | None = None if outgoing is None else outgoing.multifd
        self._tasks: list[Task] = []
        self._error: QemuError | None = None
        #: whoever still sends may as well stop
        self.aborted = False

    def start(self, entry: SaveStateEntry) -> None:
        """Start the task of an entry, if it has one.

        QEMU: multifd_spawn_device_state_save_thread
        """
        if self._multifd is None or entry.handlers is None or not entry.handlers.has_save_thread:
            return
        sender = _Sender(self, self._multifd, entry)
        self._tasks.append(self._vm.migration.start(self._run(entry, sender), f"mig/src/save_{entry.idstr}"))

    async def _run(self, entry: SaveStateEntry, sender: _Sender) -> None:
        assert entry.handlers is not None
        try:
            await entry.handlers.save_complete_precopy_thread(sender)
        except QemuError as err:
            if self._error is None:
                self._error = err
                self._vm.migration.set_error(err)  # whatever fails next because of it, this is the reason
            self.aborted = True

    async def join(self) -> None:
        """Wait for all tasks; raises the first error of any.

        QEMU: multifd_join_device_state_save_threads
        """
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            await task.wait()
        for task in tasks:
            task.result()  # a bug of ours is raised here
        if self._error is not None:
            raise self._error

    async def abort(self) -> None:
        """The migration fails, for a reason that is known: have all tasks stop, and wait for them."""
        self.aborted = True
        try:
            await self.join()
        except QemuError:
            pass  # the first error counts


class _Sender(StateSender):
    """What one device sends with."""

    __slots__ = ("_entry", "_multifd", "_senders")

    def __init__(self, senders: DeviceStateSenders, multifd: MultiFDSend, entry: SaveStateEntry) -> None:
        self._senders = senders
        self._multifd = multifd
        self._entry = entry

    @property
    def should_exit(self) -> bool:
        return self._senders.aborted or self._multifd.ending

    async def send(self, data: bytes) -> None:
        self._multifd.vm.faults.check("fake_multifd_queue_device_state", id=self._entry.idstr)
        await self._multifd.send(DeviceState(self._entry.idstr, self._entry.instance_id, data))


async def load(vm: Machine, idstr: str, instance_id: int, data: bytes) -> None:
    """Hand a part of a device's state to its owner; raises StreamError."""
    vm.faults.check("fake_qemu_loadvm_load_state_buffer", id=idstr, instance_id=instance_id)
    entry = vm.savevm.find(idstr, instance_id)
    if entry is None:
        raise StreamError(f"Unknown idstr {idstr} or instance id {instance_id} for load state buffer")
    if entry.handlers is None or not entry.handlers.has_load_state_buffer:
        raise StreamError(f"idstr {idstr} / instance {instance_id} has no load state buffer operation")
    await entry.handlers.load_state_buffer(data)


class LoadThreads:
    """The tasks of devices that the load of one migration waits for."""

    __slots__ = ("_error", "_tasks", "_vm")

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self._tasks: list[Task] = []
        self._error: StreamError | None = None

    def start(self, coro: Coroutine[Any, Any, None], name: str) -> None:
        """A device's task; what it raises (StreamError) fails the load."""
        incoming = self._vm.migration.incoming
        if incoming is not None and incoming.multifd is not None:
            incoming.multifd.on_failure = self.cancel  # what it waits for does not come any more
        self._tasks.append(self._vm.migration.start(self._run(coro), name))

    async def _run(self, coro: Coroutine[Any, Any, None]) -> None:
        try:
            await coro
        except StreamError as err:
            if self._error is None:
                self._error = err

    def cancel(self) -> None:
        """The load has failed: whoever waits for more state does so in vain."""
        for task in self._tasks:
            task.cancel()

    async def join(self) -> None:
        """Wait for all tasks; raises StreamError, without words where others have said what it was.

        QEMU: qemu_loadvm_thread_pool_wait
        """
        for task in self._tasks:
            await task.wait()
        if self._error is not None:
            raise self._error
        for task in self._tasks:
            try:
                task.result()  # a bug of ours is raised here
            except Cancelled:
                raise StreamError("") from None

    async def end(self) -> None:
        """The load is over, well or not: no task is left."""
        self.cancel()
        for task in self._tasks:
            await task.wait()
