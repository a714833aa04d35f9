# SPDX-License-Identifier: MIT
"""What a fault point is: its name, what is raised there, and what a rule may match.

A name is that of the trace event next to which the failure happens; where QEMU has an error path but no event, it begins
with `fake_`. `error` says what the code at the point expects to meet, hence what is raised:

    os      OSError, as of a system call
    qemu    QemuError: the text becomes the migration's error
    stream  StreamError: the load fails with this reason
    load    LoadError: the load of one piece of state fails with this reason
    hook    PostLoadError: state was read, and is refused
    chained PostLoadError whose text is part of the chain of reasons where a release has one

`text` is what the error says, with the point's fields and `{error}` filled in: QEMU's words where it has words. `old` is what
releases before 11.0 say, where that is something else.

What else a rule may do at a point: where it `waits`, delay and stall; where bytes follow (`flow` says which way they
go), corrupt them; where there is a connection, close it. Killing the process goes anywhere. Bytes and connection are those
of the main stream unless `channel` names another: the byte that is corrupted is one of those that are written, or read,
next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fakeqemu.error import QemuError, StreamError
from fakeqemu.faults.rule import Action, Close, Corrupt, Delay, Stall
from fakeqemu.migration.stream.vmstate import LoadError, PostLoadError

if TYPE_CHECKING:
    from collections.abc import Callable

READ = "fake_channel_read"
WRITE = "fake_channel_write"

#: which way bytes go
READS = "read"
WRITES = "write"
_NONE = ""


class Point(NamedTuple):
    """One place where something can be made to fail."""

    name: str
    side: str
    error: str
    text: str
    fields: tuple[str, ...]
    waits: bool
    what: str
    flow: str
    channel: str
    connected: bool
    old: str | None

    def actions(self) -> list[str]:
        """What rules may do here, as scenario files name it."""
        waiting = ["delay-ms", "stall"] if self.waits else []
        return [
            "fail", *waiting, *(["corrupt"] if self.flow else []), *(["close"] if self.connected else []), "kill",
        ]  # fmt: skip

    def can(self, action: Action) -> bool:
        """Whether an action makes sense here."""
        if isinstance(action, Delay | Stall):
            return self.waits
        if isinstance(action, Corrupt):
            return bool(self.flow)
        return self.connected or not isinstance(action, Close)


def point(
    name: str, side: str, error: str, text: str, fields: str, what: str, *,
    waits: bool = False, flow: str = _NONE, channel: str = "", connected: bool = True, old: str | None = None,
) -> Point:  # fmt: skip
    """One row of a table; `fields` are separated by blanks."""
    return Point(name, side, error, text, tuple(fields.split()), waits, what, flow, channel, connected, old)


_KINDS: dict[str, Callable[[str, int], Exception]] = {
    "qemu": lambda text, _number: QemuError(text),
    "stream": StreamError,
    "load": lambda text, number: LoadError(text, number, [text] if text else []),
    "hook": PostLoadError,
    "chained": lambda text, number: PostLoadError(text, number, in_chain=True),
}


def error_at(
    at: Point, number: int, strerror: str, fields: dict[str, object], text: str | None = None, *, is_old: bool = False
) -> Exception:
    """What is raised at a point for an errno; `text` in place of the point's own words (not of a system call's).

    `is_old`: the release is one before 11.0.
    """
    if at.error == "os":
        return OSError(number, strerror)
    own = at.old if is_old and at.old is not None else at.text
    words = text if text is not None else own.format(**fields, error=strerror)
    return _KINDS[at.error](words, number)
