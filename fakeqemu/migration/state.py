# SPDX-License-Identifier: MIT
"""The state of a machine's migration: which status, which error was first, which side.

    source       none ─ setup ─ active ─┬─ device ─ completed
                                        └─ pre-switchover ─ device          (pause-before-switchover)
                 active | device ─ (postcopy-device) ─ postcopy-active ─ completed
                 postcopy-active ─ postcopy-paused ─ (postcopy-recover-setup) ─ postcopy-recover ─ postcopy-active
                 any of setup ... device ─ cancelling ─ cancelled
                 any of setup ... device ─ failing ─ failed                  (older releases: failed at once)
                 active | device ─ colo ─ completed                                           (x-colo)
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

#: statuses in which the guest runs on the other side
POSTCOPY_STATES = (POSTCOPY_ACTIVE, POSTCOPY_PAUSED, POSTCOPY_RECOVER_SETUP, POSTCOPY_RECOVER)

#: status -> which may follow
TRANSITIONS: dict[str, tuple[str, ...]] = {
    NONE: (SETUP,),
    SETUP: (ACTIVE, CANCELLING, FAILING, FAILED),
    ACTIVE: (DEVICE, PRE_SWITCHOVER, POSTCOPY_ACTIVE, COLO, COMPLETED, CANCELLING, FAILING, FAILED),
    PRE_SWITCHOVER: (DEVICE, CANCELLING, FAILING, FAILED),
    DEVICE: (POSTCOPY_DEVICE, POSTCOPY_ACTIVE, COLO, COMPLETED, CANCELLING, FAILING, FAILED),
    COLO: (COMPLETED, CANCELLING),
    POSTCOPY_DEVICE: (POSTCOPY_ACTIVE, CANCELLING, FAILING),
    POSTCOPY_ACTIVE: (POSTCOPY_PAUSED, COMPLETED, CANCELLING, FAILING, FAILED),
    POSTCOPY_PAUSED: (POSTCOPY_RECOVER_SETUP, POSTCOPY_RECOVER, CANCELLING),
    POSTCOPY_RECOVER_SETUP: (POSTCOPY_RECOVER, POSTCOPY_PAUSED, CANCELLING),
    POSTCOPY_RECOVER: (POSTCOPY_ACTIVE, POSTCOPY_PAUSED, CANCELLING),
    CANCELLING: (CANCELLED,),
    FAILING: (FAILING, FAILED),  # twice: a channel's task says so, then the main one
    CANCELLED: (SETUP,),
    FAILED: (FAILED, SETUP),  # so is this before 11.0
    COMPLETED: (SETUP,),
}

#: status of a destination -> which may follow
INCOMING_TRANSITIONS: dict[str, tuple[str, ...]] = {
    NONE: (SETUP,),
    SETUP: (NONE, ACTIVE, FAILED),
    ACTIVE: (POSTCOPY_DEVICE, POSTCOPY_ACTIVE, COLO, COMPLETED, FAILED),
    COLO: (COMPLETED,),
    POSTCOPY_DEVICE: (POSTCOPY_ACTIVE, FAILED),
    POSTCOPY_ACTIVE: (POSTCOPY_PAUSED, COMPLETED, FAILED),
    POSTCOPY_PAUSED: (POSTCOPY_RECOVER,),
    POSTCOPY_RECOVER: (POSTCOPY_ACTIVE, POSTCOPY_PAUSED),
    COMPLETED: (),
    FAILED: (),
}

#: what both sides print when the link of a postcopy breaks
_POSTCOPY_PAUSED_LINES = (
    "Unable to shutdown socket: Bad file descriptor", "Detected IO failure for postcopy. Migration paused.",
)  # fmt: skip

YANK_INSTANCE = {"type": "migration"}


class Migration:
    """Both sides of one machine's migration (`vm.migration`)."""

    __slots__ = (
        "_error", "continue_event", "incoming", "multifd_next_channel", "options", "outgoing",
        "postcopy_wanted", "settings", "state", "stats",
        "tasks", "vm",
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
        #: migrate-start-postcopy was given
        self.postcopy_wanted = False
        #: which multifd channel is next: the position outlives a migration
        self.multifd_next_channel = 0
        #: properties of QEMU's object `migration` that are no capability and no parameter
        self.settings: dict[str, Any] = self._default_settings()
        self._apply_machine_type()
        #: set by migrate-continue, migrate_cancel and failures while in pre-switchover
        self.continue_event: Event = vm.host.event()
        self.tasks: list[Task] = []
        vm.on_shutdown.add(self._on_shutdown)
        vm.savevm.busy = self.is_running
        vm.savevm.capability = self.options.on
        vm.savevm.sends_device_state = self._sends_device_state
        vm.savevm.report_stream_error = self.report_stream_error

    # --- status ---------------------------------------------------------------------------------------

    def is_running(self) -> bool:
        """Whether an outgoing migration is in progress, or has failed and is not over yet."""
        return self.state in RUNNING_STATES or (self.outgoing is not None and bool(self.outgoing.told_failed_in))

    def _sends_device_state(self) -> bool:
        """Whether devices may send state on multifd channels. QEMU: multifd_device_state_supported"""
        on, compression = self.options.on, self.options.get("multifd-compression", "none")
        supported: bool = self.vm.compat.migration_multifd_device_state
        return supported and on("multifd") and not on("mapped-ram") and compression == "none"

    def _incoming_started(self) -> bool:
        return self.incoming is not None and self.incoming.listening and self.incoming.has_listener

    def set_state(self, new: str) -> None:
        """Move the source to `new` and tell it (MIGRATION event with the capability `events`)."""
        assert new in TRANSITIONS[self.state], f"migration status {self.state} -> {new}"
        self.state = new
        self.announce(new)

    def announce(self, status: str, *, always: bool = False) -> None:
        """Tell of a status, where the capability `events` (or `always`) wants it told."""
        self.vm.trace("migrate_set_state", new_state=status)
        if always or self.options.on("events"):
            self.vm.emit("MIGRATION", {"status": status})

    def _default_settings(self) -> dict[str, Any]:
        profile = self.vm.profile
        properties = profile.device_properties("migration", machine=False) if profile.is_type("migration") else []
        if not isinstance(properties, list):
            return {}
        return {p["name"]: p.get("default-value") for p in properties if self._option_of(p["name"]) is None}

    def _apply_machine_type(self) -> None:
        """What the machine type says of QEMU's object `migration`, so that an old release is understood; -global comes later."""
        vm = self.vm
        if vm.board is None:
            return
        for entry in vm.profile.get("machine-compat", vm.board.name, []):
            name = entry["property"]
            # The machine types of a release speak of properties that not every build has.
            if entry["qom-type"] == "migration" and (name in self.settings or self._option_of(name) is not None):
                self.set_property(name, _value(name, entry["value"], self._property(name)))

    def _option_of(self, name: str) -> str | None:
        """The capability or parameter that a property of QEMU's object `migration` stands for."""
        for option in (name, name.removeprefix("x-")):
            if option in self.options.capabilities or option in self.options.parameters:
                return option
        return None

    def _property(self, name: str) -> Any:
        """A property of QEMU's object `migration`; None for one that this release lacks."""
        option = self._option_of(name)
        if option is None:
            return self.settings.get(name)
        return self.options.on(option) if option in self.options.capabilities else self.options.get(option)

    def set_property(self, name: str, value: Any) -> None:
        """Give one a value, by the machine type or by -global: nothing is checked."""
        option = self._option_of(name)
        if option is None:
            self.settings[name] = value
        elif option in self.options.capabilities:
            self.options.capabilities[option] = bool(value)
        else:
            self.options.parameters[option] = value

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
        """Give an outgoing migration up; nothing happens when there is none. Raises QemuError where it is too late."""
        if self.vm.compat.migration_postcopy_cancel_refused and self.state in (POSTCOPY_DEVICE, *POSTCOPY_STATES):
            raise QemuError("Postcopy migration in progress, cannot cancel.")
        if self.options.on("dirty-limit"):
            self._cancel_dirty_limits()
        self._cancel()
        if self.outgoing is not None and self.outgoing.postcopy is not None:
            self.outgoing.postcopy.recovery.cancelled()

    def _cancel_dirty_limits(self) -> None:
        """Give the limits of vCPUs up; as in QEMU, that is refused (and nobody told) as long as the migration runs."""
        try:
            self.vm.dirty_limits.cancel()
        except QemuError:
            pass

    def _cancel(self) -> None:
        if self._begin_cancelling():
            assert self.outgoing is not None
            self.outgoing.cancelled()

    def _begin_cancelling(self) -> bool:
        """Say that a migration in progress is given up; whether there is one."""
        running = (SETUP, ACTIVE, DEVICE, PRE_SWITCHOVER, POSTCOPY_DEVICE, COLO, *POSTCOPY_STATES)
        if self.outgoing is None or self.state not in running:
            return False
        was_connecting = self.state == SETUP and self.outgoing.f is None
        self.set_state(CANCELLING)
        if was_connecting and self.vm.compat.migration_cancelled_in_setup:
            self.set_state(CANCELLED)
        return True

    def start(self, coro: Any, name: str) -> Task:
        """Run a coroutine under QEMU's thread name; it ends with the machine at the latest."""
        self.tasks = [task for task in self.tasks if not task.done]
        task = self.vm.host.start(coro, name)
        self.tasks.append(task)
        return task

    def shut_down(self) -> None:
        """The process is to end: a migration in progress is cancelled, and nobody waits for it."""
        self._begin_cancelling()

    def _on_shutdown(self, *_cause: Any) -> None:
        if self.incoming is not None:
            self.incoming.close()


def postcopy_paused_lines(vm: Machine) -> tuple[str, ...]:
    """What either side prints when a postcopy is paused."""
    return _POSTCOPY_PAUSED_LINES if vm.compat.migration_postcopy_pause_told else _POSTCOPY_PAUSED_LINES[1:]


def _value(name: str, text: str, like: Any) -> Any:
    """The value of a property that is written as text, of the kind of `like`."""
    from fakeqemu.qapi import cutils

    if isinstance(like, bool):
        value = cutils.parse_bool(text)
        if value is None:
            raise QemuError(f"Invalid parameter type for '{name}', expected: boolean")
        return value
    if isinstance(like, int):
        try:
            return cutils.parse_size(text)
        except cutils.NumberError:
            raise QemuError(f"Parameter '{name}' expects a number") from None
    return text
