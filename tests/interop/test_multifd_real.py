# SPDX-License-Identifier: MIT
"""Multifd with a real QEMU at the other end, both ways: its channels are ours, and ours are its."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

import pytest
from qemu.qmp import ExecuteError

from tests.interop._machines import OURS, REAL, Start, stderr_of
from tests.interop.test_migration_real import DIRECTIONS, PAGE, RAM_BYTES, Sides, pattern

pytestmark = pytest.mark.real_qemu

INIT = 64
PACKET = 1344


async def two_sides(kinds: tuple[str, str], start_vm: Start, directory: Path, version: str = "11.1") -> Sides:
    source = await start_vm(kinds[0], "src", version=version)
    destination = await start_vm(kinds[1], "dst", "-incoming", "defer", version=version)
    both = Sides(source, destination, directory)
    await both.capabilities(events=True, multifd=True)
    return both


async def parameters(sides: Sides, **values: Any) -> None:
    for vm in (sides.source, sides.destination):
        await vm.execute("migrate-set-parameters", {name.replace("_", "-"): value for name, value in values.items()})


async def migrate(sides: Sides) -> None:
    uri = f"unix:{sides.directory}/dst.mig"
    await sides.destination.execute("migrate-incoming", {"uri": uri})
    await sides.source.execute("migrate", {"uri": uri})


async def arrived(sides: Sides, *, zero_pages: bool = True, quiet: bool = True) -> dict[str, Any]:
    """Both sides have completed and the memory is the same; the source's `ram`."""
    await sides.source.wait_status("completed")
    await sides.destination.wait_status("completed")
    await sides.destination.wait_event("RESUME")
    assert (sides.directory / "dst.ram").read_bytes() == sides.content
    for vm in (sides.source, sides.destination):
        assert not quiet or stderr_of(vm) == ""
    ram: dict[str, Any] = (await sides.source.execute("query-migrate"))["ram"]
    zero = sum(not any(sides.content[at : at + PAGE]) for at in range(0, RAM_BYTES, PAGE)) if zero_pages else 0
    assert (ram["duplicate"], ram["normal"]) == (zero, RAM_BYTES // PAGE - zero)
    return ram


@pytest.mark.parametrize("compression", ["none", "zlib", "zstd"])
@pytest.mark.parametrize("channels", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("kinds", DIRECTIONS, ids=["to-real", "from-real"])
async def test_memory_arrives_on_channels_of_its_own(
    kinds: tuple[str, str], channels: int, compression: str, start_vm: Start, directory: Path
) -> None:
    if compression == "zstd":
        pytest.importorskip("zstandard")
    sides = await two_sides(kinds, start_vm, directory)
    # Nothing may be left of the pass when the guest is stopped: else there is no barrier at its end.
    await parameters(sides, multifd_channels=channels, multifd_compression=compression, downtime_limit=0)
    await migrate(sides)
    ram = await arrived(sides)
    if compression == "none":
        pages = ram["normal-bytes"]
        packets, rest = divmod(ram["multifd-bytes"] - INIT * channels - pages, PACKET)
        assert rest == 0
        # The pages' own; and a SYNC packet on each channel for the barriers in setup, at the end of the one pass, in END.
        assert ram["dirty-sync-count"] == 2
        assert packets == math.ceil(RAM_BYTES / PAGE / 128) + 3 * channels
    else:
        assert 0 < ram["multifd-bytes"] < ram["normal-bytes"]


@pytest.mark.parametrize("mode", ["none", "legacy", "multifd"])
@pytest.mark.parametrize("kinds", DIRECTIONS, ids=["to-real", "from-real"])
async def test_zero_pages_in_every_mode(
    kinds: tuple[str, str], mode: str, start_vm: Start, directory: Path
) -> None:  # fmt: skip
    sides = await two_sides(kinds, start_vm, directory)
    await parameters(sides, zero_page_detection=mode, multifd_channels=4)
    await migrate(sides)
    ram = await arrived(sides, zero_pages=mode != "none")
    # Zero pages are records of the main channel, of nine bytes, or they are not.
    assert (ram["precopy-bytes"] + ram["downtime-bytes"] >= 9 * ram["duplicate"]) == (mode != "multifd")


@pytest.mark.parametrize("compression", ["none", "zlib", "zstd"])
@pytest.mark.parametrize("version", ["10.0", "7.2"])
@pytest.mark.parametrize("kinds", DIRECTIONS, ids=["to-real", "from-real"])
async def test_older_releases_have_the_same_channels(
    kinds: tuple[str, str], version: str, compression: str, start_vm: Start, directory: Path
) -> None:
    if compression == "zstd":
        pytest.importorskip("zstandard")
    sides = await two_sides(kinds, start_vm, directory, version)
    await parameters(sides, multifd_channels=3, multifd_compression=compression)
    await sides.capabilities(return_path=True)
    await migrate(sides)
    await arrived(sides)


async def test_channels_over_tcp_and_with_a_return_path(start_vm: Start, directory: Path) -> None:
    for kinds in DIRECTIONS:
        source = await start_vm(kinds[0], f"src-{kinds[0]}")
        destination = await start_vm(kinds[1], f"dst-{kinds[1]}", "-incoming", "defer")
        content = (directory / f"src-{kinds[0]}.ram").read_bytes()
        sides = Sides(source, destination, directory)
        (directory / f"src-{kinds[0]}.ram").write_bytes(sides.content)
        await sides.capabilities(events=True, multifd=True, return_path=True)
        await parameters(sides, multifd_channels=8, multifd_compression="zlib")
        await destination.execute("migrate-incoming", {"uri": "tcp:127.0.0.1:0"})
        address = (await destination.execute("query-migrate"))["socket-address"][0]
        await source.execute("migrate", {"uri": f"tcp:127.0.0.1:{address['port']}"})
        await source.wait_status("completed")
        await destination.wait_status("completed")
        assert (directory / f"dst-{kinds[1]}.ram").read_bytes() == sides.content != content


@pytest.mark.parametrize("version", ["11.1", "10.0"])
@pytest.mark.parametrize("kinds", DIRECTIONS, ids=["to-real", "from-real"])
async def test_a_migration_that_was_cancelled_is_tried_again_with_fewer_channels(
    kinds: tuple[str, str], version: str, start_vm: Start, directory: Path
) -> None:
    sides = await two_sides(kinds, start_vm, directory, version)
    await parameters(sides, multifd_channels=5)
    await sides.source.execute("migrate-set-parameters", {"max-bandwidth": 1 << 20})
    first = await start_vm(kinds[1], "first", "-incoming", "defer", version=version)
    states = [{"capability": name, "state": True} for name in ("events", "multifd")]
    await first.execute("migrate-set-capabilities", {"capabilities": states})
    await first.execute("migrate-set-parameters", {"multifd-channels": 5})
    await first.execute("migrate-incoming", {"uri": f"unix:{directory}/first.mig", "exit-on-error": False})
    await sides.source.execute("migrate", {"uri": f"unix:{directory}/first.mig"})
    await sides.source.wait_status("active")
    await first.wait_status("active")
    await sides.source.execute("migrate_cancel")
    await sides.source.wait_status("cancelled")
    await first.wait_status("failed")
    await parameters(sides, multifd_channels=2, max_bandwidth=0)
    sides.source.events.clear()
    await migrate(sides)
    await arrived(sides, quiet=False)  # of the first try something may have been printed


@pytest.mark.parametrize("kinds", DIRECTIONS, ids=["to-real", "from-real"])
async def test_multifd_on_one_side_only_fails_as_between_real_ones(
    kinds: tuple[str, str], start_vm: Start, directory: Path
) -> None:
    sides = await two_sides(kinds, start_vm, directory)
    off = [{"capability": "multifd", "state": False}]
    await sides.destination.execute("migrate-set-capabilities", {"capabilities": off})
    await sides.destination.execute(
        "migrate-incoming", {"uri": f"unix:{directory}/dst.mig", "exit-on-error": False}
    )  # fmt: skip
    await sides.source.execute("migrate", {"uri": f"unix:{directory}/dst.mig"})
    await sides.source.wait_status("failed")
    assert (await sides.source.execute("query-migrate"))["error-desc"] in (
        "Unable to write to socket: Broken pipe",
        "Unable to write to socket: Connection reset by peer",
    )
    assert (await sides.source.execute("query-status"))["status"] == "running"
    assert "Extra incoming migration connection; ignoring" in stderr_of(sides.destination)


async def test_another_number_of_channels_at_a_real_destination_holds_no_monitor_of_ours_up(
    start_vm: Start, directory: Path
) -> None:
    sides = await two_sides(DIRECTIONS[0], start_vm, directory)
    await parameters(sides, multifd_channels=8)
    await sides.destination.execute("migrate-set-parameters", {"multifd-channels": 2})
    await migrate(sides)
    for _ in range(3):
        assert (await sides.source.execute("query-migrate"))["status"] == "setup"
    await sides.source.execute("migrate_cancel")
    await sides.source.wait_status("cancelled")
    assert (await sides.source.execute("query-status"))["status"] == "running"


async def test_a_real_source_with_more_channels_stalls_at_ours_as_at_its_like(
    start_vm: Start, directory: Path
) -> None:  # fmt: skip
    sides = await two_sides(DIRECTIONS[1], start_vm, directory)
    await parameters(sides, multifd_channels=8)
    await sides.destination.execute("migrate-set-parameters", {"multifd-channels": 2})
    await migrate(sides)
    for _ in range(3):
        assert (await sides.destination.execute("query-migrate"))["status"] == "setup"
        assert (await sides.source.execute("query-migrate"))["status"] == "setup"


@pytest.mark.parametrize("direct_io", [False, True], ids=["cached", "direct-io"])
@pytest.mark.parametrize("kinds", DIRECTIONS, ids=["to-real", "from-real"])
async def test_channels_write_a_mapped_file(
    kinds: tuple[str, str], direct_io: bool, start_vm: Start, directory: Path
) -> None:
    source = await start_vm(kinds[0], "src", "-trace", "savevm_section_start")
    destination = await start_vm(kinds[1], "dst", "-incoming", "defer")
    sides = Sides(source, destination, directory)
    await sides.capabilities(events=True, multifd=True, mapped_ram=True)
    await parameters(sides, multifd_channels=3, direct_io=direct_io)
    uri = f"file:{directory}/saved,offset=5000"
    await source.execute("migrate", {"uri": uri})
    await source.wait_status("completed")
    await destination.execute("migrate-incoming", {"uri": uri})
    ram = await arrived(sides, quiet=False)
    assert stderr_of(destination) == ""
    assert ram["multifd-bytes"] == ram["normal-bytes"]
    # Of the sections that are told of, each PART counts 8, however many the time allowed; END the bitmap.
    sections = stderr_of(source).count("savevm_section_start ram,")
    assert ram["precopy-bytes"] == 8 * (sections - 1) > 0
    assert ram["downtime-bytes"] == RAM_BYTES // PAGE // 8


@pytest.mark.parametrize("channels", [1, 4])
async def test_a_mapped_file_that_is_too_short_fails(channels: int, start_vm: Start, directory: Path) -> None:
    source = await start_vm(REAL, "src")
    states = [{"capability": name, "state": True} for name in ("events", "multifd", "mapped-ram")]
    await source.execute("migrate-set-capabilities", {"capabilities": states})
    (directory / "src.ram").write_bytes(pattern())
    await source.execute("migrate", {"uri": f"file:{directory}/saved"})
    await source.wait_status("completed")
    with (directory / "saved").open("r+b") as saved:
        saved.truncate(5_000_000)
    vm = await start_vm(OURS, "dst", "-incoming", "defer")  # a real one dies of it
    await vm.execute("migrate-set-capabilities", {"capabilities": states})
    await vm.execute("migrate-set-parameters", {"multifd-channels": channels})
    await vm.execute("migrate-incoming", {"uri": f"file:{directory}/saved", "exit-on-error": False})
    await vm.wait_status("failed")
    assert re.fullmatch(
        r"multifd recv \([0-3]\): read 0x[0-9a-f]+, expected 0x[0-9a-f]+",
        (await vm.execute("query-migrate"))["error-desc"],
    )
    assert stderr_of(vm) == ""


CACHED, DIRECT = (0,), (os.O_DIRECT,)


@pytest.mark.parametrize("flags", [CACHED, DIRECT, CACHED + DIRECT], ids=["cached", "direct", "both"])
@pytest.mark.parametrize("command", ["migrate", "migrate-incoming"])
@pytest.mark.parametrize("release", ["11.1", "10.0"])
async def test_with_direct_io_a_set_of_descriptors_needs_both_kinds(
    release: str, command: str, flags: tuple[int, ...], start_vm: Start, directory: Path
) -> None:
    """The main channel takes one with the cache, the others one without."""
    answers: list[Any] = []
    (directory / "saved").touch()
    for kind in (REAL, OURS):
        extra, mode = (("-incoming", "defer"), os.O_RDONLY) if command == "migrate-incoming" else ((), os.O_WRONLY)
        vm = await start_vm(kind, kind, *extra, version=release)
        states = [{"capability": name, "state": True} for name in ("events", "multifd", "mapped-ram")]
        await vm.execute("migrate-set-capabilities", {"capabilities": states})
        await vm.execute("migrate-set-parameters", {"multifd-channels": 2, "direct-io": True})
        for one in flags:
            fd = os.open(directory / "saved", mode | one)
            vm.qmp.send_fd_scm(fd)
            await vm.execute("add-fd", {"fdset-id": 1})
            os.close(fd)
        if kind == REAL and flags == CACHED and command == "migrate":
            answers.append("Failed to find file descriptor with matching flags=0x4001")  # it dies
            continue
        try:
            more = {} if command == "migrate" else {"exit-on-error": False}  # there is no stream in it
            await vm.execute(command, {"uri": "file:/dev/fdset/1", **more})
        except ExecuteError as err:
            answers.append(str(err))
        else:
            event = await vm.wait_event("MIGRATION", match=lambda event: event["data"]["status"] in _ENDS)
            answers.append((await vm.execute("query-migrate")).get("error-desc", event["data"]["status"]))
        await vm.stop()
    assert answers[1] == answers[0]


_ENDS = ("completed", "failed")
