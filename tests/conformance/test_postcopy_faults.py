# SPDX-License-Identifier: MIT
"""Postcopies that fail where a host lets them fail: real QEMUs that have no descriptor left, and faults injected into ours.

Also: who runs where the last word gets lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from fakeqemu.migration.stream import return_path as rp
from fakeqemu.testing.emulator import Emulator
from tests.interop._machines import OURS, REAL, Start, start, stderr_of

pytestmark = pytest.mark.real_qemu

RELEASES = ("11.1", "10.0", "7.2")
RAM_MIB = 4
SHM = Path("/dev/shm")
SCENARIO = """
name = "no-descriptor-left"
description = "For: destination."

[[rules]]
where = "%s"
fail = "EMFILE"
"""
#: what breaks when, and how a side finds out, is chance
WORDS_OF_A_BREAK = ("Broken pipe", "Connection reset by peer", "Bad file descriptor", "Input/output error")
GONE = "the connection is gone"


@pytest.fixture
def directory() -> Iterator[Path]:
    if not SHM.is_dir():
        pytest.skip("no tmpfs, which memory of a postcopy's destination has to be on")
    folder = Path(tempfile.mkdtemp(prefix="fq", dir=SHM))
    yield folder
    shutil.rmtree(folder)


@pytest_asyncio.fixture
async def start_vm(directory: Path) -> AsyncIterator[Start]:
    started: list[Emulator] = []

    async def start_one(kind: str, name: str, *argv: str, version: str) -> Emulator:
        ram = directory / f"{name}.ram"
        ram.write_bytes(bytes((7 if name == "src" else 0,)) * (RAM_MIB << 20))
        backend = f"memory-backend-file,id=ram0,size={RAM_MIB}M,mem-path={ram},share=on"
        machine = ("-nodefaults", "-machine", "none,memory-backend=ram0", "-m", str(RAM_MIB), "-object", backend)
        vm = await start(kind, directory, name, *machine, *argv, version=version)
        started.append(vm)
        return vm

    yield start_one
    for vm in started:
        await vm.stop()


def told(text: str) -> str:
    return GONE if any(words in text for words in WORDS_OF_A_BREAK) else text


async def begin(vm: Emulator, *names: str) -> None:
    states = [{"capability": name, "state": True} for name in ("events", "postcopy-ram", *names)]
    await vm.execute("migrate-set-capabilities", {"capabilities": states})


class LastWord:
    """Takes connections at `path`, passes them on to `target`, and breaks them in place of the destination's SHUT."""

    def __init__(self, path: Path, target: Path, *, breaks: bool = True) -> None:
        self._path = path
        self._target = target
        self._breaks = breaks
        self._server: asyncio.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []
        self.came = asyncio.Event()
        #: the destination has said something: it reads what it is sent
        self.answered = asyncio.Event()

    async def open(self) -> None:
        self._server = await asyncio.start_unix_server(self._accepted, str(self._path))

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(str(self._target))
        self._writers += [writer, far_writer]
        self._tasks += [
            asyncio.create_task(self._forward(reader, far_writer)),
            asyncio.create_task(self._backward(far_reader, writer)),
        ]

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 18):
                writer.write(data)
                await writer.drain()

    async def _backward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readexactly(rp.HEADER.size)
                kind, length = rp.HEADER.unpack(head)
                self.answered.set()
                if kind == rp.MIG_RP_MSG_SHUT and self._breaks:
                    break
                writer.write(head + await reader.readexactly(length))
                await writer.drain()
        self.came.set()
        for one in self._writers:
            one.close()

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def active(
    start_vm: Start, kind: str, version: str, directory: Path, *argv: str
) -> tuple[Emulator, Emulator, LastWord]:
    """A source whose pages go slowly, a destination that reads them, and what is between."""
    source = await start_vm(kind, "src", version=version)
    destination = await start_vm(kind, "dst", *argv, "-incoming", "defer", version=version)
    for vm in (source, destination):
        await begin(vm)
    await source.execute("migrate-set-parameters", {"max-bandwidth": 64 << 10, "max-postcopy-bandwidth": 0})
    stays = {} if version == "7.2" else {"exit-on-error": False}
    await destination.execute("migrate-incoming", {"uri": f"unix:{directory}/{kind}", **stays})
    between = LastWord(directory / f"{kind}-between", directory / kind, breaks=False)
    await between.open()
    await source.execute("migrate", {"uri": f"unix:{directory}/{kind}-between"})
    await source.wait_status("active")
    async with asyncio.timeout(30):
        await between.answered.wait()
    await destination.execute("query-status")  # what came with that is read by now
    return source, destination, between


