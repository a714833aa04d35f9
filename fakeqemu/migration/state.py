# SPDX-License-Identifier: MIT
"""The state of a machine's migration: which status, which error was first, which side.

    source       none ─ setup ─ active ─┬─ device ─ completed
                                        └─ pre-switchover ─ device          (pause-before-switchover)
                 any of setup ... device ─ cancelling ─ cancelled
                 any of setup ... device ─ failing ─ failed                  (older releases: failed at once)
    destination  none ─ setup ─ active ─ completed | failed

`TRANSITIONS` is the table, `Migration.set_state` and `Incoming.set_state` the only places that move. Once completed, failed
or cancelled, a source may start again; a destination has one try. Light: loaded by the first query of an idle machine.

QEMU: migration/migration.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.migration.options import MigrationOptions
from fakeqemu.migration.stats import MigrationStats

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.host.sync import Event, Task
    from fakeqemu.migration.incoming import Incoming
    from fakeqemu.migration.outgoing import Outgoing
    from fakeqemu.system.machine import Machine

NONE = "none"
SETUP = "setup"
CANCELLING = "cancelling"
CANCELLED = "cancelled"
ACTIVE = "active"
POSTCOPY_DEVICE = "postcopy-device"
POSTCOPY_ACTIVE = "postcopy-active"
POSTCOPY_PAUSED = "postcopy-paused"
POSTCOPY_RECOVER_SETUP = "postcopy-recover-setup"
POSTCOPY_RECOVER = "postcopy-recover"
COMPLETED = "completed"
FAILING = "failing"
FAILED = "failed"
COLO = "colo"
PRE_SWITCHOVER = "pre-switchover"
DEVICE = "device"
WAIT_UNPLUG = "wait-unplug"

#: statuses in which a source has something in flight
RUNNING_STATES = (
    ACTIVE, POSTCOPY_DEVICE, POSTCOPY_ACTIVE, POSTCOPY_PAUSED, POSTCOPY_RECOVER_SETUP, POSTCOPY_RECOVER, SETUP,
    PRE_SWITCHOVER, DEVICE, WAIT_UNPLUG, CANCELLING, FAILING, COLO,
)  # fmt: skip

#: status -> which may follow
TRANSITIONS: dict[str, tuple[str, ...]] = {
    NONE: (SETUP,),
    SETUP: (ACTIVE, CANCELLING, FAILING, FAILED),
    ACTIVE: (DEVICE, PRE_SWITCHOVER, COMPLETED, CANCELLING, FAILING, FAILED),
    PRE_SWITCHOVER: (DEVICE, CANCELLING, FAILING, FAILED),
    DEVICE: (COMPLETED, CANCELLING, FAILING, FAILED),
    CANCELLING: (CANCELLED,),
    FAILING: (FAILED,),
    CANCELLED: (SETUP,),
    FAILED: (SETUP,),
    COMPLETED: (SETUP,),
}

#: status of a destination -> which may follow
INCOMING_TRANSITIONS: dict[str, tuple[str, ...]] = {
    NONE: (SETUP,),
    SETUP: (NONE, ACTIVE, FAILED),
    ACTIVE: (COMPLETED, FAILED),
    COMPLETED: (),
    FAILED: (),
}

YANK_INSTANCE = {"type": "migration"}


class Migration:
    """Both sides of one machine's migration (`vm.migration`)."""

    __slots__ = (
        "_error", "continue_event", "incoming", "incoming_expected", "options", "outgoing", "state", "stats", "tasks", "vm",
    )  # fmt: skip

    def __init__(self, vm: Machine) -> None:
        self.vm = vm
        self.state = NONE
        self.options = MigrationOptions(vm, self.is_running, self._incoming_started)
        self.stats = MigrationStats(vm)
        #: the first thing that went wrong on the source
        self._error: QemuError | None = None
        self.outgoing: Outgoing | None = None
        self.incoming: Incoming | None = None
        #: -incoming was given, and nothing has arrived yet
        self.incoming_expected = False
        #: set by migrate-continue, migrate_cancel and failures while in pre-switchover
        self.continue_event: Event = vm.host.event()
        self.tasks: list[Task] = []
        vm.savevm.busy = self.is_running
        vm.savevm.capability = self.options.on
        vm.savevm.report_stream_error = self.report_stream_error
        vm.on_shutdown.add(self._on_shutdown)

    # --- status ---------------------------------------------------------------------------------------

    def is_running(self) -> bool:
        """Whether an outgoing migration is in progress."""
        return self.state in RUNNING_STATES

    def is_idle(self) -> bool:
        """Whether a new outgoing migration may be set up."""
        return self.state in (NONE, CANCELLED, COMPLETED, FAILED)

    def _incoming_started(self) -> bool:
        return self.incoming is not None and self.incoming.listening

    def set_state(self, new: str) -> None:
        """Move the source to `new` and tell it (MIGRATION event with the capability `events`)."""
        assert new in TRANSITIONS[self.state], f"migration status {self.state} -> {new}"
        self.state = new
        self.announce(new)

    def announce(self, status: str) -> None:
        self.vm.trace("migrate_set_state", new_state=status)
        if self.options.on("events"):
            self.vm.emit("MIGRATION", {"status": status})

    # --- errors ---------------------------------------------------------------------------------------

    @property
    def error(self) -> QemuError | None:
        return self._error

    def set_error(self, error: QemuError) -> None:
        """Keep what went wrong; the first error stays."""
        if self._error is None:
            self._error = error
            self.vm.trace("migrate_error", error_desc=error.desc)

    def clear_error(self) -> None:
        self._error = None

    def report_stream_error(self, error: QemuError) -> None:
        """An error that a device met outside of the stream's own code: the stream has it from now on."""
        if self.outgoing is not None and self.outgoing.f is not None and self.is_running():
            if self.outgoing.f.write_error is None:
                self.outgoing.f.write_error = error
        else:
            self.vm.error_report(error.desc)

    # --- the outside ----------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Give an outgoing migration up; nothing happens when there is none."""
        if self.outgoing is not None and self.state in (SETUP, ACTIVE, DEVICE, PRE_SWITCHOVER):
            self.set_state(CANCELLING)
            self.outgoing.cancelled()

    def start(self, coro: Any, name: str) -> Task:
        """Run a coroutine under QEMU's thread name; it ends with the machine at the latest."""
        self.tasks = [task for task in self.tasks if not task.done]
        task = self.vm.host.start(coro, name)
        self.tasks.append(task)
        return task

    def _on_shutdown(self, *_cause: Any) -> None:
        """The process ends: a migration in progress is cancelled, and nobody waits for it."""
        self.cancel()
        if self.incoming is not None:
            self.incoming.close()
