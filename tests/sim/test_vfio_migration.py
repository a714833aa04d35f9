# SPDX-License-Identifier: MIT
"""Whole migrations of machines with VFIO devices: which states are told when, what query-migrate says, how failures end."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

from fakeqemu.error import QemuError
from fakeqemu.hw.vfio import fsm
from fakeqemu.hw.vfio.vendor import MigrationFeatures
from fakeqemu.migration import begin_incoming

MakeMachine = Callable[..., Any]

URI = "unix:/tmp/migration"
ALL_FLAGS = fsm.FLAG_STOP_COPY | fsm.FLAG_P2P | fsm.FLAG_PRE_COPY
STOP_AND_P2P = fsm.FLAG_STOP_COPY | fsm.FLAG_P2P


class Pair:
    """A source and a waiting destination with the same devices."""

    def __init__(self, make_machine: MakeMachine, *, profile: str = "next", target_profile: str = "") -> None:
        self.source = make_machine(profile=profile, name="source")
        self.target = make_machine(profile=target_profile or profile, name="target")
        self.world = self.source.world

    def add_vfs(
        self, count: int, *, source: dict[str, Any] | None = None, target: dict[str, Any] | None = None, **both: Any
    ) -> None:
        """`count` devices on each side, with properties for one side or both."""
        for _ in range(count):
            self.source.add_vf(**both, **(source or {}))
            self.target.add_vf(**both, **(target or {}))

    def begin(self, *, paused: bool = False, **capabilities: bool) -> None:
        begin_incoming.start(self.target.vm, "defer")
        if not paused:
            self.world.run(self.source.vm.runstate.vm_start())
        states = [{"capability": name.replace("_", "-"), "state": on} for name, on in capabilities.items()]
        for machine in (self.source, self.target):
            machine.send({"execute": "migrate-set-capabilities", "arguments": {"capabilities": states}})
            machine.events.clear()
        self.target.execute("migrate-incoming", uri=URI, exit_on_error=False)
        self.source.execute("migrate", uri=URI)

    def finish(self) -> dict[str, Any]:
        """Until both sides have ended and nothing is left to do; returns the source's query-migrate."""
        self.world.run_until_idle()
        info: dict[str, Any] = self.source.execute("query-migrate")
        return info


@pytest.fixture
def pair(make_machine: MakeMachine) -> Pair:
    return Pair(make_machine)


def states(machine: Any) -> list[str]:
    """Device states and statuses of the migration, in the order in which they were told."""
    return [
        data.get("device-state") or data["status"]
        for _, name, data in machine.events
        if name in ("VFIO_MIGRATION", "MIGRATION")
    ]


def test_a_successful_migration_tells_the_states_of_both_sides(pair: Pair) -> None:
    pair.add_vfs(1)
    pair.begin(events=True, return_path=True)
    info = pair.finish()
    assert info["status"] == "completed"
    assert states(pair.source) == [
        "setup", "pre-copy", "active", "pre-copy-p2p-prepare", "pre-copy-p2p", "stop-copy", "device", "completed", "stop",
    ]  # fmt: skip
    assert states(pair.target) == ["setup", "active", "resuming", "running-p2p", "running", "completed"]
    assert pair.target.vm.runstate.running
    assert pair.source.vm.runstate.state == "postmigrate"
    here, there = pair.source.migrations()[0], pair.target.migrations()[0]
    assert here.vbasedev.driver.internal == there.vbasedev.driver.internal


@pytest.mark.parametrize("profile", ["10.0", "11.1"])
def test_older_releases_do_not_announce_what_they_are_about_to_do(make_machine: MakeMachine, profile: str) -> None:
    pair = Pair(make_machine, profile=profile)
    pair.add_vfs(1)
    pair.begin()
    pair.finish()
    prepare = ["pre-copy-p2p-prepare"] if profile == "11.1" else []
    assert pair.source.device_events() == ["pre-copy", *prepare, "pre-copy-p2p", "stop-copy", "stop"]


@pytest.mark.parametrize(("parallel", "downtime_ms"), [("off", 800 + 1200), ("on", 100 + 150)])
def test_query_migrate_shows_what_side_by_side_saves(pair: Pair, parallel: str, downtime_ms: int) -> None:
    pair.add_vfs(8, x_migration_parallel_states=parallel)
    pair.begin(return_path=True)
    assert pair.finish()["downtime"] == downtime_ms


def test_without_return_path_the_start_of_the_destination_is_not_seen(pair: Pair) -> None:
    pair.add_vfs(8)
    pair.begin()
    assert pair.finish()["downtime"] == 100


@pytest.mark.parametrize(("here", "there", "downtime_ms"), [("on", "off", 100 + 1200), ("off", "on", 800 + 150)])
def test_the_two_ends_may_differ(pair: Pair, here: str, there: str, downtime_ms: int) -> None:
    pair.add_vfs(8, source={"x_migration_parallel_states": here}, target={"x_migration_parallel_states": there})
    pair.begin(return_path=True)
    assert pair.finish()["downtime"] == downtime_ms


