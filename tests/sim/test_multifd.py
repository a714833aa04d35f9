# SPDX-License-Identifier: MIT
"""Multifd between simulated machines: counts, barriers, turns, and what happens when the two sides do not fit."""

from __future__ import annotations

import random
from typing import Any

import pytest

from fakeqemu.error import QemuError
from fakeqemu.faults.injector import Fail, Injector, Rule
from fakeqemu.host.clock import NS_PER_MS
from fakeqemu.migration.stream import multifd_packet as mp
from fakeqemu.migration.stream.multifd_packet import RamPacket, pack_init
from tests.migration.multifd_streams import SYNC, UUID, main_channel, ram
from tests.sim._pair import RELEASES, Pair, status, told

INIT = 64
PACKET = 1344
PAGES = 2048


def parameters(pair: Pair, **values: Any) -> None:
    for side in (pair.source, pair.destination):
        side.execute("migrate-set-parameters", **values)


def multifd_pair(profile: str = "11.1", channels: int = 3, **options: Any) -> Pair:
    pair = Pair(profile, **options)
    pair.capabilities(multifd=True)
    parameters(pair, multifd_channels=channels)
    return pair


def arrived(pair: Pair) -> None:
    assert pair.destination.vm.ram_blocks[0].read_pages(0, PAGES) == pair.ram.read_pages(0, PAGES)


# --- counts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", RELEASES)
@pytest.mark.parametrize("seed", range(6))
def test_every_byte_on_the_channels_is_counted(profile: str, seed: int) -> None:
    chance = random.Random(seed)
    channels = chance.randrange(1, 20)
    pair = multifd_pair(profile, channels)
    for _ in range(chance.randrange(5)):
        pair.fill(chance.randrange(1, 300), first=chance.randrange(1700))
    packets: list[RamPacket] = []
    pack = RamPacket.pack

    def packed(packet: RamPacket) -> bytes:
        packets.append(packet)
        return pack(packet)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RamPacket, "pack", packed)
        info = pair.migrate()["ram"]
    arrived(pair)
    pages = sum(packet.next_packet_size for packet in packets)
    init = 0 if profile == "7.2" else INIT * channels
    assert info["multifd-bytes"] == len(packets) * PACKET + pages + init
    assert pages == info["normal-bytes"]
    syncs = [packet for packet in packets if packet.flags & mp.MULTIFD_FLAG_SYNC]
    assert len(syncs) % channels == 0
    assert len(syncs) >= 3 * channels
    assert sorted(packet.number for packet in packets) == list(range(len(packets)))
    f = pair.source.vm.migration.outgoing
    assert f is not None
    assert f.f is not None
    if profile == "7.2":
        assert info["transferred"] == info["multifd-bytes"] + info["precopy-bytes"] + info["downtime-bytes"]
    else:
        assert info["transferred"] == info["multifd-bytes"] + f.f.flushed


@pytest.mark.parametrize(("mode", "zero"), [("none", 0), ("legacy", PAGES - 300), ("multifd", PAGES - 300)])
def test_zero_pages_are_found_by_whom_the_parameter_says(mode: str, zero: int) -> None:
    pair = multifd_pair()
    parameters(pair, zero_page_detection=mode)
    pair.fill(300)
    info = pair.migrate()["ram"]
    arrived(pair)
    assert info["duplicate"] == zero
    assert info["normal"] == PAGES - zero
    records = info["precopy-bytes"] - 8
    assert records == (9 * zero + len("ram") + 1 if mode == "legacy" else 0)


def test_a_page_that_came_and_is_zero_now_is_cleared() -> None:
    pair = multifd_pair()
    pair.fill(PAGES)
    pair.source.execute("migrate-set-parameters", max_bandwidth=8 << 20, downtime_limit=1)
    pair.start()
    pair.until("active")
    pair.world.run_until(lambda: pair.source.vm.migration.stats.normal > 1000)
    assert pair.source.vm.runstate.running
    pair.ram.zero_pages(0, 200)
    pair.ram.set_dirty(0, 200)
    assert pair.finish()["status"] == "completed"
    arrived(pair)
    assert not any(pair.destination.vm.ram_blocks[0].read_pages(0, 200))


