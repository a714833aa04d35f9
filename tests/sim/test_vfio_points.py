# SPDX-License-Identifier: MIT
"""Each fault point of VFIO devices: what is said when it fails, and where migration and devices end.

Those that a migration passes are failed in a migration of a kind of `tests.sim._migrations`; the others (`PLUGGED`) when a
device is plugged, or by a device that cannot log what it writes to (`CONTAINER`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fakeqemu.error import QemuError
from fakeqemu.faults import points_vfio
from fakeqemu.faults.injector import Fail, Injector, Rule
from fakeqemu.hw.vfio import fsm
from fakeqemu.hw.vfio.vendor import MigrationFeatures
from fakeqemu.migration.stream.qemu_file import QEMUFile
from tests.sim._migrations import KINDS, Kind, Run

MakeMachine = Callable[..., Any]

NAME = "0000:3b:00.1"
EIO = "Input/output error"
FLAGS = fsm.FLAG_STOP_COPY | fsm.FLAG_P2P | fsm.FLAG_PRE_COPY

#: points that are passed when a device is plugged, and by machines whose devices do not log DMA themselves
PLUGGED = ("fake_vfio_query_migration_flags", "fake_vfio_set_precopy_info_v2")
CONTAINER = ("fake_vfio_set_dirty_page_tracking",)

VFIO_KINDS = [kind for kind in KINDS if kind.vfio]
ONE = next(kind for kind in VFIO_KINDS if kind.name == "vfio")
OLD = next(kind for kind in VFIO_KINDS if kind.name == "vfio-10.0")


def failing(kind: Kind, side: str, point: str, **rule: Any) -> Run:
    """A migration of a kind in which a point fails on a side; nothing is left open then."""
    run = Run(kind)
    run.injectors[side].add(Rule(point, **rule))
    run.go()
    run.check()
    assert [one.point for one in run.injectors[side].injected][:1] == [point]
    return run


def states(run: Run) -> list[str]:
    return [one.migration.device_state for one in run.source.vm.vfio.devices if one.migration is not None]


def error_of(run: Run) -> str:
    assert run.source.vm.migration.error is not None
    return run.source.vm.migration.error.desc


def test_migrations_pass_every_point_but_those_named_here() -> None:
    passed: dict[str, None] = {}
    for kind in VFIO_KINDS:
        run = Run(kind)
        for injector in run.injectors.values():
            check = injector.check

            def noting(point: str, fields: dict[str, Any], check: Any = check) -> None:
                passed[point] = None
                check(point, fields)

            injector.check = noting  # type: ignore[method-assign]
        run.go()
    missing = [point.name for point in points_vfio.POINTS if point.name not in passed]
    # A device is reset when it does not follow, which none does.
    assert sorted(missing) == sorted([*PLUGGED, *CONTAINER, "vfio_pci_reset"])


SOURCE = {
    "vfio_device_dirty_tracking_start": (
        f"vfio: Could not start dirty page tracking - {NAME}: Failed to start DMA logging: {EIO}"
    ),
    "vfio_save_setup": f"{NAME}: Failed to allocate migration data buffer",
    "vfio_save_block": f"Channel error: {EIO}",
    "vfio_save_device_config_state": (
        f"vfio: Failed to save device config space of {NAME} - Failed to save state: {EIO}"
    ),
}


@pytest.mark.parametrize("kind", [ONE, OLD], ids=lambda kind: kind.name)
@pytest.mark.parametrize("point", SOURCE)
def test_a_source_that_cannot_save_a_device_fails_and_its_devices_run(kind: Kind, point: str) -> None:
    run = failing(kind, "source", point)
    assert (run.source_status, error_of(run)) == ("failed", SOURCE[point])
    assert run.source.vm.runstate.running
    assert states(run) == ["running"] * kind.vfio


@pytest.mark.parametrize("kind", [ONE, OLD], ids=lambda kind: kind.name)
def test_a_device_that_fails_in_a_pass_is_named(kind: Kind) -> None:
    run = failing(kind, "source", "vfio_save_block")
    entry = next(one for one in run.source.vm.savevm.entries if one.idstr.endswith("/vfio"))
    line = f"failed to save SaveStateEntry with id(name): {entry.section_id}({entry.idstr}): -5"
    assert line in run.source.host.log_lines


@pytest.mark.parametrize("kind", [ONE, OLD], ids=lambda kind: kind.name)
@pytest.mark.parametrize("later", [False, True], ids=["setup", "switchover"])
def test_a_log_that_cannot_be_read_is_an_error_of_the_stream(kind: Kind, later: bool) -> None:
    run = failing(kind, "source", "vfio_container_query_dirty_bitmap", after=kind.vfio if later else 0)
    report = f"{NAME}: Failed to get DMA logging report, iova: 0x0, size: 0x8000000: {EIO}"
    assert error_of(run) == (report if later else f"ram_save_setup failed: {EIO}")
    assert states(run) == ["running"] * kind.vfio


@pytest.mark.parametrize("kind", [ONE, OLD], ids=lambda kind: kind.name)
def test_a_log_that_cannot_be_ended_is_warned_of(kind: Kind) -> None:
    run = failing(kind, "source", "fake_vfio_dma_logging_stop")
    assert run.source_status == "completed"
    assert f"warning: {NAME}: Failed to stop DMA logging, err 5 ({EIO})" in run.source.host.log_lines


@pytest.mark.parametrize(("kind", "warned"), [(ONE, 1), (OLD, 0)], ids=["11.1", "10.0"])
@pytest.mark.parametrize(
    ("point", "request_name"),
    [
        ("vfio_query_stop_copy_size", "ioctl(VFIO_DEVICE_FEATURE) on VFIO_DEVICE_FEATURE_MIG_DATA_SIZE"),
        ("vfio_query_precopy_size", "ioctl(VFIO_MIG_GET_PRECOPY_INFO)"),
    ],
)
def test_sizes_that_cannot_be_asked_for_are_warned_of_once(
    kind: Kind, warned: int, point: str, request_name: str
) -> None:
    run = failing(kind, "source", point, action=Fail(), match={"device": NAME}, times=2)
    wanted = f"warning: VFIO device {NAME} {request_name} failed (-5)"
    assert run.source.host.log_lines.count(wanted) == warned
    assert not [line for line in run.source.host.log_lines if "failed (-5)" in line and line != wanted]


STATES = {
    "pre-copy": ("failed", "PRE_COPY. Setting device in recover state RUNNING", ["running", "running"]),
    "pre-copy-p2p": ("failed", "PRE_COPY_P2P. Recover state is ERROR. Resetting device", ["running", "running"]),
    "stop-copy": ("failed", "STOP_COPY. Recover state is ERROR. Resetting device", ["running", "running"]),
    "stop": ("completed", "STOP. Recover state is ERROR. Resetting device", ["running", "stop"]),
}


@pytest.mark.parametrize("point", ["vfio_migration_set_state", "fake_vfio_arc"])
@pytest.mark.parametrize("state", STATES)
def test_a_state_that_a_source_cannot_reach(state: str, point: str) -> None:
    status, words, wanted = STATES[state]
    field = "to" if point == "vfio_migration_set_state" else "to_state"
    run = failing(ONE, "source", point, match={"device": NAME, field: state})
    text = f"{NAME}: Failed setting device state to {words}: {EIO}"
    assert run.source_status == status
    assert text in run.source.host.log_lines
    assert status == "completed" or error_of(run) == text
    assert states(run) == wanted


def test_a_reset_that_fails_too_is_told() -> None:
    """QEMU aborts. Here the device is asked to run as after any other failure."""
    run = Run(ONE)
    run.injectors["source"].add(Rule("vfio_migration_set_state", match={"device": NAME, "to": "stop-copy"}))
    run.injectors["source"].add(Rule("vfio_pci_reset"))
    run.go()
    run.check()
    assert run.source_status == "failed"
    assert f"{NAME}: Failed resetting device, err: {EIO}" in run.source.host.log_lines
    assert states(run) == ["running"] * ONE.vfio


def test_a_guest_reset_without_a_way_to_reset_the_device_says_so(make_machine: MakeMachine) -> None:
    machine = make_machine()
    machine.add_vf()
    Injector(machine.vm).add(Rule("vfio_pci_reset"))
    machine.execute("system_reset")
    machine.world.run_ready()
    assert machine.host.log_lines == [f"vfio: Cannot reset device {NAME}, no available reset mechanism."]


DESTINATION = {
    "vfio_migration_set_state": (
        f"load of migration failed: {EIO}: Load state of device 0000:00:01.0/vfio failed: {NAME}: Failed setting device "
        f"state to RESUMING. Setting device in recover state RUNNING: {EIO}",
    ),
    "vfio_load_state_device_data": (f"load of migration failed: {EIO}: Failed to load vmstate version_id: 1, ret: -5",),
    "vfio_load_device_config_state_start": (
        f"{NAME}: Failed to load device config space",
        f"load of migration failed: {EIO}: error while loading state for instance 0x0 of device '0000:00:01.0/vfio': "
        "Failed to load vmstate version_id: 1, ret: -5",
    ),
}


@pytest.mark.parametrize("point", DESTINATION)
def test_a_destination_that_cannot_load_a_device_says_why(point: str) -> None:
    run = failing(ONE, "destination", point)
    assert (run.source_status, run.destination_status) == ("failed", "failed")
    assert tuple(run.destination.host.log_lines) == DESTINATION[point]
    assert states(run) == ["running"] * ONE.vfio


@pytest.mark.parametrize(
    ("release", "member_lines"),
    [
        ("11.1", ["Failed to load PCIDevice state: stream error: -5"]),
        ("10.0", ["Failed to load PCIDevice:config", "Failed to load VFIOPCIDevice:pdev"]),
    ],
)
def test_a_config_space_that_is_cut_short(make_machine: MakeMachine, release: str, member_lines: list[str]) -> None:
    source, target = (make_machine(profile=release) for _ in range(2))
    here, there = source.add_vf(), target.add_vf()
    f = QEMUFile()
    source.world.run(here.handlers.save_state(f))
    with pytest.raises(Exception, match="Failed to load device config space"):
        target.world.run(there.handlers.load_state(QEMUFile.over(f.getvalue()[:100]), 1))
    assert target.host.log_lines == member_lines


# --- plugging ---------------------------------------------------------------------------------------------

BLOCKERS = {
    ("fake_vfio_query_migration_flags", "11.1"): (
        f"{NAME}: VFIO migration init failed: failed to query migration flags: {EIO}"
    ),
    ("fake_vfio_query_migration_flags", "10.0"): (
        f"{NAME}: Migration couldn't be initialized for VFIO device, err: -5 ({EIO})"
    ),
    ("fake_vfio_set_precopy_info_v2", "11.1"): (
        f"{NAME}: VFIO migration init failed: failed to set precopy info v2: {EIO}"
    ),
}


@pytest.mark.parametrize(("point", "release"), BLOCKERS)
def test_a_device_that_cannot_be_asked_blocks_migration(make_machine: MakeMachine, point: str, release: str) -> None:
    machine = make_machine(profile=release)
    Injector(machine.vm).add(Rule(point))
    machine.add_vf()
    with pytest.raises(QemuError) as refused:
        machine.execute("migrate", uri="unix:/tmp/nobody")
    assert BLOCKERS[point, release] in refused.value.desc


@pytest.mark.parametrize("release", ["11.1", "10.0"])
def test_where_devices_cannot_log_the_container_is_asked(make_machine: MakeMachine, release: str) -> None:
    machine = make_machine(profile=release)
    injector = Injector(machine.vm)
    machine.add_vf(features=MigrationFeatures(FLAGS), enable_migration="on")
    log = machine.vm.savevm.dirty_logs[0]
    injector.add(Rule("fake_vfio_set_dirty_page_tracking"))
    with pytest.raises(QemuError) as failed:
        log.start()
    text = f"Failed to set dirty tracking flag 0x1: {EIO}"
    assert failed.value.desc == f"vfio: Could not start dirty page tracking - {text}"
    log.start()
    machine.host.log_lines.clear()
    injector.add(Rule("vfio_container_query_dirty_bitmap"))
    log.sync()
    injector.add(Rule("fake_vfio_set_dirty_page_tracking"))
    log.stop()
    assert machine.host.log_lines == [
        f"Failed to get dirty bitmap for iova: 0x0 size: 0x8000000: {EIO}",
        f"vfio: Could not stop dirty page tracking - Failed to set dirty tracking flag 0x2: {EIO}",
    ]
