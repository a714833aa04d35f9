# SPDX-License-Identifier: MIT
"""A guest that runs in a real QEMU goes through us into another real QEMU, and runs on there.

The guest is the default firmware of a q35: it has real devices, whose state we do not model and keep as bytes. That it runs
is seen in its own memory: the BIOS data area counts the ticks of the timer, so a tick that comes needs CPU, RAM, interrupt
controllers and timer.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from fakeqemu.testing.emulator import Emulator
from tests.interop._machines import OURS, REAL, Start, stderr_of

pytestmark = pytest.mark.real_qemu

#: 18.2 times a second the firmware counts up here
TICKS_ADDRESS = 0x46C
SCREEN_ADDRESS = 0xB8000
BANNER = b"SeaBIOS"
ROWS, COLUMNS = 25, 80
MACHINES = {
    "bare": ("-machine", "q35", "-nodefaults", "-m", "64"),
    "default": ("-machine", "q35", "-m", "64"),
    "cpus": ("-machine", "q35", "-m", "64", "-smp", "3"),
}


async def memory(vm: Emulator, address: int, size: int) -> bytes:
    """What the guest has in its memory, as the real emulator's human monitor tells it."""
    text = await vm.hmp(f"xp /{size}bx {address:#x}")
    return bytes(int(word, 16) for line in text.splitlines() for word in line.partition(":")[2].split())


async def ticks(vm: Emulator) -> int:
    return int.from_bytes(await memory(vm, TICKS_ADDRESS, 4), "little")


async def ticks_beyond(vm: Emulator, count: int) -> int:
    """Wait until the guest's clock is past `count`."""
    async with asyncio.timeout(30):
        while (now := await ticks(vm)) <= count:
            await asyncio.sleep(0.02)
        return now


async def screen(vm: Emulator) -> bytes:
    return (await memory(vm, SCREEN_ADDRESS, ROWS * COLUMNS * 2))[::2]


async def booted(vm: Emulator, *, with_screen: bool) -> None:
    """Wait until the firmware has its interrupts and has said who it is."""
    await ticks_beyond(vm, 0)
    async with asyncio.timeout(30):
        while with_screen and BANNER not in await screen(vm):
            await asyncio.sleep(0.05)


async def capabilities(*vms: Emulator, **states: bool) -> None:
    listed = [{"capability": name.replace("_", "-"), "state": on} for name, on in states.items()]
    for vm in vms:
        await vm.execute("migrate-set-capabilities", {"capabilities": listed})


async def send(source: Emulator, address: str) -> None:
    """Have the guest leave, and wait for the end of it: one that has come to `source` before had its own."""
    before = len(source.events)
    await source.execute("migrate", {"uri": address})
    await source.wait_event(
        "MIGRATION", after=before, match=lambda event: event["data"]["status"] in ("completed", "failed")
    )
    info = await source.execute("query-migrate")
    assert info["status"] == "completed", info.get("error-desc")


async def migrate(source: Emulator, destination: Emulator, address: str, *, running: bool = True) -> None:
    """One leg of the way; both ends say that all is well."""
    await destination.execute("migrate-incoming", {"uri": address})
    await send(source, address)
    await destination.wait_status("completed")
    assert (await destination.execute("query-status"))["status"] == ("running" if running else "paused")


def silent(*vms: Emulator) -> None:
    for vm in vms:
        assert stderr_of(vm) == ""


