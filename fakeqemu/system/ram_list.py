# SPDX-License-Identifier: MIT
"""The order of a machine's RAM blocks, which is that of block lists, pages and bitmaps in a stream.

The largest block stands first, by the size to which it may grow. Of blocks of one size that which was made first does:

    BACKEND    objects of the command line: they are there before the board
    BOARD      the guest's RAM where no object is it, firmware, devices that a board has by itself
    COLD       -device
    DONE       tables for the guest, once the machine is complete
    HOT        whatever comes later

We know of a board's blocks only when a migration wants them, and of an object's when it is put to use: so the moment is kept,
and the order of making.

QEMU: ram_block_add in system/physmem.c
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.system.machine import Machine
    from fakeqemu.system.ramblock import RAMBlock

BACKEND, BOARD, COLD, DONE, HOT = range(5)
#: blocks with such names are made when the machine is complete; how large they are is the guest's firmware's affair
_LATE = "/rom@"
#: firmware ends where the first 4 GiB do; below 1 MiB the space for ROMs of cards has a place of its own
_FIRMWARE, _FIRMWARE_END = "pc.bios", 1 << 32
#: of so many pages is the firmware of most boards; so many of its larger tables have content
_FIRMWARE_PAGES, _TABLES_PAGES = 64, 3
_ROMS, _ROMS_ADDRESS = "pc.rom", 0xC0000


def add_block(vm: Machine, block: RAMBlock, moment: int) -> None:
    """Put a block into its place; `moment`: when it was made."""
    block.moment = moment
    blocks = vm.ram_blocks
    rank = _rank(block)
    at = next((at for at, other in enumerate(blocks) if _rank(other) > rank), len(blocks))
    blocks.insert(at, block)


def add_board_block(vm: Machine, block: RAMBlock) -> None:
    """Put a block of the board into its place, whenever it becomes known."""
    if block.idstr == _FIRMWARE:
        block.guest_address = _FIRMWARE_END - block.max_length
    elif block.idstr == _ROMS:
        block.guest_address = _ROMS_ADDRESS
    block.resizeable = block.idstr.startswith(_LATE)
    _fill(vm, block)
    add_block(vm, block, DONE if block.resizeable else BOARD)


def _fill(vm: Machine, block: RAMBlock) -> None:
    """Give a block of the board make-believe content where the real one has some."""
    if block.idstr == _FIRMWARE:
        filled = max(1, vm.compat.firmware_pages * block.pages // _FIRMWARE_PAGES)
        block.guest_dirties(block.pages - filled, filled)
    elif block.resizeable:
        block.guest_dirties(0, min(block.pages, _TABLES_PAGES))


def _rank(block: RAMBlock) -> tuple[int, int, int]:
    return -block.max_length, block.moment, block.number
