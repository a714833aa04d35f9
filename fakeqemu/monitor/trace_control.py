# SPDX-License-Identifier: MIT
"""Trace events in QEMU's own lines: `-trace`, `-d trace:`, `trace-event-set-state`.

    vm.trace("multifd_send_fill", id=0, packet_num=7, flags=0, next_packet_size=4096)
    multifd_send_fill channel 0 packet_num 7 flags 0x0 next packet size 4096

An event's fields stand in the order of QEMU's arguments, and its form is the profile's: the line is what that release
prints. `_ADAPTED` says where a release takes other arguments than ours has fields. Every event of the profile can be
switched on; those that nothing here emits never happen.

QEMU: trace/control.c, scripts/tracetool/backend/log.py, util/log.c
"""

from __future__ import annotations

import os

from fakeqemu.error import QemuError
from fakeqemu.hw.vfio import fsm
from fakeqemu.migration.register import FAILED, PRECOPY_DONE, PRECOPY_SETUP
from fakeqemu.qapi.json_out import encode
from fakeqemu.system import runstate as rs
from fakeqemu.trace import matches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fakeqemu.host.channel import Channel
    from fakeqemu.system.machine import Machine

    Fields = dict[str, Any]
    Form = Callable[[Fields], str]
    Adapt = Callable[[Machine, Fields], tuple[Any, ...]]

#: what stands between a conversion's flags and its letter, and means nothing here
_LENGTHS = "hlzjtL"


class TraceControl:
    """Which events of one machine are printed, and where (`vm.trace_control`)."""

    __slots__ = ("_file", "_forms", "_unwatch", "_vm", "date", "enabled", "for_cpu", "write")

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        #: events that are printed
        self.enabled: dict[str, None] = {}
        #: (event, CPU): switched on for that one; only old releases have events of a CPU
        self.for_cpu: dict[tuple[str, int | None], None] = {}
        self._unwatch: Callable[[], None] | None = None
        self._forms: dict[str, Form] = {}
        #: takes lines, with their ends
        self.write: Callable[[str], None] = vm.host.write_stderr
        self._file: Channel | None = None
        #: with -msg timestamp=on: how messages write a time, in ns since 1970
        self.date: Callable[[int], str] | None = None

    def find(self, pattern: str) -> list[str]:
        """The events that a name, or a pattern, stands for; in QEMU's order."""
        names = self._vm.profile.keys("trace-events")
        if not is_pattern(pattern):
            return [pattern] if pattern in names else []
        return [name for name in names if matches(pattern, name)]

    def is_unknown(self, pattern: str) -> bool:
        """Whether a pattern of -trace names an event that there is none of. One with a `*` may find nothing."""
        name = pattern.removeprefix("-")
        return not is_pattern(name) and name not in self._vm.profile.keys("trace-events")

    def open(self, path: str) -> None:
        """Write lines to a file from now on, which is new and empty then; raises QemuError."""
        try:
            channel = self._vm.host.open_channel(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666)
        except OSError as err:
            raise QemuError(f"Error opening logfile {path}: {err.strerror}") from None
        if self._file is not None:
            self._file.close()
        self._file = channel
        self.write = lambda text: channel.send(text.encode("utf-8", "surrogateescape"))

    def is_of_cpu(self, event: str) -> bool:
        """Whether an event can be switched on for one CPU alone."""
        return bool(self._vm.profile.get("trace-events", event).get("vcpu"))

    def apply(self, pattern: str) -> None:
        """Switch on what a pattern of -trace names; a `-` in front switches it off."""
        for name in self.find(pattern.removeprefix("-")):
            self.switch(name, not pattern.startswith("-"))

    def is_on(self, event: str, cpu: int | None = None) -> bool:
        """Whether an event is printed, of any CPU or of this one."""
        if event in self.enabled or (event, cpu) in self.for_cpu:
            return True
        return cpu is None and any(known == event for known, _ in self.for_cpu)

    def switch(self, event: str, on: bool) -> None:
        """Print an event from now on, or no more."""
        for known in tuple(self.for_cpu):
            if known[0] == event:
                del self.for_cpu[known]
        if on:
            self.enabled[event] = None
            if self._unwatch is None:
                self._unwatch = self._vm.trace.watch(self._emitted)
        else:
            self.enabled.pop(event, None)
        if not self.enabled and self._unwatch is not None:
            self._unwatch()
            self._unwatch = None

    def switch_for_cpu(self, event: str, cpu: int, cpus: list[int], on: bool) -> None:
        """The same for one of `cpus`. Nothing here emits such events: it is only remembered."""
        if event in self.enabled:
            self.switch(event, False)
            self.for_cpu.update({(event, one): None for one in cpus})
        if on:
            self.for_cpu[event, cpu] = None
        else:
            self.for_cpu.pop((event, cpu), None)

    def _emitted(self, event: str, fields: Fields) -> None:
        if event not in self.enabled:
            return
        try:
            line = self.line(event, fields)
        except (TypeError, ValueError) as err:  # a bug of ours, which is no reason to fail what is traced
            self.switch(event, False)
            self._vm.report_bug(err, f"the line of trace event {event}")
        else:
            self.write(line)

    def line(self, event: str, fields: Fields) -> str:
        """What QEMU prints of an event; raises TypeError or ValueError where the fields are not those of its form."""
        form = self._forms.get(event)
        if form is None:
            form = self._forms[event] = self._form(event)
        return f"{self._stamp()}{event} {form(fields)}\n"

    def _form(self, event: str) -> Form:
        text: str = self._vm.profile.get("trace-events", event).get("format", "")
        python, kinds = conversions(text)
        adapt = _ADAPTED.get((event, text)) or _ADAPTED.get((event, None))
        vm = self._vm

        def form(fields: Fields) -> str:
            values = tuple(fields.values()) if adapt is None else adapt(vm, fields)
            return python % tuple(_fitting(kind, value) for kind, value in zip(kinds, values, strict=True))

        return form

    def _stamp(self) -> str:
        if self.date is None:
            return ""
        now_ns = self._vm.host.clock.wall_ns()
        if self._vm.compat.trace_stamp_of_messages:
            return self.date(now_ns) + " "
        return f"{self._vm.host.pid}@{now_ns // 10**9}.{now_ns % 10**9 // 1000:06}:"


