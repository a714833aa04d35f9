# SPDX-License-Identifier: MIT
"""What memory, CPUs and boot order change in the state of a board's devices: bytes as real ones were seen to send them."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.migration.board_settings import settings_of
from fakeqemu.migration.savevm import assemble
from tests.unit._boards import board, plug

MIB, GIB = 1 << 20, 1 << 30
VERSIONS = ("7.2", "10.0", "11.1")
WAITING = bytes.fromhex("0509617069635f73697069000000010000000000000001")


def machine(version: str = "11.1", name: str = "q35", size: int = 128 * MIB, cpus: int = 1, **boot: Any) -> Any:
    """A machine of that size, its entries assembled."""
    vm: Any = board(version, name, smp={"cpus": str(cpus)})
    vm.board.ram_size = size
    if boot:
        vm.board.object.set("boot", boot)
    assemble(vm)
    return vm


def body(vm: Any, name: str, instance: int = 0) -> bytes:
    data: bytes = vm.savevm.find(name, instance).stock.data
    return data


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("q35", 16 * MIB, (0x3C00, 0, 0)),
        ("q35", 64 * MIB, (0xFC00, 0x300, 0)),
        ("pc", 512 * MIB, (0xFFFF, 0x1F00, 0)),
        ("pc", 4 * GIB, (0xFFFF, 0xBF00, 0x4000)),
        ("q35", 5 * GIB, (0xFFFF, 0x7F00, 0xC000)),
    ],
)
def test_firmware_learns_of_the_memory(name: str, size: int, words: tuple[int, ...]) -> None:
    cmos = body(machine(name=name, size=size), "mc146818rtc")
    assert cmos[0x15:0x17] == (640).to_bytes(2, "little")
    for places, word in zip(((0x17, 0x18), (0x34, 0x35), (0x5B, 0x5C)), words, strict=True):
        assert [cmos[place] for place in places] == list(word.to_bytes(2, "little"))
    assert cmos[0x30:0x32] == cmos[0x17:0x19]


def test_firmware_learns_of_cpus_and_boot_order() -> None:
    cmos = body(machine(cpus=4), "mc146818rtc")
    assert (cmos[0x5F], cmos[0x3D], cmos[0x38]) == (3, 0x12, 0x30)
    cmos = body(machine(order="nd"), "mc146818rtc")
    assert (cmos[0x5F], cmos[0x3D], cmos[0x38]) == (0, 0x34, 0)


def test_microvm_tells_its_firmware_neither() -> None:
    vm = machine(name="microvm", cpus=2)
    cmos = body(vm, "mc146818rtc")
    assert (cmos[0x5F], cmos[0x3D], cmos[0x38]) == (0, 0, 0)


@pytest.mark.parametrize(("size", "end"), [(16 * MIB, 2), (64 * MIB, 8), (512 * MIB, 64), (4 * GIB, 255)])
def test_the_bridge_knows_where_memory_ends(size: int, end: int) -> None:
    assert body(machine(name="pc", size=size), "0000:00:00.0/I440FX")[91] == end


@pytest.mark.parametrize("version", VERSIONS)
def test_further_cpus_wait_to_be_started(version: str) -> None:
    vm = machine(version, cpus=3)
    first = body(vm, "apic")
    assert body(vm, "cpu_common")[:4] == bytes(4)
    for number in (1, 2):
        assert body(vm, "cpu_common", number)[:4] == bytes((0, 0, 0, 1))
        waiting = body(vm, "apic", number)
        assert waiting == bytes((0xFE, 0xE0, 0x08, 0, number)) + first[5:] + WAITING
        desc = vm.savevm.find("apic", number).stock.desc
        assert [sub["vmsd_name"] for sub in desc["subsections"]] == ["apic_sipi"]
    assert "subsections" not in vm.savevm.find("apic", 0).stock.desc


def test_a_machine_without_devices_has_no_settings() -> None:
    assert settings_of(board(name="none")) is None


def test_devices_are_numbered_as_they_came() -> None:
    vm: Any = board("11.1", "pc")
    for name in ("VGA", "e1000"):
        plug(vm, name)
    vm.phase = "ready"
    plug(vm, "rtl8139")
    assemble(vm)
    plug(vm, "pcnet")
    assemble(vm)
    numbers = {entry.idstr.rpartition("/")[2]: entry.section_id for entry in vm.savevm.entries}
    # as on 11.1.2, where acpi_build has number 38 without devices
    assert (numbers["vga"], numbers["e1000"], numbers["acpi_build"], numbers["globalstate"]) == (38, 39, 40, 41)
    assert (numbers["rtl8139"], numbers["pcnet"]) == (42, 43)
    ids = [entry.section_id for entry in vm.savevm.entries]
    assert len(set(ids)) == len(ids)
