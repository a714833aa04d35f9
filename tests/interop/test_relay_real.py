# SPDX-License-Identifier: MIT
"""A guest that runs in a real QEMU goes through us into another real QEMU, and runs on there.

The guest is the default firmware of a q35: it has real devices, whose state we do not model and keep as bytes. That it runs
is seen in its own memory: the BIOS data area counts the ticks of the timer, so a tick that comes needs CPU, RAM, interrupt
controllers and timer.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.testing.emulator import Emulator
from tests.interop._machines import OURS, REAL, Start, stderr_of

pytestmark = pytest.mark.real_qemu

#: 18.2 times a second the firmware counts up here
TICKS_ADDRESS = 0x46C
SCREEN_ADDRESS = 0xB8000
#: of the firmware, or of the ROM of a network card, which scrolls that away
BANNERS = (b"SeaBIOS", b"iPXE")
ROWS, COLUMNS = 25, 80
RAM_BYTES = 64 << 20
MACHINES = {
    "bare": ("-machine", "q35", "-nodefaults", "-m", "64"),
    "default": ("-machine", "q35", "-m", "64"),
    "network": (
        "-machine",
        "q35",
        "-m",
        "64",
        "-device",
        "virtio-net-pci",
        "-device",
        "e1000",
        "-device",
        "bochs-display",
    ),
    "cpus": ("-machine", "q35", "-m", "64", "-smp", "3"),
}


async def memory(vm: Emulator, address: int, size: int) -> bytes:
    """What the guest has in its memory, as the real emulator's human monitor tells it."""
    text = await vm.hmp(f"xp /{size}bx {address:#x}")
    return bytes(int(word, 16) for line in text.splitlines() for word in line.partition(":")[2].split())


async def ticks(vm: Emulator) -> int:
    return int.from_bytes(await memory(vm, TICKS_ADDRESS, 4), "little")


async def ticks_beyond(vm: Emulator, count: int) -> int:
    """Wait until the guest's clock is past `count`: nothing tells of that, so it is asked, and each answer waited for."""
    async with asyncio.timeout(30):
        while (now := await ticks(vm)) <= count:
            pass
        return now


async def screen(vm: Emulator) -> bytes:
    return (await memory(vm, SCREEN_ADDRESS, ROWS * COLUMNS * 2))[::2]


def is_banner(shown: bytes) -> bool:
    return any(banner in shown for banner in BANNERS)


async def booted(vm: Emulator, *, with_screen: bool) -> None:
    """Wait until the firmware has its interrupts and has said who it is."""
    await ticks_beyond(vm, 0)
    async with asyncio.timeout(30):
        while with_screen and not is_banner(await screen(vm)):
            pass


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


async def parameters(*vms: Emulator, **values: Any) -> None:
    for vm in vms:
        await vm.execute("migrate-set-parameters", {name.replace("_", "-"): value for name, value in values.items()})


async def whole_memory(vm: Emulator, directory: Path) -> str:
    """A digest of all that the guest has below and above what devices show there."""
    digest = hashlib.sha256()
    for start, end in ((0, 0xA0000), (0x100000, RAM_BYTES)):
        saved = directory / "memory"
        await vm.execute("pmemsave", {"val": start, "size": end - start, "filename": str(saved)})
        digest.update(saved.read_bytes())
        saved.unlink()
    return digest.hexdigest()


async def runs_on(first: Emulator, second: Emulator, directory: Path) -> None:
    """The guest that has left `first` is in `second` as it left, byte by byte; and it goes on from there."""
    assert await screen(second) == await screen(first)
    assert await whole_memory(second, directory) == await whole_memory(first, directory)
    assert await second.hmp("info registers") == await first.hmp("info registers")
    left = await ticks(second)
    await second.execute("cont")
    await ticks_beyond(second, left)


def silent(*vms: Emulator) -> None:
    for vm in vms:
        assert stderr_of(vm) == ""


