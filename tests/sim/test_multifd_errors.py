# SPDX-License-Identifier: MIT
"""Multifd channels that fail: ids that are refused, the first of several errors, what a failure leaves."""

from __future__ import annotations

import random
from typing import Any

import pytest

from fakeqemu.error import QemuError
from fakeqemu.faults.injector import Fail, Injector, Kill, Rule
from fakeqemu.faults.link import LinkFault
from fakeqemu.host.clock import NS_PER_MS
from fakeqemu.migration.register import SaveVMHandlers
from fakeqemu.migration.stream import multifd_packet as mp
from fakeqemu.migration.stream.multifd_packet import DevicePacket, pack_init
from tests.migration.multifd_streams import SYNC, SYNC_7_2, UUID, main_channel, ram
from tests.sim._multifd import Collector, Forger, RandomDelays, begun, listening, nothing_left
from tests.sim._pair import RELEASES, URI, Pair, status, told
from tests.sim.test_multifd import PAGES, multifd_pair, parameters

# --- ids --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 255])
@pytest.mark.parametrize("profile", RELEASES)
def test_ids_below_the_number_are_taken_and_others_refused_in_the_words_of_the_release(
    profile: str, channels: int
) -> None:
    for number in sorted({channels, channels + 1, 255}):
        if number > 255:
            continue
        pair = multifd_pair(profile, channels, mib=1)
        listening(pair)
        forger = Forger(pair, main_channel(flush_word=profile != "7.2"))
        taken = [0] if channels > 1 else []
        for one in taken:
            forger.connect(pack_init(UUID, one))
        assert told(pair.destination) == ["setup"]
        forger.connect(pack_init(UUID, number))
        text = f"multifd: received channel id {number} exceeds channel count {channels}"
        if number > channels and profile == "10.0":
            text = f"multifd: received channel id {number} is greater than number of channels {channels}"
        if number > channels and profile == "7.2":
            text = "multifd: received channel version 1 expected 1"
        prefix = f"failed to receive packet via multifd channel {len(taken)}: "
        assert any(line.endswith(prefix + text) for line in pair.destination.host.log_lines)
        if profile == "7.2":  # it goes on waiting; when all are there, a real one hangs, and ours fails
            assert told(pair.destination) == ["setup"]
            forger.connect(pack_init(UUID, channels - 1))
            assert told(pair.destination) == (["setup", "active", "failed"] if channels <= 2 else ["setup"])
        else:
            info = pair.destination.execute("query-migrate")
            assert (info["status"], info["error-desc"]) == ("failed", text)
        forger.close()


# --- errors -----------------------------------------------------------------------------------------------


class Owner(SaveVMHandlers):
    """Takes state that comes over channels."""

    __slots__ = ("came",)

    has_load_state_buffer = True

    def __init__(self) -> None:
        self.came: list[bytes] = []

    async def load_state_buffer(self, data: bytes) -> None:
        self.came.append(data)


@pytest.mark.parametrize("profile", ["10.0", "11.1"])
def test_device_state_with_a_barrier_is_refused_when_its_owner_has_it(profile: str) -> None:
    pair = multifd_pair(profile, 2, mib=1)
    owner = Owner()
    pair.destination.vm.savevm.register_live("0000:00:05.0/vfio", 0, 1, owner)
    listening(pair)
    forger = Forger(pair, main_channel(), pack_init(UUID, 0), pack_init(UUID, 1))
    flags = mp.MULTIFD_FLAG_DEVICE_STATE | mp.MULTIFD_FLAG_SYNC
    forger.add(1, DevicePacket("0000:00:05.0/vfio", 0, 4).pack(flags) + b"abcd")
    forger.settle()
    assert owner.came == [b"abcd"]
    forger.close()
    info = pair.destination.execute("query-migrate")
    assert (info["status"], info["error-desc"]) == ("failed", "multifd: received SYNC device state packet")


