# SPDX-License-Identifier: MIT
"""Damaged mapped-ram files, loaded by a real QEMU and by us: the same end, the same words."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.migration.stream.mapped_ram import HEADER, bitmap_size
from fakeqemu.testing.emulator import short_directory
from tests.conformance._real import need_real_qemu
from tests.interop._machines import OURS, REAL, start, stderr_of

pytestmark = pytest.mark.real_qemu

MACHINE = ("-nodefaults", "-machine", "none", "-m", "16")
PAGES = (16 << 20) // 4096
CAPABILITIES = [{"capability": name, "state": True} for name in ("events", "mapped-ram")]


async def saved(version: str, directory: Path) -> bytearray:
    """A file as the real QEMU writes it, of memory that is zero."""
    vm = await start(REAL, directory, "saver", *MACHINE, version=version)
    try:
        await vm.execute("migrate-set-capabilities", {"capabilities": CAPABILITIES})
        await vm.execute("migrate", {"uri": f"file:{directory}/saved"})
        await vm.wait_status("completed")
    finally:
        await vm.stop()
    return bytearray((directory / "saved").read_bytes())


async def loaded(kind: str, version: str, directory: Path, data: bytearray) -> dict[str, Any]:
    (directory / "damaged").write_bytes(data)
    vm = await start(kind, directory, kind, *MACHINE, "-incoming", "defer", version=version)
    try:
        await vm.execute("migrate-set-capabilities", {"capabilities": CAPABILITIES})
        await vm.execute("migrate-incoming", {"uri": f"file:{directory}/damaged", "exit-on-error": False})
        await vm.wait_status("completed", "failed")
        info = await vm.execute("query-migrate")
        lines = [line.partition(": ")[2] for line in stderr_of(vm).splitlines()]
    finally:
        await vm.stop()
    return {"info": info, "events": [(one["event"], one.get("data")) for one in vm.events], "stderr": lines}


@pytest.mark.parametrize("version", ["11.1", "10.0"])
@pytest.mark.parametrize(
    ("member", "value"),
    [
        (0, 0), (0, 2), (1, 0), (1, 1 << 16),
        (2, 1 << 28), (2, 1 << 63), (2, (1 << 64) - 8),
        (3, 0), (3, 8), (3, 2048), (3, 4096), (3, 1 << 28), (3, (1 << 63) - (16 << 20)), (3, 1 << 63), (3, (1 << 64) - (1 << 20)),
    ],
)  # fmt: skip
async def test_a_header_that_points_nowhere(version: str, member: int, value: int, tmp_path: Path) -> None:
    need_real_qemu(version)
    if version == "10.0" and (member, value) == (1, 0):
        pytest.skip("10.0 divides by the size of a page")
    directory = short_directory(tmp_path)
    data = await saved(version, directory)
    at = data.index(struct.pack(">IQ", 1, 4096))
    header = list(HEADER.unpack_from(data, at))
    bitmap_offset = header[2]
    data[bitmap_offset : bitmap_offset + bitmap_size(PAGES)] = bytes(bitmap_size(PAGES))
    header[member] = value
    HEADER.pack_into(data, at, *header)
    real = await loaded(REAL, version, directory, data)
    assert await loaded(OURS, version, directory, data) == real


@pytest.mark.parametrize("bit", [1, 100, 4095, 4096, 8191])
@pytest.mark.parametrize("page_size", [3, 2048, 8192, 1 << 25])
async def test_where_any_page_size_is_taken_it_says_how_many_bits_count(
    page_size: int, bit: int, tmp_path: Path
) -> None:
    need_real_qemu("10.0")
    directory = short_directory(tmp_path)
    data = await saved("10.0", directory)
    data += bytes(PAGES * 4096 + len(data))  # so that there is something to read for any bit
    at = data.index(struct.pack(">IQ", 1, 4096))
    header = list(HEADER.unpack_from(data, at))
    header[1] = page_size
    HEADER.pack_into(data, at, *header)
    data[header[2] + bit // 8] |= 1 << bit % 8
    real = await loaded(REAL, "10.0", directory, data)
    assert await loaded(OURS, "10.0", directory, data) == real
