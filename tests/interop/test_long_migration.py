# SPDX-License-Identifier: MIT
"""A migration that takes more than an hour by the machine's clock, in seconds: that clock runs a thousand times as fast, and
pages only count.

A guest of a terabyte writes 64 MiB/s into 200 GiB of it, over a link of 256 MiB/s: a pass takes a quarter of the time of the
one before. Nobody detects zero pages, so that all of the terabyte has to go.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from fakeqemu.testing.emulator import Emulator, short_directory, start_process

TIB, GIB, MIB = 1 << 40, 1 << 30, 1 << 20
SPEED = 1000
FAKE = {"clock": f"scaled:{SPEED}", "ram": "model", "guest.dirty-rate": "64M", "guest.working-set": "200G"}
ARGUMENTS = ("-machine", "none", "-m", "1T")
BANDWIDTH = 256 * MIB  # bytes a second
PARAMETERS = {"max-bandwidth": BANDWIDTH, "zero-page-detection": "none"}
#: of real time; the sum of the passes is an hour and a half
PATIENCE_S = 60


@pytest_asyncio.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[Emulator, Emulator]]:
    directory = short_directory(tmp_path)
    source = await start_process(directory, "source", *ARGUMENTS, profile="11.1", fake=FAKE)
    destination = await start_process(
        directory, "destination", *ARGUMENTS, "-incoming", "defer", profile="11.1", fake=FAKE
    )
    yield source, destination
    await source.stop()
    await destination.stop()


@pytest.mark.asyncio
async def test_more_than_an_hour_takes_seconds(pair: tuple[Emulator, Emulator], tmp_path: Path) -> None:
    source, destination = pair
    for side in pair:
        await side.execute("migrate-set-capabilities", {"capabilities": [{"capability": "events", "state": True}]})
        await side.execute("migrate-set-parameters", PARAMETERS)
    uri = f"unix:{short_directory(tmp_path)}/m"
    await destination.execute("migrate-incoming", {"uri": uri})
    began = time.monotonic()
    await source.execute("migrate", {"uri": uri})
    await source.wait_status("completed", timeout=PATIENCE_S)
    real_s = time.monotonic() - began
    info = await source.execute("query-migrate")
    ram = info["ram"]
    assert ram["total"] == TIB
    passes = [TIB, 200 * GIB]
    while passes[-1] > 80 * MIB:
        passes.append(passes[-1] // 4)
    wanted_s = sum(passes) / BANDWIDTH
    assert wanted_s > 3600
    assert info["total-time"] / 1000 == pytest.approx(wanted_s, rel=0.1)
    assert ram["normal-bytes"] == pytest.approx(sum(passes), rel=0.1)
    assert ram["mbps"] == pytest.approx(256 * MIB * 8 / 1e6, rel=0.1)
    assert ram["dirty-sync-count"] >= len(passes) - 2
    # what the processes themselves took counts a thousand times
    assert real_s < wanted_s / 100
    assert info["downtime"] < info["total-time"] / 10
    await destination.wait_status("completed")
