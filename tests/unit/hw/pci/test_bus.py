# SPDX-License-Identifier: MIT
"""Slots and functions: who may have which. The texts are QEMU's."""

from __future__ import annotations

from fakeqemu.hw.pci.bus import PCIBus
from fakeqemu.hw.pci.device import PCIDevice
from fakeqemu.system.machine import Machine
from tests.unit._boards import board, plug, refusal

RNG = "virtio-rng-pci"


def devfn(vm: Machine, **properties: object) -> str:
    device = plug(vm, RNG, json=False, **properties)
    assert isinstance(device, PCIDevice)
    return f"{device.devfn >> 3:x}.{device.devfn & 7}"


def test_the_first_free_slot_is_taken() -> None:
    vm = board()
    assert [devfn(vm) for _ in range(3)] == ["1.0", "2.0", "3.0"]
    assert devfn(vm, addr="5") == "5.0"
    assert [devfn(vm) for _ in range(2)] == ["4.0", "6.0"]


def test_a_taken_function_names_who_has_it() -> None:
    vm = board()
    assert refusal(vm, RNG, json=False, addr="0") == (
        "PCI: slot 0 function 0 not available for virtio-rng-pci, in use by mch,id=(null)"
    )
    plug(vm, RNG, json=False, id="a", addr="3")
    assert refusal(vm, "e1000", json=False, addr="3") == (
        "PCI: slot 3 function 0 not available for e1000, in use by virtio-rng-pci,id=a"
    )


def test_function_0_decides_about_the_others() -> None:
    vm = board()
    plug(vm, RNG, json=False, addr="3.0")
    assert refusal(vm, RNG, json=False, addr="3.1") == "PCI: single function device can't be populated in function 3.1"
    plug(vm, RNG, json=False, addr="4.1")
    assert refusal(vm, RNG, json=False, addr="4.0") == (
        "PCI: 4.0 indicates single function, but 4.1 is already populated."
    )
    assert devfn(vm, addr="4.0", multifunction="on") == "4.0"
    assert devfn(vm, addr="4.2") == "4.2"


def test_what_is_refused_gives_its_place_back() -> None:
    vm = board()
    assert refusal(vm, RNG, json=False, addr="7", romfile="/nosuch") == 'failed to find romfile "/nosuch"'
    assert devfn(vm, addr="7") == "7.0"


def test_a_full_bus_says_so() -> None:
    vm = board()
    for _ in range(30):  # slots 0 and 31 are the board's
        plug(vm, "pvscsi", json=False)
    assert refusal(vm, "pvscsi", json=False) == "PCI: no slot/function available for pvscsi, all in use or reserved"


def test_a_device_plugged_into_an_occupied_slot_would_stay_unseen() -> None:
    vm = board()
    plug(vm, "pcie-root-port", id="rp", chassis=1)
    vm.phase = "ready"
    plug(vm, RNG, bus="rp", id="r")
    text = "PCI: slot 0 function 0 already occupied by virtio-rng-pci, new func {} cannot be exposed to guest."
    assert refusal(vm, "e1000e", bus="rp") == text.format("e1000e")
    assert refusal(vm, RNG, bus="rp", addr="0.1") == text.format(RNG)


def test_behind_a_port_7_2_still_had_slots() -> None:
    vm = board("7.2")
    plug(vm, "pcie-root-port", id="rp", chassis=1)
    vm.phase = "ready"
    plug(vm, RNG, bus="rp", id="r")
    plug(vm, RNG, bus="rp", id="s")
    assert refusal(vm, RNG, bus="rp", addr=1).endswith("cannot be exposed to guest.")


def test_names_of_state_go_by_slots_not_by_bus_numbers() -> None:
    vm = board()
    plug(vm, "pcie-root-port", id="rp", chassis=1, addr="5")
    assert plug(vm, RNG, bus="rp").qdev_path() == "0000:00:05.0:00.0"
    assert plug(vm, "e1000", addr="6").qdev_path() == "0000:00:06.0"


def test_two_ports_of_one_chassis_differ_by_slot() -> None:
    vm = board()
    plug(vm, "pcie-root-port", chassis=1)
    assert refusal(vm, "pcie-root-port", chassis=1) == "Can't add chassis slot, error -16"
    plug(vm, "pcie-root-port", chassis=1, slot=1)


def test_a_port_without_hotplug_does_not_hotplug() -> None:
    vm = board()
    plug(vm, "pcie-root-port", id="on", chassis=1)
    off = plug(vm, "pcie-root-port", id="off", chassis=2, hotplug=False).child_buses[0]
    assert isinstance(off, PCIBus)
    vm.phase = "ready"
    assert off.acpi_bus_number() is None
    assert refusal(vm, RNG, bus="off") == "Bus 'off' does not support hotplugging"
    plug(vm, RNG, bus="on")


def test_an_acpi_index_is_given_once() -> None:
    vm = board()
    plug(vm, RNG, **{"acpi-index": 1})
    assert refusal(vm, RNG, **{"acpi-index": 1}) == "a PCI device with acpi-index = 1 already exist"
