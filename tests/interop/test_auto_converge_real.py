# SPDX-License-Identifier: MIT
"""A guest of ours that writes faster than the link takes it goes to a real QEMU: slowed down, and with all of its memory."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from fakeqemu.testing.emulator import Emulator, start_process
from tests.conformance._wait import LOOK_AGAIN_S
from tests.interop._machines import REAL, Start, stderr_of

pytestmark = pytest.mark.real_qemu

MIB = 1 << 20
RAM_BYTES = 8 * MIB


def arguments(directory: Path, name: str) -> tuple[str, ...]:
    backend = f"memory-backend-file,id=busy,size={RAM_BYTES},share=on,mem-path={directory / name}.busy"
    return ("-machine", "none,memory-backend=busy", "-m", "8", "-object", backend)


async def throttled(vm: Emulator) -> int:
    """Wait until the guest is slowed down; returns the percentage."""
    while True:
        info = await vm.execute("query-migrate")
        assert info["status"] in ("setup", "active"), info
        if "cpu-throttle-percentage" in info:
            return int(info["cpu-throttle-percentage"])
        with contextlib.suppress(TimeoutError):  # no event tells
            assert vm.process is not None
            await asyncio.wait_for(vm.process.wait(), 10 * LOOK_AGAIN_S)


@pytest.mark.parametrize("version", ["11.1", "10.0", "7.2"])
async def test_a_guest_that_is_too_fast_arrives(start_any: Start, directory: Path, version: str) -> None:
    destination = await start_any(REAL, "dst", *arguments(directory, "dst"), "-incoming", "defer", version=version)
    fake = {"guest.dirty-rate": "16M"}
    source = await start_process(directory, "src", *arguments(directory, "src"), profile=version, fake=fake)
    try:
        for vm in (source, destination):
            wanted = [{"capability": name, "state": True} for name in ("events", "auto-converge", "return-path")]
            await vm.execute("migrate-set-capabilities", {"capabilities": wanted})
        slow = {"max-bandwidth": 4 * MIB, "downtime-limit": 20, "cpu-throttle-initial": 40}
        await source.execute("migrate-set-parameters", slow)
        await destination.execute("migrate-incoming", {"uri": f"unix:{directory / 'm'}"})
        await source.execute("migrate", {"uri": f"unix:{directory / 'm'}"})
        assert await throttled(source) == 40
        await source.execute("migrate-set-parameters", {"downtime-limit": 30000})
        await source.wait_status("completed")
        await destination.wait_status("completed")
        info = await source.execute("query-migrate")
        assert "cpu-throttle-percentage" not in info
        # far more than the memory went: it was dirtied again and again
        assert info["ram"]["normal"] > RAM_BYTES // 4096
        content = (directory / "src.busy").read_bytes()
        assert any(content)
        assert (directory / "dst.busy").read_bytes() == content
        assert stderr_of(destination) == ""
    finally:
        await source.stop()