@pytest.mark.parametrize("profile", RELEASES)
@pytest.mark.parametrize("at", ["a barrier", "the end of what has come"])
def test_an_error_of_a_channel_ends_a_load_whose_main_task_waits(profile: str, at: str) -> None:
    """In a barrier a real one waits for ever; everywhere else its main channel has to end first, and so has ours."""
    pair, forger = begun(profile)
    if at != "a barrier":
        for number in (1, 2):
            forger.add(number, SYNC_7_2 if profile == "7.2" else SYNC)
        forger.settle()
    forger.add(2, ram(block="nope"))
    forger.settle()
    if at != "a barrier":
        assert pair.destination.vm.migration.incoming.state == "active"  # type: ignore[union-attr]
        forger.channels[0].close()
        forger.settle()
    text = "multifd: unknown ram block nope"
    if profile == "7.2":
        assert pair.destination.vm.exit_status == 1
    else:
        info = pair.destination.execute("query-migrate")
        assert (info["status"], info["error-desc"]) == ("failed", text)
    assert told(pair.destination) == ["setup", "active", "failed"]


@pytest.mark.parametrize("profile", ["10.0", "11.1"])
@pytest.mark.parametrize("first", [1, 2])
def test_of_two_channels_with_errors_at_once_the_first_one_s_is_told(profile: str, first: int) -> None:
    pair, forger = begun(profile)
    texts = {1: "multifd: unknown ram block one", 2: "multifd: unknown ram block two"}
    for number in (first, 3 - first):
        forger.add(number, ram(block="one" if number == 1 else "two"))
    forger.settle()
    forger.close()
    info = pair.destination.execute("query-migrate")
    assert (info["status"], info["error-desc"]) == ("failed", texts[first])
    assert not any(texts[3 - first] in line for line in pair.destination.host.log_lines)
    nothing_left(pair, [pair.source.host.open_fds(), pair.destination.host.open_fds()])


@pytest.mark.parametrize("side", ["source", "destination"])
@pytest.mark.parametrize("profile", RELEASES)
def test_yank_breaks_all_channels(profile: str, side: str) -> None:
    pair = multifd_pair(profile, 3, mib=32)
    pair.fill(4 * PAGES)
    pair.source.execute("migrate-set-parameters", max_bandwidth=1 << 20, downtime_limit=1)
    descriptors = [pair.source.host.open_fds(), pair.destination.host.open_fds()]
    listening(pair)
    pair.source.execute("migrate", uri=URI)
    pair.until("active")
    pair.world.run_until(lambda: "active" in told(pair.destination))
    machine = getattr(pair, side)
    assert machine.execute("query-yank") == [{"type": "migration"}]
    machine.execute("yank", instances=[{"type": "migration"}])
    info = pair.finish()
    assert info["status"] == "failed"
    assert info["error-desc"].startswith("Unable to write to socket: ")
    assert status(pair.source) == "running"
    assert told(pair.destination)[-1] == "failed"
    nothing_left(pair, descriptors)


@pytest.mark.parametrize("profile", RELEASES)
def test_yank_ends_a_source_whose_channels_nobody_reads(profile: str) -> None:
    pair = multifd_pair(profile, 3)
    pair.fill(PAGES)
    descriptors = [pair.source.host.open_fds()]
    collector = Collector(pair, "/tmp/collector", reads=False)
    pair.source.execute("migrate", uri=collector.uri)
    pair.world.run_until_idle()
    assert pair.source.execute("query-migrate")["status"] == "active"
    pair.source.execute("yank", instances=[{"type": "migration"}])
    assert pair.finish()["status"] == "failed"
    nothing_left(pair, descriptors)


