# SPDX-License-Identifier: MIT
"""Emulators of either kind behind the same client, and a relay that counts what goes from one to the other."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from fakeqemu.testing.emulator import BASE_ARGUMENTS, Emulator, start_process
from tests.conformance._real import need_real_qemu

OURS = "ours"
REAL = "real"

#: how a test starts one: kind, name, arguments, `version=`
Start = Callable[..., Awaitable[Emulator]]


class RealQemu(Emulator):
    """A real QEMU under TCG, with the client and helpers of an emulator of ours."""

    @staticmethod
    async def start(directory: Path, name: str, *argv: str, version: str = "11.1") -> RealQemu:
        """Skips the test where there is none of that release."""
        command = need_real_qemu(version)
        vm = RealQemu(directory, name, argv)
        ours, theirs = socket.socketpair()
        monitor = ("-chardev", f"socket,id=test,fd={theirs.fileno()}", "-mon", "chardev=test,mode=control")
        with theirs, vm.stderr_path.open("wb") as stderr:
            vm.process = await asyncio.create_subprocess_exec(
                *command,
                "-accel",
                "tcg",
                *BASE_ARGUMENTS,
                *monitor,
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stderr=stderr,
                pass_fds=[theirs.fileno()],
            )
        await vm._connect(ours)
        return vm


async def start(kind: str, directory: Path, name: str, *argv: str, version: str = "11.1") -> Emulator:
    """An emulator of ours with that profile, or the real one."""
    if kind == REAL:
        return await RealQemu.start(directory, name, *argv, version=version)
    return await start_process(directory, name, *argv, profile=version)


def stderr_of(vm: Emulator) -> str:
    """What it printed, but for the remark on how the test's own monitor is asked for."""
    lines = vm.stderr_path.read_text(errors="replace").splitlines(keepends=True)
    return "".join(line for line in lines if "warning: '-mon' is deprecated" not in line)


class Relay:
    """Takes one connection at `path`, makes one to `target`, and counts the bytes of both directions."""

    def __init__(self, path: Path, target: Path) -> None:
        self.path = path
        self.target = target
        self.forward = 0
        self.backward = 0
        self._server: asyncio.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def connections(self) -> int:
        """How many came, and were passed on."""
        return len(self._writers) // 2

    async def open(self) -> None:
        self._server = await asyncio.start_unix_server(self._accepted, str(self.path))

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(str(self.target))
        self._writers += [writer, far_writer]
        self._tasks += [
            asyncio.create_task(self._pump(reader, far_writer, "forward")),
            asyncio.create_task(self._pump(far_reader, writer, "backward")),
        ]

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, counter: str) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 18):
                setattr(self, counter, getattr(self, counter) + len(data))
                writer.write(data)
                await writer.drain()
            writer.write_eof()

    async def cut(self) -> None:
        """Break the connection, both ways."""
        await self.close()
        for writer in self._writers:
            writer.close()

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
