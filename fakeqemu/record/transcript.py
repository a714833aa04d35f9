# SPDX-License-Identifier: MIT
"""A record of all that was said on a machine's monitors: `-fake transcript=FILE`.

One JSON object a line, written as it happens:

    {"t": 0.012345, "monitor": "compat_monitor0", "kind": ">", "text": "{\\"execute\\": \\"query-status\\"}"}

`t` is seconds since the machine was made, on its own clock; `kind` is `>` (what the tool sent), `<` (what it was told),
`open` and `close` (a client came, left). `text` holds the bytes as they were, surrogate escapes for what is not UTF-8.
"""

from __future__ import annotations

import os

from fakeqemu.qapi.json_out import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.system.machine import Machine

KINDS = {
    "fake_monitor_open": "open",
    "fake_monitor_input": ">",
    "fake_monitor_output": "<",
    "fake_monitor_close": "close",
}


class Transcript:
    """Writes one machine's conversations into a file descriptor."""

    __slots__ = ("_clock", "_fd", "_start_ns")

    def __init__(self, vm: Machine, fd: int) -> None:
        self._fd = fd
        self._clock = vm.host.clock
        self._start_ns = self._clock.now_ns()
        vm.trace.watch(self._on_event, "fake_monitor_*")

    def _on_event(self, event: str, fields: dict[str, Any]) -> None:
        line: dict[str, Any] = {
            "t": round((self._clock.now_ns() - self._start_ns) / 1e9, 6),
            "monitor": fields["monitor"],
            "kind": KINDS[event],
        }
        data: bytes | None = fields.get("data")
        if data is not None:
            line["text"] = data.decode("utf-8", "backslashreplace")
        os.write(self._fd, dumps(line) + b"\n")


def attach(vm: Machine, path: str) -> Transcript:
    """Record the conversations of `vm` into `path` from now on (created with mode 0600, or appended to); raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    return Transcript(vm, fd)
