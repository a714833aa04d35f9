# SPDX-License-Identifier: MIT
"""Rules of multifd that hold whatever the chances: bytes, turns, reads of the number of channels."""

from __future__ import annotations

import random
from typing import Any

import pytest

from fakeqemu.host.clock import NS_PER_MS
from fakeqemu.migration import multifd, multifd_file, multifd_recv
from fakeqemu.migration.multifd import MultiFDSend, Scheduler, SendChannel
from fakeqemu.migration.stream import multifd_packet as mp
from fakeqemu.migration.stream.multifd_packet import RamPacket
from tests.sim._multifd import Collector, RandomDelays, packets_of
from tests.sim._pair import RELEASES, Pair
from tests.sim.test_multifd import INIT, PACKET, PAGES, arrived, multifd_pair, parameters

# --- bytes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["none", "zlib"])
@pytest.mark.parametrize("profile", RELEASES)
@pytest.mark.parametrize("seed", range(4))
def test_the_bytes_that_came_are_those_that_were_counted(profile: str, seed: int, compression: str) -> None:
    chance = random.Random(seed)
    channels = chance.randrange(1, 40)
    pair = multifd_pair(profile, channels)
    parameters(pair, multifd_compression=compression)
    if profile != "7.2":
        parameters(pair, zero_page_detection=chance.choice(["none", "legacy", "multifd"]))
    for _ in range(chance.randrange(5)):
        pair.fill(chance.randrange(1, 300), first=chance.randrange(1700))
    collector = Collector(pair, "/tmp/collector")
    pair.source.execute("migrate", uri=collector.uri)
    info = pair.finish()
    assert info["status"] == "completed"
    assert len(collector.channels) == channels
    init = 0 if profile == "7.2" else INIT * channels
    came = sum(map(len, collector.channels))
    assert info["ram"]["multifd-bytes"] == came - INIT * channels + init
    packets = [packet for one in collector.channels for packet in packets_of(bytes(one))]
    payload = sum(packet.next_packet_size for packet in packets)
    assert came == INIT * channels + PACKET * len(packets) + payload
    assert sum(packet.normal_pages for packet in packets) == info["ram"]["normal"]
    if compression == "none":
        assert payload == info["ram"]["normal-bytes"]


# --- turns ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_packet_is_taken_when_it_is_ready_or_when_a_channel_becomes_idle(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = multifd_pair(channels=4)
    pair.fill(PAGES)
    pair.source.vm.faults.injector = RandomDelays(pair, seed)
    now = pair.world.clock.now_ns
    idle_since: list[int] = []
    waited: list[bool] = []
    deliver, hand_over = SendChannel._send, MultiFDSend.send

    async def delivered(channel: SendChannel, payload: multifd.Payload) -> None:
        await deliver(channel, payload)
        idle_since.append(now())

    async def handed_over(sender: MultiFDSend, payload: multifd.Payload) -> None:
        ready, ended = now(), len(idle_since)
        busy = not any(channel.idle for channel in sender._channels)
        await hand_over(sender, payload)
        waited.append(busy)
        assert sender.scheduler.next < sender.scheduler.channels
        if busy:
            assert now() == idle_since[ended]
        else:
            assert now() == ready

    monkeypatch.setattr(SendChannel, "_send", delivered)
    monkeypatch.setattr(MultiFDSend, "send", handed_over)
    assert pair.migrate()["status"] == "completed"
    arrived(pair)
    assert len(waited) == PAGES // 128
    assert {True, False} == set(waited)


