# SPDX-License-Identifier: MIT
"""What properties of devices take, and how they are printed. The texts are those of QEMU 11.1."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.error import QemuError
from fakeqemu.hw.core import properties
from tests.unit._boards import board, plug, refusal

RNG = "virtio-rng-pci"
NIC = "virtio-net-pci"


@pytest.mark.parametrize(
    ("driver", "name", "value", "text"),
    [
        (RNG, "nosuch", 1, "Property 'virtio-rng-pci.nosuch' not found"),
        (RNG, "max-bytes", "1", "Parameter 'max-bytes' expects uint64"),
        (RNG, "period", -1, "Parameter 'period' expects uint32_t"),
        (RNG, "period", 1.5, "Parameter 'period' expects uint64"),
        (RNG, "multifunction", "on", "Invalid parameter type for 'multifunction', expected: boolean"),
        (RNG, "disable-legacy", True, "Invalid parameter type for 'disable-legacy', expected: string"),
        (RNG, "disable-legacy", "maybe", "Parameter 'disable-legacy' does not accept value 'maybe'"),
        (RNG, "rng", None, "Invalid parameter type for 'rng', expected: string"),
        (RNG, "rng", "/nosuch", "Device '/nosuch' not found"),
        (RNG, "addr", "zz", "Property 'virtio-rng-pci.addr' doesn't take value 'zz'"),
        (RNG, "addr", "40", "Property 'virtio-rng-pci.addr' doesn't take value '40'"),
        (RNG, "addr", 400, "Parameter 'addr' expects a value between -1 and 255"),
        (RNG, "addr", [], "Invalid parameter type for 'addr', expected int or str"),
        (RNG, "hotplugged", False, "Property 'virtio-rng-pci.hotplugged' is not writable"),
        (RNG, "parent_bus", "x", "Property 'virtio-rng-pci.parent_bus' is not writable"),
        (RNG, "romsize", 3, "ROM size 3 is not a power of two"),
        (NIC, "mac", 1, "Invalid parameter type for 'mac', expected: string"),
        (NIC, "mac", "52:54:00", "Property 'virtio-net-device.mac' doesn't take value '52:54:00'"),
        (NIC, "netdev", "x", "Property 'virtio-net-device.netdev' can't find value 'x'"),
        ("virtio-blk-pci", "drive", "x", "Property 'virtio-blk-device.drive' can't find value 'x'"),
        ("isa-serial", "chardev", "x", "Property 'serial.chardev' can't find value 'x'"),
        ("pcie-root-port", "x-speed", "7", "Parameter 'x-speed' does not accept value '7'"),
        ("vfio-pci", "host", "zz", "Property 'vfio-pci.host' doesn't take value 'zz'"),
    ],
)
def test_a_wrong_json_value_is_refused(driver: str, name: str, value: Any, text: str) -> None:
    assert refusal(board(), driver, **{name: value}) == text


@pytest.mark.parametrize(
    ("driver", "name", "value", "text"),
    [
        (RNG, "max-bytes", "abc", "Parameter 'max-bytes' expects integer"),
        (RNG, "period", "", "Parameter 'period' expects integer"),
        (RNG, "period", "99999999999", "Parameter 'period' expects uint32_t"),
        (RNG, "multifunction", "maybe", "Parameter 'multifunction' expects 'on' or 'off'"),
        (RNG, "addr", "3.", "Property 'virtio-rng-pci.addr' doesn't take value '3.'"),
        (RNG, "addr", "-1", "Property 'virtio-rng-pci.addr' doesn't take value '-1'"),
        (RNG, "addr", "", "Property 'virtio-rng-pci.addr' doesn't take value ''"),
        ("pcie-root-port", "io-reserve", "abc", "Parameter 'io-reserve' expects size"),
        ("pcie-root-port", "port", "256", "Parameter 'port' expects uint8_t"),
    ],
)
def test_a_wrong_text_is_refused(driver: str, name: str, value: str, text: str) -> None:
    assert refusal(board(), driver, json=False, **{name: value}) == text


def test_text_and_json_mean_the_same() -> None:
    from_text = plug(board(), RNG, json=False, addr="0x10.0x1", period="0x10", multifunction="on", rombar="-1")
    from_json = plug(board(), RNG, addr="10.1", period=16, multifunction=True, rombar=-1)
    for name in ("addr", "period", "multifunction", "rombar"):
        assert from_text.get(name) == from_json.get(name)
    assert from_json.get("addr") == 0x81


def test_the_part_has_the_value_that_was_set_through_the_device() -> None:
    device = plug(board(), RNG, **{"max-bytes": 512, "period": 7})
    part = device.child("virtio-backend")
    assert part is not None
    assert (part.get("max-bytes"), part.get("period")) == (512, 7)


def test_a_card_without_an_address_gets_the_next_free_one() -> None:
    vm = board()
    plug(vm, NIC, mac="52:54:00:12:34:57")
    assert [plug(vm, "e1000").get("mac") for _ in range(2)] == ["52:54:00:12:34:56", "52:54:00:12:34:58"]


def test_a_realized_device_is_settled() -> None:
    vm = board()
    named, anonymous = plug(vm, "pcie-root-port", id="rp", chassis=1), plug(vm, RNG)
    for device, name, value, whom in (
        (named, "chassis", 3, "property 'chassis' on device 'rp' (type 'pcie-root-port')"),
        (anonymous, "addr", 3, "property 'addr' on anonymous device (type 'virtio-rng-pci')"),
        (anonymous, "period", 3, "property 'period' on anonymous device (type 'virtio-rng-device')"),
        (anonymous, "rng", "", "link property 'rng' on device '(null)' (type 'virtio-rng-device')"),
    ):
        with pytest.raises(QemuError) as refused:
            device.set(name, value)
        assert refused.value.desc == f"Attempt to set {whom} after it was realized"
    named.set("realized", True)


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("bool", True, "true"),
        ("uint32", 97, "97 (0x61)"),
        ("int32", -1, "-1 (0xffffffffffffffff)"),
        ("size", 4096, "4096 (4 KiB)"),
        ("size", 34359738368, "34359738368 (32 GiB)"),
        ("size", 18446744073709551615, "18446744073709551615 (16 EiB)"),
        ("size", 0, "0 (0 B)"),
        ("addr", 0xFB, "1f.3"),
        ("str", "x", '"x"'),
    ],
)
def test_values_are_printed_as_in_info_qtree(kind: str, value: Any, text: str) -> None:
    assert properties.to_qtree(kind, value) == text


@pytest.mark.parametrize(
    ("description", "words"),
    [
        ("on/off/auto", ("on", "off", "auto")),
        ("Policy for handling lost ticks (discard/delay/slew)", ("discard", "delay", "slew")),
        ("Set IO policy", ()),
        ("Address (bus/device/function) of the host device, example: 04:10.0", ()),
        ("", ()),
    ],
)
def test_an_enumeration_is_told_by_its_description(description: str, words: tuple[str, ...]) -> None:
    assert properties.enum_words(description) == words


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0000:3b:00.1", (0, 0x3B, 0, 1)),
        ("3b:1f.7", (0, 0x3B, 0x1F, 7)),
        ("3b:20.0", None),
        ("3b:00.8", None),
        ("3b.0", None),
        ("", None),
    ],
)
def test_an_address_of_the_host_has_a_form(text: str, address: tuple[int, ...] | None) -> None:
    assert properties.parse_host_address(text) == address