def test_next_and_11_1_migrate_to_each_other(make_machine: MakeMachine) -> None:
    pair = Pair(make_machine, profile="next", target_profile="11.1")
    pair.add_vfs(2)
    pair.begin(return_path=True)
    assert pair.finish()["downtime"] == 100 + 300


def test_the_bytes_of_the_devices_are_counted(pair: Pair) -> None:
    pair.add_vfs(2)
    pair.begin()
    info = pair.finish()
    # Each sends its megabyte before, and a thousand bytes after the stop.
    assert info["vfio"] == {"transferred": 2 * ((1 << 20) + 1000)}
    pair.source.events.clear()


def test_a_device_without_pre_copy_sends_everything_after_the_stop(pair: Pair) -> None:
    pair.add_vfs(1, flags=STOP_AND_P2P)
    pair.begin(return_path=True)
    info = pair.finish()
    assert info["status"] == "completed"
    assert pair.source.device_events() == ["running-p2p", "stop", "stop-copy", "stop"]
    assert info["vfio"] == {"transferred": 1000}
    # RUNNING_P2P, STOP, and STOP_COPY on the main channel; then the three arcs of the destination.
    assert info["downtime"] == 3 * 50 + 3 * 50


def test_a_paused_machine_only_passes_through_stop_copy(pair: Pair) -> None:
    pair.add_vfs(1)
    pair.world.run(pair.source.vm.runstate.vm_start())
    pair.world.run(pair.source.vm.runstate.vm_stop("paused"))
    pair.begin(paused=True)
    assert pair.finish()["status"] == "completed"
    assert pair.source.device_events() == ["stop-copy", "stop"]
    assert pair.target.device_events() == ["resuming"]
    pair.target.execute("cont")
    assert pair.target.device_events() == ["resuming", "running-p2p", "running"]


def test_a_cancelled_migration_takes_the_device_back(pair: Pair) -> None:
    pair.add_vfs(1)
    pair.source.execute("migrate-set-parameters", max_bandwidth=1 << 20)
    pair.begin(events=True)
    pair.world.run_until(lambda: "pre-copy" in pair.source.device_events())
    pair.source.execute("migrate_cancel")
    assert pair.finish()["status"] == "cancelled"
    assert pair.source.device_events() == ["pre-copy", "running"]
    assert pair.source.vm.runstate.running


@pytest.mark.parametrize(
    ("profile", "told"),
    [
        (
            "11.1",
            ["pre-copy", "pre-copy-p2p-prepare", "pre-copy-p2p", "stop-copy", "running", "running-p2p", "running"],
        ),
        ("10.0", ["pre-copy", "pre-copy-p2p", "stop-copy", "running-p2p", "running"]),
    ],
)
def test_a_failure_after_the_stop_takes_the_device_back_in_the_order_of_the_release(
    make_machine: MakeMachine, profile: str, told: list[str]
) -> None:
    pair = Pair(make_machine, profile=profile)
    pair.add_vfs(1)
    pair.target.migrations()[0].vbasedev.dev.config.set_word(2, 0x9999)  # no configuration fits any more
    pair.begin(return_path=True)
    assert pair.finish()["status"] == "failed"
    assert pair.source.device_events() == told
    assert pair.source.vm.runstate.running


def test_a_device_that_cannot_begin_fails_the_migration_with_its_words(pair: Pair) -> None:
    pair.add_vfs(1)
    pair.source.vm.hardware.functions["0000:3b:00.1"].migration.arcs.failures = {"running>pre-copy": errno.EIO}
    pair.begin()
    info = pair.finish()
    assert info["status"] == "failed"
    assert info["error-desc"] == (
        "0000:3b:00.1: Failed setting device state to PRE_COPY. Setting device in recover state RUNNING: Input/output error"
    )
    assert pair.source.vm.runstate.running


def test_a_device_that_cannot_stop_fails_the_migration_and_is_reset(pair: Pair) -> None:
    pair.add_vfs(2)
    pair.source.vm.hardware.functions["0000:3b:00.2"].migration.arcs.failures = {"pre-copy-p2p>stop-copy": errno.EIO}
    pair.begin()
    info = pair.finish()
    assert info["status"] == "failed"
    assert info["error-desc"].endswith(
        "0000:3b:00.2: Failed setting device state to STOP_COPY. Recover state is ERROR. Resetting device: Input/output error"
    )
    assert pair.source.vm.runstate.running
    assert [migration.device_state for migration in pair.source.migrations()] == ["running", "running"]


def test_a_destination_that_cannot_resume_says_which_device(pair: Pair) -> None:
    pair.add_vfs(1)
    pair.target.vm.hardware.functions["0000:3b:00.1"].migration.arcs.failures = {"stop>resuming": errno.EIO}
    pair.begin(return_path=True)
    pair.finish()
    error = pair.target.execute("query-migrate")["error-desc"]
    path = pair.target.migrations()[0].vbasedev.dev.qdev_path()
    assert f"Load state of device {path}/vfio failed" in error


