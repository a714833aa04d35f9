# SPDX-License-Identifier: MIT
"""`info qtree` and `query-pci` of boards are what the real QEMU said; of devices, what it says where they are."""

from __future__ import annotations

import pytest

from fakeqemu.hw.core.qdev import BusState, all_devices
from fakeqemu.hw.core.qtree import info_qtree, parse
from fakeqemu.hw.core.tree import main_system_bus
from fakeqemu.hw.pci.query import query_pci
from fakeqemu.system.machine import Machine
from tests.unit._boards import board, plug


@pytest.mark.parametrize("nodefaults", [True, False], ids=["nodefaults", "defaults"])
@pytest.mark.parametrize("name", ["none", "pc", "q35", "microvm"])
@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
def test_a_board_is_shown_as_recorded(profile: str, name: str, nodefaults: bool) -> None:
    vm = board(profile, name, nodefaults=nodefaults)
    assert vm.board is not None
    variant = vm.board.tree_variant()
    assert info_qtree(vm, []) == vm.profile.get("hmp", f"{variant}/info qtree").replace("\r\n", "\n")
    assert query_pci(vm) == vm.profile.get("queries", f"{variant}/query-pci")


def lines(vm: Machine, device_id: str) -> list[str]:
    """The lines of a device in `info qtree`, moved to the left edge, its own first."""
    text = info_qtree(vm, []).splitlines()
    at = next(i for i, line in enumerate(text) if line.endswith(f'id "{device_id}"'))
    depth = len(text[at]) - len(text[at].lstrip())
    end = next((i for i in range(at + 1, len(text)) if len(text[i]) - len(text[i].lstrip()) <= depth), len(text))
    return [line[depth:] for line in text[at:end]]


def test_a_device_is_shown_with_what_was_set() -> None:
    vm = board()
    plug(vm, "virtio-rng-pci", id="r", addr="7.0", **{"max-bytes": 512})
    shown = lines(vm, "r")
    assert shown[0] == 'dev: virtio-rng-pci, id "r"'
    assert "  addr = 07.0" in shown
    assert "  class Class 00ff, addr 00:07.0, pci id 1af4:1005 (sub 1af4:0004)" in shown
    assert "      max-bytes = 512 (0x200)" in shown
    assert '      rng = "/machine/peripheral/r/virtio-backend/default-backend"' in shown


def test_behind_a_port_virtio_is_modern() -> None:
    vm = board()
    plug(vm, "pcie-root-port", id="rp", chassis=1)
    plug(vm, "virtio-net-pci", id="n", bus="rp")
    shown = lines(vm, "n")
    assert '  disable-legacy = "on"' in shown
    assert "  class Ethernet controller, addr 00:00.0, pci id 1af4:1041 (sub 1af4:1100)" in shown
    assert not [line for line in shown if line.startswith("  bar 0")]


def test_brief_leaves_properties_away() -> None:
    vm = board()
    plug(vm, "pcie-root-port", id="rp", chassis=1)
    brief = info_qtree(vm, ["-b"])
    assert 'dev: pcie-root-port, id "rp"\n        bus: rp\n' in brief
    assert " = " not in brief


def test_buses_are_called_by_the_device_or_counted() -> None:
    vm = board()
    for driver, properties in (
        ("pcie-root-port", {"id": "rp", "chassis": 1}),
        ("pcie-root-port", {"chassis": 2}),
        ("pcie-root-port", {"chassis": 3}),
        ("ich9-ahci", {"id": "sata"}),
        ("ich9-ahci", {}),
        ("qemu-xhci", {}),
        ("virtio-scsi-pci", {"id": "s"}),
        ("virtio-scsi-pci", {}),
    ):
        plug(vm, driver, **properties)
    top = main_system_bus(vm)
    assert isinstance(top, BusState)
    names = [bus.name for device in all_devices(top) for bus in device.child_buses]
    for name in ("rp", "pcie.1", "sata.0", "sata.5", "ide.6", "ide.11", "usb-bus.0", "s.0", "scsi.0"):
        assert name in names
    assert names.count("pcie.0") == 2  # the board's, and the first that was counted


def test_a_recorded_text_is_cut_by_devices() -> None:
    top = parse('dev: a, id "x"\n  p = 1\n  bus: b.0\n    type B\n    dev: c, id ""\n      q = 2\n')
    assert [stanza.type_name for stanza in top] == ["a"]
    assert [stanza.lines for stanza in (top[0], top[0].below[0])] == [["p = 1"], ["q = 2"]]
