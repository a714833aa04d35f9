# SPDX-License-Identifier: MIT
"""Commands around a migration that need a whole machine: announcements, Xen's state of devices, the human monitor, threads."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.error import QemuError
from fakeqemu.host.clock import NS_PER_MS, NS_PER_S
from fakeqemu.monitor.terminal import MonitorHMP
from fakeqemu.sim.world import SimWorld
from fakeqemu.system.ramblock import RAMBlock
from fakeqemu.testing.sim_machine import SimMachine

SERIES = {"initial": 50, "max": 65, "rounds": 4, "step": 10}


@pytest.fixture
def world() -> SimWorld:
    return SimWorld(seed=3)


@pytest.fixture
def vm(world: SimWorld) -> SimMachine:
    return SimMachine(world, board="q35", profile="11.1")


def announcements(machine: SimMachine) -> list[tuple[int, str, dict[str, Any]]]:
    """What is traced of announcements from now on: (ms, event without its prefix, fields)."""
    seen: list[tuple[int, str, dict[str, Any]]] = []
    clock = machine.vm.host.clock
    start_ns = clock.now_ns()

    def traced(event: str, fields: dict[str, Any]) -> None:
        seen.append(((clock.now_ns() - start_ns) // NS_PER_MS, event.removeprefix("qemu_announce_"), dict(fields)))

    machine.vm.trace.watch(traced, "qemu_announce*")
    return seen


def rounds(seen: list[tuple[int, str, dict[str, Any]]]) -> list[tuple[int, str, str, bool]]:
    return [(at, f["id"], f["name"], f["skip"]) for at, event, f in seen if event == "self_iter"]


def test_waits_between_announcements_grow_up_to_the_largest(world: SimWorld, vm: SimMachine) -> None:
    vm.device_add("virtio-net-pci", id="net0", mac="52:54:00:12:34:56")
    seen = announcements(vm)
    vm.execute("announce-self", **SERIES)
    world.run_for(NS_PER_S)
    assert rounds(seen) == [(at, "", "net0", False) for at in (0, 50, 110, 175)]
    assert seen[-1] == (175, "timer_del", {"free_named": True, "free_timer": True, "id": ""})


def test_only_the_cards_that_were_named_take_part(world: SimWorld, vm: SimMachine) -> None:
    vm.device_add("virtio-net-pci", id="net0", mac="52:54:00:12:34:56")
    vm.device_add("e1000", id="net1", mac="52:54:00:12:34:57")
    seen = announcements(vm)
    vm.execute("announce-self", **{**SERIES, "rounds": 1}, interfaces=["net1"], id="a")
    assert rounds(seen) == [(0, "a", "net0", True), (0, "a", "net1", False)]


def test_a_series_takes_the_place_of_the_one_with_its_id(world: SimWorld, vm: SimMachine) -> None:
    vm.device_add("e1000", id="net0", mac="52:54:00:12:34:57")
    seen = announcements(vm)
    vm.execute("announce-self", **SERIES, id="a")
    vm.execute("announce-self", **{**SERIES, "initial": 200, "max": 200, "rounds": 2}, id="a")
    vm.execute("announce-self", **{**SERIES, "rounds": 0}, id="b")
    world.run_for(NS_PER_S)
    assert [at for at, *_ in rounds(seen)] == [0, 0, 200]


def test_a_guest_is_announced_where_it_arrives(world: SimWorld, vm: SimMachine) -> None:
    target = SimMachine(world, board="q35", profile="11.1", name="target")
    for machine in (vm, target):
        machine.device_add("e1000", id="net0", mac="52:54:00:12:34:57")
    target.vm.runstate.set("inmigrate")
    target.execute("migrate-set-parameters", **{"announce-rounds": 2, "announce-initial": 30})
    seen = announcements(target)
    target.execute("migrate-incoming", uri="unix:/tmp/mig")
    vm.execute("migrate", uri="unix:/tmp/mig")
    incoming = target.vm.migration.incoming
    assert incoming is not None
    world.run_until(lambda: incoming.state == "completed")
    world.run_for(NS_PER_S)
    (first, *_), (second, *_) = rounds(seen)
    assert second - first == 30


def test_state_of_devices_is_a_stream_without_configuration(world: SimWorld, vm: SimMachine) -> None:
    vm.execute("cont")
    vm.execute("xen-save-devices-state", filename="/tmp/xs")
    assert vm.event_names() == ["RESUME", "STOP", "RESUME"]
    data = bytes(world.files.contents["/tmp/xs"])
    assert data.startswith(b"QEVM\0\0\0\3\4")
    assert b"globalstate" in data
    assert b"running\0" in data
    assert b'"devices"' not in data
    assert data.endswith(b"\0")


def test_state_of_devices_that_cannot_be_written_leaves_the_guest_running(vm: SimMachine) -> None:
    vm.execute("cont")
    with pytest.raises(QemuError, match="Could not create '/nosuch/xs': No such file or directory"):
        vm.execute("xen-save-devices-state", filename="/nosuch/xs")
    assert vm.event_names() == ["RESUME", "STOP", "RESUME"]
    assert vm.execute("query-status")["status"] == "running"


def test_state_of_devices_is_loaded_into_a_stopped_guest(world: SimWorld, vm: SimMachine) -> None:
    vm.execute("xen-save-devices-state", filename="/tmp/xs")
    with pytest.raises(QemuError, match="loading Xen device state failed: Configuration section missing, 4 != 7"):
        vm.execute("xen-load-devices-state", filename="/tmp/xs")
    vm.execute("migrate", uri="file:/tmp/whole")
    world.run_until(lambda: vm.vm.migration.state == "completed")
    other = SimMachine(world, board="q35", profile="11.1", name="other")
    assert other.execute("xen-load-devices-state", filename="/tmp/whole") == {}
    other.execute("cont")
    with pytest.raises(QemuError, match="Cannot update device state while vm is running"):
        other.execute("xen-load-devices-state", filename="/tmp/whole")


def test_threads_of_a_migration_end_with_it(world: SimWorld) -> None:
    source = SimMachine(world, profile="10.0", name="source")
    assert source.execute("query-migrationthreads") == []
    source.vm.ram_blocks.append(RAMBlock("ram", 8 << 20))
    source.vm.ram_blocks[0].guest_dirties(0, 2048)
    source.execute("migrate-set-parameters", **{"max-bandwidth": 1 << 20})
    source.execute("migrate", uri="file:/tmp/out")
    world.run_until(lambda: source.vm.migration.state == "active")
    (thread,) = source.execute("query-migrationthreads")
    assert thread["name"] == "mig/src/main"
    assert thread == source.execute("query-migrationthreads")[0]
    source.execute("migrate_cancel")
    world.run_until(lambda: source.vm.migration.state == "cancelled")
    assert source.execute("query-migrationthreads") == []


def test_a_human_monitor_of_its_own_waits_for_the_end_of_a_migration(world: SimWorld, vm: SimMachine) -> None:
    written: list[bytes] = []
    monitor = MonitorHMP(vm.vm, write=written.append)
    monitor.receive_data(b"migrate file:/tmp/out\n")
    world.run_until(lambda: vm.vm.migration.state == "completed")
    assert not b"".join(written).endswith(b"(qemu) ")
    world.run_for(2 * NS_PER_S)
    assert b"".join(written).endswith(b"(qemu) ")
    monitor.receive_data(b"migrate -d file:/tmp/out\n")
    assert b"Can't migrate the vm that was paused" in written[-1]
