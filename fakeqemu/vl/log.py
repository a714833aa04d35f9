# SPDX-License-Identifier: MIT
"""-D, -d, -trace, -sandbox: what is checked of them, and the files that they leave.

No code is translated here, so a log holds the lines of trace events alone (monitor/trace_control).

QEMU: util/log.c, trace/control.c, system/qemu-seccomp.c
"""

from __future__ import annotations

import os

from fakeqemu.error import QemuError
from fakeqemu.monitor.trace_control import is_pattern
from fakeqemu.vl.location import StartEnded, iso8601

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.system.machine import Machine
    from fakeqemu.vl.cmdline import CommandLine
    from fakeqemu.vl.opts import Opts

_ARGUMENTS = {
    "obsolete": ("allow", "deny"),
    "elevateprivileges": ("allow", "deny", "children"),
    "spawn": ("allow", "deny"),
    "resourcecontrol": ("allow", "deny"),
}


def open_log(line: CommandLine, vm: Machine) -> None:
    """Check the items of -d and make the file of -D; raises QemuError and StartEnded."""
    if line.log_mask is not None and not _items_known(line, line.log_mask):
        entry = line.profile.get("help", "-d help", None)
        if entry is not None:
            line.reporter.print(entry["stdout"])
        raise StartEnded(1)
    if line.log_file is not None:
        if "%" in line.log_file:
            _check_filename(line.log_file)
        create(line.log_file.replace("%d", str(vm.host.pid)))


def _check_filename(name: str) -> None:
    if name.count("%") != 1 or "%d" not in name:
        raise QemuError(f"Bad logfile template: {name}")


def create(path: str) -> None:
    """Make an empty log file; raises QemuError."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666))
    except OSError as err:
        raise QemuError(f"Error opening logfile {path}: {err.strerror}") from None


def start_tracing(line: CommandLine, vm: Machine) -> None:
    """Print the events that -trace and -d name, into the file that -trace, or else -D, names; raises QemuError."""
    path = line.log_file and line.log_file.replace("%d", str(vm.host.pid))
    if line.trace_file is not None:
        path = line.trace_file
    control = vm.trace_control
    if line.reporter.with_timestamp:
        control.date = iso8601
    if path is not None:
        control.open(path)
    for pattern in line.trace_patterns:
        control.apply(pattern)


def _items_known(line: CommandLine, mask: str) -> bool:
    """Whether every item of -d is one; `trace:PATTERN` is checked as -trace's patterns are."""
    known = log_items(line)
    for item in mask.split(","):
        if item.startswith("trace:"):
            pattern = item[len("trace:") :]
            if pattern in ("help", "?"):
                from fakeqemu.vl import helptext

                raise helptext.trace_events(line.profile, line.reporter)
            warn_unknown(line, pattern)
            line.trace_patterns.append(pattern)
        elif item not in known and item != "all":
            return False
    return True


def log_items(line: CommandLine) -> list[str]:
    """The names of the log items, from the recorded help."""
    entry = line.profile.get("help", "-d help", None)
    if entry is None:
        return []
    return [
        text.split()[0] for text in entry["stdout"].splitlines()[1:] if text.strip() and not text.startswith("trace:")
    ]


def warn_unknown(line: CommandLine, pattern: str) -> None:
    """Warn when a pattern names a trace event that this QEMU does not have (one with a `*` may find nothing)."""
    name = pattern.removeprefix("-")
    known = line.profile.keys("trace-events")
    if known and not is_pattern(name) and name not in known:
        line.reporter.warn(f"trace event '{name}' does not exist")


def check_sandbox(opts: Opts) -> None:
    """Raise QemuError for an argument that -sandbox refuses."""
    if not opts.get_bool("enable"):
        return
    for key, words in _ARGUMENTS.items():
        value = opts.get(key)
        if value is not None and value not in words:
            raise QemuError(f"invalid argument for {key}")