def test_pages_of_which_only_zeroes_ever_came_are_left_alone() -> None:
    pair = multifd_pair()
    there = pair.destination.vm.ram_blocks[0]
    there.write_pages(7, b"x" * 4096)  # QEMU takes for granted that memory begins as zero
    pair.migrate()
    assert there.read_pages(7) == b"x" * 4096


@pytest.mark.parametrize("profile", RELEASES)
@pytest.mark.parametrize("mode", ["none", "legacy", "multifd"])
def test_pages_that_only_count_make_the_same_numbers(profile: str, mode: str) -> None:
    infos = []
    for memory in ("wire", "model"):
        pair = multifd_pair(profile, fake={"ram": memory})
        if profile != "7.2":
            parameters(pair, zero_page_detection=mode)
        pair.ram.guest_dirties(100, 777)
        infos.append(pair.migrate()["ram"])
    wire, model = infos
    assert (wire["normal"], wire["duplicate"]) == (model["normal"], model["duplicate"])
    for info in infos:
        info["records"] = info["precopy-bytes"] + info["downtime-bytes"]
    for counter in ("transferred", "multifd-bytes", "records"):
        assert abs(wire[counter] - model[counter]) <= 4096 * wire["dirty-sync-count"], counter


# --- turns ------------------------------------------------------------------------------------------------


def test_the_number_of_channels_may_change_from_one_migration_to_the_next() -> None:
    pair = multifd_pair(channels=5)
    for channels in (5, 2, 7):
        parameters(pair, multifd_channels=channels)
        pair.source.execute("migrate-set-parameters", max_bandwidth=1 << 20)
        pair.fill(500)
        uri = f"unix:/tmp/nobody-{channels}"
        listener = pair.world.host("nobody")
        taken: list[Any] = []
        listener.listen({"type": "unix", "path": uri[5:]}, taken.append, backlog=channels)
        pair.source.execute("migrate", uri=uri)
        pair.until("active")
        pair.source.execute("migrate_cancel")
        pair.world.run_until_idle()
        assert pair.source.vm.migration.state == "cancelled"
        assert len(taken) == channels + 1
        assert pair.source.vm.migration.multifd_next_channel < channels
        assert not [task for task in pair.source.host.tasks if not task.done]


@pytest.mark.parametrize("profile", RELEASES)
def test_a_change_while_a_migration_runs_is_for_the_next_one(profile: str) -> None:
    pair = multifd_pair(profile, 4)
    pair.fill(PAGES)
    pair.source.execute("migrate-set-parameters", max_bandwidth=8 << 20)
    pair.start()
    pair.until("active")
    for channels in (1, 9):
        parameters(pair, multifd_channels=channels)
        assert pair.source.execute("query-migrate-parameters")["multifd-channels"] == channels
        pair.world.run_turn()
    assert pair.finish()["status"] == "completed"
    arrived(pair)
    assert pair.source.vm.migration.outgoing.multifd.scheduler.channels == 4  # type: ignore[union-attr]


@pytest.mark.parametrize("how", ["latched", "per-call"])
def test_how_often_the_number_was_read_is_traced(how: str) -> None:
    pair = multifd_pair(channels=3, fake={"compat.migration-multifd-count-read": how})
    seen: list[dict[str, Any]] = []
    pair.source.vm.trace.watch(lambda _name, fields: seen.append(fields), "fake_multifd_count_reads")
    pair.fill(512)
    pair.migrate()
    [fields] = seen
    packets, barriers = PAGES // 128, 3
    if how == "latched":
        assert fields["reads"] == packets + barriers
    else:
        assert fields["reads"] >= 2 * packets + barriers * 2 * (3 + 1)


