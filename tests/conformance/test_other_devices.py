# SPDX-License-Identifier: MIT
"""A device that only one side has: what each side says at the end, between two real QEMUs and between two of ours.

One too many on the destination does not matter. One too many on the source does, and without a return path the source never
hears of it.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.testing.emulator import Emulator, short_directory
from tests.interop._machines import OURS, REAL, start, stderr_of

pytestmark = pytest.mark.real_qemu

ENDS = ("completed", "failed")
DEVICE = ("-device", "virtio-rng-pci,addr=5")


async def told(vm: Emulator) -> dict[str, Any]:
    info = await vm.execute("query-migrate")
    return {
        "status": (info["status"], info.get("error-desc"), (await vm.execute("query-status"))["status"]),
        "events": [event["data"]["status"] for event in vm.events if event["event"] == "MIGRATION"],
        "stderr": [line.partition(": ")[2] for line in stderr_of(vm).splitlines()],
    }


async def outcome(kind: str, version: str, directory: Path, extra: str, *, return_path: bool) -> list[dict[str, Any]]:
    sides: list[Emulator] = []
    try:
        for name in ("source", "destination"):
            argv = ["-nodefaults", "-machine", f"pc-q35-{version}", "-m", "16"]
            argv += DEVICE if name == extra else ()
            argv += ["-incoming", "defer"] if name == "destination" else []
            vm = await start(kind, directory, f"{kind}-{name}", *argv, version=version)
            sides.append(vm)
            states = [{"capability": "events", "state": True}, {"capability": "return-path", "state": return_path}]
            await vm.execute("migrate-set-capabilities", {"capabilities": states})
        address = f"unix:{directory}/{kind}"
        await sides[1].execute("migrate-incoming", {"uri": address, "exit-on-error": False})
        await sides[0].execute("migrate", {"uri": address})
        for vm in sides:
            await vm.wait_event("MIGRATION", match=lambda event: event["data"]["status"] in ENDS)
        found = await asyncio.gather(*map(told, sides))
    finally:
        for vm in sides:
            await vm.stop()
    return list(found)


@pytest.mark.parametrize("return_path", [False, True], ids=["plain", "return-path"])
@pytest.mark.parametrize("extra", ["source", "destination"])
@pytest.mark.parametrize("version", ["11.1", "10.0"])
async def test_a_device_that_one_side_does_not_have(
    version: str, extra: str, return_path: bool, tmp_path: Path
) -> None:  # fmt: skip
    directory = short_directory(tmp_path)
    real = await outcome(REAL, version, directory, extra, return_path=return_path)
    ours = await outcome(OURS, version, directory, extra, return_path=return_path)
    assert ours == real
    ends = [side["status"][0] for side in ours]
    if extra == "destination":
        assert ends == ["completed", "completed"]
    else:
        assert ends == ["failed" if return_path else "completed", "failed"]