async def three(start_any: Start, argv: tuple[str, ...], version: str = "11.1") -> tuple[Emulator, Emulator, Emulator]:
    """The first real one with a running guest, ours, and the second real one."""
    first = await start_any(REAL, "first", *argv, version=version)
    ours = await start_any(OURS, "ours", *argv, "-incoming", "defer", version=version)
    second = await start_any(REAL, "second", *argv, "-incoming", "defer", version=version)
    await capabilities(first, ours, second, events=True)
    await booted(first, with_screen="-nodefaults" not in argv)
    return first, ours, second


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("return_path", [False, True], ids=["plain", "return-path"])
async def test_a_running_guest_goes_through_us_and_runs_on(
    start_any: Start, directory: Path, machine: str, return_path: bool
) -> None:
    first, ours, second = await three(start_any, MACHINES[machine])
    await capabilities(first, ours, second, return_path=return_path)
    await migrate(first, ours, f"unix:{directory}/1.mig")
    left = await ticks(first)
    shown = await screen(first)
    await migrate(ours, second, f"unix:{directory}/2.mig")
    await ticks_beyond(second, left)
    assert (await screen(second)).startswith(shown.rstrip())  # it goes on, and may have written more
    assert "-nodefaults" in MACHINES[machine] or BANNER in shown
    silent(first, ours, second)


async def test_a_guest_is_put_into_a_file_by_us_and_taken_out_later(start_any: Start, directory: Path) -> None:
    first, ours, second = await three(start_any, MACHINES["default"])
    await migrate(first, ours, f"unix:{directory}/1.mig")
    left = await ticks(first)
    shown = await screen(first)
    saved = directory / "saved"
    await send(ours, f"file:{saved},offset=0x1000")
    await ours.stop()
    await second.execute("migrate-incoming", {"uri": f"file:{saved},offset=0x1000"})
    await second.wait_status("completed")
    await ticks_beyond(second, left)
    assert (await screen(second)).startswith(shown.rstrip())  # it goes on, and may have written more
    silent(first, second)


async def test_a_paused_guest_arrives_paused_and_as_it_was(start_any: Start, directory: Path) -> None:
    first, ours, second = await three(start_any, MACHINES["bare"])
    await first.execute("stop")
    left = await first.hmp("info registers")
    await migrate(first, ours, f"unix:{directory}/1.mig", running=False)
    await migrate(ours, second, f"unix:{directory}/2.mig", running=False)
    assert await second.hmp("info registers") == left
    ticks_left = await ticks(first)
    assert await ticks(second) == ticks_left
    await second.execute("cont")
    await ticks_beyond(second, ticks_left)
    silent(first, ours, second)


@pytest.mark.parametrize("version", ["10.0", "7.2"])
async def test_the_relay_of_older_releases(start_any: Start, directory: Path, version: str) -> None:
    first, ours, second = await three(start_any, MACHINES["cpus"], version)
    await migrate(first, ours, f"unix:{directory}/1.mig")
    left = await ticks(first)
    await migrate(ours, second, f"unix:{directory}/2.mig")
    await ticks_beyond(second, left)
    silent(first, ours, second)


@pytest.mark.parametrize("version", ["11.1", "10.0", "7.2"])
async def test_sections_of_many_cpus_stand_and_are_numbered_as_in_qemu(
    start_any: Start, directory: Path, version: str
) -> None:
    found = []
    for kind in (REAL, OURS):
        vm = await start_any(
            kind, kind, "-machine", "q35", "-m", "16", "-smp", "3,sockets=1,cores=3", "-S", version=version
        )
        await capabilities(vm, events=True)
        saved = directory / f"{kind}.saved"
        written = directory / f"{kind}.written"
        os.mkfifo(written)
        await vm.execute("migrate", {"uri": f"exec:cat > {saved}; echo all > {written}"})
        await vm.wait_status("completed")
        async with asyncio.timeout(20):  # QEMU does not wait for the program
            await asyncio.to_thread(written.read_text)
        found.append(sections_in(saved.read_bytes()))
    assert found[0] == found[1]


def sections_in(stream: bytes) -> list[tuple[str, int, int]]:
    """Name, instance and number of each described section."""
    text = stream.index(b'{"', stream.rindex(b"\x00\x06"))
    result = []
    for device in json.loads(stream[text:])["devices"]:
        name = device["name"].encode()
        at = stream.index(bytes((len(name),)) + name + device["instance_id"].to_bytes(4, "big"))
        result.append((device["name"], device["instance_id"], int.from_bytes(stream[at - 4 : at], "big")))
    return result
