# SPDX-License-Identifier: MIT
"""What a real QEMU has saved is loaded by ours, of the same release and of later ones, saved again, and loaded by a real one.

The bodies of all devices stay what they were, byte by byte, but for the clocks, which go on; of the same release the whole
text at the end does too. 7.2 has no `file:`; it saves through a program.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from fakeqemu.testing.emulator import Emulator
from tests.interop._machines import OURS, REAL, Start
from tests.migration.split import Split

pytestmark = pytest.mark.real_qemu

VERSIONS = ("7.2", "10.0", "11.1")
CLOCKS = ("timer", 0)
#: its layout is another since 9.0
RUN_STATE = ("globalstate", 0)
BOARDS = ("none", "pc-q35", "pc-i440fx")


def machine_of(board: str, version: str) -> str:
    return board if board == "none" else f"{board}-{version}"


async def told_events(vm: Emulator) -> None:
    await vm.execute("migrate-set-capabilities", {"capabilities": [{"capability": "events", "state": True}]})


async def ended(vm: Emulator, after: int) -> str:
    event = await vm.wait_event(
        "MIGRATION", after=after, match=lambda event: event["data"]["status"] in ("completed", "failed")
    )
    status: str = event["data"]["status"]
    return status


async def saved(vm: Emulator, path: Path, version: str) -> Split:
    before = len(vm.events)
    if version == "7.2":
        # The program may still write when the migration has completed: the end of a pipe says that it does not.
        pipe = path.with_suffix(".pipe")
        os.mkfifo(pipe)
        content = asyncio.create_task(asyncio.to_thread(pipe.read_bytes))
        await vm.execute("migrate", {"uri": f"exec:cat > {pipe}"})
        path.write_bytes(await content)
    else:
        await vm.execute("migrate", {"uri": f"file:{path}"})
    assert await ended(vm, before) == "completed"
    return Split(path.read_bytes())


async def loaded(start: Start, kind: str, name: str, machine: str, path: Path, version: str) -> Emulator:
    argv = ("-nodefaults", "-machine", machine, "-m", "16", "-incoming", "defer")
    vm = await start(kind, name, *argv, version=version)
    await told_events(vm)
    await vm.execute("migrate-incoming", {"uri": f"exec:cat {path}" if version == "7.2" else f"file:{path}"})
    assert await ended(vm, 0) == "completed", name
    return vm


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_saved_machine_is_loaded_and_saved_again(
    version: str, board: str, directory: Path, start_any: Start
) -> None:
    machine = machine_of(board, version)
    real = await start_any(REAL, "real", "-nodefaults", "-machine", machine, "-m", "16", "-S", version=version)
    await told_events(real)
    path = directory / "saved"
    original = await saved(real, path, version)
    assert original.joined() == path.read_bytes()
    for later in VERSIONS[VERSIONS.index(version) :]:
        ours = await loaded(start_any, OURS, f"ours{later}", machine, path, later)
        assert (await ours.execute("query-status"))["status"] == "prelaunch"
        again = await saved(ours, directory / f"again{later}", later)
        same_layout = version != "7.2" or later == "7.2"
        differ = {name for name in original.bodies if original.bodies[name] != again.bodies.get(name)}
        assert differ <= {CLOCKS, *(() if same_layout else (RUN_STATE,))}
        assert original.bodies.keys() == again.bodies.keys()
        if later == version:
            assert original.text == again.text
            assert original.numbers == again.numbers
        back = await loaded(start_any, REAL, f"real{later}", machine, directory / f"again{later}", later)
        assert (await back.execute("query-status"))["status"] == "prelaunch"
