# SPDX-License-Identifier: MIT
"""Whole migrations between simulated machines: what is told when, how counters add up, how failures end."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.error import QemuError
from fakeqemu.host.clock import NS_PER_MS, NS_PER_S
from fakeqemu.migration.options import EMULATED_CAPABILITIES
from fakeqemu.sim.world import SimWorld
from fakeqemu.system.ramblock import RAMBlock
from fakeqemu.testing.sim_machine import SimMachine

MIB = 1 << 20
URI = "unix:/tmp/migration"
RELEASES = ("7.2", "10.0", "11.1")
MIB_PER_S = MIB


class Pair:
    """A source that runs and a destination that waits, `-machine none` with RAM unless told otherwise."""

    def __init__(
        self, profile: str = "11.1", *, mib: int = 8, board: str = "none", fake: dict[str, str] | None = None
    ) -> None:
        self.world = SimWorld(seed=3)
        self.source = SimMachine(self.world, name="source", profile=profile, board=board, fake=fake)
        self.destination = SimMachine(self.world, name="destination", profile=profile, board=board, fake=fake)
        for side in (self.source, self.destination):
            if board == "none":
                side.vm.ram_blocks.append(RAMBlock("ram", mib * MIB))
        self.source.execute("cont")
        self.destination.vm.runstate.set("inmigrate")
        self.capabilities(events=True)
        self.source.events.clear()

    @property
    def ram(self) -> RAMBlock:
        return self.source.vm.ram_blocks[0]

    def fill(self, pages: int, first: int = 0) -> None:
        """Give the source pages of real bytes."""
        self.ram.write_pages(first, b"".join(bytes((1 + page % 255,)) * 4096 for page in range(pages)))

    def capabilities(self, **states: bool) -> None:
        listed = [{"capability": name.replace("_", "-"), "state": on} for name, on in states.items()]
        for side in (self.source, self.destination):
            side.execute("migrate-set-capabilities", capabilities=listed)

    def start(self) -> None:
        self.destination.execute("migrate-incoming", uri=URI)
        self.source.execute("migrate", uri=URI)

    def until(self, status: str) -> None:
        """Let time pass until the source has this status."""
        self.world.run_until(lambda: self.source.vm.migration.state == status)

    def finish(self) -> dict[str, Any]:
        """Let time pass until nothing is left to happen; the source's query-migrate. Neither side may have met a bug."""
        self.world.run_until_idle()
        assert self.source.vm.bugs == self.destination.vm.bugs == 0, self.source.host.log_lines
        info: dict[str, Any] = self.source.execute("query-migrate")
        return info

    def migrate(self) -> dict[str, Any]:
        self.start()
        return self.finish()


def told(machine: SimMachine) -> list[str]:
    """Events as `status` for MIGRATION, `PASS n`, else their names."""
    names = []
    for _, name, data in machine.events:
        if name == "MIGRATION":
            names.append(data["status"])
        elif name == "MIGRATION_PASS":
            names.append(f"PASS {data['pass']}")
        else:
            names.append(name)
    return names


def status(machine: SimMachine) -> str:
    return str(machine.execute("query-status")["status"])


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


# --- giving up --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", RELEASES)
def test_cancel_while_active_leaves_the_guest_running(profile: str) -> None:
    pair = Pair(profile)
    pair.fill(2048)
    pair.source.execute("migrate-set-parameters", max_bandwidth=1 * MIB_PER_S)
    pair.start()
    pair.until("active")
    pair.source.execute("migrate_cancel")
    assert pair.source.execute("query-migrate")["status"] == "cancelling"
    info = pair.finish()
    assert info == {"status": "cancelled"}
    assert [step for step in told(pair.source) if not step.startswith("PASS")] == [
        "setup", "active", "cancelling", "cancelled",
    ]  # fmt: skip
    assert told(pair.destination)[-1] == "failed"
    assert status(pair.source) == "running"
    assert pair.source.execute("migrate_cancel") == {}
    assert pair.destination.vm.exit_status == 1


