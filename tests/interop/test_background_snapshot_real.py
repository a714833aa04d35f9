# SPDX-License-Identifier: MIT
"""Background snapshots of ours in a real QEMU, and of a real one in ours: the same memory, and a guest that runs on.

The memory is a file in /dev/shm, where the host can watch it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from fakeqemu.migration.stream.section import QEMU_VM_SECTION_FULL
from fakeqemu.testing.emulator import Emulator
from tests.interop._machines import OURS, REAL, Start
from tests.interop.test_migration_real import pattern

pytestmark = pytest.mark.real_qemu

DIRECTIONS = [(OURS, REAL), (REAL, OURS)]


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder whose files are memory."""
    if not Path("/dev/shm").is_dir():
        pytest.skip("no /dev/shm here")
    with TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def machine(ram: Path) -> list[str]:
    backend = f"memory-backend-file,id=ram0,size=8M,mem-path={ram},share=on"
    return ["-nodefaults", "-machine", "none,memory-backend=ram0", "-m", "8", "-object", backend]


async def load(target: Emulator, directory: Path) -> None:
    await target.execute("migrate-set-capabilities", {"capabilities": [{"capability": "events", "state": True}]})
    await target.execute("migrate-incoming", {"uri": f"file:{directory}/snapshot"})
    await target.wait_status("completed")


@pytest.mark.parametrize("kinds", DIRECTIONS, ids=["to-real", "from-real"])
@pytest.mark.parametrize("version", ["11.1", "10.0"])
async def test_a_snapshot_is_loaded_by_the_other(
    start_any: Start, directory: Path, memory: Path, kinds: tuple[str, str], version: str
) -> None:
    content = pattern()
    (memory / "src").write_bytes(content)
    (memory / "dst").touch()
    source = await start_any(kinds[0], "src", *machine(memory / "src"), version=version)
    switched = [{"capability": name, "state": True} for name in ("events", "background-snapshot")]
    await source.execute("migrate-set-capabilities", {"capabilities": switched})
    await source.execute("migrate", {"uri": f"file:{directory}/snapshot"})
    await source.wait_status("completed")
    assert (await source.execute("query-status"))["status"] == "running"
    info = (await source.execute("query-migrate"))["ram"]
    assert info["duplicate"] + info["normal"] == 2048
    stream = (directory / "snapshot").read_bytes()
    kept = info["transferred"] - len(stream)  # devices were counted when they were put aside, too
    assert stream[-kept] == QEMU_VM_SECTION_FULL
    target = await start_any(kinds[1], "dst", *machine(memory / "dst"), "-incoming", "defer", version=version)
    await load(target, directory)
    assert (await target.execute("query-status"))["status"] == "running"
    assert (memory / "dst").read_bytes() == content


@pytest.mark.parametrize("kinds", DIRECTIONS, ids=["to-real", "from-real"])
async def test_a_machine_with_devices_is_loaded_by_the_other(
    start_any: Start, directory: Path, kinds: tuple[str, str]
) -> None:
    board = ("-machine", "q35", "-m", "16", "-nodefaults")
    source = await start_any(kinds[0], "src", *board)
    switched = [{"capability": name, "state": True} for name in ("events", "background-snapshot")]
    await source.execute("migrate-set-capabilities", {"capabilities": switched})
    await source.execute("migrate", {"uri": f"exec:cat > {directory}/snapshot"})
    await source.wait_status("completed")
    assert (await source.execute("query-status"))["status"] == "running"
    target = await start_any(kinds[1], "dst", *board, "-incoming", "defer")
    await load(target, directory)
    assert (await target.execute("query-status"))["status"] == "running"