def test_postcopy_is_refused_at_once(pair: Pair) -> None:
    pair.add_vfs(1)
    pair.source.execute("migrate-set-capabilities", capabilities=[{"capability": "postcopy-ram", "state": True}])
    with pytest.raises(QemuError) as refused:
        pair.source.execute("migrate", uri=URI)
    assert refused.value.desc == "0000:3b:00.1: VFIO migration is not supported with postcopy migration"
    assert "status" not in pair.source.execute("query-migrate")


def test_a_second_migration_counts_from_zero(pair: Pair) -> None:
    features = MigrationFeatures(ALL_FLAGS, dma_logging=True, initial_bytes=3 << 20, stop_copy_bytes=1000)
    pair.add_vfs(1, features=features)
    pair.source.execute("migrate-set-parameters", max_bandwidth=100_000)
    pair.begin()
    # Three seconds of RAM, then blocks of the device: one fills a window of 100 ms, however large it is.
    pair.world.run_until(lambda: pair.source.vm.vfio.bytes_transferred > 0)
    assert pair.source.execute("query-migrate")["vfio"] == {"transferred": 1 << 20}
    pair.source.execute("migrate_cancel")
    pair.world.run_until_idle()
    pair.source.execute("migrate-set-parameters", max_bandwidth=1 << 30)
    pair.source.execute("migrate", uri="file:/tmp/second")
    info = pair.finish()
    assert info["status"] == "completed"
    assert info["vfio"] == {"transferred": (3 << 20) + 1000}


def test_a_machine_that_is_stopped_meanwhile_goes_on_migrating(pair: Pair) -> None:
    pair.add_vfs(1)
    pair.source.execute("migrate-set-parameters", max_bandwidth=100_000)
    pair.begin()
    pair.world.run_until(lambda: "pre-copy" in pair.source.device_events())
    pair.source.execute("stop")
    pair.source.execute("migrate-set-parameters", max_bandwidth=1 << 30)
    assert pair.finish()["status"] == "completed"
    assert pair.source.device_events() == ["pre-copy", "pre-copy-p2p-prepare", "pre-copy-p2p", "stop-copy", "stop"]
    assert pair.target.vm.runstate.state == "paused"


def test_a_device_that_was_started_again_meanwhile_is_out_of_sync(pair: Pair) -> None:
    pair.add_vfs(1)
    pair.source.execute("migrate-set-parameters", max_bandwidth=100_000)
    pair.begin()
    pair.world.run_until(lambda: "pre-copy" in pair.source.device_events())
    pair.source.execute("stop")
    pair.source.execute("cont")
    pair.source.execute("migrate-set-parameters", max_bandwidth=1 << 30)
    assert pair.finish()["status"] == "failed"
    assert "0000:3b:00.1: data_fd out of sync" in pair.source.host.log_lines
    assert pair.source.vm.runstate.running


def test_a_machine_that_never_ran_migrates_from_pre_copy(pair: Pair) -> None:
    pair.add_vfs(1)
    pair.begin(paused=True)
    assert pair.finish()["status"] == "completed"
    assert pair.source.device_events() == ["pre-copy", "stop-copy", "stop"]
    assert pair.target.vm.runstate.state == "prelaunch"


@pytest.mark.parametrize("arc", ["running>pre-copy", "pre-copy>pre-copy-p2p", "pre-copy-p2p>stop-copy"])
@pytest.mark.parametrize("parallel", ["on", "off"])
@pytest.mark.parametrize("broken", [[1], [1, 2]])
def test_wherever_an_arc_of_the_source_fails_the_guest_goes_on(
    pair: Pair, arc: str, parallel: str, broken: list[int]
) -> None:
    pair.add_vfs(3, x_migration_parallel_states=parallel)
    for index in broken:
        pair.source.vm.hardware.functions[f"0000:3b:00.{index}"].migration.arcs.failures = {arc: errno.EIO}
    pair.begin(return_path=True)
    info = pair.finish()
    assert info["status"] == "failed"
    assert "Failed setting device state to" in info["error-desc"]
    assert pair.source.vm.runstate.running
    assert {migration.vbasedev.driver.state for migration in pair.source.migrations()} == {fsm.RUNNING}
    assert not [task for task in pair.source.host.tasks if task.name.startswith("vfio")]


@pytest.mark.parametrize("arc", ["running>running-p2p", "running-p2p>stop", "stop>resuming"])
def test_wherever_an_arc_of_the_destination_fails_the_source_goes_on(pair: Pair, arc: str) -> None:
    pair.add_vfs(2)
    pair.target.vm.hardware.functions["0000:3b:00.2"].migration.arcs.failures = {arc: errno.EIO}
    pair.begin(return_path=True)
    assert pair.finish()["status"] == "failed"
    assert pair.target.execute("query-migrate")["status"] == "failed"
    assert pair.source.vm.runstate.running
