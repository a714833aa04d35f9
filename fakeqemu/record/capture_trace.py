# SPDX-License-Identifier: MIT
"""The trace events of a QEMU: what it says of each over QMP, and the form of the line that it prints.

The forms stand in the program as it would print them (log back end): the event's name, a blank, the form for printf. Older
releases keep them with process and time in front, for -msg timestamp=on.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fakeqemu.record.capture_vm import CaptureVm

_STAMP = b"%d@%zu.%06zu:"


def capture_trace_events(vm: CaptureVm) -> dict[str, Any]:
    """Trace event -> its entry of trace-event-get-state, and its `format` where it has one; in QEMU's order."""
    entries = {entry.pop("name"): entry for entry in vm.ask("trace-event-get-state", {"name": "*"})}
    for name, form in formats_of(_program(vm.program_pid), entries).items():
        entries[name]["format"] = form
    return entries


def _program(pid: int) -> bytes:
    """The bytes of the program that a process runs, a loader in front of it or not."""
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
        files = dict.fromkeys(line.split(maxsplit=5)[-1].strip() for line in maps if "/" in line)
    for path in files:
        if os.path.basename(path).startswith("qemu-system-"):
            with open(path, "rb") as program:
                return program.read()
    raise OSError(f"process {pid} runs no qemu-system-*")


def formats_of(program: bytes, names: dict[str, Any]) -> dict[str, str]:
    """The form of each event's line that is in the program, without its name and the line's end."""
    found = {}
    for text in program.split(b"\0"):
        if text.endswith(b"\n") and text.isascii():
            name, blank, form = text[:-1].removeprefix(_STAMP).decode().partition(" ")
            if blank and name in names:
                found[name] = form
    return found
