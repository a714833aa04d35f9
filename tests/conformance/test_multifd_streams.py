# SPDX-License-Identifier: MIT
"""Multifd channels with wrong bytes, into a real QEMU and into us: the same end, the same words."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.migration.stream.multifd_packet import pack_init
from fakeqemu.testing.emulator import Emulator, short_directory
from tests.interop._machines import OURS, REAL, start, stderr_of
from tests.migration.multifd_streams import (
    CHANNELS,
    INIT_CASES,
    PACKET_CASES,
    SYNC,
    SYNC_7_2,
    UUID,
    InitCase,
    PacketCase,
    main_channel,
)

pytestmark = pytest.mark.real_qemu

RELEASES = ("11.1", "10.0")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return short_directory(tmp_path)


@contextlib.asynccontextmanager
async def destination(
    kind: str, version: str, directory: Path, uuid: str = "", compression: str = "none"
) -> AsyncIterator[Emulator]:
    """A destination that waits for two channels, at `directory/kind`."""
    argv = ["-nodefaults", "-machine", "none,memory-backend=ram", "-m", "1", "-incoming", "defer"]
    argv += ["-object", "memory-backend-ram,id=ram,size=1M"]
    if uuid:
        argv += ["-uuid", uuid]
    vm = await start(kind, directory, kind, *argv, version=version)
    try:
        states = [{"capability": name, "state": True} for name in ("events", "multifd")]
        await vm.execute("migrate-set-capabilities", {"capabilities": states})
        await vm.execute("migrate-set-parameters", {"multifd-channels": CHANNELS, "multifd-compression": compression})
        stays = {} if version == "7.2" else {"exit-on-error": False}
        await vm.execute("migrate-incoming", {"uri": f"unix:{directory / kind}", **stays})
        yield vm
    finally:
        await vm.stop()


async def connect(path: Path, data: bytes) -> socket.socket:
    channel = socket.socket(socket.AF_UNIX)
    channel.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(channel, str(path))
    await loop.sock_sendall(channel, data)
    return channel


async def until_broken(channel: socket.socket) -> None:
    """Wait until the emulator has ended the conversation."""
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.get_running_loop().sock_recv(channel, 1) == b""


async def outcome(vm: Emulator, path: Path) -> dict[str, Any]:
    info = await vm.execute("query-migrate")
    info.pop("socket-address", None)
    return {
        "query-migrate": info,
        "query-status": await vm.execute("query-status"),
        "events": [(event["event"], event.get("data")) for event in vm.events],
        "stderr": [line.partition(": ")[2].replace(str(path), "PATH") for line in stderr_of(vm).splitlines()],
    }


async def packet_outcome(kind: str, case: PacketCase, version: str, directory: Path) -> list[Any]:
    """What is seen once the packet was judged, and after the main channel has ended."""
    loop = asyncio.get_running_loop()
    sync = SYNC_7_2 if version == "7.2" else SYNC
    path = directory / kind
    async with destination(kind, version, directory, compression=case.compression) as vm:
        channels = [await connect(path, main_channel())]
        channels += [await connect(path, pack_init(UUID, number)) for number in range(CHANNELS)]
        try:
            await vm.wait_status("active")
            for channel in channels[1:]:
                await loop.sock_sendall(channel, sync)
            await loop.sock_sendall(channels[1], case.data)
            if case.cut:
                channels[1].shutdown(socket.SHUT_WR)
            await until_broken(channels[2])  # all are, once an error is known
            info = await vm.execute("query-migrate")
            info.pop("socket-address", None)
            channels[0].shutdown(socket.SHUT_WR)
            await vm.wait_status("failed")
            return [info, await outcome(vm, path)]
        finally:
            for channel in channels:
                channel.close()


@pytest.mark.parametrize("version", RELEASES)
@pytest.mark.parametrize("case", PACKET_CASES, ids=lambda case: case.name)
async def test_a_wrong_packet_ends_as_at_a_real_qemu(case: PacketCase, version: str, directory: Path) -> None:
    if case.compression == "zstd":
        pytest.importorskip("zstandard")
    if case.since_11_1 and version != "11.1":
        pytest.skip("older releases assert or write past their buffer")
    real = await packet_outcome(REAL, case, version, directory)
    ours = await packet_outcome(OURS, case, version, directory)
    assert ours == real


async def init_outcome(kind: str, case: InitCase, version: str, directory: Path) -> dict[str, Any]:
    path = directory / kind
    async with destination(kind, version, directory, case.uuid) as vm:
        channels = [await connect(path, main_channel())] if case.main_first else []
        try:
            for data in case.connections:
                channels.append(await connect(path, data))
            await vm.wait_status("failed")
            return await outcome(vm, path)
        finally:
            for channel in channels:
                channel.close()


@pytest.mark.parametrize("version", RELEASES)
@pytest.mark.parametrize("case", INIT_CASES, ids=lambda case: case.name)
async def test_a_channel_that_begins_wrong_ends_as_at_a_real_qemu(
    case: InitCase, version: str, directory: Path
) -> None:  # fmt: skip
    real = await init_outcome(REAL, case, version, directory)
    ours = await init_outcome(OURS, case, version, directory)
    assert ours == real


async def exit_of_7_2(kind: str, case: PacketCase, directory: Path) -> tuple[int | None, list[str]]:
    """What 7.2 says of a packet and how it ends: it cannot be asked."""
    loop = asyncio.get_running_loop()
    path = directory / kind
    async with destination(kind, "7.2", directory, compression=case.compression) as vm:
        channels = [await connect(path, main_channel(flush_word=False))]
        channels += [await connect(path, pack_init(UUID, number)) for number in range(CHANNELS)]
        try:
            await vm.wait_status("active")
            for channel in channels[1:]:
                await loop.sock_sendall(channel, SYNC_7_2)
            await loop.sock_sendall(channels[1], case.data)
            if case.cut:
                channels[1].shutdown(socket.SHUT_WR)
            await until_broken(channels[2])
            channels[0].shutdown(socket.SHUT_WR)
            assert vm.process is not None
            async with asyncio.timeout(20):
                status = await vm.process.wait()
        finally:
            for channel in channels:
                channel.close()
        return status, [line.partition(": ")[2].replace(str(path), "PATH") for line in stderr_of(vm).splitlines()]


@pytest.mark.parametrize("case", [c for c in PACKET_CASES if not c.since_10_0], ids=lambda case: case.name)
async def test_a_wrong_packet_ends_7_2_as_a_real_one(case: PacketCase, directory: Path) -> None:
    if case.compression == "zstd":
        pytest.importorskip("zstandard")
    if case.since_11_1:
        pytest.skip("older releases assert or write past their buffer")
    real = await exit_of_7_2(REAL, case, directory)
    ours = await exit_of_7_2(OURS, case, directory)
    assert ours == real


@pytest.mark.parametrize("case", INIT_CASES, ids=lambda case: case.name)
async def test_a_channel_that_begins_wrong_is_only_told_of_by_7_2(case: InitCase, directory: Path) -> None:
    if not case.main_first:
        pytest.skip("takes it for the main channel")
    seen = []
    for kind in (REAL, OURS):
        path = directory / kind
        async with destination(kind, "7.2", directory, case.uuid) as vm:
            channels = [await connect(path, main_channel(flush_word=False))]
            for data in case.connections:
                channels.append(await connect(path, data))
            await until_broken(channels[-1])  # it is told of before it is closed
            status = (await vm.execute("query-status"))["status"]
            seen.append((status, [line.partition(": ")[2] for line in stderr_of(vm).splitlines()]))
            for channel in channels:
                channel.close()
    assert seen[1] == seen[0]


@pytest.mark.parametrize("version", RELEASES)
async def test_what_the_main_channel_meets_behind_a_broken_one_is_told_as_by_a_real_qemu(
    version: str, directory: Path
) -> None:
    """10.0 prints both, the main channel's first; 11.1 only the error that came first."""
    loop = asyncio.get_running_loop()
    seen = []
    for kind in (REAL, OURS):
        path = directory / kind
        async with destination(kind, version, directory) as vm:
            channels = [await connect(path, main_channel())]
            channels += [await connect(path, pack_init(UUID, number)) for number in range(CHANNELS)]
            try:
                await vm.wait_status("active")
                for channel in channels[1:]:
                    await loop.sock_sendall(channel, SYNC)
                await loop.sock_sendall(channels[1], bytes(4096))
                await until_broken(channels[2])
                await loop.sock_sendall(channels[0], b"\x55" * 16)
                await vm.wait_status("failed")
                seen.append(await outcome(vm, path))
            finally:
                for channel in channels:
                    channel.close()
    assert seen[1] == seen[0]
    assert "magic" in seen[0]["query-migrate"]["error-desc"]
    assert any("section type 85" in line for line in seen[0]["stderr"]) == (version == "10.0")
