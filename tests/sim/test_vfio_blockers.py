# SPDX-License-Identifier: MIT
"""What keeps a VFIO device from migrating, with enable-migration off, auto and on; and devices that cannot be had."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

from fakeqemu.error import QemuError
from fakeqemu.hw.vfio import fsm
from fakeqemu.hw.vfio.device import MULTIPLE_DEVICES
from fakeqemu.hw.vfio.hostmodel import default_host
from fakeqemu.hw.vfio.vendor import MigrationFeatures

MakeMachine = Callable[..., Any]

NAME = "0000:3b:00.1"
ALL_FLAGS = fsm.FLAG_STOP_COPY | fsm.FLAG_P2P | fsm.FLAG_PRE_COPY
DISABLED = f"{NAME}: Migration is disabled for VFIO device"
GOOD = MigrationFeatures(ALL_FLAGS, dma_logging=True)

#: features -> the reason with enable-migration=auto, in 11.1 and in 10.0
REASONS = {
    "no feature": (
        MigrationFeatures(0),
        f"{NAME}: VFIO migration init failed: migration is not supported in kernel: Inappropriate ioctl for device",
        f"{NAME}: VFIO migration is not supported in kernel",
    ),
    "no STOP_COPY": (
        MigrationFeatures(fsm.FLAG_P2P, dma_logging=True),
        f"{NAME}: VFIO migration init failed: VFIO_MIGRATION_STOP_COPY is not supported",
        f"{NAME}: Migration couldn't be initialized for VFIO device, err: -95 (Operation not supported)",
    ),
    "query fails": (
        MigrationFeatures(0, query_errno=errno.EIO),
        f"{NAME}: VFIO migration init failed: failed to query migration flags: Input/output error",
        f"{NAME}: Migration couldn't be initialized for VFIO device, err: -5 (Input/output error)",
    ),
    "no dirty tracking": (
        MigrationFeatures(ALL_FLAGS),
        f"{NAME}: VFIO device doesn't support device and IOMMU dirty tracking",
        f"{NAME}: VFIO device doesn't support device and IOMMU dirty tracking",
    ),
}


@pytest.mark.parametrize("case", REASONS)
@pytest.mark.parametrize("profile", ["11.1", "10.0"])
def test_each_reason_blocks_with_auto(make_machine: MakeMachine, case: str, profile: str) -> None:
    machine = make_machine(profile=profile)
    features, new, old = REASONS[case]
    machine.add_vf(features=features)
    reason = new if profile == "11.1" else old
    assert machine.vm.savevm.blocked_reasons() == [reason]
    assert machine.execute("query-migrate") == {"blocked-reasons": [reason]}
    with pytest.raises(QemuError) as refused:
        machine.execute("migrate", uri="tcp:127.0.0.1:4444")
    assert refused.value.desc == reason


@pytest.mark.parametrize("case", REASONS)
def test_off_always_blocks(make_machine: MakeMachine, case: str) -> None:
    machine = make_machine()
    machine.add_vf(features=REASONS[case][0], enable_migration="off")
    assert machine.vm.savevm.blocked_reasons() == [DISABLED]


@pytest.mark.parametrize("case", REASONS)
def test_on_refuses_the_device_and_leaves_nothing_behind(make_machine: MakeMachine, case: str) -> None:
    machine = make_machine(profile="11.1")
    features, reason, _ = REASONS[case]
    if case == "no dirty tracking":
        machine.add_vf(features=features, enable_migration="on")
        assert machine.host.log_lines == [f"warning: {reason}"]
        assert machine.vm.savevm.blocked_reasons() == []
        return
    with pytest.raises(QemuError) as refused:
        machine.add_vf(features=features, enable_migration="on")
    assert refused.value.desc == f"vfio {NAME}: {reason}"
    assert machine.vm.vfio.devices == []
    assert machine.vm.hardware.attached == []
    machine.device_add("vfio-pci", host=NAME)  # the same address can be had again


def test_a_good_device_blocks_nothing(make_machine: MakeMachine) -> None:
    machine = make_machine()
    machine.add_vf(enable_migration="on")
    assert machine.vm.savevm.blocked_reasons() == []


def test_dirty_tracking_switched_off_is_none(make_machine: MakeMachine) -> None:
    machine = make_machine()
    machine.add_vf(x_device_dirty_page_tracking="off")
    assert machine.vm.savevm.blocked_reasons() == [REASONS["no dirty tracking"][1]]


def test_several_devices_need_p2p_of_each_and_removing_the_odd_one_restores_migration(
    make_machine: MakeMachine,
) -> None:
    machine = make_machine()
    odd = machine.add_vf(flags=fsm.FLAG_STOP_COPY)
    assert machine.vm.savevm.blocked_reasons() == []
    machine.add_vf()
    machine.add_vf()
    assert machine.vm.savevm.blocked_reasons() == [MULTIPLE_DEVICES], "one entry for all"
    odd.vbasedev.dev.unparent()
    assert machine.vm.savevm.blocked_reasons() == []


def test_a_required_device_that_breaks_the_p2p_rule_is_refused(make_machine: MakeMachine) -> None:
    machine = make_machine()
    machine.add_vf()
    with pytest.raises(QemuError) as refused:
        machine.add_vf(flags=fsm.FLAG_STOP_COPY, enable_migration="on")
    assert refused.value.desc == f"vfio 0000:3b:00.2: {MULTIPLE_DEVICES}"
    assert machine.vm.savevm.blocked_reasons() == []
    assert len(machine.vm.vfio.devices) == 1


def test_devices_that_cannot_migrate_do_not_count(make_machine: MakeMachine) -> None:
    machine = make_machine()
    machine.add_vf(flags=fsm.FLAG_STOP_COPY)
    machine.add_vf(enable_migration="off")
    assert machine.vm.savevm.blocked_reasons() == ["0000:3b:00.2: Migration is disabled for VFIO device"]


def test_reasons_are_listed_oldest_first_and_migrate_says_the_newest(make_machine: MakeMachine) -> None:
    machine = make_machine()
    machine.add_vf(enable_migration="off")
    machine.add_vf(enable_migration="off")
    reasons = machine.execute("query-migrate")["blocked-reasons"]
    assert reasons == [DISABLED, DISABLED.replace("00.1", "00.2")]
    with pytest.raises(QemuError) as refused:
        machine.execute("migrate", uri="tcp:127.0.0.1:4444")
    assert refused.value.desc == reasons[1]


def test_only_migratable_refuses_a_device_that_blocks(make_machine: MakeMachine) -> None:
    machine = make_machine()
    machine.vm.only_migratable = True
    with pytest.raises(QemuError) as refused:
        machine.add_vf(enable_migration="off")
    assert refused.value.desc == f"vfio {NAME}: disallowing migration blocker (--only-migratable) for: {DISABLED}"
    assert machine.vm.vfio.devices == []


def test_a_failover_device_neither_migrates_nor_blocks(make_machine: MakeMachine) -> None:
    machine = make_machine()
    machine.vm.hardware.functions.update(default_host().functions)
    device = machine.device("vfio-pci", {"host": NAME, "failover_pair_id": "net0", "enable-migration": "off"})
    assert device.vbasedev.migration is None
    assert machine.vm.savevm.blocked_reasons() == []


def test_7_2_cannot_migrate_any(make_machine: MakeMachine) -> None:
    machine = make_machine(profile="7.2")
    machine.add_vf()
    assert machine.vm.savevm.blocked_reasons() == ["VFIO device doesn't support migration"]


#: devices of the default host that cannot be had, and why
UNAVAILABLE = {
    "0000:01:00.0": "vfio /sys/bus/pci/devices/0000:01:00.0: no such host device: No such file or directory",
    "0000:3b:00.0": "vfio 0000:3b:00.0: Could not open '/dev/vfio/40': No such file or directory",
    "0000:af:00.0": "vfio 0000:af:00.0: Could not open '/dev/vfio/70': No such file or directory",
    "0000:af:00.1": "vfio 0000:af:00.1: no iommu_group found: No such file or directory",
    "0000:af:00.2": "vfio 0000:af:00.2: Could not open '/dev/vfio/71': Device or resource busy",
    "0000:af:00.3": "vfio 0000:af:00.3: Could not open '/dev/vfio/72': No such file or directory",
    "0000:af:00.4": "vfio 0000:af:00.4: Could not open '/dev/vfio/73': Permission denied",
    "0000:d8:00.0": "vfio 0000:d8:00.0: group 80 is not viable",
}


@pytest.mark.parametrize("address", UNAVAILABLE)
def test_a_device_of_the_default_host_that_cannot_be_had_says_why(make_machine: MakeMachine, address: str) -> None:
    machine = make_machine()
    machine.vm.hardware = default_host()
    with pytest.raises(QemuError) as refused:
        machine.device_add("vfio-pci", host=address)
    assert refused.value.desc == UNAVAILABLE[address]
    assert machine.vm.qom.peripheral_anon.children == {}


def test_a_device_is_assigned_once(make_machine: MakeMachine) -> None:
    machine = make_machine()
    machine.vm.hardware = default_host()
    machine.device_add("vfio-pci", host=NAME)
    with pytest.raises(QemuError) as refused:
        machine.device_add("vfio-pci", host=NAME)
    assert refused.value.desc == f"vfio {NAME}: device is already attached"


def test_a_device_has_its_hosts_ids_and_takes_others(make_machine: MakeMachine) -> None:
    machine = make_machine()
    machine.vm.hardware = default_host()
    own = machine.device_add("vfio-pci", sysfsdev=f"/sys/bus/pci/devices/{NAME}")
    other = machine.device_add("vfio-pci", host="3b:00.2", x_pci_device_id="0x1234")
    assert (own.config.word(0), own.config.word(2), own.config.word(0x0A)) == (0x15B3, 0x101E, 0x0200)
    assert other.config.word(2) == 0x1234
    assert own.vbasedev.name == NAME


def test_a_mediated_device_is_found_by_its_path(make_machine: MakeMachine) -> None:
    machine = make_machine()
    machine.vm.hardware = default_host()
    uuid = "c2f1b3de-9c3f-4a57-8d0e-52d6b7a1e0f4"
    device = machine.device_add("vfio-pci", sysfsdev=f"/sys/bus/mdev/devices/{uuid}", x_balloon_allowed="on")
    assert device.vbasedev.name == uuid
    with pytest.raises(QemuError) as refused:
        machine.device_add("vfio-pci", host=NAME, x_balloon_allowed="on")
    assert refused.value.desc == f"vfio {NAME}: x-balloon-allowed only potentially compatible with mdev devices"
