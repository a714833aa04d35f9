# SPDX-License-Identifier: MIT
"""COLO pairs of which one half is a real QEMU."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.testing.emulator import Emulator
from tests.interop._machines import OURS, REAL, Relay, Start, stderr_of
from tests.interop.test_migration_real import pattern

pytestmark = pytest.mark.real_qemu

DIRECTIONS = [(OURS, REAL), (REAL, OURS)]
DELAY_MS = 100


async def begin(
    start_vm: Start,
    directory: Path,
    kinds: tuple[str, str],
    version: str,
    *argv: str,
    capabilities: tuple[str, ...] = (),
) -> tuple[Emulator, Emulator, Relay]:
    """Primary, secondary and the link between them, when both run."""
    (directory / "primary.ram").write_bytes(pattern())
    primary = await start_vm(kinds[0], "primary", *(argv if kinds[0] == OURS else ()), version=version)
    secondary = await start_vm(kinds[1], "secondary", "-incoming", "defer", version=version)
    switched = ["events", "x-colo", *(["return-path"] if version == "11.1" else []), *capabilities]
    for vm in (primary, secondary):
        states = [{"capability": name, "state": True} for name in switched]
        await vm.execute("migrate-set-capabilities", {"capabilities": states})
        await vm.execute("migrate-set-parameters", {"x-checkpoint-delay": DELAY_MS})
    await secondary.execute("migrate-incoming", {"uri": f"unix:{directory}/far"})
    relay = (PageRelay if "multifd" in capabilities else Relay)(directory / "near", directory / "far")
    await relay.open()
    await primary.execute("migrate", {"uri": f"unix:{directory}/near"})
    await runs(1, primary, secondary)
    return primary, secondary, relay


async def runs(times: int, *pair: Emulator) -> None:
    """Wait until both have been started so many times: at first, and after each checkpoint."""
    for vm in pair:
        position = 0
        for _ in range(times):
            event = await vm.wait_event("RESUME", after=position, timeout=10)
            position = vm.events.index(event, position) + 1


async def told_of_the_end(vm: Emulator) -> dict[str, Any]:
    event = await vm.wait_event("COLO_EXIT", timeout=10)
    return dict(event["data"])


async def go_on_alone(vm: Emulator) -> None:
    position = len(vm.events)
    await vm.execute("x-colo-lost-heartbeat")
    await vm.wait_status("completed", timeout=10)
    await vm.wait_event("RESUME", after=position, timeout=10)
    assert (await vm.execute("query-status"))["status"] == "running"


async def status(vm: Emulator) -> dict[str, Any]:
    found: dict[str, Any] = await vm.execute("query-colo-status")
    return found


@pytest.mark.parametrize("kinds", DIRECTIONS, ids=["to-real", "from-real"])
@pytest.mark.parametrize("version", ["11.1", "10.0", "7.2"])
async def test_checkpoints_go_on_until_the_secondary_takes_over(
    start_vm: Start, directory: Path, kinds: tuple[str, str], version: str
) -> None:
    primary, secondary, relay = await begin(start_vm, directory, kinds, version)
    await runs(3, primary, secondary)
    assert await status(primary) == {"mode": "primary", "last-mode": "none", "reason": "none"}
    assert await status(secondary) == {"mode": "secondary", "last-mode": "none", "reason": "none"}
    assert await primary.execute("query-migrate") == {"status": "colo"}
    await relay.cut()
    assert await told_of_the_end(secondary) == {"mode": "secondary", "reason": "error"}
    assert await told_of_the_end(primary) == {"mode": "primary", "reason": "error"}
    await go_on_alone(secondary)
    assert (directory / "secondary.ram").read_bytes() == pattern()
    assert await status(secondary) == {"mode": "none", "last-mode": "secondary", "reason": "request"}


@pytest.mark.parametrize("kinds", DIRECTIONS, ids=["to-real", "from-real"])
async def test_a_primary_goes_on_alone(start_vm: Start, directory: Path, kinds: tuple[str, str]) -> None:
    primary, secondary, relay = await begin(start_vm, directory, kinds, "11.1")
    await runs(2, primary, secondary)
    await go_on_alone(primary)
    assert await told_of_the_end(secondary) == {"mode": "secondary", "reason": "error"}
    info = await primary.execute("query-migrate")
    assert (info["total-time"], info["downtime"]) == (0, 0)
    assert info["ram"]["duplicate"] + info["ram"]["normal"] == 2048
    # Devices of a checkpoint were counted when they were put aside, too.
    assert info["ram"]["transferred"] > relay.forward
    await relay.close()


async def test_pages_that_changed_reach_a_real_secondary(start_vm: Start, directory: Path) -> None:
    primary, secondary, relay = await begin(
        start_vm, directory, (OURS, REAL), "11.1", "-fake", "guest.dirty-rate=16M,guest.working-set=1M"
    )
    await runs(3, primary, secondary)
    await relay.cut()
    await told_of_the_end(secondary)
    await go_on_alone(secondary)
    found = (directory / "secondary.ram").read_bytes()
    assert found[1 << 20 :] == pattern()[1 << 20 :]
    assert found[: 1 << 20] != pattern()[: 1 << 20]


#: what pages can travel as, beside plain ones
WAYS = [("11.1", "multifd"), ("11.1", "xbzrle"), ("10.0", "xbzrle"), ("7.2", "xbzrle")]


@pytest.mark.parametrize(("version", "capability"), WAYS)
@pytest.mark.parametrize("kinds", DIRECTIONS, ids=["to-real", "from-real"])
async def test_checkpoints_go_over_other_channels_and_as_deltas(
    start_vm: Start, directory: Path, kinds: tuple[str, str], version: str, capability: str
) -> None:
    busy = ("-fake", "guest.dirty-rate=16M,guest.working-set=1M")
    primary, secondary, relay = await begin(start_vm, directory, kinds, version, *busy, capabilities=(capability,))
    await runs(4, primary, secondary)
    await relay.cut()
    await told_of_the_end(secondary)
    await go_on_alone(secondary)
    found = (directory / "secondary.ram").read_bytes()
    assert found[1 << 20 :] == pattern()[1 << 20 :]
    if kinds[0] == OURS:
        assert found[: 1 << 20] != pattern()[: 1 << 20]
    else:
        assert found == pattern()  # nobody is there who writes


class PageRelay(Relay):
    """Knows which of its connections are channels of pages, by their first bytes."""

    def __init__(self, path: Path, target: Path) -> None:
        super().__init__(path, target)
        self._pages: list[list[asyncio.StreamWriter]] = []

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        magic = await reader.readexactly(4)
        far_reader, far_writer = await asyncio.open_unix_connection(str(self.target))
        far_writer.write(magic)
        self._writers += [writer, far_writer]
        if magic != b"QEVM":
            self._pages.append([writer, far_writer])
        self._tasks += [
            asyncio.create_task(self._pump(reader, far_writer, "forward")),
            asyncio.create_task(self._pump(far_reader, writer, "backward")),
        ]

    def cut_a_page_channel(self) -> None:
        """Break one of them, both ways."""
        for writer in self._pages[0]:
            writer.close()


@pytest.mark.parametrize("kinds", [*DIRECTIONS, (REAL, REAL), (OURS, OURS)], ids="-to-".join)
async def test_a_broken_page_channel_ends_the_primarys_checkpoints_alone(
    start_vm: Start, directory: Path, kinds: tuple[str, str]
) -> None:
    primary, secondary, relay = await begin(start_vm, directory, kinds, "11.1", capabilities=("multifd",))
    await runs(2, primary, secondary)
    assert isinstance(relay, PageRelay)
    relay.cut_a_page_channel()
    assert await told_of_the_end(primary) == {"mode": "primary", "reason": "error"}
    assert await primary.execute("query-migrate") == {
        "status": "colo",
        "error-desc": "Unable to write to socket: Broken pipe",
    }
    assert (await secondary.execute("query-migrate"))["status"] == "colo"
    assert not [event for event in secondary.events if event["event"] == "COLO_EXIT"]
    await go_on_alone(primary)
    # A real one says EINVAL now and then: by what it was about when it noticed.
    said = [line.partition(": ")[2] for line in stderr_of(primary).splitlines()]
    reasons = ("Operation not permitted", *(("Invalid argument",) if kinds[0] == REAL else ()))
    assert said[0] in [f"Can't send COLO message: {reason}" for reason in reasons]
    assert said == [said[0], said[0], "Unable to write to socket: Broken pipe"]
    assert await told_of_the_end(secondary) == {"mode": "secondary", "reason": "error"}
    await go_on_alone(secondary)
