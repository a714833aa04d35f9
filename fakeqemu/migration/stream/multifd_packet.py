# SPDX-License-Identifier: MIT
"""Packets of multifd channels: the one with which a channel begins, and those with pages.

    first      be32 magic, be32 version, 16 bytes uuid, channel id                          64 bytes
    pages      be32 magic, be32 version, flags, allocated, normal n, size, number, zero z,
               block name, 128 offsets: n of pages whose bytes follow, z of zero pages     1344 bytes, then `size` bytes
    device     be32 magic, be32 version, flags, name of the section, instance, size         276 bytes, then `size` bytes

All big endian. Pages are kept as runs (first page, how many), as everywhere.

QEMU: migration/multifd.h, multifd.c, multifd-nocomp.c
"""

from __future__ import annotations

import uuid as uuids
from struct import Struct

from fakeqemu.error import StreamError
from fakeqemu.migration.stream.ram_page import TARGET_PAGE_BITS, TARGET_PAGE_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MULTIFD_MAGIC = 0x11223344
MULTIFD_VERSION = 1

MULTIFD_FLAG_SYNC = 1 << 0
MULTIFD_FLAG_NOCOMP = 0
MULTIFD_FLAG_ZLIB = 1 << 1
MULTIFD_FLAG_ZSTD = 2 << 1
MULTIFD_FLAG_QPL = 4 << 1
MULTIFD_FLAG_UADK = 8 << 1
MULTIFD_FLAG_QATZIP = 16 << 1
MULTIFD_FLAG_COMPRESSION_MASK = 0x1F << 1
MULTIFD_FLAG_DEVICE_STATE = 1 << 6

#: pages of one packet: 512 KiB
PACKET_PAGES = 128

INIT = Struct(">II16sB39x")
#: what all packets but the first begin with: magic, version, flags
HEADER = Struct(">III")
_RAM = Struct(">IIIIIIQI28x256s")
_DEVICE = Struct(">III256sII")
_OFFSETS = Struct(f">{PACKET_PAGES}Q")

INIT_SIZE = INIT.size
RAM_PACKET_SIZE = _RAM.size + _OFFSETS.size
DEVICE_PACKET_SIZE = _DEVICE.size


# --- the first packet of a channel ----------------------------------------------------------------------


def pack_init(uuid: bytes, channel_id: int) -> bytes:
    return INIT.pack(MULTIFD_MAGIC, MULTIFD_VERSION, uuid, channel_id)


def parse_init(data: bytes, uuid: bytes, channels: int, *, id_words: str = "exceeds") -> int:
    """The channel's id, below `channels`; raises StreamError. `id_words`: how an id too large is put (compat).

    QEMU: multifd_recv_initial_packet
    """
    magic, version, theirs, channel_id = INIT.unpack(data)
    if magic != MULTIFD_MAGIC:
        raise StreamError(f"multifd: received packet magic {magic:x} expected {MULTIFD_MAGIC:x}")
    if version != MULTIFD_VERSION:
        raise StreamError(f"multifd: received packet version {version} expected {MULTIFD_VERSION}")
    if theirs != uuid:
        signed = channel_id - 256 if channel_id > 127 else channel_id
        raise StreamError(
            f"multifd: received uuid '{uuids.UUID(bytes=theirs)}' and expected uuid '{uuids.UUID(bytes=uuid)}' "
            f"for channel {signed}"
        )
    number: int = channel_id
    if number >= channels:
        # Older releases let an id pass that equals the number of channels, and die: ours says what 11.1 says.
        if id_words == "exceeds" or number == channels:
            raise StreamError(f"multifd: received channel id {number} exceeds channel count {channels}")
        if id_words == "greater":
            raise StreamError(
                f"multifd: received channel id {number} is greater than number of channels {channels}"
            )  # fmt: skip
        raise StreamError(f"multifd: received channel version {MULTIFD_VERSION} expected {MULTIFD_VERSION}")
    return number


# --- packets with pages ---------------------------------------------------------------------------------


class RamPacket:
    """The header of a packet with pages, or of one that only says SYNC."""

    __slots__ = ("allocated", "block", "flags", "next_packet_size", "normal", "number", "zero")

    def __init__(
        self,
        flags: int,
        *,
        allocated: int = PACKET_PAGES,
        number: int = 0,
        next_packet_size: int = 0,
        block: str = "",
        normal: Sequence[tuple[int, int]] = (),
        zero: Sequence[tuple[int, int]] = (),
    ) -> None:
        self.flags = flags
        self.allocated = allocated
        self.number = number
        self.next_packet_size = next_packet_size
        self.block = block
        #: runs of pages whose bytes follow, in their order
        self.normal = normal
        #: runs of pages of zeroes
        self.zero = zero

    @property
    def normal_pages(self) -> int:
        return sum(n for _, n in self.normal)

    @property
    def zero_pages(self) -> int:
        return sum(n for _, n in self.zero)

    def pack(self) -> bytes:
        offsets: list[int] = []
        for first, n in (*self.normal, *self.zero):
            offsets += range(first << TARGET_PAGE_BITS, first + n << TARGET_PAGE_BITS, TARGET_PAGE_SIZE)
        offsets += [0] * (PACKET_PAGES - len(offsets))
        return _RAM.pack(
            MULTIFD_MAGIC, MULTIFD_VERSION, self.flags, self.allocated, self.normal_pages, self.next_packet_size,
            self.number, self.zero_pages, self.block.encode(),
        ) + _OFFSETS.pack(*offsets)  # fmt: skip


