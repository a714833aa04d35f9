# SPDX-License-Identifier: MIT
"""The bytes of a PCI function."""

from __future__ import annotations

import pytest

from fakeqemu.hw.pci import config_space as cs
from fakeqemu.hw.pci.bridge import load_windows
from fakeqemu.hw.pci.ids import CLASS_NAMES, class_code, class_name


def ethernet() -> cs.ConfigSpace:
    return cs.ConfigSpace(0x8086, 0x10D3, 0x0200, subsystem_vendor=0x1AF4, subsystem=0x1100, interrupt_pin=1)


def test_the_header_holds_ids_class_and_pin_little_endian() -> None:
    assert bytes(ethernet().data[:4]) == bytes.fromhex("8680d310")
    assert bytes(ethernet().data[0x0A:0x0C]) == bytes.fromhex("0002")
    assert bytes(ethernet().data[0x2C:0x30]) == bytes.fromhex("f41a0011")
    assert ethernet().byte(cs.PCI_INTERRUPT_PIN) == 1


def test_a_plain_function_has_256_bytes_and_an_express_one_4096() -> None:
    assert len(ethernet().data) == 256
    assert len(cs.ConfigSpace(1, 2, 3, express=True).data) == 4096


@pytest.mark.parametrize(
    ("bar", "register"),
    [
        (cs.BAR(0, 32, is_io=True), 1),
        (cs.BAR(1, 4096), 0),
        (cs.BAR(4, 0x4000, prefetch=True, is_64=True), 0xC),
    ],
)
def test_a_bar_tells_its_kind_in_the_low_bits(bar: cs.BAR, register: int) -> None:
    config = ethernet()
    config.add_bar(bar)
    assert config.long(cs.PCI_BASE_ADDRESS_0 + 4 * bar.number) == register


def test_a_bar_is_mapped_once_it_has_an_address_and_its_space_is_enabled() -> None:
    config = ethernet()
    bar = cs.BAR(1, 4096)
    config.add_bar(bar)
    assert config.bar_address(bar) == cs.UNMAPPED
    config.set_long(cs.PCI_BASE_ADDRESS_0 + 4, 0xFEBF1000)
    assert config.bar_address(bar) == cs.UNMAPPED
    config.set_word(cs.PCI_COMMAND, cs.COMMAND_MEMORY)
    assert config.bar_address(bar) == 0xFEBF1000


def test_a_rom_is_mapped_only_when_it_is_enabled_too() -> None:
    config = ethernet()
    rom = cs.BAR(cs.ROM_SLOT, 0x40000)
    config.add_bar(rom)
    config.set_word(cs.PCI_COMMAND, cs.COMMAND_MEMORY)
    config.set_long(cs.PCI_ROM_ADDRESS, 0xFEB00000)
    assert config.bar_address(rom) == cs.UNMAPPED
    config.set_long(cs.PCI_ROM_ADDRESS, 0xFEB00001)
    assert config.bar_address(rom) == 0xFEB00000


def test_more_functions_are_one_bit_of_the_header_type() -> None:
    config = ethernet()
    config.multifunction = True
    assert (config.byte(cs.PCI_HEADER_TYPE), config.is_bridge) == (0x80, False)
    config.multifunction = False
    assert config.byte(cs.PCI_HEADER_TYPE) == 0


@pytest.mark.parametrize(
    "windows",
    [
        {"io": (0xF000, 0x0FFF), "memory": (0xFFF00000, 0x000FFFFF), "prefetchable": (0xFFF00000, 0x000FFFFF)},
        {"io": (0x1000, 0x1FFF), "memory": (0xFE800000, 0xFE9FFFFF), "prefetchable": (0x380000000000, 0x3807FFFFFFFF)},
    ],
    ids=["closed", "set up"],
)
def test_the_windows_of_a_bridge_come_back_as_they_were_loaded(windows: dict[str, tuple[int, int]]) -> None:
    config = cs.ConfigSpace(0x1B36, 0x000C, 0x0604, bridge=True)
    info = {f"{name}_range": {"base": base, "limit": limit} for name, (base, limit) in windows.items()}
    load_windows(config, {"number": 0, "secondary": 1, "subordinate": 2, **info})
    assert config.io_window() == windows["io"]
    assert config.memory_window() == windows["memory"]
    assert config.prefetchable_window() == windows["prefetchable"]
    assert [config.byte(at) for at in (cs.PCI_PRIMARY_BUS, cs.PCI_SECONDARY_BUS, cs.PCI_SUBORDINATE_BUS)] == [0, 1, 2]


def test_a_class_is_found_again_by_its_name() -> None:
    assert all(class_name(class_code(name)) == name for name in CLASS_NAMES.values())
    assert class_code("Class 00ff") == 0x00FF
    assert class_name(0x00FF) is None
