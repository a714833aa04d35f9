# SPDX-License-Identifier: MIT
"""Whether the guest runs, and who is told when that changes.

The run state is one of QEMU's names; `TRANSITIONS` says which may follow which. A stop or start walks the list of change
handlers twice, first all prepare call-backs, then all main ones: ascending priority when starting, descending when
stopping; equal priorities in order of registration when starting, reversed when stopping. A priority is the pair
(depth of the device in the qdev tree, adjustment); the adjustment is 0 but for the two halves of a parallel transition.

A guest that has suspended itself can be stopped as one that runs, from 9.0 on, and is suspended again when it is started;
before, it cannot be, and a migration wakes it.

QEMU: system/runstate.c, hw/core/vm-change-state-handler.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fakeqemu.system.machine import Machine

    ChangeHandler = Callable[[bool, str], Awaitable[None] | None]

DEBUG = "debug"
INMIGRATE = "inmigrate"
INTERNAL_ERROR = "internal-error"
IO_ERROR = "io-error"
PAUSED = "paused"
POSTMIGRATE = "postmigrate"
PRELAUNCH = "prelaunch"
FINISH_MIGRATE = "finish-migrate"
RESTORE_VM = "restore-vm"
RUNNING = "running"
SAVE_VM = "save-vm"
SHUTDOWN = "shutdown"
SUSPENDED = "suspended"
WATCHDOG = "watchdog"
GUEST_PANICKED = "guest-panicked"
COLO = "colo"

_STOPPABLE = (
    DEBUG, INTERNAL_ERROR, IO_ERROR, PAUSED, FINISH_MIGRATE, RESTORE_VM, SAVE_VM, SHUTDOWN, WATCHDOG, GUEST_PANICKED,
)  # fmt: skip

#: from -> to, as QEMU allows; a transition that is not here is a bug of the caller
TRANSITIONS: dict[str, tuple[str, ...]] = {
    PRELAUNCH: (INMIGRATE, RUNNING, FINISH_MIGRATE, SUSPENDED, SHUTDOWN),
    INMIGRATE: (
        INTERNAL_ERROR, IO_ERROR, PAUSED, RUNNING, SHUTDOWN, SUSPENDED, WATCHDOG, GUEST_PANICKED, FINISH_MIGRATE,
        PRELAUNCH, POSTMIGRATE, COLO,
    ),
    DEBUG: (RUNNING, FINISH_MIGRATE, PRELAUNCH, SUSPENDED),
    INTERNAL_ERROR: (PAUSED, FINISH_MIGRATE, PRELAUNCH),
    IO_ERROR: (RUNNING, FINISH_MIGRATE, PRELAUNCH, PAUSED),
    PAUSED: (RUNNING, FINISH_MIGRATE, POSTMIGRATE, PRELAUNCH, COLO, SUSPENDED, SHUTDOWN, INTERNAL_ERROR, SAVE_VM, RESTORE_VM),
    POSTMIGRATE: (RUNNING, FINISH_MIGRATE, PRELAUNCH, PAUSED),
    FINISH_MIGRATE: (
        RUNNING, PAUSED, POSTMIGRATE, PRELAUNCH, COLO, INTERNAL_ERROR, IO_ERROR, SHUTDOWN, SUSPENDED, WATCHDOG,
        GUEST_PANICKED, DEBUG,
    ),
    RESTORE_VM: (RUNNING, PRELAUNCH, PAUSED, SUSPENDED, SHUTDOWN),
    COLO: (RUNNING, PRELAUNCH, SHUTDOWN),
    RUNNING: (*_STOPPABLE, SUSPENDED, COLO, POSTMIGRATE),
    SAVE_VM: (RUNNING, PAUSED, SUSPENDED, SHUTDOWN),
    SHUTDOWN: (PAUSED, FINISH_MIGRATE, PRELAUNCH, RUNNING, COLO),
    SUSPENDED: (RUNNING, FINISH_MIGRATE, PRELAUNCH, PAUSED, SAVE_VM, RESTORE_VM, SHUTDOWN, COLO),
    WATCHDOG: (RUNNING, FINISH_MIGRATE, PRELAUNCH, COLO),
    GUEST_PANICKED: (RUNNING, FINISH_MIGRATE, PRELAUNCH),
}  # fmt: skip

#: states out of which only a reset leads
NEED_RESET = (INTERNAL_ERROR, SHUTDOWN)


class ChangeStateEntry:
    """One registered handler; `remove()` takes it out of the list."""

    __slots__ = ("_owner", "main", "prepare", "priority")

    def __init__(
        self, owner: RunState, main: ChangeHandler, prepare: ChangeHandler | None, priority: tuple[int, int]
    ) -> None:
        self._owner = owner
        self.main = main
        self.prepare = prepare
        self.priority = priority

    def remove(self) -> None:
        if self in self._owner.handlers:
            self._owner.handlers.remove(self)


class RunState:
    """The run state of one machine."""

    __slots__ = ("_vm", "autostart", "handlers", "state", "vm_was_suspended")

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self.state = PRELAUNCH
        #: whether an incoming guest starts when it has arrived (not given -S, `cont` was asked for)
        self.autostart = True
        #: stopped while it was suspended
        self.vm_was_suspended = False
        #: sorted by ascending priority, equal ones in order of registration
        self.handlers: list[ChangeStateEntry] = []

    @property
    def running(self) -> bool:
        return self.state == RUNNING

    @property
    def live(self) -> bool:
        """Whether the guest can be stopped: it runs, or is suspended."""
        return self.running or (self.state == SUSPENDED and self._vm.compat.runstate_suspended_live)

    def set(self, new: str) -> None:
        """Move to `new` without telling anybody; a transition QEMU would abort on is a bug of the caller."""
        if new == self.state:
            return
        assert new in TRANSITIONS[self.state], f"invalid runstate transition: '{self.state}' -> '{new}'"
        self._vm.trace("runstate_set", current_state=self.state, new_state=new)
        self.state = new

    def add_change_handler(
        self, main: ChangeHandler, prepare: ChangeHandler | None = None, priority: tuple[int, int] = (0, 0)
    ) -> ChangeStateEntry:
        """Call `main(running, state)` on each start and stop, after `prepare(running, state)` of all handlers.

        Handlers may be coroutine functions; the next one is called when the one before has ended.
        """
        entry = ChangeStateEntry(self, main, prepare, priority)
        at = len(self.handlers)
        while at and self.handlers[at - 1].priority > priority:
            at -= 1
        self.handlers.insert(at, entry)
        return entry

    async def notify(self, running: bool, state: str) -> None:
        """Walk all handlers, prepare pass then main pass, in the order for `running`."""
        self._vm.trace("vm_state_notify", running=int(running), state=state)
        entries = list(self.handlers) if running else list(reversed(self.handlers))
        for entry in entries:
            if entry.prepare is not None:
                waits = entry.prepare(running, state)
                if waits is not None:
                    await waits
        for entry in entries:
            waits = entry.main(running, state)
            if waits is not None:
                await waits

    async def vm_stop(self, state: str) -> None:
        """Stop the guest (STOP event) and move to `state`; nothing happens when it does not run."""
        if self.live:
            self.vm_was_suspended = not self.running
            if self.running:
                self._vm.guest.stopped()
            self.set(state)
            await self.notify(False, state)
            self._vm.emit("STOP")

    async def vm_stop_force_state(self, state: str) -> None:
        """As `vm_stop`, and where the guest does not run, move to `state` all the same (as a migration does)."""
        if self.live:
            await self.vm_stop(state)
        else:
            self.set(state)

    async def vm_start(self) -> None:
        """Start the guest: RESUME event, run state running (or suspended, as it was), then the handlers, as QEMU orders it.

        Raises QemuError for a suspended guest that has migrated away, where QEMU aborts.
        """
        if self.live:
            return
        new = SUSPENDED if self.vm_was_suspended else RUNNING
        if new not in TRANSITIONS[self.state]:
            raise QemuError(f"invalid runstate transition: '{self.state}' -> '{new}'")
        self.vm_was_suspended = False
        self._vm.emit("RESUME")
        self.set(new)
        await self.notify(True, new)
        if new == RUNNING:
            self._vm.guest.started()
