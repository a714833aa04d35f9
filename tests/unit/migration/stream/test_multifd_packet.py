# SPDX-License-Identifier: MIT
"""Packets of multifd channels: their bytes, and what is wrong with others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakeqemu.error import StreamError
from fakeqemu.migration.stream import multifd_packet as mp
from fakeqemu.migration.stream.multifd_packet import DevicePacket, RamPacket

UUID = bytes(range(16))


def test_the_first_packet_of_a_channel() -> None:
    data = mp.pack_init(UUID, 3)
    assert data.hex() == "1122334400000001" + UUID.hex() + "03" + "00" * 39
    assert mp.parse_init(data, UUID, 4) == 3


@pytest.mark.parametrize("channels", [1, 2, 255])
def test_ids_below_the_number_of_channels_are_taken(channels: int) -> None:
    for number in (0, channels - 1):
        assert mp.parse_init(mp.pack_init(UUID, number), UUID, channels) == number


@pytest.mark.parametrize("channels", [1, 2, 254])
@pytest.mark.parametrize("words", ["exceeds", "greater", "version"])
def test_ids_from_the_number_of_channels_on_are_refused(channels: int, words: str) -> None:
    def refusal(number: int) -> str:
        with pytest.raises(StreamError) as refused:
            mp.parse_init(mp.pack_init(UUID, number), UUID, channels, id_words=words)
        return refused.value.desc

    # The first id that is too large passes in older releases, which die of it: there the words are always 11.1's.
    assert refusal(channels) == f"multifd: received channel id {channels} exceeds channel count {channels}"
    assert (
        refusal(255)
        == {
            "exceeds": f"multifd: received channel id 255 exceeds channel count {channels}",
            "greater": f"multifd: received channel id 255 is greater than number of channels {channels}",
            "version": "multifd: received channel version 1 expected 1",
        }[words]
    )


@pytest.mark.parametrize(("normal", "zero"), [(0, 0), (1, 0), (128, 0), (0, 128), (96, 32)])
def test_a_packet_with_pages(normal: int, zero: int) -> None:
    packet = RamPacket(
        mp.MULTIFD_FLAG_ZLIB,
        number=2,
        next_packet_size=135213,
        block="pc.ram",
        normal=[(10, normal)] if normal else [],
        zero=[(1000, zero)] if zero else [],
    )
    data = packet.pack()
    words = [0x11223344, 1, 2, 128, normal, 135213, 0, 2, zero]
    assert data[:36] == b"".join(word.to_bytes(4, "big") for word in words)
    assert data[36:64] == bytes(28)
    assert data[64:320] == b"pc.ram".ljust(256, b"\0")
    offsets = [page << 12 for page in [*range(10, 10 + normal), *range(1000, 1000 + zero)]]
    assert data[320:] == b"".join(offset.to_bytes(8, "big") for offset in offsets).ljust(1024, b"\0")
    back = mp.parse_ram(data)
    assert (back.flags, back.allocated, back.number, back.next_packet_size) == (2, 128, 2, 135213)
    assert (list(back.normal), list(back.zero)) == (packet.normal, packet.zero)
    assert back.block == ("pc.ram" if normal or zero else "")


@given(st.lists(st.integers(0, 1 << 40), max_size=128), st.integers(0, 128))
def test_pages_in_any_order_come_back(pages: list[int], split: int) -> None:
    normal, zero = [(page, 1) for page in pages[:split]], [(page, 1) for page in pages[split:]]
    back = mp.parse_ram(RamPacket(0, block="b", normal=normal, zero=zero).pack())
    found = [[page for first, n in runs for page in range(first, first + n)] for runs in (back.normal, back.zero)]
    assert found == [pages[:split], pages[split:]]


@given(st.binary(min_size=mp.RAM_PACKET_SIZE, max_size=mp.RAM_PACKET_SIZE))
def test_any_bytes_are_taken_or_refused(data: bytes) -> None:
    try:
        packet = mp.parse_ram(data)
    except StreamError:
        return
    assert packet.normal_pages + packet.zero_pages <= 128


def test_device_state() -> None:
    data = DevicePacket("0000:01:00.0/vfio", 7, 100).pack()
    assert len(data) == mp.DEVICE_PACKET_SIZE == 276
    assert data[:12].hex() == "112233440000000100000040"
    assert data[268:].hex() == "0000000700000064"
    back = mp.parse_device(data)
    assert (back.idstr, back.instance_id, back.next_packet_size) == ("0000:01:00.0/vfio", 7, 100)
