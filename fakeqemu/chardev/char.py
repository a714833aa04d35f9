# SPDX-License-Identifier: MIT
"""A character device between its back end and its front end, and the list of a machine's.

    back end (socket, stdio, ...)                      front end (monitor, serial port)
        opened()  ────────────────────►  on_event("opened")
        received(bytes, fds)  ────────►  on_data(bytes, fds)      unless pause_input()
        send_out(bytes)  ◄─────────────  write(bytes)
        closed()  ────────────────────►  on_event("closed")

Bytes that come before there is a front end, or while it does not want any, wait here; after a few of them the back end
stops reading.

QEMU: chardev/char.c, chardev/char-fe.c
"""

from __future__ import annotations

import os
from sys import modules

from fakeqemu.error import NotEmulated, QemuError
from fakeqemu.qom.object import Object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fakeqemu.system.machine import Machine

    OnData = Callable[[bytes, list[int]], None]
    OnEvent = Callable[[str], None]

#: events that a front end hears of
OPENED = "opened"
CLOSED = "closed"
BREAK = "break"

#: so many bytes wait for a front end before the back end stops reading
_EARLY_BYTES = 4096

#: ChardevBackend's type -> the class that emulates it. What a profile lists and is not here is not emulated.
BACKENDS = {
    "socket": "fakeqemu.chardev.socket:SocketChardev",
    "stdio": "fakeqemu.chardev.backends:StdioChardev",
    "null": "fakeqemu.chardev.backends:NullChardev",
    "vc": "fakeqemu.chardev.backends:NullChardev",  # a console that nobody looks at
    "file": "fakeqemu.chardev.backends:FileChardev",
    "pipe": "fakeqemu.chardev.backends:PipeChardev",
    "pty": "fakeqemu.chardev.backends:PtyChardev",
    "ringbuf": "fakeqemu.chardev.backends:RingbufChardev",
    "memory": "fakeqemu.chardev.backends:RingbufChardev",
    "mux": "fakeqemu.chardev.mux:MuxChardev",
}


