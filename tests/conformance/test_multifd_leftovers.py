# SPDX-License-Identifier: MIT
"""A source whose multifd migrations fail, a hundred of them, each at another moment: its process is what it was before."""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path

import pytest

from fakeqemu.testing.emulator import Emulator, short_directory
from tests.interop._machines import OURS, start

TIMES = 100
ENDS = ("failed", "cancelled", "completed")
MIB = 4


class Breaker:
    """Takes connections, and breaks the one that has said so many bytes."""

    def __init__(self) -> None:
        self.breaks_at = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._server: asyncio.Server | None = None

    async def listen(self, path: Path) -> None:
        self._server = await asyncio.start_unix_server(self._accepted, str(path))

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = self.breaks_at
        with contextlib.suppress(OSError):
            while left > 0 and (data := await reader.read(min(left, 1 << 16))):
                left -= len(data)
        writer.transport.abort()

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()


def threads_of(vm: Emulator) -> list[str]:
    assert vm.process is not None
    tasks = Path(f"/proc/{vm.process.pid}/task")
    return sorted((task / "comm").read_text() for task in tasks.iterdir())


def descriptors_of(vm: Emulator) -> list[str]:
    assert vm.process is not None
    return sorted(str(fd.readlink()) for fd in Path(f"/proc/{vm.process.pid}/fd").iterdir())


@pytest.mark.parametrize("compression", ["none", "zlib"])
async def test_no_thread_and_no_descriptor_is_left_of_a_hundred_failures(compression: str, tmp_path: Path) -> None:
    directory = short_directory(tmp_path)
    chance = random.Random(compression)
    ram = directory / "ram"
    ram.write_bytes(chance.randbytes(MIB << 20))
    backend = f"memory-backend-file,id=ram,size={MIB}M,mem-path={ram},share=on"
    vm = await start(OURS, directory, "source", "-nodefaults", "-machine", "none,memory-backend=ram", "-m", str(MIB),
                     "-object", backend)  # fmt: skip
    breaker = Breaker()
    await breaker.listen(directory / "mig")
    try:
        states = [{"capability": name, "state": True} for name in ("events", "multifd")]
        await vm.execute("migrate-set-capabilities", {"capabilities": states})
        await vm.execute("migrate-set-parameters", {"multifd-compression": compression, "downtime-limit": 1})
        # What is loaded with the first migration stays.
        breaker.breaks_at = 1
        ends: dict[str, int] = {}
        before: tuple[list[str], list[str]] = ([], [])
        for number in range(TIMES + 1):
            seen = len(vm.events)
            values = {"multifd-channels": chance.choice([1, 2, 5, 16]), "max-bandwidth": chance.choice([0, 1 << 20])}
            await vm.execute("migrate-set-parameters", values)
            await vm.execute("migrate", {"uri": f"unix:{directory}/mig"})
            if number and chance.random() < 0.2:
                await vm.execute("migrate_cancel")
            event = await vm.wait_event("MIGRATION", after=seen, match=lambda e: e["data"]["status"] in ENDS)
            end = event["data"]["status"]
            assert end == (await vm.execute("query-migrate"))["status"]
            ends[end] = ends.get(end, 0) + 1
            if end == "completed":
                await vm.execute("cont")
            assert (await vm.execute("query-status"))["status"] == "running"
            if not number:
                before = threads_of(vm), descriptors_of(vm)
            breaker.breaks_at = chance.randrange(1 << chance.randrange(1, 22))
        assert (threads_of(vm), descriptors_of(vm)) == before
        assert ends["failed"] > TIMES // 2, ends
        assert ends["cancelled"] > 0, ends
    finally:
        await vm.stop()
        await breaker.close()
