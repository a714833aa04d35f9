# SPDX-License-Identifier: MIT
"""A real QEMU 11.1 migrates to us and we to it: the bytes on the wire are QEMU's.

`-machine none` with 8 MiB of RAM in a file that both the test and the emulator see: what the guest's memory holds is
written before, and compared on the far side after.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from fakeqemu.testing.emulator import Emulator
from tests.interop._machines import OURS, REAL, Relay, Start, stderr_of

pytestmark = pytest.mark.real_qemu

MIB = 1 << 20
RAM_BYTES = 8 * MIB
PAGE = 4096
DIRECTIONS = [(OURS, REAL), (REAL, OURS)]


def pattern(pages: int = RAM_BYTES // PAGE) -> bytes:
    """Pages of zeroes, of text and of noise, in runs of all lengths."""
    chance = random.Random(5)
    content = bytearray()
    while len(content) < pages * PAGE:
        kind = chance.choice(("zero", "text", "noise"))
        for page in range(chance.choice((1, 2, 7, 40))):
            if kind == "zero":
                content += bytes(PAGE)
            elif kind == "text":
                content += (b"page %d " % page * PAGE)[:PAGE]
            else:
                content += chance.randbytes(PAGE)
    return bytes(content[: pages * PAGE])


class Sides:
    """Source and destination with a known memory."""

    def __init__(self, source: Emulator, destination: Emulator, directory: Path) -> None:
        self.source = source
        self.destination = destination
        self.directory = directory
        self.content = pattern()
        self._ram_file("src").write_bytes(self.content)

    def _ram_file(self, name: str) -> Path:
        return self.directory / f"{name}.ram"

    async def capabilities(self, **states: bool) -> None:
        listed = [{"capability": name.replace("_", "-"), "state": on} for name, on in states.items()]
        for vm in (self.source, self.destination):
            await vm.execute("migrate-set-capabilities", {"capabilities": listed})

    async def completed(self) -> dict[str, Any]:
        """Wait until both sides say so; the memory is the same on both, and the pages add up."""
        await self.source.wait_status("completed")
        await self.destination.wait_status("completed")
        await self.destination.wait_event("RESUME")
        assert await self.destination.execute("query-migrate") == {"status": "completed"}
        assert (await self.destination.execute("query-status"))["status"] == "running"
        assert (await self.source.execute("query-status"))["status"] == "postmigrate"
        assert self._ram_file("dst").read_bytes() == self.content
        info: dict[str, Any] = await self.source.execute("query-migrate")
        zero = sum(not any(self.content[at : at + PAGE]) for at in range(0, RAM_BYTES, PAGE))
        assert info["ram"]["duplicate"] == zero
        assert info["ram"]["duplicate"] + info["ram"]["normal"] == RAM_BYTES // PAGE
        for vm in (self.source, self.destination):
            assert stderr_of(vm) == ""
        return info


@pytest_asyncio.fixture(params=DIRECTIONS, ids=["to-real", "from-real"])
async def sides(request: pytest.FixtureRequest, start_vm: Start, directory: Path) -> Sides:
    kinds = request.param
    source = await start_vm(kinds[0], "src")
    destination = await start_vm(kinds[1], "dst", "-incoming", "defer")
    both = Sides(source, destination, directory)
    await both.capabilities(events=True)
    return both


@pytest.mark.parametrize("return_path", [False, True], ids=["plain", "return-path"])
async def test_memory_arrives_over_unix_and_every_byte_is_counted(sides: Sides, return_path: bool) -> None:
    await sides.capabilities(return_path=return_path)
    relay = Relay(sides.directory / "relay", sides.directory / "dst.mig")
    await relay.open()
    await sides.destination.execute("migrate-incoming", {"uri": f"unix:{relay.target}"})
    await sides.source.execute("migrate", {"uri": f"unix:{relay.path}"})
    info = await sides.completed()
    await relay.close()
    assert info["ram"]["transferred"] == relay.forward
    assert (relay.backward > 0) == return_path


async def test_memory_arrives_over_tcp(sides: Sides) -> None:
    await sides.destination.execute("migrate-incoming", {"uri": "tcp:127.0.0.1:0"})
    address = (await sides.destination.execute("query-migrate"))["socket-address"][0]
    await sides.source.execute("migrate", {"uri": f"tcp:127.0.0.1:{address['port']}"})
    await sides.completed()


async def test_memory_arrives_over_passed_descriptors(sides: Sides) -> None:
    ends = socket.socketpair()
    for vm, end in zip((sides.source, sides.destination), ends, strict=True):
        vm.qmp.send_fd_scm(end.fileno())
        await vm.execute("getfd", {"fdname": "mig"})
        end.close()
    await sides.destination.execute("migrate-incoming", {"uri": "fd:mig"})
    await sides.source.execute("migrate", {"uri": "fd:mig"})
    await sides.completed()


async def test_memory_arrives_through_programs(sides: Sides) -> None:
    path, written = sides.directory / "through", sides.directory / "written"
    os.mkfifo(written)
    await sides.source.execute("migrate", {"uri": f"exec:cat > {path}; echo all > {written}"})
    await sides.source.wait_status("completed")
    async with asyncio.timeout(20):  # QEMU does not wait for the program, which may still be writing
        assert await asyncio.to_thread(written.read_text) == "all\n"
    await sides.destination.execute("migrate-incoming", {"uri": f"exec:cat {path}"})
    await sides.completed()


@pytest.mark.parametrize("offset", [0, 1 << 16])
async def test_memory_arrives_by_way_of_a_file(sides: Sides, offset: int) -> None:
    path = sides.directory / "saved"
    uri = f"file:{path},offset={offset}"
    await sides.source.execute("migrate", {"uri": uri})
    await sides.source.wait_status("completed")
    size = (await sides.source.execute("query-migrate"))["ram"]["transferred"]
    assert path.stat().st_size == offset + size
    await sides.destination.execute("migrate-incoming", {"uri": uri})
    await sides.completed()


async def test_a_paused_guest_stays_paused(sides: Sides) -> None:
    await sides.source.execute("stop")
    await sides.destination.execute("migrate-incoming", {"uri": f"unix:{sides.directory}/dst.mig"})
    await sides.source.execute("migrate", {"uri": f"unix:{sides.directory}/dst.mig"})
    await sides.source.wait_status("completed")
    await sides.destination.wait_status("completed")
    assert (await sides.destination.execute("query-status"))["status"] == "paused"


@pytest.mark.parametrize("kinds", DIRECTIONS, ids=["to-real", "from-real"])
async def test_another_size_of_memory_is_refused_in_the_same_words(
    kinds: tuple[str, str], start_vm: Start, directory: Path
) -> None:
    source = await start_vm(kinds[0], "src")
    destination = await start_vm(kinds[1], "dst", "-incoming", "defer", mib=16)
    events = {"capabilities": [{"capability": "events", "state": True}, {"capability": "return-path", "state": True}]}
    for vm in (source, destination):
        await vm.execute("migrate-set-capabilities", events)
    uri = f"unix:{directory}/dst.mig"
    await destination.execute("migrate-incoming", {"uri": uri, "exit-on-error": False})
    await source.execute("migrate", {"uri": uri})
    await destination.wait_status("failed")
    await source.wait_status("failed")
    assert await destination.execute("query-migrate") == {
        "status": "failed",
        "error-desc": "load of migration failed: Invalid argument: error while loading state for instance 0x0 of device "
        "'ram': Failed to load vmstate version_id: 4, ret: -22",
    }
    assert stderr_of(destination).endswith("Size mismatch: ram0: 0x800000 != 0x1000000: Invalid argument\n")
    assert (await source.execute("query-status"))["status"] == "running"
    assert (await source.execute("query-migrate"))["error-desc"] in (
        "Sibling indicated error 1",
        "Unable to read from socket: Connection reset by peer",
        "Unable to write to socket: Broken pipe",
        "Failed to flush QEMUFile: Unable to write to socket: Broken pipe",
        "Failed to save iterable device state: Unable to write to socket: Broken pipe",
        "Channel error: Input/output error",
    )


@pytest.mark.parametrize("version", ["10.0", "7.2"])
@pytest.mark.parametrize("kinds", DIRECTIONS, ids=["to-real", "from-real"])
async def test_older_releases_understand_us_and_we_them(
    kinds: tuple[str, str], version: str, start_vm: Start, directory: Path
) -> None:
    source = await start_vm(kinds[0], "src", version=version)
    destination = await start_vm(kinds[1], "dst", "-incoming", "defer", version=version)
    both = Sides(source, destination, directory)
    await both.capabilities(events=True, return_path=True)
    await destination.execute("migrate-incoming", {"uri": f"unix:{directory}/dst.mig"})
    await source.execute("migrate", {"uri": f"unix:{directory}/dst.mig"})
    await both.completed()


@pytest.mark.parametrize("offset", [0, 1000, 3 << 20])
@pytest.mark.parametrize("direct_io", [False, True], ids=["buffered", "direct-io"])
async def test_memory_has_its_place_in_a_mapped_file(sides: Sides, offset: int, direct_io: bool) -> None:
    path = sides.directory / "saved"
    uri = f"file:{path},offset={offset}"
    await sides.capabilities(mapped_ram=True)
    for vm in (sides.source, sides.destination):
        await vm.execute("migrate-set-parameters", {"direct-io": direct_io})
    await sides.source.execute("migrate", {"uri": uri})
    await sides.source.wait_status("completed")
    pages = -(-(offset + 0x82 + 256) // MIB) * MIB
    saved = path.read_bytes()
    assert saved[pages : pages + RAM_BYTES] == sides.content
    await sides.destination.execute("migrate-incoming", {"uri": uri})
    info = await sides.completed()
    start, end = 0x82 + 256, len(saved) - pages - RAM_BYTES
    assert info["ram"]["transferred"] == start + end + info["ram"]["normal-bytes"]
    assert info["ram"]["downtime-bytes"] == 256


def damaged(saved: bytes) -> dict[str, bytes]:
    """A mapped-ram file with something wrong in the header of its only block, or with its end missing."""

    def put(at: int, data: bytes) -> bytes:
        return saved[: 0x66 + at] + data + saved[0x66 + at + len(data) :]

    return {
        "version": put(0, (2).to_bytes(4, "big")),
        "page size": put(4, (8192).to_bytes(8, "big")),
        "bitmap beyond": put(12, (1 << 40).to_bytes(8, "big")),
        "bitmap far beyond": put(12, (1 << 63).to_bytes(8, "big")),
        "pages beyond": put(20, (1 << 40).to_bytes(8, "big")),
        "pages far beyond": put(20, (1 << 63).to_bytes(8, "big")),
        "cut in the header": saved[: 0x66 + 10],
        "cut in the bitmap": saved[: 0x66 + 100],
        "cut in the pages": saved[: MIB + 5 * PAGE],
        "cut behind the pages": saved[: 9 * MIB],
        "no page is there": put(28, bytes(256)),
    }


async def test_damaged_mapped_files_end_in_the_same_words(start_vm: Start, directory: Path) -> None:
    source = await start_vm(OURS, "src")
    (directory / "src.ram").write_bytes(pattern())
    mapped = {"capabilities": [{"capability": name, "state": True} for name in ("mapped-ram", "events")]}
    await source.execute("migrate-set-capabilities", mapped)
    await source.execute("migrate", {"uri": f"file:{directory}/good"})
    await source.wait_status("completed")
    for name, data in damaged((directory / "good").read_bytes()).items():
        (directory / "bad").write_bytes(data)
        ends = []
        for kind in (OURS, REAL):
            vm = await start_vm(kind, "dst", "-incoming", "defer")
            (directory / "dst.ram").write_bytes(b"\7" * RAM_BYTES)
            await vm.execute("migrate-set-capabilities", mapped)
            await vm.execute("migrate-incoming", {"uri": f"file:{directory}/bad", "exit-on-error": False})
            await vm.wait_status("completed", "failed")
            info = await vm.execute("query-migrate")
            await vm.stop()
            said = stderr_of(vm).partition(": ")[2]
            ends.append((info, said, (directory / "dst.ram").read_bytes()))
        assert ends[0] == ends[1], name


@pytest.mark.parametrize(
    ("backend", "version"), [("memfd", "11.1"), ("file", "11.1"), ("memfd", "7.2"), ("ram", "7.2")]
)
async def test_ignore_shared_leaves_the_same_memory_behind(
    start_any: Start, directory: Path, backend: str, version: str
) -> None:
    totals = []
    for kind in (OURS, REAL):
        path = f",mem-path={directory}/shared.ram" if backend == "file" else ""
        memory = f"memory-backend-{backend},id=shared,size=4M,share=on{path}"
        machine = ("-machine", "none,memory-backend=shared", "-m", "4", "-object", memory)
        vm = await start_any(kind, kind, *machine, version=version)
        listed = [{"capability": name, "state": True} for name in ("x-ignore-shared", "events")]
        await vm.execute("migrate-set-capabilities", {"capabilities": listed})
        await vm.execute("migrate", {"uri": "exec:cat > /dev/null"})
        await vm.wait_status("completed")
        totals.append((await vm.execute("query-migrate"))["ram"]["total"])
        await vm.stop()
    assert totals[0] == totals[1]


async def test_shared_memory_stays_where_it_is(sides: Sides) -> None:
    await sides.capabilities(x_ignore_shared=True, return_path=True)
    await sides.destination.execute("migrate-incoming", {"uri": f"unix:{sides.directory}/dst.mig"})
    await sides.source.execute("migrate", {"uri": f"unix:{sides.directory}/dst.mig"})
    await sides.source.wait_status("completed")
    await sides.destination.wait_status("completed")
    info = await sides.source.execute("query-migrate")
    assert (info["ram"]["total"], info["ram"]["normal"], info["ram"]["duplicate"]) == (0, 0, 0)
    assert not any((sides.directory / "dst.ram").read_bytes())


@pytest.mark.parametrize("kind", [OURS, REAL])
@pytest.mark.parametrize("mapped", [False, True], ids=["stream", "mapped-ram"])
async def test_without_detection_zero_pages_go_as_all_others(
    start_vm: Start, directory: Path, kind: str, mapped: bool
) -> None:
    (directory / "src.ram").write_bytes(pattern())
    source = await start_vm(kind, "src")
    listed = [{"capability": "events", "state": True}, {"capability": "mapped-ram", "state": mapped}]
    await source.execute("migrate-set-capabilities", {"capabilities": listed})
    await source.execute("migrate-set-parameters", {"zero-page-detection": "none"})
    await source.execute("migrate", {"uri": f"file:{directory}/saved"})
    await source.wait_status("completed")
    ram = (await source.execute("query-migrate"))["ram"]
    assert (ram["normal"], ram["duplicate"]) == (RAM_BYTES // PAGE, 0)