@pytest.mark.parametrize("profile", RELEASES)
def test_5_channels_then_2_then_7(profile: str) -> None:
    """Two that fail when packets have gone, and one that arrives."""
    pair = multifd_pair(profile, mib=32)
    pair.fill(4 * PAGES)
    for channels in (5, 2):
        parameters(pair, multifd_channels=channels)
        pair.source.execute("migrate-set-parameters", max_bandwidth=1 << 20, downtime_limit=1)
        collector = Collector(pair, f"/tmp/collector-{channels}")
        pair.source.execute("migrate", uri=collector.uri)
        pair.world.run_until(lambda last=channels - 1: went_as_far_as(pair, last))  # type: ignore[misc]
        pair.source.execute("migrate_cancel")
        assert pair.finish()["status"] == "cancelled"
        assert len(collector.channels) == channels
        # Packets went to all of them, in turns.
        assert all(any(packet.normal for packet in packets_of_begun(bytes(one))) for one in collector.channels)
        assert pair.source.vm.migration.multifd_next_channel < channels
    parameters(pair, multifd_channels=7)
    pair.source.execute("migrate-set-parameters", max_bandwidth=0, downtime_limit=300)
    pair.source.events.clear()
    assert pair.migrate()["status"] == "completed"
    assert pair.destination.vm.ram_blocks[0].read_pages(0, 4 * PAGES) == pair.ram.read_pages(0, 4 * PAGES)
    assert pair.source.vm.migration.multifd_next_channel < 7


def went_as_far_as(pair: Pair, position: int) -> bool:
    """Many packets have gone, and this is the one whose turn it is."""
    outgoing = pair.source.vm.migration.outgoing
    assert outgoing is not None
    if outgoing.multifd is None:
        return False
    return pair.source.vm.migration.stats.normal > 9 * 128 and outgoing.multifd.scheduler.next == position


def packets_of_begun(data: bytes) -> list[RamPacket]:
    """The packets of which at least the header came."""
    found, at = [], INIT
    while at + PACKET <= len(data):
        packet = mp.parse_ram(data[at : at + PACKET])
        at += PACKET + packet.next_packet_size
        found.append(packet)
    return found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("profile", RELEASES)
