# SPDX-License-Identifier: MIT
"""Break the link in the middle of a migration: the guest runs on where it was, and a second try works.

A scenario file says what goes wrong; `fakeqemu faults` lists the points at which a rule can act, `fakeqemu scenarios`
files that are ready to be used by name.
"""

import asyncio
import tempfile
from pathlib import Path

from fakeqemu.testing.emulator import start_process
from fakeqemu.testing.pair import Pair

MACHINE = ("-machine", "q35", "-m", "64", "-nodefaults")

SCENARIO = """
name = "the link breaks once"

[[rules]]
where = "fake_channel_write"
match = { channel = "migration-socket-outgoing" }
after = 2
fail = "ECONNRESET"
"""


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        (directory / "break.toml").write_text(SCENARIO)
        source = await start_process(directory, "source", *MACHINE, "-fake", f"scenario={folder}/break.toml")
        for number, expected in ((1, "failed"), (2, "completed")):
            destination = await start_process(directory, f"destination{number}", *MACHINE, "-incoming", "defer")
            try:
                pair = Pair(source, destination, uri=f"unix:{folder}/migrate{number}.sock")
                await pair.prepare()
                await pair.start()
                await source.wait_event("MIGRATION", match=lambda e: e["data"]["status"] in ("failed", "completed"))
                result = await source.execute("query-migrate")
                print(f"try {number}:", result["status"], "-", result.get("error-desc", "no error"))
                print("  the source is", (await source.execute("query-status"))["status"])
                assert result["status"] == expected
                source.events.clear()
            finally:
                await destination.stop()
        await source.stop()


asyncio.run(main())