def test_all_tasks_have_ended_when_a_failure_is_told() -> None:
    pair = multifd_pair(channels=5)
    pair.fill(PAGES)
    pair.source.vm.faults.injector = RandomDelays(pair, 1)
    alive: list[list[str]] = []

    def told_of(_name: str, fields: dict[str, Any]) -> None:
        if fields["new_state"] == "failed":
            alive.append([t.name for t in pair.source.host.tasks if not t.done and t.name.startswith("mig/src/send_")])

    pair.source.vm.trace.watch(told_of, "migrate_set_state")
    collector = Collector(pair, "/tmp/collector")
    pair.source.execute("migrate", uri=collector.uri)
    pair.until("active")
    pair.source.execute("yank", instances=[{"type": "migration"}])
    assert pair.finish()["status"] == "failed"
    assert alive == [[]]


# --- leftovers --------------------------------------------------------------------------------------------


def failed_somewhere(seed: int) -> tuple[Pair, list[Any], bool]:
    """A migration that goes wrong at a random moment, in some way; what was open before, and whether a side was killed."""
    chance = random.Random(seed)
    profile = chance.choice(RELEASES)
    pair = multifd_pair(profile, chance.choice([1, 2, 5, 16]))
    parameters(pair, multifd_compression=chance.choice(["none", "none", "zlib"]))
    pair.capabilities(return_path=chance.random() < 0.5)
    pair.fill(chance.randrange(PAGES))
    pair.source.execute("migrate-set-parameters", max_bandwidth=1 << 20, downtime_limit=5)
    descriptors = [pair.source.host.open_fds(), pair.destination.host.open_fds()]
    injectors = [Injector(side.vm) for side in (pair.source, pair.destination)]
    injector = chance.choice(injectors)
    how = chance.choice(["fail", "link", "cancel", "kill", "yank"])
    killed = False
    if how == "fail":
        point = chance.choice(["*", "multifd_*", "multifd_send_fill", "multifd_recv_unfill"])
        injector.add(Rule(point, Fail("EIO"), after=chance.randrange(60)))
    elif how == "link":
        fault = LinkFault(direction=chance.choice(["read", "write"]))
        setattr(fault, chance.choice(["reset_at", "close_at"]), chance.randrange(200_000))
        injector.add_link(fault)
    elif how == "kill":
        injectors[1].add(Rule("*", Kill(), after=chance.randrange(20, 100)))
        killed = True
    try:
        listening(pair)
        pair.source.execute("migrate", uri=URI)
    except QemuError:
        assert how == "fail"  # it did so before there was a migration
    if how in ("cancel", "yank"):
        source = pair.source.vm.migration
        action = source.cancel if how == "cancel" else lambda: yanked(pair)
        pair.world.clock.call_at(pair.world.clock.now_ns() + chance.randrange(400) * NS_PER_MS, action)
    pair.world.run_until_idle()
    return pair, descriptors, killed


def yanked(pair: Pair) -> None:
    if pair.source.vm.migration.is_running():
        pair.source.execute("yank", instances=[{"type": "migration"}])


def test_a_hundred_that_fail_at_random_moments_leave_no_task_and_no_descriptor() -> None:
    ends: dict[str, int] = {}
    seed = 0
    while ends.get("failed", 0) + ends.get("cancelled", 0) < 100:
        pair, descriptors, killed = failed_somewhere(seed)
        end = pair.source.vm.migration.state
        where = f"seed {seed}: {end}"
        if end in ("setup", "active"):  # somebody waits who may wait for ever: a channel that nobody takes
            pair.source.execute("migrate_cancel")
            pair.world.run_until_idle()
            end = pair.source.vm.migration.state
        assert end in ("none", "completed", "failed", "cancelled"), where
        if pair.destination.host.killed or pair.destination.vm.migration.incoming.state == "setup":  # type: ignore[union-attr]
            assert killed or not pair.destination.vm.bugs  # it is gone, or waits for somebody else with what it has
            del descriptors[1]
        try:
            nothing_left(pair, descriptors)
            if end in ("failed", "cancelled"):
                assert status(pair.source) == "running"
        except AssertionError as err:
            raise AssertionError(f"{where}: {err}") from err
        ends[end] = ends.get(end, 0) + 1
        seed += 1
        assert seed < 400, ends
    assert ends["cancelled"] > 10
    assert ends["failed"] > 40