def leave_descriptors(vm: Emulator, number: int) -> None:
    """So many may still be opened."""
    assert vm.process is not None
    used = {int(name) for name in os.listdir(f"/proc/{vm.process.pid}/fd")}
    free = [fd for fd in range(max(used) + number + 2) if fd not in used]
    _, hard = resource.prlimit(vm.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(vm.process.pid, resource.RLIMIT_NOFILE, (free[number], hard))


async def end_of(vm: Emulator) -> dict[str, Any]:
    lines = [told(line.partition(": ")[2]) for line in stderr_of(vm).splitlines()]
    statuses = [event["data"]["status"] for event in vm.events if event["event"] == "MIGRATION"]
    found: dict[str, Any] = {"stderr": lines, "statuses": statuses}
    with contextlib.suppress(Exception):
        info = await vm.execute("query-migrate")
        guest = (await vm.execute("query-status"))["status"]
        found |= {"status": info.get("status"), "error": told(info.get("error-desc", "")), "guest": guest}
    return found


async def no_descriptor(
    start_vm: Start, kind: str, version: str, directory: Path, point: str, left: int
) -> dict[str, Any]:  # fmt: skip
    """What both sides are when the destination cannot have its memory watched."""
    fault: tuple[str, ...] = ()
    if kind == OURS:
        (directory / "scenario.toml").write_text(SCENARIO % point)
        fault = ("-fake", f"scenario={directory / 'scenario.toml'}")
    source, destination, between = await active(start_vm, kind, version, directory, *fault)
    if kind == REAL:
        leave_descriptors(destination, left)
    await source.execute("migrate-start-postcopy")
    await source.wait_status("failed", "completed", "postcopy-paused")
    if version != "7.2":
        await destination.wait_status("failed")
    else:
        assert destination.process is not None
        async with asyncio.timeout(30):
            await destination.process.wait()
    found = {"src": await end_of(source), "dst": await end_of(destination)}
    await between.close()
    for vm in (source, destination):
        await vm.stop()
    return found


@pytest.mark.parametrize(
    ("point", "left"), [("loadvm_postcopy_handle_listen", 0), ("fake_userfault_event_fd", 1)], ids=["watch", "event"]
)
@pytest.mark.parametrize("version", RELEASES)
async def test_a_destination_that_has_no_descriptor_left(
    version: str, point: str, left: int, start_vm: Start, directory: Path
) -> None:
    real, ours = [await no_descriptor(start_vm, kind, version, directory, point, left) for kind in (REAL, OURS)]
    for found in (real, ours):
        if version == "11.1":  # what it found broken first is chance
            del found["src"]["stderr"], found["src"]["error"]
        else:  # and whether it had sent everything by then
            del found["src"]
    assert ours == real


async def without_last_word(start_vm: Start, kind: str, version: str, directory: Path) -> dict[str, Any]:
    source = await start_vm(kind, "src", version=version)
    destination = await start_vm(kind, "dst", "-incoming", "defer", version=version)
    for vm in (source, destination):
        await begin(vm)
    await source.execute("migrate-set-parameters", {"max-bandwidth": 64 << 10, "max-postcopy-bandwidth": 0})
    await destination.execute("migrate-incoming", {"uri": f"unix:{directory}/{kind}"})
    between = LastWord(directory / f"{kind}-between", directory / kind)
    await between.open()
    try:
        await source.execute("migrate", {"uri": f"unix:{directory}/{kind}-between"})
        await source.wait_status("active")
        await source.execute("migrate-start-postcopy")
        await destination.wait_status("completed")
        async with asyncio.timeout(30):
            await between.came.wait()
        await source.wait_status("failed", "postcopy-paused", "completed")
        found = {"src": await end_of(source), "dst": await end_of(destination)}
        for one in found.values():
            del one["stderr"]
        return found
    finally:
        await between.close()
        for vm in (source, destination):
            await vm.stop()


@pytest.mark.parametrize("version", ["11.1", "10.0"])  # a 7.2.22 waits for ever
async def test_whose_guest_it_is_when_the_last_word_gets_lost(version: str, start_vm: Start, directory: Path) -> None:
    """It runs on both sides: the source has failed, and takes it back."""
    real, ours = [await without_last_word(start_vm, kind, version, directory) for kind in (REAL, OURS)]
    assert ours == real


async def snapshot(start_vm: Start, kind: str, version: str, directory: Path) -> dict[str, Any]:
    """What a source is that has no descriptor to have its memory watched with, for a background snapshot."""
    fault: tuple[str, ...] = ()
    if kind == OURS:
        (directory / "scenario.toml").write_text(SCENARIO % "ram_write_tracking_ramblock_start")
        fault = ("-fake", f"scenario={directory / 'scenario.toml'}")
    vm = await start_vm(kind, "src", *fault, version=version)
    states = [{"capability": name, "state": True} for name in ("events", "background-snapshot")]
    await vm.execute("migrate-set-capabilities", {"capabilities": states})
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / f"{kind}-l"))
        listener.listen()
        if kind == REAL:
            leave_descriptors(vm, 1)  # for the connection
        await vm.execute("migrate", {"uri": f"unix:{directory}/{kind}-l"})
        await vm.wait_status("failed")
        found = await end_of(vm)
    await vm.stop()
    # A real one says on stderr what exactly it was that failed: here a descriptor, in ours a block.
    del found["stderr"]
    return found


@pytest.mark.parametrize("version", RELEASES)
async def test_a_snapshot_whose_memory_cannot_be_watched(version: str, start_vm: Start, directory: Path) -> None:
    """The guest stays paused, as it was stopped for it."""
    real, ours = [await snapshot(start_vm, kind, version, directory) for kind in (REAL, OURS)]
    assert ours == real
    assert ours["guest"] == "paused"
