# SPDX-License-Identifier: MIT
"""What no source sends on multifd channels: first packets and packets that are wrong, the same for us and for real QEMUs.

For a destination of `-machine none` with 1 MiB of RAM called "ram" and two channels, without compression.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from fakeqemu.migration.stream import multifd_packet as mp
from fakeqemu.migration.stream.multifd_packet import DevicePacket, RamPacket, pack_init
from fakeqemu.migration.stream.ram_page import block_name
from tests.migration.streams import EOS, HEAD, MIB, be, footer, start

CHANNELS = 2
UUID = bytes(16)
PAGE = b"x" * 4096
SYNC = RamPacket(mp.MULTIFD_FLAG_SYNC, allocated=0).pack()
SYNC_7_2 = RamPacket(mp.MULTIFD_FLAG_SYNC).pack()

FLUSH = be(8, 0x200)


def main_channel(*, flush_word: bool = True) -> bytes:
    """Header, configuration and the START of the RAM, with its barrier."""
    body = be(8, MIB | 4) + block_name("ram") + be(8, MIB) + (FLUSH if flush_word else b"") + EOS
    return HEAD + start(1, 1, "ram", 4) + body + footer(1)


def patched(packet: bytes, offset: int, value: int) -> bytes:
    """A packet with another number of four bytes somewhere."""
    return packet[:offset] + be(4, value) + packet[offset + 4 :]


def ram(normal: int = 1, zero: int = 0, *, block: str = "ram", flags: int = 0, first: int = 0) -> bytes:
    """A good packet with its pages."""
    runs = [(first, normal)] if normal else []
    zero_runs = [(first + normal, zero)] if zero else []
    packet = RamPacket(flags, next_packet_size=normal * 4096, block=block, normal=runs, zero=zero_runs)
    return packet.pack() + PAGE * normal


def compressed(flag: int, data: bytes, pages: int = 1, *, size: int | None = None) -> bytes:
    """A packet of pages whose bytes were packed, well or not, to these."""
    packet = RamPacket(flag, next_packet_size=len(data) if size is None else size, block="ram", normal=[(0, pages)])
    return packet.pack() + data


def deflated(data: bytes) -> bytes:
    stream = zlib.compressobj()
    return stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)


@dataclass(frozen=True)
class PacketCase:
    """What channel 0 carries after its first packet and an empty SYNC; then it is closed when `cut`."""

    name: str
    data: bytes
    cut: bool = False
    #: in which of 11.1, 10.0 and 7.2 it means something
    since_10_0: bool = False
    since_11_1: bool = False
    compression: str = "none"


PACKET_CASES = (
    PacketCase("magic", b"\xde\xad\xbe\xef" + ram()[4:]),
    PacketCase("version", patched(ram(), 4, 7)),
    PacketCase("too much allocated", patched(ram(), 12, 4096)),
    PacketCase("too many pages", patched(ram(), 16, 200)),
    PacketCase("more pages than allocated", patched(patched(ram(), 16, 100), 12, 64)),
    PacketCase("too many zero pages", patched(ram(), 32, 200), since_10_0=True),
    PacketCase("more zero pages than allocated", patched(patched(ram(), 32, 100), 12, 64), since_10_0=True),
    PacketCase("unknown block", ram(block="nope")),
    PacketCase("page beyond the block", ram(first=256)),
    PacketCase("page far beyond the block", ram(3, first=1000)),
    PacketCase("run over the end of the block", ram(4, first=254)),
    PacketCase("zero page beyond the block", ram(0, 1, first=256), since_10_0=True),
    PacketCase("zlib", ram(flags=mp.MULTIFD_FLAG_ZLIB)),
    PacketCase("zstd", ram(flags=mp.MULTIFD_FLAG_ZSTD)),
    PacketCase("qatzip", ram(flags=mp.MULTIFD_FLAG_QATZIP), since_10_0=True),
    PacketCase("cut in the first words", ram()[:7], cut=True),
    PacketCase("cut after the first words", ram()[:12], cut=True),
    PacketCase("cut in the header", ram()[:700], cut=True),
    PacketCase("cut in the pages", ram()[:-100], cut=True),
    PacketCase("none of zlib", ram(), compression="zlib"),
    PacketCase("zlib garbage", compressed(mp.MULTIFD_FLAG_ZLIB, b"garbage" * 9), compression="zlib"),
    PacketCase("zlib of too little", compressed(mp.MULTIFD_FLAG_ZLIB, zlib.compress(PAGE[:100])), compression="zlib"),
    PacketCase("zlib of too little, in a stream", compressed(mp.MULTIFD_FLAG_ZLIB, deflated(PAGE[:100])), compression="zlib"),
    PacketCase("zlib of 2 MiB", compressed(mp.MULTIFD_FLAG_ZLIB, b"", size=2 << 20), compression="zlib", since_11_1=True),
    PacketCase("zlib cut", compressed(mp.MULTIFD_FLAG_ZLIB, deflated(PAGE), size=4096), compression="zlib", cut=True),
    PacketCase("zstd garbage", compressed(mp.MULTIFD_FLAG_ZSTD, b"garbage" * 9), compression="zstd"),
    PacketCase("device state for nobody", DevicePacket("nope/vfio", 0, 4).pack() + b"abcd", since_10_0=True),
    PacketCase("device state for another instance", DevicePacket("ram", 1, 4).pack() + b"abcd", since_10_0=True),
    PacketCase("device state for the RAM", DevicePacket("ram", 0, 4).pack() + b"abcd", since_10_0=True),
    PacketCase("device state for one that is described", DevicePacket("timer", 0, 4).pack() + b"abcd", since_10_0=True),
    PacketCase("device state cut in the name", DevicePacket("timer", 0, 4).pack()[:99], cut=True, since_10_0=True),
    PacketCase("device state cut", DevicePacket("timer", 0, 4).pack() + b"abc", cut=True, since_10_0=True),
    PacketCase("device state, empty", DevicePacket("nope/vfio", 0, 0).pack(), since_10_0=True),
    PacketCase("device state and SYNC", DevicePacket("nope/vfio", 7, 4).pack(mp.MULTIFD_FLAG_DEVICE_STATE | 1) + b"abcd",
               since_10_0=True),
    PacketCase("device state without end of the name", DevicePacket("n" * 256, 0, 4).pack() + b"abcd", since_10_0=True),
)  # fmt: skip


@dataclass(frozen=True)
class InitCase:
    """Connections after the main one, or before it: what each of them begins with."""

    name: str
    connections: tuple[bytes, ...]
    main_first: bool = True
    uuid: str = ""


INIT_CASES = (
    InitCase("magic", (b"\x11\x22\x33\x45" + pack_init(UUID, 0)[4:],)),
    InitCase("magic, first of all", (b"\x11\x22\x33\x45" + pack_init(UUID, 0)[4:],), main_first=False),
    InitCase("version", (patched(pack_init(UUID, 0), 4, 2),)),
    InitCase("version, first of all", (patched(pack_init(UUID, 0), 4, 9),), main_first=False),
    InitCase("uuid", (pack_init(bytes(range(16)), 1),)),
    InitCase("uuid of channel 200", (pack_init(bytes(range(16)), 200),)),
    InitCase("no uuid", (pack_init(UUID, 0),), uuid="12345678-9abc-def0-1234-56789abcdef0"),
    InitCase("id above the count", (pack_init(UUID, 3),)),
    InitCase("id 255", (pack_init(UUID, 255),)),
    InitCase("id in use", (pack_init(UUID, 0), pack_init(UUID, 0))),
    InitCase("second channel", (pack_init(UUID, 1), patched(pack_init(UUID, 0), 4, 2))),
)