# --- barriers ---------------------------------------------------------------------------------------------


class SlowChannels:
    """Holds each packet of a channel back for a random while."""

    def __init__(self, pair: Pair, seed: int) -> None:
        self._chance = random.Random(seed)
        self._clock = pair.world.clock

    def check(self, point: str, fields: dict[str, Any], /) -> None:
        pass

    def wait(self, point: str, fields: dict[str, Any], /) -> Any:
        if point != "multifd_send_fill":
            return None
        return self._clock.sleep(self._chance.choice((0, 1, 30, 500)) * NS_PER_MS)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("profile", RELEASES)
def test_a_page_sent_before_a_barrier_is_in_place_before_one_sent_after_it(profile: str, seed: int) -> None:
    pages = 512
    pair = multifd_pair(profile, 4, mib=2)
    pair.source.vm.faults.injector = SlowChannels(pair, seed)
    pair.ram.write_pages(0, b"\1" * 4096 * pages)
    guest = random.Random(seed)
    generations = iter(range(2, 9))

    def write(_name: str, _fields: Any) -> None:
        """The guest writes while each pass is sent, so that some pages travel again and again."""
        generation = next(generations, None)
        if generation is not None and pair.source.vm.runstate.running:
            first = guest.randrange(0, 100)
            pair.ram.write_pages(first, bytes((generation,)) * 4096 * 100)
            pair.ram.set_dirty(first, 100)

    pair.source.vm.trace.watch(write, "migration_bitmap_sync_end")
    pair.source.execute("migrate-set-parameters", downtime_limit=1, max_bandwidth=30 << 20)
    info = pair.migrate()
    assert info["status"] == "completed"
    assert info["ram"]["dirty-sync-count"] > 4
    # An older copy of a page that overtook a newer one would be seen here.
    assert pair.destination.vm.ram_blocks[0].read_pages(0, pages) == pair.ram.read_pages(0, pages)


# --- sides that do not fit --------------------------------------------------------------------------------


@pytest.mark.parametrize(("here", "there"), [(2, 4), (6, 2)])
def test_another_number_of_channels_stalls_and_monitors_answer(here: int, there: int) -> None:
    pair = multifd_pair(channels=here)
    pair.destination.execute("migrate-set-parameters", multifd_channels=there)
    pair.fill(PAGES)
    pair.start()
    pair.world.run_ready()
    assert pair.source.execute("query-migrate")["status"] in ("setup", "active")
    assert pair.destination.execute("query-migrate")["status"] == "setup"
    pair.source.execute("migrate_cancel")
    pair.world.run_until_idle()
    assert pair.source.execute("query-migrate")["status"] == "cancelled"
    assert not [task for task in pair.source.host.tasks if not task.done]
    assert status(pair.source) == "running"
    assert pair.source.vm.bugs == pair.destination.vm.bugs == 0


def test_one_channel_too_many_is_refused_by_its_id() -> None:
    pair = multifd_pair(channels=3)
    pair.destination.execute("migrate-set-parameters", multifd_channels=2)
    pair.destination.execute("migrate-incoming", uri="unix:/tmp/migration", exit_on_error=False)
    pair.fill(PAGES)
    pair.source.execute("migrate", uri="unix:/tmp/migration")
    info = pair.finish()
    assert info["status"] == "failed"
    assert status(pair.source) == "running"


def test_a_destination_without_multifd_does_not_take_further_connections() -> None:
    pair = multifd_pair()
    pair.destination.execute("migrate-set-capabilities", capabilities=[{"capability": "multifd", "state": False}])
    pair.fill(PAGES)
    pair.destination.execute("migrate-incoming", uri="unix:/tmp/migration", exit_on_error=False)
    pair.source.execute("migrate", uri="unix:/tmp/migration")
    info = pair.finish()
    assert info["status"] == "failed"
    assert info["error-desc"] in (
        "Unable to write to socket: Broken pipe", "Unable to write to socket: Connection reset by peer"
    )  # fmt: skip
    assert any("Extra incoming migration connection; ignoring" in line for line in pair.destination.host.log_lines)


