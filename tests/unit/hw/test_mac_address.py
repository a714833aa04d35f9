# SPDX-License-Identifier: MIT
"""The address of a network card in its state."""

from __future__ import annotations

import pytest

from fakeqemu.hw.core.mac_address import with_mac
from tests.unit._boards import board, plug

MAC = "aa:bb:cc:0d:ee:0f"


@pytest.mark.parametrize(
    ("recorded", "wanted"),
    [
        ("00525400123456ff", "00aabbcc0dee0fff"),
        ("525254540000121234345656", "aaaabbbbcccc0d0deeee0f0f"),
        ("545212005634", "bbaa0dcc0fee"),
        ("1200545280005634", "0dccbbaa80000fee"),
        ("563412ffff005452", "0fee0dffffccbbaa"),
        ("fe123456525400ff", "fe0dee0faabbccff"),
        ("5254001234", "5254001234"),
        ("525400123456" * 2, "aabbcc0dee0f" * 2),
    ],
)
def test_all_forms_that_it_has(recorded: str, wanted: str) -> None:
    assert with_mac(bytes.fromhex(recorded), MAC).hex() == wanted


@pytest.mark.parametrize("mac", ["52:54:00:12:34:56", "", "nonsense", "aa:bb"])
def test_the_first_address_and_none_change_nothing(mac: str) -> None:
    body = bytes.fromhex("525400123456")
    assert with_mac(body, mac) == body


def test_a_sum_that_is_right_stays_right() -> None:
    words = bytes.fromhex("545212005634") + bytes(120)
    total = sum(int.from_bytes(words[at : at + 2], "big") for at in range(0, 126, 2))
    whole = words + ((0xBABA - total) & 0xFFFF).to_bytes(2, "big")
    changed = with_mac(whole, MAC)
    assert sum(int.from_bytes(changed[at : at + 2], "big") for at in range(0, 128, 2)) & 0xFFFF == 0xBABA
    assert with_mac(words + b"\1\2", MAC)[126:] == b"\1\2"


def test_the_sum_of_a_prom_follows() -> None:
    # as a pcnet was seen to have it
    prom = bytes.fromhex("525400123456") + bytes(6) + b"\x01\x02WW"
    assert with_mac(prom, MAC)[12:14] == b"\xfa\x03"


def test_each_card_has_its_own() -> None:
    vm = board("11.1", "pc")
    for _ in range(2):
        plug(vm, "virtio-net-pci")
    bodies = [entry.stock.data for entry in vm.savevm.entries if entry.stock is not None]
    assert [bytes.fromhex(text) in body for text, body in zip(("525400123456", "525400123457"), bodies, strict=True)]
    assert bodies[0] != bodies[1]
