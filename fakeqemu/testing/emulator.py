# SPDX-License-Identifier: MIT
"""One emulator with a connected `qemu.qmp` client, as a process of its own or inside the test's process.

Both kinds are the same machine behind the same kind of socket; a process can be killed and has QEMU's command line, a machine
in the test's own process starts in a millisecond and can be looked into (`vm.machine`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qemu.qmp import EventListener, QMPClient, QMPError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fakeqemu.system.machine import Machine
    from fakeqemu.testing.in_process import InProcess

Message = dict[str, Any]

#: what an emulator started here gets in front of the caller's own arguments
BASE_ARGUMENTS = ("-display", "none")


class EmulatorFailed(Exception):
    """The emulator ended before its monitor answered; `status` is its exit status, `stderr` what it said."""

    def __init__(self, status: int | None, stderr: str) -> None:
        super().__init__(f"emulator ended with status {status}: {stderr.strip()}")
        self.status = status
        self.stderr = stderr


class Emulator:
    """A running emulator. Made by the `fakeqemu` fixture or by `start_process` and `start_in_process`.

    `qmp` is the connected client of `qemu.qmp`; `events` all events received so far, in order.
    """

    def __init__(self, directory: Path, name: str, argv: Sequence[str]) -> None:
        self.directory = directory
        self.name = name
        self.argv = tuple(argv)
        self.transcript_path = directory / f"{name}.transcript"
        self.stderr_path = directory / f"{name}.stderr"
        self.qmp = QMPClient(name)
        self.events: list[Message] = []
        self.process: asyncio.subprocess.Process | None = None
        self._in_process: InProcess | None = None
        self._listener = EventListener()
        self._pump: asyncio.Task[None] | None = None
        self._arrival = asyncio.Condition()

    @property
    def machine(self) -> Machine:
        """The model behind a machine in this process; raises LookupError for an emulator process."""
        if self._in_process is None:
            raise LookupError(f"{self.name} is a process of its own")
        return self._in_process.machine

    async def _connect(self, connection: socket.socket) -> None:
        self.qmp.register_listener(self._listener)
        await self.qmp.connect(connection)
        self._pump = asyncio.create_task(self._collect(), name=f"events of {self.name}")

    async def _collect(self) -> None:
        async for message in self._listener:
            async with self._arrival:
                self.events.append(dict(message))
                self._arrival.notify_all()

    async def execute(self, command: str, arguments: Mapping[str, object] | None = None, *, oob: bool = False) -> Any:
        """Send a command and return its result; raises `qemu.qmp.ExecuteError` with QEMU's words."""
        return await self.qmp.execute(command, arguments, oob)

    async def hmp(self, line: str) -> str:
        """A line of the human monitor, by way of QMP; returns what it prints."""
        return str(await self.execute("human-monitor-command", {"command-line": line}))

    async def wait_event(
        self, name: str, *, after: int = 0, timeout: float = 30, match: Callable[[Message], bool] | None = None
    ) -> Message:
        """The first event `name` from position `after` in `events` for which `match(event)` holds; waits for it.

        Raises TimeoutError after `timeout` seconds.
        """
        position = after
        async with asyncio.timeout(timeout), self._arrival:
            while True:
                for event in self.events[position:]:
                    position += 1
                    if event["event"] == name and (match is None or match(event)):
                        return event
                await self._arrival.wait()

    async def wait_status(self, *wanted: str, timeout: float = 30) -> str:
        """Wait until a MIGRATION event says one of `wanted`, and return it. Needs the capability `events`.

        Raises AssertionError when the migration ends in another status.
        """
        ends = ("completed", "failed", "cancelled")
        event = await self.wait_event(
            "MIGRATION", timeout=timeout, match=lambda e: e["data"]["status"] in wanted or e["data"]["status"] in ends
        )
        status = str(event["data"]["status"])
        if status not in wanted:
            info = await self.execute("query-migrate")
            raise AssertionError(f"{self.name}: migration {status}: {info.get('error-desc', 'no reason given')}")
        return status

    def conversation(self) -> str:
        """All that was said on the monitors, and what the emulator printed, for people to read."""
        import json

        lines = []
        if self.transcript_path.exists():
            for line in self.transcript_path.read_text().splitlines():
                entry = json.loads(line)
                text = entry.get("text", "").strip()
                lines.append(f"{entry['t']:10.6f} {self.name} {entry['kind']} {text}")
        if self.stderr_path.exists():
            lines += [f"           {self.name} stderr {line}" for line in self.stderr_path.read_text().splitlines()]
        return "\n".join(lines)

    async def stop(self) -> None:
        """End the emulator, whatever state it is in. A second call does nothing."""
        if self._pump is not None:
            self._pump.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._pump
            self._pump = None
            # the emulator may be gone already, which is no failure of the test
            with contextlib.suppress(Exception):
                await self.qmp.disconnect()
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGKILL)
            await self.process.wait()
        if self._in_process is not None:
            self._in_process.close()
            self._in_process = None


