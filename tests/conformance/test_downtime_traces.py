# SPDX-License-Identifier: MIT
"""What marks the guest's downtime in the trace: the same events in the same order as at a real QEMU, on both sides.

With a return path the source waits for the destination before its downtime ends. Times differ, and a real QEMU also tells of
the bitmaps of block devices, of which there are none.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from fakeqemu.testing.emulator import Emulator, short_directory
from tests.interop._machines import OURS, REAL, start

pytestmark = pytest.mark.real_qemu

EVENTS = (
    "vmstate_downtime_checkpoint", "vmstate_downtime_save", "vmstate_downtime_load", "qemu_loadvm_state_post_main",
)  # fmt: skip
_LINE = re.compile(r"(?:\d+@\d+\.\d+:)?(" + "|".join(EVENTS) + r")\b *(.*)")


def told(vm: Emulator) -> list[str]:
    """Those events, without the time that something took."""
    lines = [_LINE.fullmatch(line.strip()) for line in vm.stderr_path.read_text().splitlines()]
    found = [re.sub(r"downtime=-?\d+", "downtime=N", f"{line[1]} {line[2]}") for line in lines if line is not None]
    return [line for line in found if "idstr=dirty-bitmap" not in line]


async def downtime(kind: str, version: str, directory: Path, *, return_path: bool) -> tuple[list[str], list[str]]:
    traces = [word for event in EVENTS for word in ("-trace", event)]
    argv = ("-nodefaults", "-machine", "none", "-m", "1", *traces)
    source = await start(kind, directory, f"{kind}-source", *argv, version=version)
    destination = await start(kind, directory, f"{kind}-destination", *argv, "-incoming", "defer", version=version)
    try:
        states = [{"capability": "events", "state": True}, {"capability": "return-path", "state": return_path}]
        for vm in (source, destination):
            await vm.execute("migrate-set-capabilities", {"capabilities": states})
        address = f"unix:{directory / kind}"
        await destination.execute("migrate-incoming", {"uri": address})
        await source.execute("migrate", {"uri": address})
        await asyncio.gather(source.wait_status("completed"), destination.wait_status("completed"))
    finally:
        await source.stop()
        await destination.stop()
    return told(source), told(destination)


@pytest.mark.parametrize("return_path", [False, True], ids=["plain", "return-path"])
@pytest.mark.parametrize("version", ["10.0", "11.1"])
async def test_the_downtime_is_marked_as_by_a_real_qemu(version: str, return_path: bool, tmp_path: Path) -> None:
    directory = short_directory(tmp_path)
    real = await downtime(REAL, version, directory, return_path=return_path)
    ours = await downtime(OURS, version, directory, return_path=return_path)
    assert real[0]
    assert real[1]
    assert ours == real
