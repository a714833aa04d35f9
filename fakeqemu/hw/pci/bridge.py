# SPDX-License-Identifier: MIT
"""The windows of PCI bridges, as a record tells of them.

QEMU: hw/pci/pci_bridge.c
"""

from __future__ import annotations

from fakeqemu.hw.pci import config_space as cs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def load_windows(config: cs.ConfigSpace, info: dict[str, Any]) -> None:
    """Write bus numbers and windows into a bridge's configuration space, from the `bus` member of query-pci.

    The windows read as base > limit (closed) when their registers are 0xfff0 and 0, as in a bridge that no firmware has
    set up; 32-bit I/O and 64-bit prefetchable windows are told by the low bits of the registers.
    """
    config.data[cs.PCI_PRIMARY_BUS] = info["number"]
    config.data[cs.PCI_SECONDARY_BUS] = info["secondary"]
    config.data[cs.PCI_SUBORDINATE_BUS] = info["subordinate"]
    io, memory, prefetchable = info["io_range"], info["memory_range"], info["prefetchable_range"]
    config.data[cs.PCI_IO_BASE] = io["base"] >> 8 & 0xF0
    config.data[cs.PCI_IO_LIMIT] = io["limit"] >> 8 & 0xF0
    if io["base"] >> 16 or io["limit"] >> 16:
        config.data[cs.PCI_IO_BASE] |= 1
        config.data[cs.PCI_IO_LIMIT] |= 1
        config.set_word(cs.PCI_IO_BASE_UPPER16, io["base"] >> 16)
        config.set_word(cs.PCI_IO_LIMIT_UPPER16, io["limit"] >> 16)
    config.set_word(cs.PCI_MEMORY_BASE, memory["base"] >> 16 & 0xFFF0)
    config.set_word(cs.PCI_MEMORY_LIMIT, memory["limit"] >> 16 & 0xFFF0)
    wide = prefetchable["base"] >> 32 or prefetchable["limit"] >> 32
    config.set_word(cs.PCI_PREF_MEMORY_BASE, prefetchable["base"] >> 16 & 0xFFF0 | (1 if wide else 0))
    config.set_word(cs.PCI_PREF_MEMORY_LIMIT, prefetchable["limit"] >> 16 & 0xFFF0 | (1 if wide else 0))
    if wide:
        config.set_long(cs.PCI_PREF_BASE_UPPER32, prefetchable["base"] >> 32)
        config.set_long(cs.PCI_PREF_LIMIT_UPPER32, prefetchable["limit"] >> 32)
