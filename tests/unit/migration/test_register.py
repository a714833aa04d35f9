# SPDX-License-Identifier: MIT
"""Who travels under which name: order, numbers, names of old releases, and names that are taken."""

from __future__ import annotations

import pytest

from fakeqemu.error import QemuError
from fakeqemu.host.host import Host
from fakeqemu.migration import register
from fakeqemu.migration.register import SaveRegistry, StockState
from fakeqemu.migration.savevm import assemble
from fakeqemu.migration.stream.vmstate import VMStateDescription
from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.sim.host import SimHost
from fakeqemu.system.board import create_board
from fakeqemu.system.build import new_machine
from fakeqemu.system.machine import Machine

STATE = StockState.of(b"", {})


def registry() -> SaveRegistry:
    return new_machine(SimHost(), VersionProfile.load("11.1"), {}).savevm


def machine(version: str, board: str) -> Machine:
    host: Host = SimHost()
    vm = new_machine(host, VersionProfile.load(version), {})
    create_board(vm, board, nodefaults=True).init()
    assemble(vm)
    return vm


def order(savevm: SaveRegistry) -> list[str]:
    return [entry.idstr for entry in savevm.entries]


def test_higher_priorities_come_first_and_equal_ones_in_order_of_registration() -> None:
    savevm = registry()
    for idstr, priority in (
        ("low", register.MIG_PRI_LOW),
        ("a", register.MIG_PRI_DEFAULT),
        ("iommu", register.MIG_PRI_IOMMU),
        ("bus", register.MIG_PRI_PCI_BUS),
        ("mem", register.MIG_PRI_VIRTIO_MEM),
        ("its", register.MIG_PRI_GICV3_ITS),
        ("gic", register.MIG_PRI_GICV3),
        ("apic", register.MIG_PRI_APIC),
        ("b", register.MIG_PRI_DEFAULT),
        ("apic", register.MIG_PRI_APIC),
    ):
        savevm.register_stock(idstr, -1, 1, STATE, priority)
    assert order(savevm) == ["apic", "apic", "gic", "its", "mem", "bus", "iommu", "a", "b", "low"]


def test_the_priority_of_a_description_counts() -> None:
    savevm = registry()
    savevm.register_stock("a", 0, 1, STATE)
    savevm.register_vmsd("first", 0, VMStateDescription("first", 1, priority=register.MIG_PRI_IOMMU), None)
    assert order(savevm) == ["first", "a"]


@pytest.mark.parametrize(
    ("version", "first"),
    [
        ("7.2", ["timer", "cpu_common", "cpu", "kvm-tpr-opt", "apic", "fw_cfg"]),
        ("10.0", ["timer", "cpu_common", "cpu", "kvm-tpr-opt", "apic", "fw_cfg"]),
        ("11.1", ["apic", "timer", "cpu_common", "cpu", "kvm-tpr-opt", "fw_cfg"]),
    ],
)
def test_the_order_of_a_board_is_that_of_its_release(version: str, first: list[str]) -> None:
    names = [name for name in order(machine(version, "q35").savevm) if name != "ram"]
    assert names[:6] == first
    assert names[-2:] == ["acpi_build", "globalstate"]
    clocks = [name for name in names if name in ("mc146818rtc", "hpet")]
    assert clocks == (["hpet", "mc146818rtc"] if version == "7.2" else ["mc146818rtc", "hpet"])


def test_the_next_instance_is_the_one_behind_the_last() -> None:
    savevm = registry()
    assert [savevm.register_stock("dma", -1, 1, STATE).instance_id for _ in range(3)] == [0, 1, 2]
    savevm.register_stock("dma", 7, 1, STATE)
    assert savevm.register_stock("dma", -1, 1, STATE).instance_id == 8


def test_a_name_that_is_taken_is_refused() -> None:
    savevm = registry()
    savevm.register_stock("a", 3, 1, STATE)
    text = r"^savevm_state_handler_insert: Detected duplicate SaveStateEntry: id=a, instance_id=0x3$"
    with pytest.raises(QemuError, match=text):
        savevm.register_stock("a", 3, 1, STATE)
    assert order(savevm) == ["a"]


# --- names of old releases (each was asked of a real 11.1) ------------------------------------------------


@pytest.mark.parametrize(
    ("idstr", "instance", "found"),
    [
        ("0000:00:1f.0/ICH9LPC", 0, "0000:00:1f.0/ICH9LPC"),
        ("ICH9LPC", 0, "0000:00:1f.0/ICH9LPC"),
        ("ICH9LPC", 1, None),
        ("LPC", 0, None),
        ("mch", 0, "0000:00:00.0/mch"),
        ("i8259", 0, "i8259"),
        ("i8259", 0x20, "i8259"),
        ("i8259", 0xA0, "i8259"),
        ("i8254", 0x40, "i8254"),
        ("i8254", 1, None),
        ("mc146818rtc", 0x70, None),
        ("0000:00:1f.0/i8254", 0, None),
    ],
)
def test_sections_are_found_by_names_of_old_releases(idstr: str, instance: int, found: str | None) -> None:
    entry = machine("11.1", "q35").savevm.find(idstr, instance)
    assert (None if entry is None else entry.idstr) == found


def test_the_two_interrupt_controllers_have_addresses_of_their_own() -> None:
    savevm = machine("11.1", "pc").savevm
    first, second, floppy = savevm.find("i8259", 0x20), savevm.find("i8259", 0xA0), savevm.find("fdc", 0x3F0)
    assert first is not None
    assert second is not None
    assert (first.instance_id, second.instance_id) == (0, 1)
    assert (floppy is None) == (savevm.find("fdc", 0) is None)


def test_without_their_paths_devices_of_one_kind_are_counted() -> None:
    savevm = registry()
    for path in ("0000:00:02.0", "0000:00:03.0"):
        savevm.register_stock(f"{path}/nic", 0, 1, STATE)
    entry = savevm.find("nic", 1)
    assert entry is not None
    assert entry.idstr == "0000:00:03.0/nic"
    assert savevm.find("nic", 2) is None
