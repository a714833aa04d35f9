# SPDX-License-Identifier: MIT
"""What a destination tells of vCPUs that waited, and when: the same fields and lines as a real QEMU's of the release.

Nobody waits: the guest is paused, so that the numbers are zeroes on both.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from fakeqemu.testing.emulator import Emulator
from tests.interop._machines import OURS, REAL, start

pytestmark = pytest.mark.real_qemu

VERSIONS = ("11.1", "10.0", "7.2")
SHM = Path("/dev/shm")
Begin = Callable[..., Awaitable[tuple[Emulator, Emulator]]]


@pytest.fixture
def directory() -> Iterator[Path]:
    if not SHM.is_dir():
        pytest.skip("no tmpfs at /dev/shm")
    path = Path(tempfile.mkdtemp(prefix="pb", dir=SHM))
    yield path
    shutil.rmtree(path)


async def switch(vm: Emulator, name: str, *, on: bool) -> None:
    await vm.execute("migrate-set-capabilities", {"capabilities": [{"capability": name, "state": on}]})


@pytest_asyncio.fixture
async def begin(directory: Path) -> AsyncIterator[Begin]:
    """A source whose guest is paused, and a destination that listens, both with postcopy."""
    started: list[Emulator] = []

    async def both(kind: str, version: str, vcpus: int = 1) -> tuple[Emulator, Emulator]:
        sides = []
        for name in ("src", "dst"):
            ram = directory / f"{kind}-{name}.ram"
            ram.write_bytes(bytes((7 if name == "src" else 0,)) * (16 << 20))
            backend = f"memory-backend-file,id=ram0,size=16M,mem-path={ram},share=on"
            argv = ["-nodefaults", "-machine", f"pc-q35-{version},memory-backend=ram0", "-m", "16", "-object", backend]
            argv += ["-smp", str(vcpus), "-S"] + (["-incoming", "defer"] if name == "dst" else [])
            vm = await start(kind, directory, f"{kind}-{name}", *argv, version=version)
            started.append(vm)
            for capability in ("events", "postcopy-ram"):
                await switch(vm, capability, on=True)
            sides.append(vm)
        return sides[0], sides[1]

    yield both
    for vm in started:
        await vm.stop()


async def migrate(kind: str, directory: Path, source: Emulator, destination: Emulator, *, postcopy: bool) -> set[str]:
    """To the end, either way; what the destination told of it while its guest was waited for."""
    uri = f"unix:{directory}/{kind}"
    meanwhile: set[str] = set()
    await source.execute("migrate-set-parameters", {"max-bandwidth": 1 << 20, "max-postcopy-bandwidth": 64 << 20})
    await destination.execute("migrate-incoming", {"uri": uri})
    if not postcopy:
        await source.execute("migrate-set-parameters", {"max-bandwidth": 0})
    await source.execute("migrate", {"uri": uri})
    if postcopy:
        await source.wait_status("active")
        await source.execute("migrate-start-postcopy")
        await destination.wait_status("postcopy-active")
        info = await destination.execute("query-migrate")
        if info["status"] == "postcopy-active":
            meanwhile = set(info) - {"status", "socket-address"}
    await asyncio.gather(source.wait_status("completed"), destination.wait_status("completed"))
    return meanwhile


def told(info: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in info.items() if name.startswith("postcopy-")}


@pytest.mark.parametrize("who", ["source", "destination"])
@pytest.mark.parametrize("postcopy", [True, False], ids=["postcopy", "precopy"])
@pytest.mark.parametrize("version", VERSIONS)
async def test_who_tells_what_when(version: str, postcopy: bool, who: str, begin: Begin, directory: Path) -> None:
    seen = []
    for kind in (REAL, OURS):
        source, destination = await begin(kind, version)
        await switch(source, "postcopy-blocktime", on=who in ("source", "both"))
        await switch(destination, "postcopy-blocktime", on=who in ("destination", "both"))
        assert await migrate(kind, directory, source, destination, postcopy=postcopy) == set()
        answers = [told(await vm.execute("query-migrate")) for vm in (source, destination)]
        await switch(destination, "postcopy-blocktime", on=False)
        answers.append(told(await destination.execute("query-migrate")))  # the values stay
        seen.append(answers)
    assert seen[1] == seen[0]
    expected = 2 if version != "11.1" else 6 if postcopy else 0
    assert len(seen[0][1]) == (expected if who in ("destination", "both") else 0)


@pytest.mark.parametrize(
    ("version", "vcpus"), [*(("11.1", vcpus) for vcpus in (1, 10, 11, 23)), ("10.0", 1), ("10.0", 11), ("7.2", 11)]
)
async def test_lines_for_people(version: str, vcpus: int, begin: Begin, directory: Path) -> None:
    seen: list[list[Any]] = []
    for kind in (REAL, OURS):
        source, destination = await begin(kind, version, vcpus)
        await switch(destination, "postcopy-blocktime", on=True)
        await migrate(kind, directory, source, destination, postcopy=True)
        texts = [await destination.hmp(line) for line in ("info migrate", "info migrate -a")]
        seen.append([told(await destination.execute("query-migrate")), *texts])
    for lines in (1, 2):
        for answers in seen:
            # Where it has listened is shown until a task of its own has cleaned up.
            answers[lines] = re.sub(r"socket address: \[.*?\]\r\n", "", answers[lines], flags=re.DOTALL)
    assert seen[1] == seen[0]
    assert len(seen[0][0]["postcopy-vcpu-blocktime"]) == vcpus
    assert "locktime" in seen[0][2 if version == "11.1" else 1]
