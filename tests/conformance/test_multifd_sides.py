# SPDX-License-Identifier: MIT
"""Two sides that do not have the same number of multifd channels: what becomes of a migration, at real QEMUs and at ours.

Nothing tells the one side what the other one has. A destination that waits for more stays in setup; one that wants fewer
looks at a connection that says nothing until it is closed, in which time a real one's monitor is held up as well.
"""

from __future__ import annotations

import asyncio
import functools
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from fakeqemu.testing.emulator import Emulator, short_directory
from tests.interop._machines import OURS, REAL, start, stderr_of

pytestmark = pytest.mark.real_qemu

KINDS = (REAL, OURS)
VERSIONS = ("11.1", "10.0", "7.2")
MIB = 8
BROKEN = "Unable to write to socket: Broken pipe"
Sides = Callable[[str, str, int, int, bool], Awaitable[tuple[Emulator, Emulator]]]


@pytest_asyncio.fixture
async def sides(tmp_path: Path) -> AsyncIterator[Sides]:
    """A migration that has begun, from a side with so many channels to one with so many; 0 is no multifd at all.

    Memory of random bytes is more than the buffers of connections take; empty memory is not.
    """
    directory = short_directory(tmp_path)
    started: list[Emulator] = []

    async def side(kind: str, version: str, name: str, channels: int, content: bytes, *argv: str) -> Emulator:
        ram = directory / f"{name}.ram"
        ram.write_bytes(content)
        backend = f"memory-backend-file,id=ram,size={MIB}M,mem-path={ram},share=on"
        machine = ("-nodefaults", "-machine", "none,memory-backend=ram", "-m", str(MIB), "-object", backend)
        vm = await start(kind, directory, name, *machine, *argv, version=version)
        started.append(vm)
        states = [{"capability": "events", "state": True}, {"capability": "multifd", "state": channels > 0}]
        await vm.execute("migrate-set-capabilities", {"capabilities": states})
        if channels:
            await vm.execute("migrate-set-parameters", {"multifd-channels": channels})
        return vm

    async def begin(kind: str, version: str, here: int, there: int, full: bool) -> tuple[Emulator, Emulator]:
        content = random.Random(1).randbytes(MIB << 20) if full else bytes(MIB << 20)
        source = await side(kind, version, "source", here, content)
        destination = await side(kind, version, "destination", there, bytes(MIB << 20), "-incoming", "defer")
        await destination.execute("migrate-incoming", {"uri": f"unix:{directory}/mig"})
        await source.execute("migrate", {"uri": f"unix:{directory}/mig"})
        return source, destination

    yield begin
    for vm in started:
        await vm.stop()


def real_ones_may_hang(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Which of the connections a real one reads first is chance: at times neither side goes on."""

    @functools.wraps(test)
    async def judged(kind: str, **others: Any) -> None:
        try:
            await test(kind=kind, **others)
        except TimeoutError:
            if kind != REAL:
                raise
            pytest.skip("the real ones wait for each other, as they do at times")

    return judged


async def status(vm: Emulator) -> str:
    """Asked a few times: it is the same each time, and the monitor answers. 7.2 leaves setup out on a destination."""
    seen = [(await vm.execute("query-migrate")).get("status", "setup") for _ in range(5)]
    assert len(set(seen)) == 1, seen
    return str(seen[0])


def statuses(vm: Emulator) -> list[str]:
    return [event["data"]["status"] for event in vm.events if event["event"] == "MIGRATION"]


async def exit_status(vm: Emulator) -> int:
    assert vm.process is not None
    async with asyncio.timeout(20):
        return await vm.process.wait()


async def end_of_a_destination(vm: Emulator, kind: str) -> int:
    """The exit status of one that has more channels than it knows what to do with."""
    ended = await exit_status(vm)
    if kind == REAL and ended == -signal.SIGSEGV:
        pytest.skip("the real one has crashed, as it does at times")
    return ended


@pytest.mark.parametrize("full", [False, True], ids=["empty", "full"])
@pytest.mark.parametrize("version", ["11.1", "10.0"])
@pytest.mark.parametrize("kind", KINDS)
@real_ones_may_hang
async def test_more_channels_than_there_stall_in_setup(kind: str, version: str, full: bool, sides: Sides) -> None:
    source, destination = await sides(kind, version, 4, 2, full)
    assert await status(source) == "setup"
    if kind == OURS:  # a real one answers nothing until the source has gone
        assert await status(destination) == "setup"
    await source.execute("migrate_cancel")
    assert await source.wait_status("cancelled") == "cancelled"
    assert await exit_status(destination) == 1
    assert statuses(source) == ["setup", "cancelling", "cancelled"]
    assert (await source.execute("query-status"))["status"] == "running"
    assert "Failed to peek at channel" in stderr_of(destination)
    assert statuses(destination) == ["setup", "failed"]


@pytest.mark.parametrize("kind", KINDS)
@real_ones_may_hang
async def test_more_channels_than_there_are_refused_where_nobody_peeks(kind: str, sides: Sides) -> None:
    source, destination = await sides(kind, "7.2", 4, 2, True)
    assert await source.wait_status("failed") == "failed"
    assert (await source.execute("query-migrate"))["error-desc"] == BROKEN
    assert (await source.execute("query-status"))["status"] == "running"
    assert await end_of_a_destination(destination, kind) == 1
    assert "Extra incoming migration connection; ignoring" in stderr_of(destination)


@pytest.mark.parametrize("here", [2, 0])
@pytest.mark.parametrize("full", [False, True], ids=["empty", "full"])
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", KINDS)
@real_ones_may_hang
async def test_a_destination_that_waits_for_more_channels_stays_in_setup(
    kind: str, version: str, full: bool, here: int, sides: Sides
) -> None:
    """The source has completed when all fits into the connections, and waits otherwise."""
    source, destination = await sides(kind, version, here, 4, full)
    expected = "active" if full else "completed"
    assert await source.wait_status(expected) == expected
    assert await status(source) == expected
    assert await status(destination) == "setup"
    assert statuses(destination) == ["setup"]
    if full:
        await source.execute("migrate_cancel")
        if kind == REAL and here:  # it waits until the destination has gone
            await destination.stop()
        assert await source.wait_status("cancelled") == "cancelled"
        assert (await source.execute("query-status"))["status"] == "running"
        if destination.qmp.runstate.name == "RUNNING":
            assert await status(destination) == "setup"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", KINDS)
@real_ones_may_hang
async def test_a_destination_without_further_channels_breaks_them(kind: str, version: str, sides: Sides) -> None:
    source, destination = await sides(kind, version, 2, 0, True)
    assert await source.wait_status("failed") == "failed"
    assert (await source.execute("query-migrate"))["error-desc"] == BROKEN
    assert (await source.execute("query-status"))["status"] == "running"
    assert await end_of_a_destination(destination, kind) == 1
    assert "Extra incoming migration connection; ignoring" in stderr_of(destination)
