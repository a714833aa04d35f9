# SPDX-License-Identifier: MIT
"""switchover-ack between us and a real QEMU, in both generations."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop._machines import Start
from tests.interop.test_migration_real import DIRECTIONS, Sides

pytestmark = pytest.mark.real_qemu


@pytest.mark.parametrize("legacy", [False, True], ids=["source-counts", "destination-counts"])
@pytest.mark.parametrize("kinds", DIRECTIONS, ids=["to-real", "from-real"])
async def test_both_generations_switch_over(
    kinds: tuple[str, str], legacy: bool, start_vm: Start, directory: Path
) -> None:
    setting = ("-global", f"migration.switchover-ack-legacy={'on' if legacy else 'off'}")
    source = await start_vm(kinds[0], "src", *setting)
    destination = await start_vm(kinds[1], "dst", "-incoming", "defer", *setting)
    both = Sides(source, destination, directory)
    await both.capabilities(events=True, return_path=True, switchover_ack=True)
    await destination.execute("migrate-incoming", {"uri": f"unix:{directory}/dst.mig"})
    await source.execute("migrate", {"uri": f"unix:{directory}/dst.mig"})
    await both.completed()


@pytest.mark.parametrize("kinds", DIRECTIONS, ids=["to-real", "from-real"])
async def test_10_0_always_sends_one(kinds: tuple[str, str], start_vm: Start, directory: Path) -> None:
    source = await start_vm(kinds[0], "src", version="10.0")
    destination = await start_vm(kinds[1], "dst", "-incoming", "defer", version="10.0")
    both = Sides(source, destination, directory)
    await both.capabilities(events=True, return_path=True, switchover_ack=True)
    await destination.execute("migrate-incoming", {"uri": f"unix:{directory}/dst.mig"})
    await source.execute("migrate", {"uri": f"unix:{directory}/dst.mig"})
    await both.completed()
