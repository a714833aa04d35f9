# SPDX-License-Identifier: MIT
"""One QEMU process as seen from outside.

A `Machine` owns everything that QEMU keeps in globals, and meets the world only through its `Host`. It is composed, never
inherited from: `vm.runstate`, `vm.qom`, `vm.chardevs`, `vm.migration`, ...; `vl` fills it in from a command line.

QEMU: include/hw/core/boards.h, system/vl.c
"""

from __future__ import annotations

from sys import modules

from fakeqemu.host.faults import FaultPoints
from fakeqemu.notify import NotifierList
from fakeqemu.system.runstate import FINISH_MIGRATE, INMIGRATE, PRELAUNCH, RUNNING, SHUTDOWN, RunState
from fakeqemu.trace import Trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fakeqemu.chardev.char import ChardevRegistry
    from fakeqemu.host.host import Host
    from fakeqemu.host.sync import Task
    from fakeqemu.hw.vfio.device import VFIODevices
    from fakeqemu.hw.vfio.hostmodel import HostModel
    from fakeqemu.migration.colo import Colo
    from fakeqemu.migration.dirtyrate import DirtyRate
    from fakeqemu.migration.register import SaveRegistry
    from fakeqemu.migration.state import Migration
    from fakeqemu.migration.threads import MigrationThreads
    from fakeqemu.monitor.dispatch import Dispatcher
    from fakeqemu.monitor.trace_control import TraceControl
    from fakeqemu.net.announce import Announcer
    from fakeqemu.qapi.compat import Compat
    from fakeqemu.qapi.events import EventHub
    from fakeqemu.qapi.profile import VersionProfile
    from fakeqemu.qom.object import QomTree
    from fakeqemu.system.board import Board
    from fakeqemu.system.dirtylimit import DirtyLimits
    from fakeqemu.system.fds import FdStore
    from fakeqemu.system.guest import Guest
    from fakeqemu.system.ramblock import RAMBlock
    from fakeqemu.system.yank import YankRegistry
    from fakeqemu.ui.vnc import VncDisplays

#: Parts of a machine -> the class that is called with the machine when somebody first asks for the part: what a machine
#: never uses is never loaded.
PARTS = {
    "events": "fakeqemu.qapi.events:EventHub",
    "dispatcher": "fakeqemu.monitor.dispatch:Dispatcher",
    "qom": "fakeqemu.qom.object:QomTree",
    "fds": "fakeqemu.system.fds:FdStore",
    "chardevs": "fakeqemu.chardev.char:ChardevRegistry",
    "guest": "fakeqemu.system.guest:Guest",
    "savevm": "fakeqemu.migration.register:SaveRegistry",
    "migration": "fakeqemu.migration.state:Migration",
    "migration_threads": "fakeqemu.migration.threads:MigrationThreads",
    "announcer": "fakeqemu.net.announce:Announcer",
    "colo": "fakeqemu.migration.colo:Colo",
    "dirty_limits": "fakeqemu.system.dirtylimit:DirtyLimits",
    "dirty_rate": "fakeqemu.migration.dirtyrate:DirtyRate",
    "trace_control": "fakeqemu.monitor.trace_control:TraceControl",
    "yank": "fakeqemu.system.yank:YankRegistry",
    "hardware": "fakeqemu.hw.vfio.hostmodel:host_model",
    "vfio": "fakeqemu.hw.vfio.device:VFIODevices",
    "vnc": "fakeqemu.ui.vnc:VncDisplays",
}


