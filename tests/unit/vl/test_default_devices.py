# SPDX-License-Identifier: MIT
"""Which default devices a command line leaves, and where those that are left stand."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.hw.pci.device import pci_devices
from fakeqemu.migration.savevm import board_block_list, board_record
from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.sim.host import SimHost
from fakeqemu.system.board import create_board
from fakeqemu.system.build import new_machine
from fakeqemu.system.machine import Machine
from fakeqemu.vl.cmdline import CommandLine
from fakeqemu.vl.default_devices import displaced, omit, take_ports
from fakeqemu.vl.location import Reporter

NULL = {"serial": [(0, "serial0")], "parallel": [(0, "parallel0")]}
NO_PORTS: dict[str, list[tuple[int, str]]] = {"serial": [], "parallel": []}


def machine(
    *argv: str, board: str = "q35", ports: dict[str, list[tuple[int, str]]] | None = None, **options: bool
) -> Machine:
    profile = VersionProfile.load("11.1")
    line = CommandLine(profile, Reporter("prog", lambda _: None, lambda _: None, lambda: 0))
    line.parse(list(argv))
    vm = new_machine(SimHost(1), profile)
    made = create_board(vm, board)
    for name, value in options.items():
        made.object.set(name, value)
    omit(line, made)
    take_ports(made, NULL if ports is None else ports)
    made.init()
    vm.phase = "initialized"
    return vm


def functions(vm: Machine) -> dict[str, int]:
    return {device.type_name: device.devfn for device in pci_devices(vm)}


def sections(vm: Machine) -> dict[tuple[str, int], int]:
    record: Any = board_record(vm)
    return {(one["name"], one["instance"]): one["section_id"] for one in record["sections"]}


def test_a_machine_of_which_nobody_says_anything_is_the_recorded_one() -> None:
    vm = machine()
    assert vm.board is not None
    assert vm.board.layout() is None
    assert vm.board.tree_variant() == "q35"


def test_a_machine_without_any_has_a_record_of_its_own() -> None:
    vm = machine("-nodefaults", ports=NO_PORTS)
    assert vm.board is not None
    assert vm.board.layout() is None
    assert vm.board.tree_variant() == "q35-nodefaults"


def test_what_stands_behind_an_adapter_moves_up() -> None:
    assert functions(machine())["e1000e"] == 2 << 3
    vm = machine("-vga", "none")
    assert functions(vm)["e1000e"] == 1 << 3
    assert "VGA" not in functions(vm)
    assert ("0000:00:01.0/e1000e", 0) in sections(vm)
    assert "0000:00:01.0/e1000e.rom" in board_block_list(vm)
    assert "vga" not in board_block_list(vm)


@pytest.mark.parametrize("option", [("-net", "none"), ("-nic", "none")])
def test_without_a_network_there_is_no_adapter_and_nobody_behind_it(option: tuple[str, str]) -> None:
    vm = machine(*option)
    assert list(functions(vm)).count("e1000e") == 0
    assert ("slirp", 0) not in sections(vm)
    assert sections(vm)["timer", 0] == 0
    assert sections(vm)["apic", 0] == sections(machine())["apic", 0] - 1


def test_ports_are_as_many_as_are_given() -> None:
    ports = {"serial": [(0, "a"), (2, "b")], "parallel": []}
    vm = machine(ports=ports)
    devices = [child for child in vm.qom.walk(vm.qom.machine) if child.type_name in ("isa-serial", "isa-parallel")]
    assert sorted((child.get("index"), child.get("iobase"), child.get("chardev")) for child in devices) == [
        (0, 0x3F8, "a"),
        (2, 0x3E8, "b"),
    ]
    numbers = sections(vm)
    assert numbers["serial", 1] == numbers["serial", 0] + 1
    assert ("parallel_isa", 0) not in numbers
    assert sorted(numbers.values()) == sorted(dict.fromkeys(numbers.values()))


def test_a_property_of_the_machine_switches_devices_off() -> None:
    vm = machine(hpet=False, smbus=False)
    assert ("hpet", 0) not in sections(vm)
    assert ("i2c_bus", 0) not in sections(vm)
    assert "ICH9-SMB" not in functions(vm)


@pytest.mark.parametrize("board", ["q35", "pc"])
def test_another_adapter_takes_the_place(board: str) -> None:
    vm = machine("-vga", "virtio", board=board)
    usual = machine(board=board)
    assert functions(vm)["virtio-vga"] == functions(usual)["VGA"]
    place = "0000:00:01.0" if board == "q35" else "0000:00:02.0"
    assert sections(vm)[f"{place}/virtio-vga", 0] == sections(usual)[f"{place}/vga", 0] + 1
    assert f"{place}/virtio-vga.rom" in board_block_list(vm)


@pytest.mark.parametrize(
    ("argv", "kind"),
    [
        (("-device", "cirrus-vga"), "vga"),
        (("-device", '{"driver":"VGA"}'), "vga"),
        (("-global", "VGA.vgamem_mb=32"), "vga"),
        (("-device", "isa-serial"), "serial"),
        (("-device", "isa-parallel"), "parallel"),
        (("-device", "isa-fdc"), "floppy"),
        (("-device", "ide-hd"), "cdrom"),
    ],
)
def test_a_device_displaces_the_default_one_of_its_kind(argv: tuple[str, str], kind: str) -> None:
    line = CommandLine(VersionProfile.load("11.1"), Reporter("prog", lambda _: None, lambda _: None, lambda: 0))
    line.parse(list(argv))
    found = [name for name in ("vga", "serial", "parallel", "floppy", "cdrom") if displaced(line, name)]
    assert found == [kind]
