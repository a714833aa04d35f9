# SPDX-License-Identifier: MIT
"""Descriptors that clients hand over: by name (`getfd`) and in sets (`add-fd`).

A named descriptor is taken once, by whoever is told its name. A set holds descriptors of one thing opened in different
ways; who opens `/dev/fdset/N` gets a duplicate of the one whose access mode fits.

QEMU: monitor/fds.c
"""

from __future__ import annotations

import os

from fakeqemu.error import QemuError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.system.machine import Machine

_INT_MAX = (1 << 31) - 1
_ACCESS_MODE = os.O_RDONLY | os.O_WRONLY | os.O_RDWR
FDSET_PREFIX = "/dev/fdset/"


class FdSetEntry:
    """One descriptor of a set, with what its owner said of it. `removed`: to be closed as soon as QEMU would."""

    __slots__ = ("fd", "opaque", "removed")

    def __init__(self, fd: int, opaque: str | None) -> None:
        self.fd = fd
        self.opaque = opaque
        self.removed = False


class FdSet:
    """One set: the descriptors that were added, the first one first."""

    __slots__ = ("duplicates", "fds", "id")

    def __init__(self, id: int) -> None:
        self.id = id
        self.fds: list[FdSetEntry] = []
        #: descriptors that `open_fdset` handed out and that are in use
        self.duplicates: list[int] = []


