# SPDX-License-Identifier: MIT
"""device_add and device_del while a migration runs: refused, and what else is wrong is found in QEMU's order."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from qemu.qmp import ExecuteError

from fakeqemu.testing.emulator import short_directory
from tests.interop._machines import OURS, REAL, start

pytestmark = pytest.mark.real_qemu

MACHINE = (
    "-machine", "q35", "-nodefaults", "-m", "64",
    "-device", "virtio-rng-pci,id=fixed", "-device", "isa-debug-exit,id=isa", "-device", "VGA,id=vga",
    "-device", "pcie-root-port,id=rp,chassis=1", "-device", "virtio-rng-pci,bus=rp,id=plugged",
)  # fmt: skip

QUESTIONS: list[tuple[str, dict[str, Any]]] = [
    ("device_del", {"id": "plugged"}),
    ("device_del", {"id": "fixed"}),
    ("device_del", {"id": "isa"}),
    ("device_del", {"id": "vga"}),
    ("device_del", {"id": "nosuch"}),
    ("device_add", {"driver": "virtio-rng-pci", "bus": "rp", "id": "new"}),
    ("device_add", {"driver": "virtio-rng-pci", "bus": "rp", "id": "plugged"}),
    ("device_add", {"driver": "virtio-rng-pci", "bus": "rp", "nosuch": 1}),
    ("device_add", {"driver": "virtio-rng-pci", "bus": "pcie.0"}),
    ("device_add", {"driver": "virtio-rng-pci", "id": "7"}),
    ("device_add", {"driver": "virtio-rng-pci", "bus": "nosuch"}),
    ("device_add", {"driver": "intel-iommu"}),
    ("device_add", {"driver": "q35-pcihost"}),
    ("device_add", {"driver": "nosuch"}),
    ("device_add", {}),
]


async def answers(kind: str, directory: Path, version: str) -> list[Any]:
    """What an emulator answers while its migration is halted before the switchover."""
    vm = await start(kind, directory, kind, *MACHINE, version=version)
    taken: list[asyncio.Task[bytes]] = []
    path = directory / f"{kind}.mig"
    server = await asyncio.start_unix_server(lambda r, _: taken.append(asyncio.create_task(r.read())), str(path))
    try:
        enabled = [{"capability": name, "state": True} for name in ("events", "pause-before-switchover")]
        await vm.execute("migrate-set-capabilities", {"capabilities": enabled})
        await vm.execute("migrate", {"uri": f"unix:{path}"})
        await vm.wait_status("pre-switchover")
        said = []
        for command, arguments in QUESTIONS:
            with pytest.raises(ExecuteError) as refused:
                await vm.execute(command, arguments)
            said.append((command, arguments, str(refused.value)))
        return said
    finally:
        await vm.stop()
        server.close()
        await asyncio.gather(*taken, return_exceptions=True)


@pytest.mark.parametrize("version", ["11.1", "10.0", "7.2"])
async def test_refusals_are_those_of_the_real_one(tmp_path: Path, version: str) -> None:
    directory = short_directory(tmp_path)
    expected = await answers(REAL, directory, version)
    assert await answers(OURS, directory, version) == expected
    assert "device_del not allowed while migrating" in str(expected)
