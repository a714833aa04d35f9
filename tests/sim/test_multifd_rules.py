# SPDX-License-Identifier: MIT
"""Rules of multifd that hold whatever the chances: bytes, turns, reads of the number of channels, ids, errors, leftovers."""

from __future__ import annotations

import random
from typing import Any

import pytest

from fakeqemu.error import QemuError
from fakeqemu.faults.injector import Fail, Injector, Kill, Rule
from fakeqemu.faults.link import LinkFault
from fakeqemu.host.clock import NS_PER_MS
from fakeqemu.migration import multifd, multifd_file, multifd_recv
from fakeqemu.migration.multifd import MultiFDSend, Scheduler, SendChannel
from fakeqemu.migration.register import SaveVMHandlers
from fakeqemu.migration.stream import multifd_packet as mp
from fakeqemu.migration.stream.multifd_packet import DevicePacket, RamPacket, pack_init
from tests.migration.multifd_streams import SYNC, SYNC_7_2, UUID, main_channel, ram
from tests.sim._pair import RELEASES, URI, Pair, status, told
from tests.sim.test_multifd import INIT, PACKET, PAGES, arrived, multifd_pair, parameters

ADDRESS = {"type": "unix", "path": "/tmp/migration"}


class Collector:
    """Takes what a source sends at `path`, and keeps the bytes of each connection."""

    def __init__(self, pair: Pair, path: str, *, reads: bool = True) -> None:
        self._reads = reads
        self.uri = f"unix:{path}"
        self.received: list[bytearray] = []
        self._host = pair.world.host(path)
        self._host.listen({"type": "unix", "path": path}, self._accepted, backlog=255)

    def _accepted(self, channel: Any) -> None:
        mine = bytearray()
        self.received.append(mine)

        async def read() -> None:
            while self._reads and (data := await channel.read(1 << 16)):
                mine.extend(data)
            if self._reads:
                channel.close()

        self._host.start(read(), "collector")

    @property
    def channels(self) -> list[bytearray]:
        """Those that are no main channel."""
        return [one for one in self.received if one[:4] != b"QEVM"]


class Forger:
    """Brings connections to the destination, each with these bytes, and keeps them open."""

    def __init__(self, pair: Pair, *parts: bytes) -> None:
        self.channels: list[Any] = []
        self._pair = pair
        self._host = pair.world.host("forger")
        for part in parts:
            self.connect(part)

    def connect(self, data: bytes) -> None:
        async def bring() -> None:
            channel = await self._host.connect(ADDRESS)
            self.channels.append(channel)
            await channel.write(data)

        self._host.start(bring(), "forger")
        self._pair.world.run_until_idle()

    def add(self, number: int, data: bytes) -> None:
        """More bytes for one of them; nobody else has a turn before `settle`."""
        self._host.start(self.channels[number].write(data), "forger")

    def settle(self) -> None:
        self._pair.world.run_until_idle()

    def close(self) -> None:
        for channel in self.channels:
            channel.close()
        self.settle()


def listening(pair: Pair) -> None:
    stays = {} if pair.destination.vm.profile.name == "7.2" else {"exit_on_error": False}
    pair.destination.execute("migrate-incoming", uri=URI, **stays)


def begun(profile: str = "11.1", channels: int = 2) -> tuple[Pair, Forger]:
    """A destination that loads, all connections being there; channels have said nothing but who they are."""
    pair = multifd_pair(profile, channels, mib=1)
    listening(pair)
    forger = Forger(pair, main_channel(flush_word=profile != "7.2"))
    for number in range(channels):
        forger.connect(pack_init(UUID, number))
    assert pair.destination.execute("query-migrate")["status"] == "active"
    return pair, forger


def nothing_left(pair: Pair, descriptors: list[Any]) -> None:
    """Of what was open before, of the source and, where it is to be looked at, of the destination."""
    for side, before in zip((pair.source, pair.destination), descriptors, strict=False):
        assert [task.name for task in side.host.tasks if not task.done] == []
        assert side.host.open_fds() == before
        assert side.vm.bugs == 0, side.host.log_lines


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


def packets_of(data: bytes) -> list[RamPacket]:
    """AssertionError when it does not end with a packet."""
    found, at = [], INIT
    while at < len(data):
        packet = mp.parse_ram(data[at : at + PACKET])
        at += PACKET + packet.next_packet_size
        found.append(packet)
    assert at == len(data)
    return found


# --- turns ------------------------------------------------------------------------------------------------


class RandomDelays:
    """Every packet of a channel takes a random while."""

    def __init__(self, pair: Pair, seed: int) -> None:
        self._chance = random.Random(seed)
        self._clock = pair.world.clock

    def check(self, point: str, fields: dict[str, Any], /) -> None:
        pass

    def wait(self, point: str, fields: dict[str, Any], /) -> Any:
        return self._clock.sleep(self._chance.randrange(100) * NS_PER_MS) if point == "multifd_send_fill" else None


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
