# SPDX-License-Identifier: MIT
"""Trace events: what happens in a machine, under QEMU's own names.

    vm.trace("vfio_migration_set_state", name=dev.name, state="stop-copy")

Tests, faults, scenarios and logs watch the same events. With nobody watching, an event costs one call and one test.
Names are QEMU's (the files trace-events of its source tree); events of ours begin with `fake_`.

QEMU: trace/control.c
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Sink = Callable[[str, dict[str, Any]], None]


class Trace:
    """The trace of one machine. Calling it emits an event."""

    __slots__ = ("_sinks",)

    def __init__(self) -> None:
        self._sinks: list[tuple[str, Sink]] = []

    def __call__(self, event: str, /, **fields: Any) -> None:
        if self._sinks:
            for pattern, sink in tuple(self._sinks):
                if matches(pattern, event):
                    sink(event, fields)

    @property
    def watched(self) -> bool:
        """Whether anybody listens: for what would be a lot of work to tell."""
        return bool(self._sinks)

    def watch(self, sink: Sink, pattern: str = "*") -> Callable[[], None]:
        """Call `sink(event, fields)` for each event whose name matches `pattern`; returns the function that ends it."""
        entry = (pattern, sink)
        self._sinks.append(entry)

        def unwatch() -> None:
            if entry in self._sinks:
                self._sinks.remove(entry)

        return unwatch


def matches(pattern: str, name: str) -> bool:
    """Whether `name` matches a pattern in which `*` stands for any text and `?` for one character, as in `-trace`."""
    if pattern == "*" or pattern == name:
        return True
    if "*" not in pattern and "?" not in pattern:
        return False
    # The classic two-pointer match: remember the last star and go back to it on a mismatch.
    p = n = 0
    star = mark = -1
    while n < len(name):
        if p < len(pattern) and (pattern[p] == name[n] or pattern[p] == "?"):
            p, n = p + 1, n + 1
        elif p < len(pattern) and pattern[p] == "*":
            star, mark = p, n
            p += 1
        elif star >= 0:
            mark += 1
            p, n = star + 1, mark
        else:
            return False
    return all(c == "*" for c in pattern[p:])