class FdStore:
    """The descriptors of one machine."""

    __slots__ = ("_named", "_sets", "_vm")

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self._named: dict[str, int] = {}
        self._sets: dict[int, FdSet] = {}

    def close(self, fd: int) -> None:
        """Close a descriptor that a client gave us; one that is closed already does not matter."""
        try:
            self._vm.host.close_fd(fd)
        except OSError:
            pass

    # --- by name --------------------------------------------------------------------------------------

    def put_named(self, name: str, fd: int) -> None:
        """Keep `fd` under a name; one that was there before is closed. Raises QemuError for a name that is a number."""
        if name[:1].isdigit():
            self.close(fd)
            raise QemuError("Parameter 'fdname' expects a name not starting with a digit")
        named = self._names_of_client(name)
        if name in named:
            self.close(named[name])
        named[name] = fd

    def close_named(self, name: str) -> None:
        """Close and forget a named descriptor; raises QemuError if there is none."""
        named = self._names_of_client(name)
        if name not in named:
            raise QemuError(f"File descriptor named '{name}' not found")
        self.close(named.pop(name))

    def take_named(self, name: str) -> int:
        """The descriptor of that name, which is the caller's from now on; raises QemuError if there is none."""
        named = self._names_of_client(name)
        if name not in named:
            raise QemuError(f"File descriptor named '{name}' has not been found")
        return named.pop(name)

    def _names_of_client(self, name: str) -> dict[str, int]:
        """Each monitor has names of its own: those of the one whose command runs.

        For what runs after its command, the first monitor that has the name.
        """
        if not self._vm.has_part("dispatcher"):
            return self._named
        dispatcher = self._vm.dispatcher
        if dispatcher.current is not None:
            return dispatcher.current.named_fds
        return next((monitor.named_fds for monitor in dispatcher.monitors if name in monitor.named_fds), self._named)

    def _client_is_asking(self) -> bool:
        return self._vm.has_part("dispatcher") and self._vm.dispatcher.current is not None

    def from_param(self, text: str) -> int:
        """What `fd=TEXT` means: a descriptor by name, or, if the text is a number, that of our own. Raises QemuError."""
        if not text[:1].isdigit():
            if text not in self._names_of_client(text) and not self._client_is_asking():
                raise QemuError(f"Invalid file descriptor number '{text}'")  # names are a monitor's
            return self.take_named(text)
        if not text.isdigit() or int(text) > _INT_MAX:
            raise QemuError(f"Invalid file descriptor number '{text}'")
        return int(text)

    # --- in sets --------------------------------------------------------------------------------------

    def add(self, fd: int, set_id: int | None = None, opaque: str | None = None) -> dict[str, Any]:
        """Put `fd` in a set, a new one with the lowest free number when none is named; AddfdInfo. Raises QemuError."""
        if set_id is None:
            set_id = 0
            while set_id in self._sets:
                set_id += 1
        elif set_id < 0:
            raise QemuError("Parameter 'fdset-id' expects a non-negative value")
        group = self._sets.get(set_id)
        if group is None:
            group = self._sets[set_id] = FdSet(set_id)
            self._sets = dict(sorted(self._sets.items()))
        group.fds.append(FdSetEntry(fd, opaque))
        return {"fdset-id": set_id, "fd": fd}

    def remove(self, set_id: int, fd: int | None = None) -> None:
        """Take one descriptor, or all, out of a set; raises QemuError if it is not there."""
        group = self._sets.get(set_id)
        gone = [] if group is None else [entry for entry in group.fds if fd is None or entry.fd == fd]
        if group is None or (fd is not None and not gone):
            name = f"fdset-id:{set_id}" if fd is None else f"fdset-id:{set_id}, fd:{fd}"
            raise QemuError(f"File descriptor named '{name}' not found")
        for entry in gone:
            entry.removed = True
        self._clean_up(group)

    def last_monitor_gone(self) -> None:
        """The last client of any monitor has hung up: releases before 9.1 then drop what nobody uses."""
        if self._vm.compat.fdset_dropped_with_monitor and self._vm.runstate.running:
            for group in list(self._sets.values()):
                if not group.duplicates:
                    for entry in group.fds:
                        entry.removed = True
                self._clean_up(group)

    def query(self) -> list[dict[str, Any]]:
        """FdsetInfo of every set, the highest number first."""
        shown = []
        for group in reversed(list(self._sets.values())):
            entries = [
                {"fd": entry.fd} if entry.opaque is None else {"fd": entry.fd, "opaque": entry.opaque}
                for entry in group.fds
            ]
            shown.append({"fdset-id": group.id, "fds": entries})
        return shown

    def open_fdset(self, set_id: int, flags: int) -> int:
        """A duplicate of the descriptor in a set whose access mode is that of `flags`.

        Raises OSError: ENOENT for no such set, EACCES if none fits.
        """
        group = self._sets.get(set_id)
        if group is None:
            raise FileNotFoundError(2, "No such file or directory")
        for entry in group.fds:
            if not entry.removed and self._has_access(entry.fd, flags):
                duplicate = self._vm.host.dup_fd(entry.fd)
                group.duplicates.append(duplicate)
                return duplicate
        raise PermissionError(13, "Permission denied")

    def _has_access(self, fd: int, flags: int) -> bool:
        """Whether a descriptor was opened for what `flags` want; one of a simulated host is good for everything."""
        if not self._vm.host.real_fds:
            return True
        import fcntl

        mask = _ACCESS_MODE | os.O_DIRECT if self._vm.compat.fdset_direct_io_matched else _ACCESS_MODE
        return fcntl.fcntl(fd, fcntl.F_GETFL) & mask == flags & mask

    def open_path(self, path: str, flags: int, mode: int = 0o666) -> int:
        """As os.open, with `/dev/fdset/N` meaning a set; raises OSError."""
        if path.startswith(FDSET_PREFIX):
            number = path[len(FDSET_PREFIX) :]
            if not number.isdigit():
                raise OSError(22, "Invalid argument")
            return self.open_fdset(int(number), flags)
        return os.open(path, flags | os.O_CLOEXEC, mode)

    def release(self, fd: int) -> None:
        """Say that a descriptor of `open_fdset` was closed: a set with nothing left in it goes away."""
        for group in list(self._sets.values()):
            if fd in group.duplicates:
                group.duplicates.remove(fd)
                self._clean_up(group)

    def _clean_up(self, group: FdSet) -> None:
        """Close what was removed, and forget a set with nothing left in it; older releases do so only while running."""
        if self._vm.compat.fdset_cleaned_when_running and not self._vm.runstate.running:
            return
        for entry in [entry for entry in group.fds if entry.removed]:
            self.close(entry.fd)
            group.fds.remove(entry)
        if not group.fds and not group.duplicates:
            self._sets.pop(group.id, None)