def is_pattern(text: str) -> bool:
    """Whether a text stands for many events: a `?` counts only beside a `*`."""
    return "*" in text


def conversions(form: str) -> tuple[str, str]:
    """A form of printf for Python's `%`, and the letters of its conversions."""
    python, letters = "", ""
    at = 0
    while at < len(form):
        char = form[at]
        at += 1
        python += char
        if char != "%":
            continue
        while form[at] in "-+ #0123456789.":
            python += form[at]
            at += 1
        while form[at] in _LENGTHS:
            at += 1
        letter = form[at]
        at += 1
        python += "s" if letter == "p" else "d" if letter == "u" else letter
        letters += letter if letter != "%" else ""
    return python, letters


def _fitting(letter: str, value: Any) -> Any:
    """A field as a conversion takes it; raises TypeError."""
    if letter == "s":
        if value is None:
            return "(null)"
        if not isinstance(value, str):
            raise TypeError(f"%s takes no {value!r}")
        return value
    if not isinstance(value, int):
        raise TypeError(f"%{letter} takes no {value!r}")
    if letter == "p":
        return f"{value:#x}" if value else "(nil)"
    return value


def _event_number(vm: Machine, name: str) -> int:
    """QEMU's number of a QMP event: introspection lists them in that order."""
    entities = (vm.profile.get("schema", key) for key in vm.profile.keys("schema"))
    return [entity["name"] for entity in entities if entity["meta-type"] == "event"].index(name)


def _id_text(identity: Any) -> str:
    return "" if identity is None else encode(identity)


def _run_state(state: str) -> int:
    return _RUN_STATES.index(state)


#: by QEMU's number
_RUN_STATES = (
    rs.DEBUG, rs.INMIGRATE, rs.INTERNAL_ERROR, rs.IO_ERROR, rs.PAUSED, rs.POSTMIGRATE, rs.PRELAUNCH, rs.FINISH_MIGRATE,
    rs.RESTORE_VM, rs.RUNNING, rs.SAVE_VM, rs.SHUTDOWN, rs.SUSPENDED, rs.WATCHDOG, rs.GUEST_PANICKED, rs.COLO,
)  # fmt: skip

#: of the notifier's events, and the status that 7.2 prints instead
_NOTIFIED = {PRECOPY_SETUP: (0, "setup"), PRECOPY_DONE: (1, "completed"), FAILED: (2, "failed")}

#: (event, its form; None for any): the arguments that the form takes, of our fields
_ADAPTED: dict[tuple[str, str | None], Adapt] = {
    # Where QEMU prints the address of an object, ours has none: (nil).
    ("monitor_protocol_event_emit", None): lambda vm, f: (_event_number(vm, f["event"]), 0),
    ("mark_postcopy_blocktime_begin", None): lambda _, f: (f["addr"], 0, f["time"], f["cpu"], f["received"]),
    ("mark_postcopy_blocktime_end", None): lambda _, f: (f["addr"], 0, f["time"], f["affected_cpu"]),
    ("migration_return_path_end_after", ""): lambda *_: (),
    ("multifd_send_thread_end", "channel %u packets %lu"): lambda _, f: (f["id"], f["packets"]),
    ("monitor_qmp_cmd_in_band", None): lambda _, f: (_id_text(f["id"]),),
    ("monitor_qmp_cmd_out_of_band", None): lambda _, f: (_id_text(f["id"]),),
    ("source_return_path_thread_switchover_acked", ""): lambda *_: (),
    ("runstate_set", None): lambda _, f: (
        _run_state(f["current_state"]), f["current_state"], _run_state(f["new_state"]), f["new_state"],
    ),
    ("vfio_migration_set_state", " (%s) state %d"): lambda _, f: (f["name"], fsm.NUMBERS[f["new_state"]]),
    ("vfio_migration_state_notifier", " (%s) state %d"): lambda _, f: (f["name"], _NOTIFIED[f["state"]][0]),
    ("vfio_migration_state_notifier", " (%s) state %s"): lambda _, f: (f["name"], _NOTIFIED[f["state"]][1]),
    ("vfio_save_complete_precopy", " (%s)"): lambda _, f: (f["name"],),
    ("vm_state_notify", None): lambda _, f: (f["running"], _run_state(f["state"]), f["state"]),
}  # fmt: skip
