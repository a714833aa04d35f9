# SPDX-License-Identifier: MIT
"""Stop a VM and watch what its VFIO device does: it leaves peer-to-peer traffic first, then stops."""

import asyncio
import tempfile
from pathlib import Path

from fakeqemu.testing.emulator import start_process


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        vm = await start_process(
            Path(folder),
            "vm",
            *("-machine", "q35", "-m", "64", "-nodefaults"),
            *("-device", "vfio-pci,host=0000:3b:00.1,id=vf0,migration-events=on"),
        )
        try:
            await vm.execute("stop")
            await vm.execute("cont")
            await vm.wait_event("VFIO_MIGRATION", match=lambda e: e["data"]["device-state"] == "running")
            states = [e["data"]["device-state"] for e in vm.events if e["event"] == "VFIO_MIGRATION"]
            print("vf0 went through:", " → ".join(states))
            assert states == ["running-p2p", "stop", "running-p2p", "running"]
        finally:
            await vm.stop()


asyncio.run(main())
