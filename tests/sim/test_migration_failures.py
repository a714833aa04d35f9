# SPDX-License-Identifier: MIT
"""Migrations that are given up, or break: what is told, who runs, and what damaged streams do."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.error import QemuError
from fakeqemu.sim.world import SimWorld
from fakeqemu.system.ramblock import RAMBlock
from fakeqemu.testing.sim_machine import SimMachine
from tests.sim._pair import MIB, MIB_PER_S, RELEASES, URI, Pair, loaded, recorded, status, told

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
    ("profile", "end", "told_why"),
    [("7.2", ["failed", "RESUME"], {}),
     ("10.0", ["failed", "RESUME"], {"error-desc": "Channel error: Input/output error"}),
     ("11.1", ["failing", "RESUME", "failed"],
      {"error-desc": "Failed to save iterable device state: Channel error: Input/output error"})],
)  # fmt: skip
def test_a_failure_after_the_stop_resumes_the_guest(profile: str, end: list[str], told_why: dict[str, str]) -> None:
    pair = Pair(profile)

    class Refuse:
        def check(self, point: str, fields: dict[str, Any], /) -> None:
            if point == "ram_save_complete":
                raise QemuError("Channel error: Input/output error")

        def wait(self, point: str, fields: dict[str, Any], /) -> None:
            return None

    pair.source.vm.faults.injector = Refuse()
    info = pair.migrate()
    assert info == {"status": "failed", **told_why}
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