def test_channels_that_are_read_late_keep_what_was_sent_before_a_barrier_before_the_rest(
    profile: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The far side is slow, on some channels more than on others: only its own waiting keeps an old page from coming late."""
    pages = 512
    pair = multifd_pair(profile, 4, mib=2)
    pair.ram.write_pages(0, b"\1" * 4096 * pages)
    chance, guest = random.Random(seed), random.Random(seed + 1)
    take = multifd_recv.Reader.take
    generations = iter(range(2, 9))

    async def late(reader: multifd_recv.Reader, size: int, **options: Any) -> bytes:
        data = await take(reader, size, **options)
        if size == mp.HEADER.size:
            await pair.world.clock.sleep(chance.choice((0, 1, 40, 900)) * NS_PER_MS)
        return data

    def write(_name: str, _fields: Any) -> None:
        generation = next(generations, None)
        if generation is not None and pair.source.vm.runstate.running:
            first = guest.randrange(0, 100)
            pair.ram.write_pages(first, bytes((generation,)) * 4096 * 200)
            pair.ram.set_dirty(first, 200)

    monkeypatch.setattr(multifd_recv.Reader, "take", late)
    pair.source.vm.trace.watch(write, "migration_bitmap_sync_end")
    pair.source.execute("migrate-set-parameters", downtime_limit=1, max_bandwidth=30 << 20)
    info = pair.migrate()
    assert info["status"] == "completed"
    assert info["ram"]["dirty-sync-count"] >= 2
    assert pair.destination.vm.ram_blocks[0].read_pages(0, pages) == pair.ram.read_pages(0, pages)


# --- reads of the number ------------------------------------------------------------------------------------


def counted(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """Of every call how many busy channels it passed over, and of every barrier how many channels there were."""
    seen: dict[str, list[int]] = {"busy": [], "barriers": []}
    pick, everyone = Scheduler.pick, Scheduler.everyone

    def picked(scheduler: Scheduler, idle: Any) -> int:
        busy = 0

        def asked(channel: int) -> bool:
            nonlocal busy
            found: bool = idle(channel)
            busy += not found
            return found

        channel = pick(scheduler, asked)
        seen["busy"].append(busy)
        return channel

    def all_of_them(scheduler: Scheduler) -> range:
        seen["barriers"].append(scheduler.channels)
        return everyone(scheduler)

    monkeypatch.setattr(Scheduler, "pick", picked)
    monkeypatch.setattr(Scheduler, "everyone", all_of_them)
    return seen


@pytest.mark.parametrize("how", ["latched", "per-call"])
@pytest.mark.parametrize("seed", range(3))
def test_reads_of_a_source_to_the_last_one(how: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = multifd_pair(channels=3, fake={"compat.migration-multifd-count-read": how})
    pair.fill(PAGES)
    pair.source.vm.faults.injector = RandomDelays(pair, seed)
    seen = counted(pair, monkeypatch)
    traced: list[int] = []
    pair.source.vm.trace.watch(lambda _name, fields: traced.append(fields["reads"]), "fake_multifd_count_reads")
    pair.migrate()
    assert sum(seen["busy"]) > 0
    sends, barriers = len(seen["busy"]), len(seen["barriers"])
    if how == "latched":
        assert traced == [sends + barriers]
    else:
        assert traced == [2 * sends + sum(seen["busy"]) + 2 * (3 + 1) * barriers]


@pytest.mark.parametrize("how", ["latched", "per-call"])
def test_reads_of_a_destination_that_loads_a_file(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = multifd_pair(channels=3, fake={"compat.migration-multifd-count-read": how})
    pair.capabilities(mapped_ram=True)
    pair.fill(PAGES)
    pair.source.execute("migrate", uri="file:/tmp/saved")
    assert pair.finish()["status"] == "completed"
    do = multifd_file.FileRecvChannel._do
    chance = random.Random(5)

    async def slowly(channel: multifd_file.FileRecvChannel, job: multifd_file.Job) -> None:
        await pair.world.clock.sleep(chance.randrange(100) * NS_PER_MS)
        await do(channel, job)

    monkeypatch.setattr(multifd_file.FileRecvChannel, "_do", slowly)
    seen = counted(pair, monkeypatch)
    traced: list[int] = []
    pair.destination.vm.trace.watch(lambda _name, fields: traced.append(fields["reads"]), "fake_multifd_count_reads")
    pair.destination.execute("migrate-incoming", uri="file:/tmp/saved")
    pair.finish()
    arrived(pair)
    loads, barriers = len(seen["busy"]), len(seen["barriers"])
    assert loads == PAGES // multifd_file.LOAD_PAGES
    assert sum(seen["busy"]) > 0
    if how == "latched":
        assert traced == [loads + barriers]
    else:
        assert traced == [2 * loads + sum(seen["busy"]) + 2 * (3 + 1) * barriers]


@pytest.mark.parametrize("profile", RELEASES)
@pytest.mark.parametrize("memory", ["wire", "model"])
def test_a_change_while_active_changes_nothing_now_and_counts_the_next_time(profile: str, memory: str) -> None:
    totals = []
    for change in (4, 9):
        pair = multifd_pair(profile, 4, fake={"ram": memory})
        pair.ram.guest_dirties(0, PAGES)
        pair.source.execute("migrate-set-parameters", max_bandwidth=8 << 20)
        collector = Collector(pair, "/tmp/first")
        pair.source.execute("migrate", uri=collector.uri)
        pair.until("active")
        parameters(pair, multifd_channels=change)
        assert pair.source.execute("query-migrate-parameters")["multifd-channels"] == change
        info = pair.finish()
        assert info["status"] == "completed"
        assert len(collector.channels) == 4
        totals.append(info["ram"]["multifd-bytes"])
        pair.source.execute("cont")
        again = Collector(pair, "/tmp/second")
        pair.source.execute("migrate", uri=again.uri)
        assert pair.finish()["status"] == "completed"
        assert len(again.channels) == change
    assert totals[0] == totals[1]