@pytest.mark.parametrize("profile", ["10.0", "11.1"])
@pytest.mark.parametrize("main_at", [0, 1, 2])
def test_the_main_connection_may_come_at_any_place(profile: str, main_at: int) -> None:
    pair = multifd_pair(profile, 2, mib=1)
    pair.destination.execute("migrate-incoming", uri="unix:/tmp/migration", exit_on_error=False)
    host = pair.world.host("forger")
    parts = [pack_init(UUID, 1) + SYNC + ram(3, 1), pack_init(UUID, 0) + SYNC]
    parts.insert(main_at, main_channel())
    channels: list[Any] = []

    async def connect() -> None:
        for data in parts:
            channel = await host.connect({"type": "unix", "path": "/tmp/migration"})
            channels.append(channel)
            await channel.write(data)

    host.start(connect(), "forger")
    pair.world.run_until_idle()
    assert pair.destination.execute("query-migrate")["status"] == "active"
    there = pair.destination.vm.ram_blocks[0]
    assert there.read_pages(0, 3) == b"x" * 3 * 4096
    for channel in channels:
        channel.close()
    pair.world.run_until_idle()
    assert pair.destination.execute("query-migrate")["status"] == "failed"


def test_the_main_connection_comes_first_in_7_2() -> None:
    pair = multifd_pair("7.2", 2, mib=1)
    pair.destination.execute("migrate-incoming", uri="unix:/tmp/migration")
    host = pair.world.host("forger")

    async def connect() -> None:
        for data in (pack_init(UUID, 0), main_channel(flush_word=False)):
            await (await host.connect({"type": "unix", "path": "/tmp/migration"})).write(data)

    host.start(connect(), "forger")
    pair.world.run_until_idle()
    assert any(
        line.endswith(
            "failed to receive packet via multifd channel 0: multifd: received packet magic 5145564d expected 11223344"
        )
        for line in pair.destination.host.log_lines
    )
    assert told(pair.destination) == ["setup"]


# --- errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", RELEASES)
def test_of_two_errors_the_first_is_told_and_no_task_is_left(profile: str) -> None:
    pair = multifd_pair(profile, 4)
    pair.fill(PAGES)
    injector = Injector(pair.source.vm)
    injector.add(Rule("multifd_send_fill", Fail("EIO"), after=6))
    injector.add(Rule("multifd_send_fill", Fail("ENOSPC"), after=6, times=None))
    info = pair.migrate()
    assert info["status"] == "failed"
    assert "Input/output error" in info["error-desc"]
    assert status(pair.source) == "running"
    # The channel tells of it, and then the main task does (seen on all three).
    ends = ["failing", "failing", "failed"] if profile == "11.1" else ["failed", "failed"]
    assert told(pair.source)[-len(ends) - 1 :] == ["active", *ends]
    for side in (pair.source, pair.destination):
        assert not [task for task in side.host.tasks if not task.done]


@pytest.mark.parametrize("channels", [1, 255])
def test_one_channel_and_as_many_as_there_can_be(channels: int) -> None:
    pair = multifd_pair(channels=channels)
    pair.fill(700, first=30)
    assert pair.migrate()["status"] == "completed"
    arrived(pair)


def test_a_method_of_compression_that_is_not_here_refuses_the_migration() -> None:
    pair = multifd_pair()
    methods = pair.source.vm.profile.get("parameters", "multifd-compression")
    assert methods == "none"
    pair.source.vm.migration.options.parameters["multifd-compression"] = "qatzip"
    with pytest.raises(QemuError, match="multifd-compression=qatzip is not emulated"):
        pair.source.execute("migrate", uri="unix:/tmp/migration")
