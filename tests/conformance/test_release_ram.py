# SPDX-License-Identifier: MIT
"""release-ram: which pages a source still has whose guest has left, a real QEMU and ours. The memory is a file to be read.

Of a file that others may see, QEMU drops what the destination had when the guest left; what followed stays in it.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakeqemu.testing.emulator import Emulator
from tests.interop._machines import OURS, REAL, start

pytestmark = pytest.mark.real_qemu

SHM = Path("/dev/shm")
PAGE = 4096
PAGES = 2048
CONTENT = b"".join(bytes((1 + page % 255,)) * PAGE for page in range(PAGES))


@pytest.fixture
def directory() -> Iterator[Path]:
    if not SHM.is_dir():
        pytest.skip("no tmpfs at /dev/shm")
    path = Path(tempfile.mkdtemp(prefix="rr", dir=SHM))
    yield path
    shutil.rmtree(path)


async def left_behind(kind: str, version: str, directory: Path, *, release: bool) -> tuple[list[int], int]:
    """The pages that the source's file still holds, and how many went before the guest left."""
    sides: list[Emulator] = []
    try:
        for name in ("src", "dst"):
            ram = directory / f"{kind}-{name}.ram"
            ram.write_bytes(CONTENT if name == "src" else bytes(len(CONTENT)))
            backend = f"memory-backend-file,id=ram,size=8M,mem-path={ram},share=on"
            argv = ["-nodefaults", "-machine", "none,memory-backend=ram", "-m", "8", "-object", backend]
            vm = await start(kind, directory, f"{kind}-{name}", *argv, *(["-incoming", "defer"] if name == "dst" else []),
                             version=version)  # fmt: skip
            sides.append(vm)
            states = [{"capability": name, "state": True} for name in ("events", "postcopy-ram")]
            states.append({"capability": "release-ram", "state": release})
            await vm.execute("migrate-set-capabilities", {"capabilities": states})
        source, destination = sides
        limits = {"max-bandwidth": 2 << 20, "downtime-limit": 1, "max-postcopy-bandwidth": 32 << 20}
        await source.execute("migrate-set-parameters", limits)
        uri = f"unix:{directory}/{kind}"
        await destination.execute("migrate-incoming", {"uri": uri})
        await source.execute("migrate", {"uri": uri})
        await source.wait_status("active")
        await source.execute("migrate-start-postcopy")
        await asyncio.gather(source.wait_status("completed"), destination.wait_status("completed"))
        ram = (await source.execute("query-migrate"))["ram"]
    finally:
        for vm in sides:
            await vm.stop()
    assert (directory / f"{kind}-dst.ram").read_bytes() == CONTENT
    data = (directory / f"{kind}-src.ram").read_bytes()
    left = [page for page in range(PAGES) if data[page * PAGE : (page + 1) * PAGE] == CONTENT[page * PAGE :][:PAGE]]
    assert all(not any(data[page * PAGE : (page + 1) * PAGE]) for page in range(PAGES) if page not in set(left))
    return left, (ram["precopy-bytes"] + ram["downtime-bytes"]) // (PAGE + 8)


@pytest.mark.parametrize("version", ["11.1", "10.0", "7.2"])
@pytest.mark.parametrize("kind", [REAL, OURS])
async def test_what_went_before_the_guest_is_dropped(kind: str, version: str, directory: Path) -> None:
    left, before = await left_behind(kind, version, directory, release=True)
    assert before > 0
    assert left == list(range(before, PAGES))


@pytest.mark.parametrize("kind", [REAL, OURS])
async def test_without_it_all_stays(kind: str, directory: Path) -> None:
    left, before = await left_behind(kind, "11.1", directory, release=False)
    assert before > 0
    assert left == list(range(PAGES))