@pytest.mark.parametrize("profile", RELEASES)
def test_cancel_in_pre_switchover_resumes_the_guest(profile: str) -> None:
    pair = Pair(profile)
    pair.capabilities(pause_before_switchover=True)
    pair.start()
    pair.world.run_until_idle()
    pair.source.execute("migrate_cancel")
    assert pair.finish()["status"] == "cancelled"
    assert told(pair.source)[-4:] == ["pre-switchover", "cancelling", "RESUME", "cancelled"]
    assert status(pair.source) == "running"


def test_after_a_cancel_another_migration_works() -> None:
    pair = Pair()
    pair.start()
    pair.source.execute("migrate_cancel")
    pair.finish()
    other = SimMachine(pair.world, name="other", profile="11.1")
    other.vm.ram_blocks.append(RAMBlock("ram", 8 * MIB))
    other.vm.runstate.set("inmigrate")
    other.execute("migrate-incoming", uri="unix:/tmp/other")
    pair.source.execute("migrate", uri="unix:/tmp/other")
    pair.world.run_until_idle()
    assert pair.source.execute("query-migrate")["status"] == "completed"
    assert status(other) == "running"


@pytest.mark.parametrize("return_path", [False, True])
@pytest.mark.parametrize(
    ("profile", "expected"),
    [("7.2", ["setup", "active", "failed"]), ("10.0", ["setup", "active", "failed"]),
     ("11.1", ["setup", "active", "failing", "failed"])],
)  # fmt: skip
def test_a_lost_connection_fails_both_sides(profile: str, expected: list[str], return_path: bool) -> None:
    pair = Pair(profile)
    pair.capabilities(return_path=return_path)
    pair.fill(2048)
    pair.source.execute("migrate-set-parameters", max_bandwidth=1 * MIB_PER_S)
    pair.start()
    pair.until("active")
    incoming = pair.destination.vm.migration.incoming
    assert incoming is not None
    assert incoming._channel is not None
    incoming._channel.shutdown()
    info = pair.finish()
    assert info["status"] == "failed"
    if profile != "7.2" or not return_path:
        assert info["error-desc"]
    assert [step for step in told(pair.source) if not step.startswith("PASS")] == expected
    assert status(pair.source) == "running"
    assert status(pair.destination) == "inmigrate"


@pytest.mark.parametrize(
    ("profile", "end"), [("7.2", ["failed", "RESUME"]), ("10.0", ["failed", "RESUME"]),
                         ("11.1", ["failing", "RESUME", "failed"])],
)  # fmt: skip
def test_a_failure_after_the_stop_resumes_the_guest(profile: str, end: list[str]) -> None:
    pair = Pair(profile)

    class Refuse:
        def check(self, point: str, fields: dict[str, Any], /) -> None:
            if point == "ram_save_complete":
                raise QemuError("Channel error: Input/output error")

        def wait(self, point: str, fields: dict[str, Any], /) -> None:
            return None

    pair.source.vm.faults.injector = Refuse()
    info = pair.migrate()
    assert info == {"status": "failed", "error-desc": "Channel error: Input/output error"}
    assert told(pair.source)[-len(end) :] == end
    assert status(pair.source) == "running"


@pytest.mark.parametrize("size", [0, 3, 17, 62, 63, 68, 75, 4000, 40_000, 200_000])
@pytest.mark.parametrize("return_path", [False, True])
def test_a_destination_that_dies_after_any_number_of_bytes_leaves_the_source_running(
    size: int, return_path: bool
) -> None:
    pair = Pair(mib=1)
    pair.fill(256)
    pair.capabilities(return_path=return_path)
    host = pair.world.host("nobody")

    def on_channel(channel: Any) -> None:
        async def read() -> None:
            left = size
            while left:
                left -= len(await channel.read(left))
            channel.close()

        host.start(read(), "reader")

    host.listen({"type": "unix", "path": "/tmp/migration"}, on_channel)
    pair.source.execute("migrate-set-parameters", max_bandwidth=10 * MIB_PER_S)
    pair.source.execute("migrate", uri=URI)
    info = pair.finish()
    assert info["status"] == "failed"
    assert info["error-desc"]
    assert status(pair.source) == "running"
    assert not pair.source.host.tasks


def test_nobody_listens() -> None:
    pair = Pair()
    pair.source.execute("migrate", uri="unix:/tmp/nobody")
    info = pair.finish()
    assert info == {"status": "failed", "error-desc": "Failed to connect to '/tmp/nobody': No such file or directory"}
    assert told(pair.source) == ["setup", "failing", "failed"]


