# SPDX-License-Identifier: MIT
"""Migrate a VM from one emulator to another, over a UNIX socket, and look at the numbers."""

import asyncio
import tempfile
from pathlib import Path

from fakeqemu.testing.emulator import start_process
from fakeqemu.testing.pair import Pair

MACHINE = ("-machine", "q35", "-m", "64", "-nodefaults")


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        source = await start_process(directory, "source", *MACHINE)
        destination = await start_process(directory, "destination", *MACHINE, "-incoming", "defer")
        try:
            pair = Pair(source, destination, uri=f"unix:{folder}/migrate.sock")
            await pair.prepare()  # MIGRATION events on both sides
            await pair.capabilities(return_path=True)
            result = await pair.migrate()

            print("statuses:", [e["data"]["status"] for e in source.events if e["event"] == "MIGRATION"])
            print("downtime:", result["downtime"], "ms, transferred:", result["ram"]["transferred"], "bytes")
            for vm in (source, destination):
                print(f"{vm.name} is now", (await vm.execute("query-status"))["status"])
            assert (await source.execute("query-status"))["status"] == "postmigrate"
            assert (await destination.execute("query-status"))["status"] == "running"
        finally:
            await source.stop()
            await destination.stop()


asyncio.run(main())
