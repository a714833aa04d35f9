# SPDX-License-Identifier: MIT
"""postcopy-preempt, and postcopy with multifd, between two machines on the simulated host."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from fakeqemu.error import QemuError
from fakeqemu.faults.injector import Injector, Rule
from fakeqemu.host.clock import NS_PER_MS
from fakeqemu.migration.postcopy_preempt import is_early
from fakeqemu.migration.postcopy_preempt_load import _Pages
from fakeqemu.migration.stats import query_migrate
from fakeqemu.migration.stream.qemu_file import QEMUFile
from fakeqemu.sim.world import SimStalled, SimWorld
from fakeqemu.testing.sim_machine import SimMachine
from tests.sim.test_postcopy import DESTINATION_STORY, MIB, PAGES, SOURCE_STORY, Pair

TOUCHING = {"guest.touch-rate": "4M"}


def preempt_pair(profile: str = "11.1", **capabilities: bool) -> Pair:
    return Pair(profile, fake=TOUCHING, postcopy_preempt=True, postcopy_blocktime=True, **capabilities)


@pytest.mark.parametrize("profile", sorted(SOURCE_STORY))
def test_pages_that_somebody_waits_for_have_a_channel_of_their_own(profile: str) -> None:
    pair = preempt_pair(profile)
    pair.start(postcopy=MIB)
    info = pair.completed()
    assert pair.told(pair.source) == SOURCE_STORY[profile]
    assert pair.told(pair.destination) == DESTINATION_STORY[profile]
    stats = pair.source.vm.migration.stats
    assert stats.preempt_bytes > 0
    ram = info["ram"]
    assert ram["normal"] + ram["duplicate"] == PAGES
    for machine in (pair.source, pair.destination):
        assert machine.host.log_lines == []
        assert machine.host.tasks == []


def test_from_8_on_a_request_does_not_wait_for_the_limit() -> None:
    waits = {}
    for preempt in (False, True):
        pair = Pair(fake=TOUCHING, postcopy_preempt=preempt, postcopy_blocktime=True)
        pair.start(postcopy=MIB)
        pair.completed()
        waits[preempt] = query_migrate(pair.destination.vm.migration)["postcopy-latency"]
    assert waits[True] < NS_PER_MS < 20 * NS_PER_MS < waits[False]


def test_in_7_2_a_request_waits_for_the_limit_all_the_same() -> None:
    pair = preempt_pair("7.2")
    pair.start(postcopy=MIB)
    pair.completed()
    assert sum(query_migrate(pair.destination.vm.migration)["postcopy-vcpu-blocktime"]) > 500


@pytest.mark.parametrize("profile", sorted(SOURCE_STORY))
def test_a_precopy_opens_the_second_channel_only_in_7_2(profile: str) -> None:
    pair = preempt_pair(profile)
    seen: list[str] = []
    pair.source.vm.trace.watch(lambda name, _: seen.append(name))
    pair.source.execute("migrate", uri="unix:/tmp/d")
    pair.completed()
    assert ("postcopy_preempt_new_channel" in seen) == (profile == "7.2")


def test_a_property_has_later_releases_do_as_7_2_did() -> None:
    """x-preempt-pre-7-2, which machine types of 7.2 and before set."""
    pair = preempt_pair()
    pair.source.vm.migration.settings["x-preempt-pre-7-2"] = True
    seen: list[str] = []
    pair.source.vm.trace.watch(lambda name, _: seen.append(name))
    pair.start(postcopy=MIB)
    pair.completed()
    assert seen.index("postcopy_preempt_new_channel") < seen.index("savevm_state_setup")
    assert pair.source.vm.migration.stats.preempt_bytes > 0
    assert pair.destination.host.log_lines == []


@pytest.mark.parametrize(("machine", "early"), [("pc-q35-7.1", True), ("pc-q35-7.2", True), ("pc-q35-8.0", False)])
def test_the_machine_type_says_when_the_second_channel_is_made(machine: str, early: bool) -> None:
    vm = SimMachine(SimWorld(seed=1), profile="11.1", board=machine).vm
    assert is_early(vm) == early
    vm.migration.set_property("x-preempt-pre-7-2", False)  # as -global does
    assert not is_early(vm)


def break_second(pair: Pair) -> None:
    preempt = pair.destination.vm.migration.incoming.preempt  # type: ignore[union-attr]
    assert preempt is not None
    preempt.shutdown()


def test_memory_that_takes_no_pages_pauses_the_migration(monkeypatch: pytest.MonkeyPatch) -> None:
    load = _Pages.load_record

    async def full(pages: _Pages, f: QEMUFile) -> None:
        await load(pages, f)
        raise OSError(errno.ENOSPC, "No space left on device")

    pair = preempt_pair()
    monkeypatch.setattr(_Pages, "load_record", full)
    pair.start(postcopy=MIB)
    pair.wait(pair.destination, "postcopy-paused")
    assert not pair.destination.vm.bugs


@pytest.mark.parametrize("profile", sorted(SOURCE_STORY))
@pytest.mark.parametrize("which", ["main", "second"])
def test_either_channel_breaks_and_both_are_made_anew(profile: str, which: str) -> None:
    pair = preempt_pair(profile)
    pair.start(postcopy=MIB)
    pair.wait(pair.source, "postcopy-active")
    pair.world.run_for(300 * NS_PER_MS)
    pair.break_link() if which == "main" else break_second(pair)
    pair.wait(pair.destination, "postcopy-paused")
    pair.wait(pair.source, "postcopy-paused")
    printed = pair.destination.host.log_lines
    assert printed[-1] == "Detected IO failure for postcopy. Migration paused."
    assert (printed[-2] == "Unable to shutdown socket: Bad file descriptor") == (profile != "7.2")
    before = pair.source.vm.migration.stats.preempt_bytes
    pair.destination.execute("migrate-recover", uri="unix:/tmp/r")
    pair.source.execute("migrate", uri="unix:/tmp/r", resume=True)
    pair.completed()
    assert pair.source.vm.migration.stats.preempt_bytes > before
    for machine in (pair.source, pair.destination):
        assert machine.host.tasks == []


def test_a_source_that_cannot_connect_again_stays_paused() -> None:
    pair = preempt_pair()
    pair.start(postcopy=MIB)
    pair.wait(pair.source, "postcopy-active")
    pair.break_link()
    pair.wait(pair.source, "postcopy-paused")
    pair.wait(pair.destination, "postcopy-paused")
    pair.destination.execute("migrate-recover", uri="unix:/tmp/r")
    pair.source.execute("migrate", uri="unix:/tmp/r", resume=True)
    pair.wait(pair.source, "postcopy-recover")
    pair.destination.vm.migration.incoming._listener.close()  # type: ignore[union-attr]
    pair.wait(pair.source, "postcopy-paused")
    assert pair.source.host.log_lines[-3].endswith("postcopy_preempt_establish_channel(): -1")
    pair.wait(pair.destination, "postcopy-paused")
    pair.destination.execute("migrate-recover", uri="unix:/tmp/again")
    pair.source.execute("migrate", uri="unix:/tmp/again", resume=True)
    pair.completed()


@pytest.mark.parametrize("profile", ["10.0", "11.1"])
def test_a_second_channel_that_is_refused_leaves_the_guest_here(profile: str) -> None:
    pair = preempt_pair(profile)
    pair.source.execute("migrate-set-parameters", max_bandwidth=MIB)
    pair.source.execute("migrate", uri="unix:/tmp/d")
    pair.wait(pair.source, "active")
    pair.wait(pair.destination, "active")
    pair.destination.vm.migration.incoming._listener.close()  # type: ignore[union-attr]
    pair.source.execute("migrate-start-postcopy")
    info = pair.wait(pair.source, "failed")
    pair.world.run_until_idle()
    assert info["error-desc"] == "Failed to connect to '/tmp/d': No such file or directory"
    assert pair.source.vm.runstate.state == "running"
    assert "STOP" not in pair.told(pair.source)
    assert pair.source.host.log_lines == ["postcopy_start: Failed to establish preempt channel", info["error-desc"]]


def test_a_source_that_gets_no_answer_to_its_ping_can_be_cancelled() -> None:
    pair = preempt_pair()
    Injector(pair.destination.vm).add(Rule("migrate_send_rp_message", times=None))
    pair.start()
    with pytest.raises(SimStalled):
        pair.wait(pair.source, "postcopy-device")
    assert query_migrate(pair.source.vm.migration)["status"] == "active"
    pair.source.execute("migrate_cancel")
    pair.wait(pair.source, "cancelled")
    assert pair.source.vm.runstate.state == "running"


def test_a_destination_without_the_capability_drops_the_channel() -> None:
    pair = Pair()
    preempt(pair.source)
    pair.start(postcopy=MIB)
    pair.completed()
    lines = pair.destination.host.log_lines
    assert lines == ["socket_accept_incoming_migration: Extra incoming migration connection; ignoring"]


def test_it_cannot_be_set_once_the_destination_listens() -> None:
    with pytest.raises(QemuError, match="Postcopy preempt must be set before incoming starts"):
        preempt(Pair().destination)


def preempt(machine: Any) -> None:
    machine.execute("migrate-set-capabilities", capabilities=[{"capability": "postcopy-preempt", "state": True}])


# --- with multifd -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("profile", "preempt"), [("7.2", False), ("11.1", False), ("11.1", True)])
def test_multifd_carries_pages_until_the_guest_leaves(profile: str, preempt: bool) -> None:
    pair = Pair(profile, fake=TOUCHING, multifd=True, postcopy_preempt=preempt)
    pair.source.execute("migrate-set-parameters", max_bandwidth=MIB, max_postcopy_bandwidth=MIB, downtime_limit=1)
    pair.source.execute("migrate", uri="unix:/tmp/d")
    pair.wait(pair.source, "active")
    pair.world.run_for(50 * NS_PER_MS)
    pair.source.execute("migrate-start-postcopy")
    pair.wait(pair.source, "postcopy-active")
    multifd = pair.source.vm.migration.stats.multifd_bytes
    assert multifd > 100 * 4096
    info = pair.completed()
    ram = info["ram"]
    assert ram["normal"] + ram["duplicate"] == PAGES
    assert ram["postcopy-bytes"] > 100 * 4096
    # 7.2 keeps its channels in step at the end of every section, later releases leave them alone.
    assert (ram["multifd-bytes"] > multifd) == (profile == "7.2")
    for machine in (pair.source, pair.destination):
        assert machine.host.log_lines == []
        assert machine.host.tasks == []


def test_10_0_refuses_the_pair() -> None:
    with pytest.raises(QemuError, match="Postcopy is not yet compatible with multifd"):
        Pair("10.0", multifd=True)
