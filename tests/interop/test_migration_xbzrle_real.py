# SPDX-License-Identifier: MIT
"""A real QEMU takes our deltas, of a guest that goes on writing; and tells of its cache as we do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop._machines import OURS, REAL, Start, stderr_of
from tests.interop.test_migration_real import pattern

pytestmark = pytest.mark.real_qemu

CAPABILITIES = {"capabilities": [{"capability": name, "state": True} for name in ("events", "xbzrle", "return-path")]}


async def test_a_real_one_takes_our_deltas(start_vm: Start, directory: Path) -> None:
    guest = ("-fake", "guest.dirty-rate=100M", "-fake", "guest.working-set=1M")
    source = await start_vm(OURS, "src", *guest)
    (directory / "src.ram").write_bytes(pattern())
    destination = await start_vm(REAL, "dst", "-incoming", "defer")
    for vm in (source, destination):
        await vm.execute("migrate-set-capabilities", CAPABILITIES)
    await source.execute("migrate-set-parameters", {"max-bandwidth": 16 << 20, "downtime-limit": 0})
    await destination.execute("migrate-incoming", {"uri": f"unix:{directory}/mig"})
    await source.execute("migrate", {"uri": f"unix:{directory}/mig"})
    # Two passes over pages that were sent before have gone by then.
    await source.wait_event("MIGRATION_PASS", match=lambda event: event["data"]["pass"] >= 4)
    await source.execute("migrate-set-parameters", {"downtime-limit": 1000})
    await source.wait_status("completed")
    await destination.wait_status("completed")
    info = await source.execute("query-migrate")
    assert info["xbzrle-cache"]["pages"] > 0
    assert (directory / "dst.ram").read_bytes() == (directory / "src.ram").read_bytes()
    assert stderr_of(destination) == ""


@pytest.mark.parametrize("version", ["11.1", "10.0", "7.2"])
async def test_both_tell_of_the_cache_in_the_same_fields(start_vm: Start, directory: Path, version: str) -> None:
    told = []
    for kind in (OURS, REAL):
        vm = await start_vm(kind, "src", version=version)
        await vm.execute("migrate-set-capabilities", CAPABILITIES)
        off = [{"capability": "return-path", "state": False}]
        await vm.execute("migrate-set-capabilities", {"capabilities": off})
        await vm.execute("migrate", {"uri": "exec:cat > /dev/null"})
        await vm.wait_status("completed")
        cache = (await vm.execute("query-migrate"))["xbzrle-cache"]
        text = await vm.execute("human-monitor-command", {"command-line": "info migrate -a"})
        lines = [
            line
            for line in text.splitlines()
            if any(word in line for word in ("XBZRLE", "xbzrle", "cache", "miss_rate"))
        ]
        told.append((cache, lines))
        await vm.stop()
    assert told[0] == told[1]
