# SPDX-License-Identifier: MIT
"""An emulator with VNC, real or ours, and clients that talk to it byte by byte."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.bench._real import fake_qemu
from tests.conformance._real import need_real_qemu
from tests.conformance._wait import PATIENCE_S, connect

VERSIONS = ("11.1", "10.0", "7.2")
BEFORE = ("-S", "-display", "none", "-nodefaults", "-accel", "tcg", "-qmp", "unix:q,server=on,wait=off")

#: a SetEncodings that asks for keys by their place: the server confirms it at once, whatever else it does
PROBE = struct.pack(">BxHi", 2, 1, -258)
PROBE_ANSWER_BYTES = 16


class VncEmulator:
    """A started emulator and a negotiated QMP connection."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process = process
        self.folder = folder
        self._monitor = connect(folder / "q", process)
        self._lines = self._monitor.makefile("rb")
        #: events that have come so far
        self.events: list[dict[str, Any]] = []
        self._next()
        self.execute("qmp_capabilities")

    def _next(self) -> dict[str, Any]:
        line = self._lines.readline()
        assert line, "the monitor has gone"
        message: dict[str, Any] = json.loads(line)
        if "event" in message:
            message.pop("timestamp")
            self.events.append(message)
        return message

    def execute(self, command: str, fd: int | None = None, **arguments: Any) -> Any:
        """The value that a command returns, or its error."""
        return self._ask(command, fd, arguments)

    def _ask(self, command: str, fd: int | None, arguments: dict[str, Any]) -> Any:
        request = json.dumps({"execute": command, "arguments": arguments}).encode()
        socket.send_fds(self._monitor, [request], [] if fd is None else [fd])
        while True:
            answer = self._next()
            if "event" not in answer:
                return answer["return"] if "return" in answer else answer["error"]

    def hmp(self, line: str) -> Any:
        return self._ask("human-monitor-command", None, {"command-line": line})

    def wait_for(self, event: str, count: int = 1) -> list[dict[str, Any]]:
        """All events, as soon as `count` of that name have come."""
        while sum(message["event"] == event for message in self.events) < count:
            self._next()
        return self.events

    def client(self, path: str = "v") -> socket.socket:
        """A connection; several at once are more than wait in a backlog, so it tries again."""
        return connect(self.folder / path, self.process)

    def quit(self) -> None:
        self.execute("quit")
        while self._monitor.recv(4096):
            pass
        self.process.wait(PATIENCE_S)

    def close(self) -> None:
        self._lines.close()
        self._monitor.close()


@contextmanager
def started(command: Sequence[str], folder: Path, *arguments: str) -> Iterator[VncEmulator]:
    """An emulator in a folder of its own; what it says on stderr is in the file `err` there."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "err").open("wb") as err:
        process = subprocess.Popen(
            [*command, *BEFORE, *arguments], cwd=folder, stdin=subprocess.DEVNULL, stdout=err, stderr=err
        )
    try:
        emulator = VncEmulator(process, folder)
        try:
            yield emulator
        finally:
            emulator.close()
    finally:
        process.kill()
        process.wait(PATIENCE_S)


def read(client: socket.socket, count: int) -> bytes:
    """That many bytes, fewer if the server hangs up before."""
    data = b""
    while len(data) < count:
        try:
            more = client.recv(count - len(data))
        except ConnectionResetError:
            break
        if not more:
            break
        data += more
    return data


def read_to_end(client: socket.socket) -> bytes:
    """Everything until the server hangs up."""
    return read(client, 1 << 30)


def lives(client: socket.socket) -> bool:
    """Whether an initialized client still has a server."""
    say(client, PROBE)
    return len(read(client, PROBE_ANSWER_BYTES)) == PROBE_ANSWER_BYTES


def say(client: socket.socket, data: bytes) -> None:
    """Send, whoever listens."""
    try:
        client.sendall(data)
    except OSError:
        pass  # what the server said before it went is still to be read


def greet(client: socket.socket, version: bytes = b"RFB 003.008\n", shared: int | None = 1) -> bytes:
    """The whole handshake of a server that asks for nothing; what it said last: the size and all that follows."""
    read(client, 12)
    say(client, version)
    read(client, 2)
    say(client, b"\1")
    read(client, 4)
    return b"" if shared is None else initialize(client, shared)


def initialize(client: socket.socket, shared: int = 1) -> bytes:
    """Say whether to share; ServerInit, as far as it comes."""
    say(client, bytes((shared,)))
    head = read(client, 24)
    return head + (read(client, int.from_bytes(head[20:], "big")) if len(head) == 24 else b"")


def hang_up(client: socket.socket) -> bytes:
    """Say that there is no more to come, and hear the server out."""
    try:
        client.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    return read_to_end(client)


class Both(Protocol):
    """Have both emulators of a release live through the same, started with the same, and compare what they say."""

    def __call__(self, story: Callable[[VncEmulator], Any], *arguments: str) -> None: ...


@pytest.fixture(params=VERSIONS)
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Both]:
    real = need_real_qemu(request.param)
    with fake_qemu(request.param) as fake:

        def compare(story: Callable[[VncEmulator], Any], *arguments: str) -> None:
            said = []
            for who, command in (("real", real), ("fake", fake)):
                with started(command, tmp_path / who, *arguments) as emulator:
                    said.append(story(emulator))
            assert said[1] == said[0], "\n".join(_differences(*said))

        yield compare


def _differences(real: Any, fake: Any, where: str = "") -> Iterator[str]:
    """Where two results of a story differ."""
    if isinstance(real, list | tuple) and isinstance(fake, list | tuple) and len(real) == len(fake):
        for index, (one, other) in enumerate(zip(real, fake, strict=True)):
            yield from _differences(one, other, f"{where}[{index}]")
    elif real != fake:
        yield f"{where}\n  real {real!r}\n  fake {fake!r}"
