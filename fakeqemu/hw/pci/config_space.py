# SPDX-License-Identifier: MIT
"""The configuration space of a PCI function: bytes, and what is written where.

256 bytes, or 4096 on PCI Express. Registers are little endian.

    00 vendor, device      04 command, status     08 revision, class (prog-if, sub, base)
    0c cache line, latency, header type (bit 7: more functions), BIST
    header type 0:  10-24 BARs 0-5                2c subsystem vendor, id    30 ROM    34 capabilities
    header type 1:  10-14 BARs 0-1   18 primary, secondary, subordinate bus
                    1c I/O base, limit   20 memory base, limit   24 prefetchable base, limit (28, 2c: upper halves)
    3c interrupt line, pin

BARs are unmapped until a guest writes them: there is none here, but a migration may bring one.

QEMU: hw/pci/pci.c, include/hw/pci/pci_regs.h; PCI Local Bus Specification 3.0, chapter 6
"""

from __future__ import annotations

PCI_CONFIG_SPACE_SIZE = 0x100
PCIE_CONFIG_SPACE_SIZE = 0x1000

PCI_VENDOR_ID = 0x00
PCI_DEVICE_ID = 0x02
PCI_COMMAND = 0x04
PCI_STATUS = 0x06
PCI_REVISION_ID = 0x08
PCI_CLASS_PROG = 0x09
PCI_CLASS_DEVICE = 0x0A
PCI_HEADER_TYPE = 0x0E
PCI_BASE_ADDRESS_0 = 0x10
PCI_PRIMARY_BUS = 0x18
PCI_SECONDARY_BUS = 0x19
PCI_SUBORDINATE_BUS = 0x1A
PCI_IO_BASE = 0x1C
PCI_IO_LIMIT = 0x1D
PCI_MEMORY_BASE = 0x20
PCI_MEMORY_LIMIT = 0x22
PCI_PREF_MEMORY_BASE = 0x24
PCI_PREF_MEMORY_LIMIT = 0x26
PCI_PREF_BASE_UPPER32 = 0x28
PCI_PREF_LIMIT_UPPER32 = 0x2C
PCI_IO_BASE_UPPER16 = 0x30
PCI_IO_LIMIT_UPPER16 = 0x32
PCI_SUBSYSTEM_VENDOR_ID = 0x2C
PCI_SUBSYSTEM_ID = 0x2E
PCI_ROM_ADDRESS = 0x30
PCI_ROM_ADDRESS1 = 0x38
PCI_CAPABILITY_LIST = 0x34
PCI_INTERRUPT_LINE = 0x3C
PCI_INTERRUPT_PIN = 0x3D

HEADER_TYPE_NORMAL = 0
HEADER_TYPE_BRIDGE = 1
HEADER_MULTI_FUNCTION = 0x80
COMMAND_IO = 1
COMMAND_MEMORY = 2
STATUS_CAP_LIST = 0x10

BASE_ADDRESS_SPACE_IO = 1
BASE_ADDRESS_MEM_TYPE_64 = 4
BASE_ADDRESS_MEM_PREFETCH = 8
ROM_ADDRESS_ENABLE = 1

#: number of the expansion ROM among the regions
ROM_SLOT = 6
#: an address that says that a BAR is not mapped
UNMAPPED = -1


class BAR:
    """One region that the function decodes; `number` 6 is the ROM."""

    __slots__ = ("is_64", "is_io", "number", "prefetch", "size")

    def __init__(
        self, number: int, size: int, *, is_io: bool = False, prefetch: bool = False, is_64: bool = False
    ) -> None:
        self.number = number
        self.size = size
        self.is_io = is_io
        self.prefetch = prefetch
        self.is_64 = is_64


