# SPDX-License-Identifier: MIT
"""RAM blocks of devices: ROMs and video memory, of which only names and sizes are known. They travel as the guest's RAM does.

The profile's table `device-blocks` has what each PCI device adds with no property; properties change that: a ROM that is
not wanted (romfile=, rombar=0) or is to be larger (romsize), video memory of another size (vgamem_mb, vram_size_mb, vgamem).

QEMU: pci_add_option_rom in hw/pci/pci.c, hw/display
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.hw.core.qdev import DeviceState
    from fakeqemu.system.ramblock import RAMBlock

_ROM = ".rom"
#: names of ROMs are no longer than this
_ROM_NAME_SIZE = 31
#: blocks of video memory, and the properties that say how large they are: in units of so many bytes
_VIDEO = {
    "vga.vram": (("vgamem_mb", 1 << 20), ("vram_size_mb", 1 << 20)),
    "bochs-display-vram": (("vgamem", 1),),
}
#: romsize of a ROM that is as large as its file
_AS_THE_FILE = (1 << 32) - 1


def add_blocks(device: DeviceState) -> list[RAMBlock]:
    """Give the machine the blocks of a device that was just realized; returns them."""
    vm = device.vm
    recorded = vm.profile.get("device-blocks", device.type_name, ())
    if not recorded:
        return []
    from fakeqemu.system.ram_list import COLD, HOT, add_block
    from fakeqemu.system.ramblock import RAMBlock

    known = [block.idstr for block in vm.ram_blocks]
    added = []
    for name, size in recorded:
        _, slash, own = name.rpartition("/")
        idstr = f"{device.qdev_path()}/{own}" if slash else name
        size = _size(device, own, size)
        if size and idstr not in known:
            added.append(RAMBlock(idstr, size))
    for block in added:
        add_block(vm, block, HOT if vm.phase == "ready" else COLD)
    return added


def _size(device: DeviceState, name: str, recorded: int) -> int:
    """The size of a block by the device's properties, 0 for none."""
    values = device._values
    if name.endswith(_ROM) or len(name) == _ROM_NAME_SIZE:
        asked = values.get("romsize", _AS_THE_FILE)
        return (recorded if asked == _AS_THE_FILE else int(asked)) if _has_rom(device) else 0
    for option, unit in _VIDEO.get(name, ()):
        asked = values.get(option, 0)
        if asked:
            return 1 << (int(asked) * unit - 1).bit_length()
    return recorded


def _has_rom(device: DeviceState) -> bool:
    return bool(device._values.get("romfile", _ROM) and device._values.get("rombar", 1))
