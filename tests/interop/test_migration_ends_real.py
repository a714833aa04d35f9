# SPDX-License-Identifier: MIT
"""How migrations between a real QEMU 11.1 and us end when they do not go straight through.

Without RAM, with another guest's UUID, with another machine, cancelled and tried again, with the link cut: the status, the
words and the run state are those that two real ones have.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from fakeqemu.testing.emulator import Emulator
from tests.interop._machines import Relay, Start, stderr_of
from tests.interop.test_migration_real import DIRECTIONS, Sides

pytestmark = pytest.mark.real_qemu

UUID = "4dbcd8ab-7b2b-44d5-97a0-0d5ff1d06f3a"
OTHER_UUID = "4dbcd8ab-7b2b-44d5-97a0-0d5ff1d06f3b"
BOTH_WAYS = pytest.mark.parametrize("kinds", DIRECTIONS, ids=["to-real", "from-real"])
BOARD = ("-nodefaults", "-m", "16")
#: a window's last bytes are still in the buffer of the source: the cut is in the middle of a section
LOAD_CUT_SHORT = "load of migration failed: Invalid argument: Section footer error, section_id: 1"
#: how slowly a migration goes that is to be interrupted, in bytes a second
SLOW = 1 << 20


async def enable(vm: Emulator, *names: str) -> None:
    await vm.execute("migrate-set-capabilities", {"capabilities": [{"capability": n, "state": True} for n in names]})


async def listen(vm: Emulator, path: Path) -> None:
    await vm.execute("migrate-incoming", {"uri": f"unix:{path}", "exit-on-error": False})


async def error_of(vm: Emulator) -> str:
    return str((await vm.execute("query-migrate")).get("error-desc"))


async def state_of(vm: Emulator) -> str:
    return str((await vm.execute("query-status"))["status"])


@BOTH_WAYS
@pytest.mark.parametrize("return_path", [False, True], ids=["plain", "return-path"])
async def test_a_machine_without_ram(
    kinds: tuple[str, str], return_path: bool, start_any: Start, directory: Path
) -> None:
    source = await start_any(kinds[0], "src", "-nodefaults", "-machine", "none")
    destination = await start_any(kinds[1], "dst", "-nodefaults", "-machine", "none", "-incoming", "defer")
    for vm in (source, destination):
        await enable(vm, "events", *(["return-path"] if return_path else []))
    await listen(destination, directory / "dst.mig")
    relay = Relay(directory / "relay", directory / "dst.mig")
    await relay.open()
    await source.execute("migrate", {"uri": f"unix:{relay.path}"})
    await source.wait_status("completed")
    await destination.wait_status("completed")
    await destination.wait_event("RESUME")
    await relay.close()
    ram = (await source.execute("query-migrate"))["ram"]
    assert (ram["total"], ram["remaining"], ram["transferred"]) == (0, 0, relay.forward)
    assert await state_of(destination) == "running"
    assert stderr_of(source) == stderr_of(destination) == ""


async def sides_of(kinds: tuple[str, str], start_vm: Start, directory: Path, uuid: str, **capabilities: bool) -> Sides:
    """A guest with a UUID on its way to a destination that waits for this one."""
    source = await start_vm(kinds[0], "src", "-uuid", UUID)
    destination = await start_vm(kinds[1], "dst", "-uuid", uuid, "-incoming", "defer")
    sides = Sides(source, destination, directory)
    await sides.capabilities(events=True, validate_uuid=True, **capabilities)
    await listen(destination, directory / "dst.mig")
    await source.execute("migrate", {"uri": f"unix:{directory}/dst.mig"})
    return sides


@BOTH_WAYS
async def test_the_same_guest_is_let_in(kinds: tuple[str, str], start_vm: Start, directory: Path) -> None:
    sides = await sides_of(kinds, start_vm, directory, UUID)
    await sides.completed()


@BOTH_WAYS
async def test_another_guest_is_refused(kinds: tuple[str, str], start_vm: Start, directory: Path) -> None:
    sides = await sides_of(kinds, start_vm, directory, OTHER_UUID, return_path=True)
    await sides.destination.wait_status("failed")
    await sides.source.wait_status("failed")
    assert await error_of(sides.destination) == (
        "load of migration failed: Invalid argument: Loading VM subsection 'configuration/uuid' in 'configuration' failed: "
        "post load hook failed for: configuration/uuid, version_id: 1, minimum_version: 1, ret: -22"
    )
    assert await state_of(sides.source) == "running"


@BOTH_WAYS
async def test_another_machine_is_refused(kinds: tuple[str, str], start_any: Start, directory: Path) -> None:
    source = await start_any(kinds[0], "src", *BOARD, "-machine", "q35", "-S")
    destination = await start_any(kinds[1], "dst", *BOARD, "-machine", "pc", "-incoming", "defer")
    for vm in (source, destination):
        await enable(vm, "events", "return-path")
    await listen(destination, directory / "dst.mig")
    await source.execute("migrate", {"uri": f"unix:{directory}/dst.mig"})
    await destination.wait_status("failed")
    await source.wait_status("failed")
    assert await error_of(destination) == (
        "load of migration failed: Invalid argument: post load hook failed for: configuration, version_id: 1, "
        "minimum_version: 0: Machine type received is 'pc-q35-11.1' and local is 'pc-i440fx-11.1'"
    )
    assert await state_of(source) == "prelaunch"


@BOTH_WAYS
async def test_cancelled_and_tried_again(kinds: tuple[str, str], start_vm: Start, directory: Path) -> None:
    source = await start_vm(kinds[0], "src")
    first = await start_vm(kinds[1], "first", "-incoming", "defer")
    destination = await start_vm(kinds[1], "dst", "-incoming", "defer")
    sides = Sides(source, destination, directory)
    await sides.capabilities(events=True)
    await enable(first, "events")
    await source.execute("migrate-set-parameters", {"max-bandwidth": SLOW})
    await listen(first, directory / "first.mig")
    await source.execute("migrate", {"uri": f"unix:{directory}/first.mig"})
    await source.wait_status("active")
    await source.execute("migrate_cancel")
    await source.wait_status("cancelled")
    await first.wait_status("failed")
    assert await state_of(source) == "running"
    assert "error-desc" not in await source.execute("query-migrate")
    source.events.clear()
    await source.execute("migrate-set-parameters", {"max-bandwidth": 0})
    await listen(destination, directory / "dst.mig")
    await source.execute("migrate", {"uri": f"unix:{directory}/dst.mig"})
    await sides.completed()


@BOTH_WAYS
@pytest.mark.parametrize("return_path", [False, True], ids=["plain", "return-path"])
async def test_a_cut_link(kinds: tuple[str, str], return_path: bool, start_vm: Start, directory: Path) -> None:
    source = await start_vm(kinds[0], "src")
    destination = await start_vm(kinds[1], "dst", "-incoming", "defer")
    sides = Sides(source, destination, directory)
    await sides.capabilities(events=True, return_path=return_path)
    await source.execute("migrate-set-parameters", {"max-bandwidth": SLOW})
    await listen(destination, directory / "dst.mig")
    relay = Relay(directory / "relay", directory / "dst.mig")
    await relay.open()
    await source.execute("migrate", {"uri": f"unix:{relay.path}"})
    await source.wait_status("active")
    await destination.wait_status("active")
    await relay.cut()
    await source.wait_status("failed")
    await destination.wait_status("failed")
    assert await state_of(source) == "running"
    assert await error_of(destination) == LOAD_CUT_SHORT
    expected = "Channel error: Input/output error" if return_path else "Unable to write to socket: Broken pipe"
    assert await error_of(source) == expected
