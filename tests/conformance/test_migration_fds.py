# SPDX-License-Identifier: MIT
"""Migrations through descriptors of all kinds, by name, by number and in a set: fakeqemu and a real QEMU side by side.

What is compared: the reply, all statuses that events tell, how it ended and why, and the exit status.
"""

from __future__ import annotations

import array
import fcntl
import json
import os
import select
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import cache
from pathlib import Path
from typing import IO, Any

import pytest

from tests.bench._real import fake_qemu
from tests.conformance._real import need_real_qemu

pytestmark = pytest.mark.real_qemu

PATIENCE_S = 20.0
#: a descriptor that is given by number has this one or the next that is free, in the emulator as here
LOWEST_NUMBER = 200
KINDS = (
    "socket", "pipe", "other-end", "file", "read-only-file", "write-only-file", "null", "directory",
    "eventfd", "epoll", "process", "memory", "terminal", "unconnected",
)  # fmt: skip
#: those from which nothing will ever come, not even an end
SILENT = ("other-end", "epoll", "process", "terminal", "unconnected")
ENDED = ("completed", "failed")


class Monitor:
    """An emulator, and a monitor over which descriptors can be passed."""

    def __init__(
        self, command: list[str], arguments: list[str], fds: list[int], stderr: IO[bytes] | int = subprocess.DEVNULL
    ) -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(PATIENCE_S)
        monitor = ["-chardev", f"socket,id=q,fd={theirs.fileno()}", "-mon", "chardev=q,mode=control"]
        self.process = subprocess.Popen(
            [*command, "-accel", "tcg", "-display", "none", "-M", "none", "-nodefaults", *monitor, *arguments],
            pass_fds=[theirs.fileno(), *fds],
            stdin=subprocess.DEVNULL,
            stderr=stderr,
        )
        theirs.close()
        self._lines = self._socket.makefile("rb")
        self.statuses: list[str] = []
        self._next()
        self.ask("qmp_capabilities")
        self.ask("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])

    def _next(self) -> dict[str, Any] | None:
        """The next message, statuses of events kept; None when the emulator is gone."""
        try:
            line = self._lines.readline()
        except ConnectionResetError:
            return None
        if not line:
            return None
        message: dict[str, Any] = json.loads(line)
        if message.get("event") == "MIGRATION":
            self.statuses.append(message["data"]["status"])
        return message

    def ask(self, command: str, fds: list[int] | None = None, **arguments: Any) -> Any:
        """What is returned, or the error's text; None when the emulator is gone."""
        request = json.dumps({"execute": command, "arguments": {k.replace("_", "-"): v for k, v in arguments.items()}})
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self._socket.sendmsg([request.encode() + b"\n"], rights)
        except OSError:
            return None
        while (message := self._next()) is not None:
            if "return" in message:
                return message["return"]
            if "error" in message:
                return message["error"]["desc"]
        return None

    def wait_end(self) -> None:
        """Wait until a migration has ended, or the emulator."""
        while not any(status in ENDED for status in self.statuses) and self._next() is not None:
            pass

    def close(self) -> None:
        self.ask("quit")
        self._lines.close()
        self._socket.close()
        self.process.wait(PATIENCE_S)


def make(kind: str, folder: Path, stream: bytes, *, outgoing: bool) -> Iterator[int | IO[bytes] | socket.socket]:
    """A descriptor of that kind for the emulator, and what has to stay open beside it. `stream` can be read from it."""
    path = folder / "file"
    path.write_bytes(stream)
    if kind == "socket":
        near, far = socket.socketpair()
        far.sendall(stream)
        yield near.detach()
        yield far
    elif kind in ("pipe", "other-end"):
        reader, writer = os.pipe()
        if not outgoing:
            os.write(writer, stream)
        ours = writer if (kind == "pipe") == outgoing else reader
        yield ours
        yield os.fdopen(reader if ours == writer else writer, "rb" if ours == writer else "wb")
    elif kind == "null":
        yield os.open("/dev/null", os.O_RDWR)
    elif kind == "directory":
        yield os.open(folder, os.O_RDONLY)
    elif kind == "eventfd":
        yield os.eventfd(5)
    elif kind == "epoll":
        with select.epoll() as poll:
            yield os.dup(poll.fileno())
    elif kind == "process":
        yield os.pidfd_open(os.getpid())
    elif kind == "memory":
        fd = os.memfd_create("stream")
        os.pwrite(fd, stream, 0)
        yield fd
    elif kind == "terminal":
        master, slave = os.openpty()
        yield slave
        yield os.fdopen(master, "rb")
    elif kind == "unconnected":
        yield socket.socket().detach()
    else:
        yield os.open(path, {"file": os.O_RDWR, "read-only-file": os.O_RDONLY}.get(kind, os.O_WRONLY))


@cache
def stream_of(version: str) -> bytes:
    """What a real QEMU of that release sends for an empty machine."""
    with tempfile.TemporaryDirectory() as folder, closing(Monitor(need_real_qemu(version), [], [])) as monitor:
        monitor.ask("migrate", uri=f"exec:cat > {folder}/stream")
        monitor.wait_end()
        monitor.close()
        return (Path(folder) / "stream").read_bytes()


def run(command: list[str], version: str, kind: str, how: str, *, outgoing: bool) -> list[Any]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        fd, *others = make(kind, folder, b"" if outgoing else stream_of(version), outgoing=outgoing)
        for other in others:
            stack.enter_context(other)  # type: ignore[arg-type]
        assert isinstance(fd, int)
        number = fcntl.fcntl(fd, fcntl.F_DUPFD, LOWEST_NUMBER)
        arguments = [] if outgoing else ["-incoming", "defer"]
        monitor = stack.enter_context(closing(Monitor(command, arguments, [number] if how == "number" else [])))
        os.close(number)
        if how == "name":
            monitor.ask("getfd", [fd], fdname="x")
        elif how == "set":
            monitor.ask("add-fd", [fd], fdset_id=5)
        os.close(fd)
        uri = {"name": "fd:x", "number": f"fd:{number}", "set": "file:/dev/fdset/5"}[how]
        stays: dict[str, Any] = {} if outgoing or version == "7.2" else {"exit_on_error": False}
        reply = monitor.ask("migrate" if outgoing else "migrate-incoming", uri=uri, **stays)
        waits = reply == {} and not (kind in SILENT and not outgoing and how != "set")
        if waits:
            monitor.wait_end()
        info = monitor.ask("query-migrate")
        exits = not outgoing and version == "7.2"  # when, is a matter of luck
        end = None if exits or not isinstance(info, dict) else (info.get("status"), info.get("error-desc"))
        monitor.close()
        return [reply, monitor.statuses, end, monitor.process.returncode]


@pytest.mark.parametrize("version", ["11.1", "10.0", "7.2"])
@pytest.mark.parametrize("outgoing", [True, False], ids=["source", "destination"])
@pytest.mark.parametrize("how", ["name", "number", "set"])
def test_descriptors_are_taken_as_a_real_qemu_takes_them(version: str, how: str, outgoing: bool) -> None:
    real = need_real_qemu(version)
    different = []
    with fake_qemu(version) as fake:
        for kind in KINDS:
            theirs = run(real, version, kind, how, outgoing=outgoing)
            ours = run(fake, version, kind, how, outgoing=outgoing)
            if ours != theirs:
                different.append(f"{kind}\n  real {theirs}\n  fake {ours}")
    assert not different, "\n".join(different)