class Chardev(Object):
    """Base of all character devices. `backend` is the `data` of QAPI's ChardevBackend.

    A subclass opens its back end in `open` (raises QemuError), calls `opened`, `received` and `closed`, and provides
    `send_out`, `update_reading` and `release`.
    """

    __slots__ = (
        "_early",
        "_early_size",
        "_log_fd",
        "_on_data",
        "_on_event",
        "be_open",
        "can_hotswap",
        "fe_open",
        "in_use",
        "input_paused",
        "kind",
        "label",
    )

    def __init__(self, vm: Machine, label: str, kind: str) -> None:
        super().__init__(vm, f"chardev-{kind}")
        self.label = label
        self.kind = kind
        #: the back end is connected
        self.be_open = False
        #: the front end says that it listens
        self.fe_open = False
        #: some front end has claimed it
        self.in_use = False
        self.input_paused = False
        self.can_hotswap = False
        self._on_data: OnData | None = None
        self._on_event: OnEvent | None = None
        self._early: list[tuple[bytes, list[int]]] = []
        self._early_size = 0
        self._log_fd = -1

    # back end: what subclasses provide
    def open(self, backend: dict[str, Any]) -> None:
        """Open the back end; raises QemuError."""
        raise NotImplementedError

    def send_out(self, data: bytes) -> None:
        """Hand bytes of the front end to the outside; lost when nothing is connected."""

    def greet_waiting(self) -> None:
        """Take a client that waits already, and let it hear at once what the front end says to it."""

    def update_reading(self) -> None:
        """Start or stop reading, as `wants_input` says."""

    def release(self) -> None:
        """Give back what the back end holds."""

    @property
    def filename(self) -> str:
        """What query-chardev shows."""
        return self.kind

    def opened_result(self) -> dict[str, Any]:
        """What chardev-add returns."""
        return {}

    # back end: what subclasses call
    def opened(self) -> None:
        self.be_open = True
        self.send_event(OPENED)

    def closed(self) -> None:
        if self.be_open:
            self.be_open = False
            self._drop_early()
            self.send_event(CLOSED)

    def received(self, data: bytes, fds: list[int]) -> None:
        """Bytes from the outside."""
        if self._on_data is not None and not self.input_paused and not self._early:
            self._on_data(data, fds)
            return
        self._early.append((data, fds))
        self._early_size += len(data)
        if not self.wants_input:
            self.update_reading()

    @property
    def wants_input(self) -> bool:
        if self._on_data is None:
            return self._early_size < _EARLY_BYTES
        return not self.input_paused

    # front end
    def claim(self) -> None:
        """Become the only front end; raises QemuError when there is one."""
        if self.in_use:
            if self.vm.compat.chardev_in_use_names_chardev:
                raise QemuError(f"chardev '{self.label}' is already in use")
            raise QemuError(f"Device '{self.label}' is in use")
        self.in_use = True

    def set_frontend(self, on_data: OnData, on_event: OnEvent, *, can_hotswap: bool = False) -> None:
        """Hear of data and events from now on; `claim` it first. An open back end is told of at once.

        `can_hotswap`: chardev-change may give it another back end.
        """
        self._on_data = on_data
        self._on_event = on_event
        self.can_hotswap = can_hotswap
        self.fe_open = True
        if self.be_open:
            on_event(OPENED)
        self._deliver_early()
        self.update_reading()

    @property
    def frontend(self) -> tuple[OnData, OnEvent] | None:
        """What `set_frontend` was given last."""
        if self._on_data is None or self._on_event is None:
            return None
        return self._on_data, self._on_event

    def send_event(self, event: str) -> None:
        """Tell the front end of an event of the back end."""
        if self._on_event is not None:
            self._on_event(event)

    def release_frontend(self) -> None:
        """Undo `claim` and `set_frontend`."""
        self._on_data = None
        self._on_event = None
        self.fe_open = False
        self.in_use = False
        self.input_paused = False
        self.update_reading()

    def write(self, data: bytes) -> None:
        """Send bytes of the front end."""
        if self._log_fd >= 0:
            _write_all(self._log_fd, data)
        self.send_out(data)

    def pause_input(self) -> None:
        """Take no more bytes from the outside for now."""
        if not self.input_paused:
            self.input_paused = True
            self.update_reading()

    def resume_input(self) -> None:
        if self.input_paused:
            self.input_paused = False
            self._deliver_early()
            if not self.input_paused:
                self.update_reading()

    def _deliver_early(self) -> None:
        while self._early and self._on_data is not None and not self.input_paused:
            data, fds = self._early.pop(0)
            self._early_size -= len(data)
            self._on_data(data, fds)

    def _drop_early(self) -> None:
        for _data, fds in self._early:
            for fd in fds:
                self.vm.host.close_fd(fd)
        self._early.clear()
        self._early_size = 0

    # common options
    def open_log(self, path: str, append: bool) -> None:
        """Copy what the front end writes to a file; raises QemuError."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_APPEND if append else os.O_TRUNC)
        try:
            self._log_fd = self.vm.fds.open_path(path, flags)
        except OSError as error:
            raise QemuError(f"Could not create '{path}': {error.strerror}") from None

    def unparented(self) -> None:
        """Close both ends: the chardev is gone."""
        self._drop_early()
        self.release()
        if self._log_fd >= 0:
            os.close(self._log_fd)
            self._log_fd = -1


def _write_all(fd: int, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError:
        pass  # QEMU does not hear of it either


class ChardevRegistry:
    """The character devices of one machine; they stand below /chardevs."""

    __slots__ = ("_opening", "_stdio_used", "can_use_stdio", "from_monitor", "vm")

    def __init__(self, vm: Machine) -> None:
        self.vm = vm
        #: False under -daemonize
        self.can_use_stdio = True
        self._stdio_used = False
        #: one that is being opened: it may wait for a client
        self._opening: Chardev | None = None
        #: the command in progress came over a monitor, so descriptors have names
        self.from_monitor = False

    def add(self, label: str, backend: dict[str, Any]) -> Chardev:
        """Make a chardev from QAPI's ChardevBackend {"type", "data"}; raises QemuError. The caller checks the label."""
        chardev = self._new(label, backend)
        self.vm.qom.chardevs.add_child(label, chardev)
        return chardev

    def add_from_monitor(self, label: str, backend: dict[str, Any]) -> Chardev:
        """As `add`, in a QMP command: descriptors have names, and errors say what failed."""
        chardev = self._named(label, backend)
        self.vm.qom.chardevs.add_child(label, chardev)
        return chardev

    def change(self, label: str, backend: dict[str, Any]) -> Chardev:
        """chardev-change: the front end, if any, goes on with a new back end. Raises QemuError."""
        old = self.find(label)
        if old is None:
            raise QemuError(f"Chardev '{label}' does not exist")
        if old.kind == "mux":
            raise QemuError("Mux device hotswap not supported yet")
        if old.in_use and not old.can_hotswap:
            raise QemuError("Chardev user does not support chardev hotswap")
        if not old.in_use:
            old.unparent()
            return self.add_from_monitor(label, backend)
        new = self._named(label, backend)
        frontend = old.frontend
        old.unparent()
        self.vm.qom.chardevs.add_child(label, new)
        if frontend is not None:
            new.claim()
            new.set_frontend(*frontend, can_hotswap=True)
        return new

    def _named(self, label: str, backend: dict[str, Any]) -> Chardev:
        self.from_monitor = True
        try:
            return self._new(label, backend)
        except QemuError as error:
            raise error.prefixed(f"Failed to add chardev '{label}': ") from None
        finally:
            self.from_monitor = False

    def _new(self, label: str, backend: dict[str, Any]) -> Chardev:
        kind: str = backend["type"]
        where = BACKENDS.get(kind)
        if where is None:
            if not self.vm.profile.has("types", f"chardev-{kind}"):
                raise QemuError(f"'{kind}' is not a valid char driver name")
            raise NotEmulated(f"chardev of type '{kind}': not emulated")
        module, _, cls = where.partition(":")
        __import__(module)
        chardev: Chardev = getattr(modules[module], cls)(self.vm, label, kind)
        data: dict[str, Any] = backend.get("data") or {}
        self._opening = chardev
        try:
            if data.get("logfile"):
                chardev.open_log(data["logfile"], bool(data.get("logappend")))
            chardev.open(data)
        except BaseException:
            chardev.unparented()
            raise
        finally:
            self._opening = None
        self.vm.trace("fake_chardev_add", label=label, kind=kind)
        return chardev

    def find(self, label: str) -> Chardev | None:
        child = self.vm.qom.chardevs.child(label)
        return child if isinstance(child, Chardev) else None

    def get(self, label: str) -> Chardev:
        """As `find`; raises QemuError in the words of the QMP commands."""
        chardev = self.find(label)
        if chardev is None:
            raise QemuError(f"Chardev '{label}' not found")
        return chardev

    def remove(self, label: str) -> None:
        """chardev-remove; raises QemuError."""
        chardev = self.get(label)
        if chardev.in_use:
            raise QemuError(f"Chardev '{label}' is busy")
        chardev.unparent()

    def all(self) -> list[Chardev]:
        """Every chardev, in the order in which QEMU walks /chardevs."""
        from fakeqemu.qapi.qdict import GHashTable

        children = self.vm.qom.chardevs.children
        found = [children.get(name) for name in GHashTable(children)]
        # QEMU walks the table and puts each in front of those before.
        return [child for child in reversed(found) if isinstance(child, Chardev)]

    def take_stdio(self) -> None:
        """Become the one who uses stdin and stdout; raises QemuError."""
        if not self.can_use_stdio:
            raise QemuError("cannot use stdio with -daemonize")
        if self._stdio_used:
            raise QemuError("cannot use stdio by multiple character devices")
        self._stdio_used = True

    def give_stdio_back(self) -> None:
        self._stdio_used = False

    def close_all(self) -> None:
        """The machine ends: sockets are unlinked, terminals put back in order."""
        if self._opening is not None:
            self._opening.release()
        for chardev in self.all():
            chardev.release()
