# SPDX-License-Identifier: MIT
"""Emulators of either kind for one test, stopped after it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from fakeqemu.testing.emulator import Emulator, short_directory
from tests.interop._machines import Start, start


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return short_directory(tmp_path)


@pytest_asyncio.fixture
async def start_any(directory: Path) -> AsyncIterator[Start]:
    """Start an emulator: `start_any(kind, name, *argv, version="11.1")`."""
    started: list[Emulator] = []

    async def start_one(kind: str, name: str, *argv: str, version: str = "11.1") -> Emulator:
        vm = await start(kind, directory, name, *argv, version=version)
        started.append(vm)
        return vm

    yield start_one
    for vm in started:
        await vm.stop()


@pytest.fixture
def start_vm(start_any: Start, directory: Path) -> Start:
    """As `start_any`, a machine `none` with `mib` MiB of RAM in the file `<name>.ram` of the test's folder."""

    async def start_one(kind: str, name: str, *argv: str, version: str = "11.1", mib: int = 8) -> Emulator:
        ram = directory / f"{name}.ram"
        ram.touch()
        backend = f"memory-backend-file,id=ram0,size={mib}M,mem-path={ram},share=on"
        machine = ("-nodefaults", "-machine", "none,memory-backend=ram0", "-m", str(mib), "-object", backend)
        return await start_any(kind, name, *machine, *argv, version=version)

    return start_one
