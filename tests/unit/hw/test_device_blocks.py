# SPDX-License-Identifier: MIT
"""RAM blocks of devices: as the profile has them, unless properties say otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.hw.core.device_blocks import add_blocks
from fakeqemu.system.ramblock import RAMBlock

RECORDED = {
    "card": [["0000:00:01.0/card.rom", 262144]],
    "bochs": [["0000:00:01.0/bochs-display-vram", 16 << 20]],
    "virtio-net-pci-non-transitional": [["0000:00:01.0/virtio-net-pci-non-transitional", 262144]],
    "vga": [["0000:00:01.0/vga.vram", 16 << 20], ["0000:00:01.0/vga.rom", 65536], ["vga.fifo", 4096]],
}


class Device:
    """As much of a device as blocks depend on."""

    def __init__(self, vm: Any, type_name: str, **values: Any) -> None:
        self.vm = vm
        self.type_name = type_name
        self._values = values

    def qdev_path(self) -> str:
        return "0000:05:1f.2"


class Machine:
    phase = "initialized"

    def __init__(self) -> None:
        self.ram_blocks: list[RAMBlock] = []
        self.profile = self

    def get(self, _table: str, name: str, default: Any) -> Any:
        return RECORDED.get(name, default)


def blocks(type_name: str, **values: Any) -> dict[str, int]:
    vm = Machine()
    added = add_blocks(Device(vm, type_name, **values))  # type: ignore[arg-type]
    assert vm.ram_blocks == added
    return {block.idstr: block.used_length for block in added}


def test_names_have_the_place_where_the_device_is() -> None:
    assert blocks("card") == {"0000:05:1f.2/card.rom": 262144}
    assert blocks("vga") == {"0000:05:1f.2/vga.vram": 16 << 20, "0000:05:1f.2/vga.rom": 65536, "vga.fifo": 4096}
    assert blocks("other") == {}


@pytest.mark.parametrize("values", [{"romfile": ""}, {"rombar": 0}])
def test_a_rom_that_is_not_wanted_is_not_there(values: dict[str, Any]) -> None:
    assert blocks("card", **values) == {}
    assert blocks("virtio-net-pci-non-transitional", **values) == {}
    assert "0000:05:1f.2/vga.rom" not in blocks("vga", **values)


@pytest.mark.parametrize(("mib", "size"), [(16, 16 << 20), (17, 32 << 20), (64, 64 << 20)])
def test_video_memory_is_as_large_as_it_was_asked_for(mib: int, size: int) -> None:
    assert blocks("vga", vgamem_mb=mib)["0000:05:1f.2/vga.vram"] == size


def test_bytes_of_video_memory_are_rounded_up() -> None:
    assert blocks("bochs", vgamem=20 << 20) == {"0000:05:1f.2/bochs-display-vram": 32 << 20}


def test_a_rom_may_be_larger_than_its_file() -> None:
    assert blocks("card", romsize=1 << 20) == {"0000:05:1f.2/card.rom": 1 << 20}
    assert blocks("card", romsize=(1 << 32) - 1) == {"0000:05:1f.2/card.rom": 262144}
    assert blocks("card", romsize=1 << 20, rombar=0) == {}


def test_a_block_that_is_there_is_not_made_again() -> None:
    vm = Machine()
    vm.ram_blocks.append(RAMBlock("vga.fifo", 4096))
    added = add_blocks(Device(vm, "vga"))  # type: ignore[arg-type]
    assert [block.idstr for block in added] == ["0000:05:1f.2/vga.vram", "0000:05:1f.2/vga.rom"]