def check_header(data: bytes, *, early_words: bool = False) -> int:
    """The flags of a packet that begins with `data`; raises StreamError."""
    magic, version, flags = HEADER.unpack_from(data)
    if magic != MULTIFD_MAGIC:
        between = " and expected magic" if early_words else ", expected"
        raise StreamError(f"multifd: received packet magic {magic:x}{between} {MULTIFD_MAGIC:x}")
    if version != MULTIFD_VERSION:
        between = " and expected version" if early_words else ", expected"
        raise StreamError(f"multifd: received packet version {version}{between} {MULTIFD_VERSION}")
    found: int = flags
    return found


def parse_ram(data: bytes, *, early_words: bool = False) -> RamPacket:
    """A packet with pages, as far as it can be judged without knowing the blocks; raises StreamError.

    QEMU: multifd_ram_unfill_packet
    """
    _, _, flags, allocated, normal, size, number, zero, name = _RAM.unpack_from(data)
    if allocated > PACKET_PAGES:
        text = f"size {allocated} and expected a size of" if early_words else f"{allocated} pages, expected"
        raise StreamError(f"multifd: received packet with {text} {PACKET_PAGES}")
    if early_words:
        zero = 0
        if normal > allocated:
            raise StreamError(
                f"multifd: received packet with {normal} pages and expected maximum pages are {allocated}"
            )  # fmt: skip
    if normal > allocated:
        raise StreamError(
            f"multifd: received packet with {normal} non-zero pages, which exceeds maximum expected pages {allocated}"
        )
    if zero > allocated - normal:
        raise StreamError(
            f"multifd: received packet with {zero} zero pages, expected maximum {allocated - normal}"
        )  # fmt: skip
    packet = RamPacket(flags, allocated=allocated, number=number, next_packet_size=size)
    if normal or zero:
        packet.block = name[:255].partition(b"\0")[0].decode("utf-8", "backslashreplace")
        offsets = _OFFSETS.unpack_from(data, _RAM.size)
        packet.normal = _runs(offsets[:normal])
        packet.zero = _runs(offsets[normal : normal + zero])
    return packet


def _runs(offsets: tuple[int, ...]) -> list[tuple[int, int]]:
    """Consecutive pages as runs."""
    if not offsets:
        return []
    n = len(offsets)
    if offsets == tuple(range(offsets[0], offsets[0] + n * TARGET_PAGE_SIZE, TARGET_PAGE_SIZE)):
        return [(_page(offsets[0]), n)]
    runs: list[tuple[int, int]] = []
    first = length = 0
    for offset in offsets:
        page = _page(offset)
        if length and page == first + length:
            length += 1
            continue
        if length:
            runs.append((first, length))
        first, length = page, 1
    runs.append((first, length))
    return runs


def _page(offset: int) -> int:
    if offset % TARGET_PAGE_SIZE:  # QEMU would put the bytes there
        raise StreamError(f"multifd: offset {offset} is not that of a page")
    return offset >> TARGET_PAGE_BITS


# --- packets with the state of devices ------------------------------------------------------------------


class DevicePacket:
    """The header of a packet with a part of a device's state."""

    __slots__ = ("idstr", "instance_id", "next_packet_size")

    def __init__(self, idstr: str, instance_id: int, next_packet_size: int) -> None:
        self.idstr = idstr
        self.instance_id = instance_id
        self.next_packet_size = next_packet_size

    def pack(self, flags: int = MULTIFD_FLAG_DEVICE_STATE) -> bytes:
        return _DEVICE.pack(
            MULTIFD_MAGIC, MULTIFD_VERSION, flags, self.idstr.encode(), self.instance_id, self.next_packet_size
        )  # fmt: skip


def parse_device(data: bytes) -> DevicePacket:
    """A packet with device state; raises StreamError. QEMU: multifd_device_state_recv"""
    _, _, _, name, instance_id, size = _DEVICE.unpack(data)
    if b"\0" not in name:
        raise StreamError("unterminated multifd device state idstr")
    if not size:
        raise StreamError("multifd: received empty device state packet")
    return DevicePacket(name.partition(b"\0")[0].decode("utf-8", "backslashreplace"), instance_id, size)