async def three(start_any: Start, argv: tuple[str, ...], version: str = "11.1") -> tuple[Emulator, Emulator, Emulator]:
    """The first real one with a running guest, ours, and the second real one."""
    first = await start_any(REAL, "first", *argv, version=version)
    ours = await start_any(OURS, "ours", *argv, "-incoming", "defer", version=version)
    # It arrives paused, to be looked at before it goes on.
    second = await start_any(REAL, "second", *argv, "-S", "-incoming", "defer", version=version)
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
    await migrate(ours, second, f"unix:{directory}/2.mig", running=False)
    assert "-nodefaults" in MACHINES[machine] or is_banner(await screen(second))
    await runs_on(first, second, directory)
    silent(first, ours, second)


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("zero_pages", ["multifd", "legacy"])
async def test_a_guest_goes_through_us_on_channels_of_its_own(
    start_any: Start, directory: Path, compression: str, zero_pages: str
) -> None:
    if compression == "zstd":
        pytest.importorskip("zstandard")
    three_vms = first, ours, second = await three(start_any, MACHINES["default"])
    await capabilities(*three_vms, multifd=True, return_path=True)
    await parameters(*three_vms, multifd_channels=4, multifd_compression=compression, zero_page_detection=zero_pages)
    await migrate(first, ours, f"unix:{directory}/1.mig")
    await migrate(ours, second, f"unix:{directory}/2.mig", running=False)
    assert (await ours.execute("query-migrate"))["ram"]["multifd-bytes"] > 0
    await runs_on(first, second, directory)
    silent(*three_vms)


@pytest.mark.parametrize("direct_io", [False, True], ids=["cached", "direct-io"])
@pytest.mark.parametrize("multifd", [False, True], ids=["one-channel", "multifd"])
async def test_a_guest_goes_through_us_by_files_with_a_place_for_each_page(
    start_any: Start, directory: Path, multifd: bool, direct_io: bool
) -> None:
    three_vms = first, ours, second = await three(start_any, MACHINES["default"])
    await capabilities(*three_vms, mapped_ram=True, multifd=multifd)
    await parameters(*three_vms, multifd_channels=3, direct_io=direct_io)
    await send(first, f"file:{directory}/1,offset=4096")
    await ours.execute("migrate-incoming", {"uri": f"file:{directory}/1,offset=4096"})
    await ours.wait_status("completed")
    await send(ours, f"file:{directory}/2,offset=70000")
    await second.execute("migrate-incoming", {"uri": f"file:{directory}/2,offset=70000"})
    await second.wait_status("completed")
    await runs_on(first, second, directory)
    silent(*three_vms)


async def test_a_guest_comes_to_us_in_deltas(start_any: Start, directory: Path) -> None:
    first, ours, second = await three(start_any, MACHINES["default"])
    await capabilities(first, ours, xbzrle=True)
    # So slow that the guest writes pages again that have gone already.
    await parameters(first, max_bandwidth=400_000, downtime_limit=0)
    await migrate(first, ours, f"unix:{directory}/1.mig")
    assert (await first.execute("query-migrate"))["xbzrle-cache"]["pages"] > 0
    await capabilities(ours, xbzrle=False)
    await migrate(ours, second, f"unix:{directory}/2.mig", running=False)
    await runs_on(first, second, directory)
    silent(first, ours, second)


async def test_a_guest_is_put_into_a_file_by_us_and_taken_out_later(start_any: Start, directory: Path) -> None:
    first, ours, second = await three(start_any, MACHINES["default"])
    await migrate(first, ours, f"unix:{directory}/1.mig")
    saved = directory / "saved"
    await send(ours, f"file:{saved},offset=0x1000")
    await ours.stop()
    await second.execute("migrate-incoming", {"uri": f"file:{saved},offset=0x1000"})
    await second.wait_status("completed")
    await runs_on(first, second, directory)
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
    await migrate(ours, second, f"unix:{directory}/2.mig", running=False)
    await runs_on(first, second, directory)
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
