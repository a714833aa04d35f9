# SPDX-License-Identifier: MIT
"""Whole migrations between simulated machines: what is told when, how counters add up, which devices go along."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.error import QemuError
from fakeqemu.host.clock import NS_PER_MS, NS_PER_S
from fakeqemu.migration.options import EMULATED_CAPABILITIES
from fakeqemu.testing.sim_machine import SimMachine
from tests.sim._pair import MIB, MIB_PER_S, RELEASES, URI, Pair, status, told

# --- what is told -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("return_path", [False, True])
@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ("7.2", ["setup", "PASS 1", "active", "STOP", "PASS 2", "completed"]),
        ("10.0", ["setup", "PASS 1", "active", "STOP", "device", "PASS 2", "completed"]),
        ("11.1", ["setup", "active", "PASS 2", "STOP", "device", "completed"]),
    ],
)
def test_precopy_tells_its_story_as_each_release_does(profile: str, expected: list[str], return_path: bool) -> None:
    pair = Pair(profile)
    pair.capabilities(return_path=return_path)
    pair.migrate()
    assert told(pair.source) == expected
    assert told(pair.destination) == ["setup", "active", "RESUME", "completed"]
    assert (status(pair.source), status(pair.destination)) == ("postmigrate", "running")


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ("7.2", ["setup", "PASS 1", "active", "PASS 2", "STOP", "PASS 3", "completed"]),
        ("10.0", ["setup", "PASS 1", "active", "PASS 2", "STOP", "device", "PASS 3", "completed"]),
        ("11.1", ["setup", "active", "PASS 2", "STOP", "device", "completed"]),
    ],
)
def test_a_limit_of_the_bandwidth_makes_for_a_measured_threshold(profile: str, expected: list[str]) -> None:
    pair = Pair(profile)
    pair.fill(2048)
    pair.source.execute("migrate-set-parameters", max_bandwidth=4 * MIB_PER_S)
    info = pair.migrate()
    assert told(pair.source) == expected
    # What was left below the threshold went while the guest was stopped.
    assert 0 < info["ram"]["downtime-bytes"] < 4 * MIB_PER_S * 300 // 1000 + 32 * 4104 * 5
    assert 1000 < info["total-time"] < 2200


def test_a_paused_guest_arrives_paused() -> None:
    pair = Pair()
    pair.source.execute("stop")
    pair.source.events.clear()
    info = pair.migrate()
    assert told(pair.source) == ["setup", "active", "PASS 2", "device", "completed"]
    assert told(pair.destination) == ["setup", "active", "completed"]
    assert status(pair.destination) == "paused"
    assert info["ram"]["precopy-bytes"] == 0 < info["ram"]["downtime-bytes"]


def test_a_destination_with_S_stays_paused() -> None:
    pair = Pair()
    pair.destination.vm.runstate.autostart = False
    pair.migrate()
    assert status(pair.destination) == "paused"
    assert "RESUME" not in told(pair.destination)


def test_without_the_capability_no_status_is_told() -> None:
    pair = Pair()
    pair.capabilities(events=False)
    pair.migrate()
    assert told(pair.source) == ["STOP"]
    assert told(pair.destination) == ["RESUME"]


@pytest.mark.parametrize("profile", RELEASES)
def test_pause_before_switchover_waits_for_migrate_continue(profile: str) -> None:
    pair = Pair(profile)
    pair.capabilities(pause_before_switchover=True)
    pair.start()
    pair.world.run_until_idle()
    info = pair.source.execute("query-migrate")
    assert info["status"] == "pre-switchover"
    assert status(pair.source) == "finish-migrate"
    with pytest.raises(QemuError, match=r"^Migration not in expected state: pre-switchover$"):
        pair.source.execute("migrate-continue", state="device")
    with pytest.raises(QemuError, match=r"^There's a migration process in progress$"):
        pair.source.execute("migrate", uri="unix:/nowhere")
    pair.source.execute("migrate-continue", state="pre-switchover")
    assert pair.finish()["status"] == "completed"
    steps = told(pair.source)
    assert steps[steps.index("pre-switchover") + 1] == "device"


# --- counters ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", RELEASES)
@pytest.mark.parametrize("fake", [{}, {"ram": "model"}], ids=["wire", "model"])
def test_counters_add_up(profile: str, fake: dict[str, str]) -> None:
    pair = Pair(profile, fake=fake)
    pair.fill(100, first=7)
    pair.source.vm.guest.set_dirty_rate(2 * MIB_PER_S)
    pair.source.execute("migrate-set-parameters", max_bandwidth=16 * MIB_PER_S, downtime_limit=50)
    info = pair.migrate()
    assert info["status"] == "completed"
    ram = info["ram"]
    assert ram["remaining"] == 0
    assert ram["total"] == 8 * MIB
    assert ram["duplicate"] + ram["normal"] >= 2048
    assert ram["normal-bytes"] == ram["normal"] * 4096
    assert ram["dirty-sync-count"] >= 2
    assert info["downtime"] <= info["total-time"]
    assert info["setup-time"] <= info["total-time"]
    if not fake:
        outgoing = pair.source.vm.migration.outgoing
        assert outgoing is not None
        assert outgoing.f is not None
        if profile != "7.2":
            assert ram["transferred"] == outgoing.f.flushed
        same = [b.read_pages(0, 2048) for b in (pair.ram, pair.destination.vm.ram_blocks[0])]
        assert same[0] == same[1]


def test_transferred_is_what_the_other_side_read() -> None:
    pair = Pair()
    pair.fill(300)
    read = 0

    def count(event: str, fields: dict[str, Any]) -> None:
        nonlocal read
        if event == "migrate_set_state" and fields["new_state"] == "completed":
            incoming = pair.destination.vm.migration.incoming
            assert incoming is not None
            assert incoming._f is not None
            read = incoming._f.read_total

    pair.destination.vm.trace.watch(count)
    info = pair.migrate()
    assert info["ram"]["transferred"] == read > 300 * 4096


def test_a_terabyte_that_only_counts_takes_its_hour_and_few_steps() -> None:
    pair = Pair(mib=1 << 20, fake={"ram": "model"})
    pair.ram.guest_dirties(0, (1 << 40) // 4096)
    pair.source.execute("migrate-set-parameters", max_bandwidth=300_000_000)
    steps = 0

    def count(*_: object) -> None:
        nonlocal steps
        steps += 1

    pair.source.vm.trace.watch(count, "savevm_state_iterate")
    pair.start()
    pair.until("active")
    pair.world.run_for(600 * NS_PER_S)
    half = pair.source.execute("query-migrate")
    assert half["status"] == "active"
    assert half["total-time"] == pytest.approx(600_000, rel=0.01)
    assert half["ram"]["transferred"] == pytest.approx(600 * 300_000_000, rel=0.01)
    info = pair.finish()
    assert info["status"] == "completed"
    assert info["total-time"] == pytest.approx((1 << 40) * 4104 / 4096 / 300_000, rel=0.01)
    assert info["ram"]["normal"] == (1 << 40) // 4096
    assert info["downtime"] <= 310
    assert steps < 20


def test_model_and_wire_count_the_same() -> None:
    counts = []
    for fake in ({}, {"ram": "model"}):
        pair = Pair(fake=fake)
        pair.ram.guest_dirties(100, 1000)
        pair.source.execute("migrate-set-parameters", max_bandwidth=2 * MIB_PER_S, downtime_limit=0)
        info = pair.migrate()
        counts.append((info["ram"]["duplicate"], info["ram"]["normal"], info["ram"]["dirty-sync-count"]))
    assert counts[0] == counts[1] == (1048, 1000, 2)


def test_a_guest_that_is_faster_than_the_link_never_converges_and_can_be_cancelled() -> None:
    pair = Pair()
    pair.fill(2048)
    pair.source.execute("migrate-set-parameters", max_bandwidth=2 * MIB_PER_S, downtime_limit=10)
    pair.source.vm.guest.set_dirty_rate(4 * MIB_PER_S)
    pair.start()
    pair.world.run_for(30 * NS_PER_S)
    info = pair.source.execute("query-migrate")
    assert info["status"] == "active"
    assert info["ram"]["dirty-sync-count"] >= 4
    assert info["ram"]["dirty-pages-rate"] > 0
    pair.source.execute("migrate_cancel")
    assert pair.finish()["status"] == "cancelled"
    assert status(pair.source) == "running"


def test_a_new_bandwidth_takes_effect_in_the_middle_of_a_pass() -> None:
    pair = Pair(mib=1024, fake={"ram": "model"})
    pair.ram.guest_dirties(0, 262144)
    pair.source.execute("migrate-set-parameters", max_bandwidth=1 * MIB_PER_S)
    pair.start()
    pair.world.run_for(10 * NS_PER_S)
    pair.source.execute("migrate-set-parameters", max_bandwidth=1024 * MIB_PER_S)
    info = pair.finish()
    assert info["status"] == "completed"
    assert 10_500 < info["total-time"] < 11_500


def test_stop_and_cont_are_honoured_while_active() -> None:
    pair = Pair()
    pair.fill(2048)
    pair.source.execute("migrate-set-parameters", max_bandwidth=2 * MIB_PER_S)
    pair.start()
    pair.until("active")
    pair.source.execute("stop")
    pair.world.run_for(500 * NS_PER_MS)
    stopped = pair.source.execute("query-migrate")["ram"]
    assert stopped["downtime-bytes"] > 0
    pair.source.execute("cont")
    assert pair.finish()["status"] == "completed"
    assert status(pair.destination) == "running"


# --- machines with devices --------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", RELEASES)
@pytest.mark.parametrize("board", ["q35", "pc", "microvm"])
def test_the_devices_of_a_board_travel(profile: str, board: str) -> None:
    pair = Pair(profile, board=board)
    sections: list[str] = []
    pair.source.vm.trace.watch(lambda _, fields: sections.append(fields["id"]), "savevm_section_start")
    info = pair.migrate()
    assert info["status"] == "completed"
    assert status(pair.destination) == "running"
    assert sections.count("ram") >= 2
    assert sections[-1] == "globalstate"
    assert "fw_cfg" in sections
    assert info["ram"]["total"] > 128 * MIB


def test_another_board_is_refused() -> None:
    pair = Pair(board="pc")
    pair.destination = SimMachine(pair.world, name="other", profile="11.1", board="q35")
    pair.destination.vm.runstate.set("inmigrate")
    pair.destination.execute("migrate-incoming", uri=URI, exit_on_error=False)
    pair.source.execute("migrate", uri=URI)
    pair.world.run_until_idle()
    assert pair.destination.execute("query-migrate")["error-desc"] == (
        "load of migration failed: Invalid argument: post load hook failed for: configuration, version_id: 1, "
        "minimum_version: 0: Machine type received is 'pc-i440fx-11.1' and local is 'pc-q35-11.1'"
    )


# --- blockers ---------------------------------------------------------------------------------------------


def test_blockers_are_listed_and_the_newest_is_the_reply() -> None:
    pair = Pair()
    savevm = pair.source.vm.savevm
    first = savevm.add_blocker("one", "The first reason")
    savevm.add_blocker("two", "The second reason")
    with pytest.raises(QemuError, match=r"^The second reason$"):
        pair.source.execute("migrate", uri=URI)
    assert pair.source.execute("query-migrate") == {"blocked-reasons": ["The first reason", "The second reason"]}
    savevm.del_blocker(first)
    assert pair.source.execute("query-migrate") == {"blocked-reasons": ["The second reason"]}


def test_no_blocker_may_come_while_a_migration_runs() -> None:
    pair = Pair()
    pair.capabilities(pause_before_switchover=True)
    pair.start()
    pair.world.run_until_idle()
    text = r"^disallowing migration blocker \(migration/snapshot in progress\) for: late$"
    with pytest.raises(QemuError, match=text):
        pair.source.vm.savevm.add_blocker("late", "late")
    pair.source.vm.only_migratable = True
    with pytest.raises(QemuError, match=r"^disallowing migration blocker \(--only-migratable\) for: late$"):
        pair.source.vm.savevm.add_blocker("late", "late")


@pytest.mark.parametrize(
    "capability",
    [
        name
        for name in ("multifd", "postcopy-ram", "xbzrle", "dirty-bitmaps", "x-colo")
        if name not in EMULATED_CAPABILITIES
    ],
)
def test_what_is_not_emulated_says_so_and_changes_nothing(capability: str) -> None:
    pair = Pair()
    pair.capabilities(return_path=True)
    pair.source.execute("migrate-set-capabilities", capabilities=[{"capability": capability, "state": True}])
    uri = URI
    with pytest.raises(QemuError, match=f"^Migration with capability '{capability}' is not emulated$"):
        pair.source.execute("migrate", uri=uri)
    assert pair.source.execute("query-migrate") == {}
