# SPDX-License-Identifier: MIT
"""`fakeqemu health [ADDRESS]`: ask a monitor for its status; exit status 0 when it answers.

ADDRESS is `unix:PATH` or `tcp:HOST:PORT`, by default what the environment variable FAKEQEMU_HEALTH_QMP holds.
"""

from __future__ import annotations

import asyncio
import os
import sys

TIMEOUT_S = 3


def parse_address(text: str) -> str | tuple[str, int]:
    """The address as `qemu.qmp` wants it; raises ValueError for anything else."""
    kind, _, rest = text.partition(":")
    if kind == "unix" and rest:
        return rest
    host, _, port = rest.rpartition(":")
    if kind == "tcp" and host and port.isdigit():
        return host.strip("[]"), int(port)
    raise ValueError(f"not an address of a monitor: {text!r} (unix:PATH or tcp:HOST:PORT)")


async def ask(address: str | tuple[str, int]) -> str:
    """The run state of the VM whose monitor listens at `address`."""
    from qemu.qmp import QMPClient

    client = QMPClient("health")
    async with asyncio.timeout(TIMEOUT_S):
        await client.connect(address)
        try:
            status = await client.execute("query-status")
        finally:
            await client.disconnect()
    assert isinstance(status, dict)
    return str(status["status"])


def main(argv: list[str]) -> int:
    text = argv[0] if argv else os.environ.get("FAKEQEMU_HEALTH_QMP", "")
    try:
        print(asyncio.run(ask(parse_address(text))))
    except Exception as error:  # whatever it is: not healthy
        print(f"fakeqemu health: {error or type(error).__name__}", file=sys.stderr)
        return 1
    return 0