def fake_options(emulator: Emulator, profile: str | None, settings: Mapping[str, str]) -> str:
    """The value of `-fake` for `emulator`."""
    options = {"transcript": str(emulator.transcript_path), **settings}
    if profile is not None:
        options["profile"] = profile
    return ",".join(f"{key}={value.replace(',', ',,')}" for key, value in options.items())


def _monitor_arguments(fd: int) -> tuple[str, ...]:
    """A QMP monitor on one end of a socket pair: nothing to wait for, and the end of the emulator is the end of the stream."""
    return ("-chardev", f"socket,id=fakeqemu-test,fd={fd}", "-mon", "chardev=fakeqemu-test,mode=control")


async def start_process(
    directory: Path, name: str, *argv: str, profile: str | None = None, fake: Mapping[str, str] | None = None
) -> Emulator:
    """Start `fakeqemu-system-x86_64` with `argv` and connect; raises EmulatorFailed when it ends before it answers."""
    vm = Emulator(directory, name, argv)
    ours, theirs = socket.socketpair()
    with theirs, vm.stderr_path.open("wb") as stderr:
        command = [
            "-fake",
            fake_options(vm, profile, fake or {}),
            *BASE_ARGUMENTS,
            *_monitor_arguments(theirs.fileno()),
        ]
        vm.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "fakeqemu",
            *command,
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stderr=stderr,
            pass_fds=[theirs.fileno()],
        )
    try:
        await vm._connect(ours)
    except QMPError as error:
        ours.close()
        # it is on its way out, with a status that says more than one of ours would
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                await vm.process.wait()
        await vm.stop()
        raise EmulatorFailed(vm.process.returncode, vm.stderr_path.read_text(errors="replace")) from error
    return vm


async def start_in_process(
    directory: Path, name: str, *argv: str, profile: str | None = None, fake: Mapping[str, str] | None = None
) -> Emulator:
    """Make a machine with QEMU's command line `argv` in this process, on the running asyncio loop, and connect.

    Raises QemuError in the words that QEMU would print before it exits.
    """
    from fakeqemu.testing.in_process import InProcess

    vm = Emulator(directory, name, argv)
    ours, theirs = socket.socketpair()
    command = [
        "-fake",
        fake_options(vm, profile, fake or {}),
        *BASE_ARGUMENTS,
        *_monitor_arguments(theirs.detach()),
        *argv,
    ]
    try:
        vm._in_process = InProcess(command)
    except BaseException:
        ours.close()
        raise
    await vm._connect(ours)
    return vm


def short_directory(base: Path) -> Path:
    """A folder whose sockets' paths fit into the 107 bytes that a UNIX socket's name may have."""
    if len(os.fsencode(base)) < 80:
        return base
    import tempfile

    return Path(tempfile.mkdtemp(prefix="fakeqemu-"))