class Machine:
    """One emulator. `board` is what `-machine` chose; `None` while preconfig has not built it."""

    def __init__(self, host: Host, profile: VersionProfile) -> None:
        self.host = host
        self.profile = profile
        self.compat: Compat = profile.compat
        self.trace = Trace()
        self.faults = FaultPoints()
        self.runstate = RunState(self)
        self.bql = host.lock()
        #: `-name guest=`, None when not given
        self.name: str | None = None
        #: `-uuid`, 16 bytes; None when not given
        self.uuid: bytes | None = None
        self.only_migratable = False
        #: text of -machine's canonical type, as it stands in a migration stream
        self.board: Board | None = None
        self.ram_blocks: list[RAMBlock] = []
        #: phases of start-up: "preconfig" until the board is built, "initialized" while devices are made, then "ready"
        self.phase = "preconfig"
        self.kvm_enabled = False
        #: entries of each vCPU's dirty ring (KVM with dirty-ring-size=), 0 for none
        self.dirty_ring_size = 0
        self.quit_requested = False
        #: exit status of the process once `quit_requested`
        self.exit_status = 0
        #: told once, when the machine is to end: (cause,) is a ShutdownCause ("host-qmp-quit", "host-signal", ...)
        self.on_shutdown = NotifierList()
        #: told after each reset of the guest: (cause,)
        self.on_reset = NotifierList()
        #: what is done when the guest reboots, shuts down, panics, or when its watchdog expires (`-action`)
        self.actions = {"reboot": "reset", "shutdown": "poweroff", "panic": "shutdown", "watchdog": "reset"}
        #: what x-exit-preconfig calls: the second half of the start, given by vl
        self.complete_startup: Callable[[], None] | None = None
        #: (driver, property, text) of each -global, in order
        self.globals: list[tuple[str, str, str]] = []
        #: ids of -audiodev, all of them silent
        self.audiodevs: list[str] = []
        self.bugs = 0
        self._warned_of: dict[str, None] = {}
        #: options of `-fake`, by key
        self.fake: dict[str, str] = {}
        host.on_task_failure = self._task_failed

    if TYPE_CHECKING:
        announcer: Announcer
        colo: Colo
        events: EventHub
        dispatcher: Dispatcher
        qom: QomTree
        fds: FdStore
        chardevs: ChardevRegistry
        guest: Guest
        savevm: SaveRegistry
        migration: Migration
        migration_threads: MigrationThreads
        dirty_limits: DirtyLimits
        dirty_rate: DirtyRate
        trace_control: TraceControl
        hardware: HostModel
        vfio: VFIODevices
        vnc: VncDisplays
        yank: YankRegistry
    else:

        def __getattr__(self, name: str) -> Any:
            """Make a part of `PARTS` when it is first asked for; AttributeError for any other name."""
            where = PARTS.get(name)
            if where is None:
                raise AttributeError(f"a Machine has no attribute '{name}'")
            module, _, cls = where.partition(":")
            __import__(module)
            part = getattr(modules[module], cls)(self)
            setattr(self, name, part)
            return part

    def has_part(self, name: str) -> bool:
        """Whether a part was made already: for code that has nothing to do when nobody used it."""
        return name in self.__dict__

    def emit(self, event: str, data: dict[str, Any] | None = None) -> None:
        """Send a QMP event to every negotiated monitor; `data` may be left out."""
        self.events.emit(event, data)

    # --- the end, and beginning anew ------------------------------------------------------------------

    def request_shutdown(self, cause: str, *, guest: bool = False) -> None:
        """The machine is to end (`cause` is QAPI's ShutdownCause): SHUTDOWN event, then `on_shutdown` or, with
        `-no-shutdown`, a stop in run state shutdown. Nothing but the event when it is ending already.

        `quit_requested` is set, a migration is cancelled, and `on_shutdown` told, in a later turn: what goes on now is
        still answered.
        """
        self.emit("SHUTDOWN", {"guest": guest, "reason": cause})
        if self.quit_requested:
            return
        if self.actions["shutdown"] == "pause":
            self.host.start(self.runstate.vm_stop(SHUTDOWN), "main-loop")
            return
        self.quit_requested = True
        if self.has_part("migration"):
            self.migration.shut_down()
        self.host.call_soon(lambda: self.on_shutdown.notify(cause))

    def request_reset(self, cause: str, *, guest: bool = False) -> None:
        """Reset the guest: RESET event, `on_reset`; a guest that does not run is as before its launch afterwards.

        With `-no-reboot` this is a shutdown, except for causes within the machine.
        """
        if self.actions["reboot"] == "shutdown" and cause != "subsystem-reset":
            self.request_shutdown(cause, guest=guest)
            return
        self.trace("fake_reset", cause=cause)
        self.on_reset.notify(cause)
        self.emit("RESET", {"guest": guest, "reason": cause})
        if self.runstate.state not in (RUNNING, INMIGRATE, FINISH_MIGRATE):
            self.runstate.set(PRELAUNCH)

    def request_powerdown(self) -> None:
        """Press the power button: POWERDOWN event; no guest is here to act on it."""
        self.emit("POWERDOWN")

    def report_bug(self, error: BaseException, where: str) -> None:
        """A bug of ours: log it with its traceback and count it."""
        self.bugs += 1
        import traceback

        text = "".join(traceback.format_exception(error)).rstrip()
        self.host.log(f"internal error in {where}\n{text}")
        self.trace("fake_internal_error", where=where, error=repr(error))

    def _task_failed(self, task: Task, error: BaseException) -> None:
        self.report_bug(error, f"task {task.name}")

    def warn_report(self, text: str) -> None:
        """A warning as QEMU's warn_report writes it: to a command of a client's without the program's name."""
        log = self.host.log if self.dispatcher.current is None else self.host.log_plain
        log(f"warning: {text}")

    def warn_report_once(self, what: str, text: str) -> None:
        """A warning on stderr; of each `what` only the first is printed."""
        if what not in self._warned_of:
            self._warned_of[what] = None
            self.error_report(f"warning: {text}")

    def error_report(self, text: str) -> None:
        """A line on stderr as QEMU's error_report writes it (the program name is the host's matter)."""
        self.host.log(text)
