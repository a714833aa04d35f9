# SPDX-License-Identifier: MIT
"""Start an emulator as a management tool starts QEMU, and ask it how it is.

Nothing here is special to fakeqemu but the program's name: replace it by qemu-system-x86_64 and the example still runs.
"""

import asyncio
import contextlib
import tempfile
from pathlib import Path

from qemu.qmp import QMPClient


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "qmp.sock")
        client = QMPClient("example")
        # We listen and the emulator connects: no waiting for its socket to appear.
        await client.start_server(path)
        emulator = await asyncio.create_subprocess_exec(
            "fakeqemu-system-x86_64",
            *("-machine", "q35", "-m", "256", "-smp", "2", "-nodefaults", "-display", "none"),
            *("-name", "first-vm", "-qmp", f"unix:{path}"),
        )
        await client.accept()

        print(await client.execute("query-name"))
        print(await client.execute("query-status"))
        for cpu in await client.execute("query-cpus-fast"):
            print(cpu["qom-path"], "is thread", cpu["thread-id"])

        await client.execute("stop")
        status = await client.execute("query-status")
        print(status)
        assert status["status"] == "paused"

        await client.execute("quit")
        with contextlib.suppress(EOFError):  # QEMU has hung up by then
            await client.disconnect()
        assert await emulator.wait() == 0


asyncio.run(main())