# --- damage -----------------------------------------------------------------------------------------------


def recorded(pair: Pair) -> bytes:
    """The bytes that the source sends."""
    host = pair.world.host("recorder")
    data = bytearray()

    def on_channel(channel: Any) -> None:
        async def read() -> None:
            while chunk := await channel.read(65536):
                data.extend(chunk)

        host.start(read(), "recorder")

    host.listen({"type": "unix", "path": "/tmp/migration"}, on_channel)
    pair.source.execute("migrate", uri=URI)
    assert pair.finish()["status"] == "completed"
    return bytes(data)


def loaded(data: bytes, profile: str = "11.1", *, board: str = "none") -> SimMachine:
    """A destination to which these bytes were sent; it must have come to an end, and not by a bug of ours."""
    world = SimWorld(seed=4)
    machine = SimMachine(world, name="destination", profile=profile, board=board)
    if board == "none":
        machine.vm.ram_blocks.append(RAMBlock("ram", 16 * 4096))
    machine.vm.runstate.set("inmigrate")
    arguments = {} if profile == "7.2" else {"exit_on_error": False}
    machine.execute("migrate-incoming", uri=URI, **arguments)
    host = world.host("sender")

    async def send() -> None:
        channel = await host.connect({"type": "unix", "path": "/tmp/migration"})
        try:
            await channel.write(data)
        except OSError:
            pass  # it has seen enough
        channel.close()

    world.run(send())
    world.run_until_idle()
    incoming = machine.vm.migration.incoming
    assert incoming is not None
    assert incoming.state in ("completed", "failed")
    assert machine.vm.bugs == 0, machine.host.log_lines
    assert not machine.host.tasks
    return machine


@pytest.fixture(scope="module")
def small_stream() -> bytes:
    pair = Pair(mib=1)
    for side in (pair.source, pair.destination):
        side.vm.ram_blocks[:] = [RAMBlock("ram", 16 * 4096)]
    pair.fill(2, first=3)
    return recorded(pair)


def test_a_stream_cut_at_any_byte_fails_in_words(small_stream: bytes) -> None:
    end = small_stream.rindex(b'{"configuration"') - 5
    for size in [*range(1, 120), *range(120, end, 97), *range(end - 300, end)]:
        machine = loaded(small_stream[:size])
        info = machine.execute("query-migrate")
        if size < 4:
            assert info["status"] == "failed"
        else:
            assert info["status"] == "failed", size
            assert info["error-desc"].startswith("load of migration failed: "), size
        assert status(machine) == "inmigrate"
    assert loaded(small_stream).execute("query-migrate") == {"status": "completed"}


def test_changed_bytes_never_hang_or_break_the_destination(small_stream: bytes) -> None:
    from random import Random

    chance = Random(8)
    interesting = [*range(200), *range(len(small_stream) - 1400, len(small_stream) - 900)]
    failed = 0
    for _ in range(300):
        data = bytearray(small_stream)
        for _ in range(chance.choice((1, 1, 2, 5))):
            data[chance.choice(interesting)] = chance.randrange(256)
        machine = loaded(bytes(data))
        incoming = machine.vm.migration.incoming
        assert incoming is not None
        failed += incoming.state == "failed"
    assert failed > 100


def test_a_failed_load_ends_the_process(small_stream: bytes) -> None:
    world = SimWorld(seed=4)
    machine = SimMachine(world, name="destination", profile="11.1")
    machine.vm.runstate.set("inmigrate")
    ended: list[str] = []
    machine.vm.on_shutdown.add(ended.append)
    machine.execute("migrate-incoming", uri=URI)
    host = world.host("sender")

    async def send() -> None:
        channel = await host.connect({"type": "unix", "path": "/tmp/migration"})
        await channel.write(small_stream)
        channel.close()

    world.run(send())
    world.run_until_idle()
    assert ended
    assert machine.vm.exit_status == 1
    assert machine.host.log_lines == [
        'Unknown ramblock "ram", cannot accept migration',
        "load of migration failed: Invalid argument: error while loading state for instance 0x0 of device 'ram': "
        "Failed to load vmstate version_id: 4, ret: -22",
    ]
    assert "SHUTDOWN" not in machine.event_names()


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