class ConfigSpace:
    """The bytes of one function, and its BARs."""

    __slots__ = ("bars", "data")

    def __init__(
        self,
        vendor: int,
        device: int,
        class_code: int,
        *,
        subsystem_vendor: int = 0,
        subsystem: int = 0,
        revision: int = 0,
        interrupt_pin: int = 0,
        express: bool = False,
        bridge: bool = False,
    ) -> None:
        """`class_code` is base class and sub-class (0x0200: Ethernet)."""
        self.data = bytearray(PCIE_CONFIG_SPACE_SIZE if express else PCI_CONFIG_SPACE_SIZE)
        self.bars: dict[int, BAR] = {}
        self.set_word(PCI_VENDOR_ID, vendor)
        self.set_word(PCI_DEVICE_ID, device)
        self.data[PCI_REVISION_ID] = revision
        self.set_word(PCI_CLASS_DEVICE, class_code)
        self.data[PCI_INTERRUPT_PIN] = interrupt_pin
        if bridge:
            self.data[PCI_HEADER_TYPE] = HEADER_TYPE_BRIDGE
        else:
            self.set_word(PCI_SUBSYSTEM_VENDOR_ID, subsystem_vendor)
            self.set_word(PCI_SUBSYSTEM_ID, subsystem)

    # --- bytes ----------------------------------------------------------------------------------------

    def byte(self, at: int) -> int:
        return self.data[at]

    def word(self, at: int) -> int:
        return int.from_bytes(self.data[at : at + 2], "little")

    def long(self, at: int) -> int:
        return int.from_bytes(self.data[at : at + 4], "little")

    def quad(self, at: int) -> int:
        return int.from_bytes(self.data[at : at + 8], "little")

    def set_word(self, at: int, value: int) -> None:
        self.data[at : at + 2] = (value & 0xFFFF).to_bytes(2, "little")

    def set_long(self, at: int, value: int) -> None:
        self.data[at : at + 4] = (value & 0xFFFFFFFF).to_bytes(4, "little")

    # --- header ---------------------------------------------------------------------------------------

    @property
    def is_bridge(self) -> bool:
        return self.data[PCI_HEADER_TYPE] & ~HEADER_MULTI_FUNCTION == HEADER_TYPE_BRIDGE

    @property
    def class_code(self) -> int:
        return self.word(PCI_CLASS_DEVICE)

    @property
    def multifunction(self) -> bool:
        return bool(self.data[PCI_HEADER_TYPE] & HEADER_MULTI_FUNCTION)

    @multifunction.setter
    def multifunction(self, value: bool) -> None:
        if value:
            self.data[PCI_HEADER_TYPE] |= HEADER_MULTI_FUNCTION
        else:
            self.data[PCI_HEADER_TYPE] &= ~HEADER_MULTI_FUNCTION & 0xFF

    def add_bar(self, bar: BAR) -> None:
        """Have the function decode a region: the type bits of its register say how, its address is 0."""
        self.bars[bar.number] = bar
        if bar.number == ROM_SLOT:
            return
        flags = BASE_ADDRESS_SPACE_IO if bar.is_io else 0
        if bar.is_64:
            flags |= BASE_ADDRESS_MEM_TYPE_64
        if bar.prefetch:
            flags |= BASE_ADDRESS_MEM_PREFETCH
        self.set_long(PCI_BASE_ADDRESS_0 + 4 * bar.number, flags)

    def bar_register(self, number: int) -> int:
        """Where a region's register is."""
        if number == ROM_SLOT:
            return PCI_ROM_ADDRESS1 if self.is_bridge else PCI_ROM_ADDRESS
        return PCI_BASE_ADDRESS_0 + 4 * number

    def bar_address(self, bar: BAR) -> int:
        """Where a region is mapped; UNMAPPED if it is not."""
        at = self.bar_register(bar.number)
        command = self.word(PCI_COMMAND)
        if bar.is_io:
            address = self.long(at) & ~(bar.size - 1) & 0xFFFFFFFF
            last = address + bar.size - 1
            return address if command & COMMAND_IO and 0 < address < last <= 0xFFFF else UNMAPPED
        if not command & COMMAND_MEMORY:
            return UNMAPPED
        raw = self.quad(at) if bar.is_64 else self.long(at)
        if bar.number == ROM_SLOT and not raw & ROM_ADDRESS_ENABLE:
            return UNMAPPED
        address = raw & ~(bar.size - 1)
        last = address + bar.size - 1
        limit = (1 << 64) - 1 if bar.is_64 else 0xFFFFFFFF
        return address if 0 < address <= last < limit else UNMAPPED

    # --- bridges --------------------------------------------------------------------------------------

    def io_window(self) -> tuple[int, int]:
        """(base, limit) of the I/O ports behind the bridge."""
        base, limit = self.data[PCI_IO_BASE], self.data[PCI_IO_LIMIT]
        first, last = (base & 0xF0) << 8, (limit & 0xF0) << 8
        if base & 0xF == 1:
            first |= self.word(PCI_IO_BASE_UPPER16) << 16
            last |= self.word(PCI_IO_LIMIT_UPPER16) << 16
        return first, last | 0xFFF

    def memory_window(self) -> tuple[int, int]:
        """(base, limit) of the memory behind the bridge."""
        return (
            (self.word(PCI_MEMORY_BASE) & 0xFFF0) << 16,
            (self.word(PCI_MEMORY_LIMIT) & 0xFFF0) << 16 | 0xFFFFF,
        )

    def prefetchable_window(self) -> tuple[int, int]:
        """(base, limit) of the prefetchable memory behind the bridge."""
        base, limit = self.word(PCI_PREF_MEMORY_BASE), self.word(PCI_PREF_MEMORY_LIMIT)
        first, last = (base & 0xFFF0) << 16, (limit & 0xFFF0) << 16
        if base & 0xF == 1:
            first |= self.long(PCI_PREF_BASE_UPPER32) << 32
            last |= self.long(PCI_PREF_LIMIT_UPPER32) << 32
        return first, last | 0xFFFFF
