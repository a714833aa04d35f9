# SPDX-License-Identifier: MIT
"""The order of RAM blocks: the largest first, then the eldest."""

from __future__ import annotations

from typing import Any

from fakeqemu.migration.savevm import add_board_blocks
from fakeqemu.system.ram_list import BOARD, COLD, HOT, add_block, add_board_block
from fakeqemu.system.ramblock import RAMBlock
from tests.unit._boards import board, plug

MIB = 1 << 20


class Machine:
    def __init__(self) -> None:
        self.ram_blocks: list[RAMBlock] = []


def names(vm: Any) -> list[str]:
    return [block.idstr for block in vm.ram_blocks]


def test_the_largest_block_stands_first_and_of_equal_ones_the_first_that_was_made() -> None:
    vm: Any = Machine()
    for name, size in (("small", MIB), ("one", 4 * MIB), ("two", 4 * MIB), ("large", 8 * MIB)):
        add_block(vm, RAMBlock(name, size), COLD)
    assert names(vm) == ["large", "one", "two", "small"]


def test_what_counts_is_how_large_a_block_may_grow() -> None:
    vm: Any = Machine()
    add_block(vm, RAMBlock("small", 2 * MIB), BOARD)
    add_block(vm, RAMBlock("grows", MIB, max_length=4 * MIB), BOARD)
    assert names(vm) == ["grows", "small"]


def test_blocks_that_become_known_late_stand_where_they_were_made() -> None:
    vm: Any = Machine()
    used_first, used_last = RAMBlock("made first", MIB), RAMBlock("made last", MIB)
    for moment, name in ((HOT, "hot"), (COLD, "cold")):
        add_block(vm, RAMBlock(name, MIB), moment)
    for name in ("firmware", "/rom@tables"):
        add_board_block(vm, RAMBlock(name, MIB))
    for block in (used_last, used_first):
        add_block(vm, block, 0)
    assert names(vm) == ["made first", "made last", "firmware", "cold", "/rom@tables", "hot"]


def test_blocks_of_a_board_with_devices() -> None:
    vm = board()
    plug(vm, "VGA", addr="1")
    plug(vm, "e1000", addr="2")
    vm.phase = "ready"
    add_board_blocks(vm)
    # as seen on 11.1.2
    assert names(vm) == [
        "pc.ram", "0000:00:01.0/vga.vram", "/rom@etc/acpi/tables", "pc.bios", "0000:00:02.0/e1000.rom", "pc.rom",
        "0000:00:01.0/vga.rom", "/rom@etc/table-loader", "/rom@etc/acpi/rsdp",
    ]  # fmt: skip
