# SPDX-License-Identifier: MIT
"""COLO pairs: in step at each checkpoint, and each half alone when the other one is gone."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from fakeqemu.error import QemuError
from fakeqemu.faults.injector import Corrupt, Fail, Injector, Rule, Stall
from fakeqemu.host.clock import NS_PER_MS
from fakeqemu.sim.world import SimWorld
from fakeqemu.system.ramblock import RAMBlock
from fakeqemu.testing.sim_machine import SimMachine

PAGES = 512
DELAY_MS = 700

CHECKPOINT = ["STOP", "RESUME"]
BEGUN = {
    "7.2": ["setup", "MIGRATION_PASS", "active", "STOP", "MIGRATION_PASS", "colo", "RESUME"],
    "10.0": ["setup", "MIGRATION_PASS", "active", "STOP", "device", "MIGRATION_PASS", "colo", "RESUME"],
    "11.1": ["setup", "active", "MIGRATION_PASS", "STOP", "device", "colo", "RESUME"],
}
RELEASES = list(BEGUN)


def machine(world: SimWorld, name: str, profile: str, *capabilities: str) -> SimMachine:
    one = SimMachine(world, name=name, profile=profile)
    ram = RAMBlock("ram", PAGES << 12)
    one.vm.ram_blocks.append(ram)
    if name == "secondary":
        one.vm.runstate.set("inmigrate")
    else:
        ram.guest_dirties(PAGES // 4, PAGES // 2)
        ram.guest_write(PAGES * 4096 - 5000, b"real bytes" * 400)
        one.execute("cont")
    switched = ["events", "x-colo", *(["return-path"] if profile == "11.1" else []), *capabilities]
    one.execute("migrate-set-capabilities", capabilities=[{"capability": c, "state": True} for c in switched])
    one.execute("migrate-set-parameters", x_checkpoint_delay=DELAY_MS)
    one.events.clear()
    return one


class Pair:
    """A primary and a secondary, just begun."""

    def __init__(self, profile: str = "11.1", *capabilities: str) -> None:
        self.world = SimWorld(seed=5)
        self.primary = machine(self.world, "primary", profile, *capabilities)
        self.secondary = machine(self.world, "secondary", profile, *capabilities)
        self.faults = Injector(self.secondary.vm)
        self.secondary.execute("migrate-incoming", uri="unix:/tmp/colo")
        self.primary.execute("migrate", uri="unix:/tmp/colo")
        self.world.run_until(lambda: "RESUME" in self.primary.event_names())

    def checkpoint(self) -> None:
        """Let time pass until the next one is over."""
        before = self.primary.event_names().count("RESUME")
        self.world.run_until(lambda: self.primary.event_names().count("RESUME") > before)

    def cut(self) -> None:
        assert self.primary.vm.migration.outgoing is not None
        f = self.primary.vm.migration.outgoing.f
        assert f is not None
        f.shutdown()
        self.world.run_until(lambda: "COLO_EXIT" in self.secondary.event_names())


def content(one: SimMachine) -> bytes:
    return one.vm.ram_blocks[0].read_pages(0, PAGES)


def story(one: SimMachine) -> list[str]:
    return [_word(name, data) for _, name, data in one.events]


def _word(name: str, data: dict[str, Any]) -> str:
    if name == "COLO_EXIT":
        return f"{data['mode']} {data['reason']}"
    return str(data["status"]) if name == "MIGRATION" else name


def go_on_alone(one: SimMachine) -> list[str]:
    """Have it leave the pair; what it tells then."""
    one.events.clear()
    one.execute("x-colo-lost-heartbeat")
    one.world.run_until(lambda: "RESUME" in one.event_names())
    return story(one)


def colo_status(one: SimMachine) -> tuple[str, str, str]:
    status = one.execute("query-colo-status")
    return status["mode"], status["last-mode"], status["reason"]


def run_state(one: SimMachine) -> str:
    return str(one.execute("query-status")["status"])


@pytest.mark.parametrize("profile", RELEASES)
def test_both_run_and_stop_for_each_checkpoint(profile: str) -> None:
    pair = Pair(profile)
    assert story(pair.primary) == BEGUN[profile]
    assert story(pair.secondary) == ["setup", "active", "colo", "RESUME"]
    pair.checkpoint()
    pair.checkpoint()
    counted = ["STOP", "MIGRATION_PASS", "RESUME"] if profile != "11.1" else CHECKPOINT
    assert story(pair.primary) == [*BEGUN[profile], *counted, *counted]
    assert story(pair.secondary)[-5:] == ["RESUME", *CHECKPOINT, *CHECKPOINT]
    times = [ns for ns, name, _ in pair.primary.events if name == "RESUME"]
    assert [(b - a) // NS_PER_MS for a, b in pairwise(times)] == [DELAY_MS, DELAY_MS]
    for one, mode in ((pair.primary, "primary"), (pair.secondary, "secondary")):
        assert colo_status(one) == (mode, "none", "none")
        assert one.execute("query-migrate")["status"] == "colo"
    assert pair.primary.execute("query-migrate") == {"status": "colo"}


#: what pages can travel as, beside plain ones
WAYS = [*((profile,) for profile in RELEASES), ("11.1", "multifd"), ("11.1", "xbzrle"), ("10.0", "xbzrle")]


@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_memory_is_the_primarys_after_each_checkpoint(way: tuple[str, ...]) -> None:
    pair = Pair(*way)
    before = content(pair.primary)
    assert content(pair.secondary) == before
    for n in range(4):
        ram = pair.primary.vm.ram_blocks[0]
        ram.guest_write(9 * 4096, b"only the primary's %d" % n)
        ram.guest_dirties(100, 20)
        ram.guest_write((300 + n) * 4096, bytes(4096))
        pair.secondary.vm.ram_blocks[0].guest_write(50 * 4096, b"only the secondary's")
        assert content(pair.secondary) != content(pair.primary)
        pair.checkpoint()
        assert content(pair.secondary) == content(pair.primary) != before
        assert b"only the primary's %d" % n in content(pair.secondary)
        assert b"only the secondary's" not in content(pair.secondary)


def test_checkpoints_go_over_the_other_channels() -> None:
    pair = Pair("11.1", "multifd")
    before = pair.primary.vm.migration.stats.multifd_bytes
    pair.primary.vm.ram_blocks[0].guest_dirties(0, PAGES)
    pair.checkpoint()
    assert pair.primary.vm.migration.stats.multifd_bytes - before > PAGES * 4096
    kept = content(pair.primary)
    assert go_on_alone(pair.secondary) == ["STOP", "completed", "secondary request", "RESUME"]
    pair.world.run_until(lambda: not pair.secondary.host.tasks)
    assert content(pair.secondary) == kept


def test_deltas_of_a_checkpoint_are_put_on_what_came_before() -> None:
    pair = Pair("11.1", "xbzrle")
    ram = pair.primary.vm.ram_blocks[0]
    page = PAGES - 1  # real bytes, sent as the guest stopped for the first time
    for content_now in (b"first", b"second", b"first", b"third"):
        ram.guest_write(page * 4096, content_now)
        pair.checkpoint()
        assert content(pair.secondary) == content(pair.primary)
    stats = pair.primary.vm.migration.stats.xbzrle
    assert stats is not None
    assert stats.deltas > 0


@pytest.mark.parametrize(("profile", "capability"), [("10.0", "multifd"), ("7.2", "multifd"), ("11.1", "postcopy-ram")])
def test_what_is_not_emulated_together_is_refused(profile: str, capability: str) -> None:
    one = machine(SimWorld(seed=5), "secondary", profile, capability)
    with pytest.raises(QemuError, match=f"'x-colo' and '{capability}' is not emulated"):
        one.execute("migrate-incoming", uri="unix:/tmp/colo")


@pytest.mark.parametrize("profile", RELEASES)
def test_a_primary_goes_on_alone(profile: str) -> None:
    pair = Pair(profile)
    pair.checkpoint()
    assert go_on_alone(pair.primary) == ["STOP", "completed", "primary request", "RESUME"]
    assert colo_status(pair.primary) == ("none", "primary", "request")
    info = pair.primary.execute("query-migrate")
    assert (info["status"], info["total-time"], info["downtime"], info["ram"]["mbps"]) == ("completed", 0, 0, 0)
    assert run_state(pair.primary) == "running"
    with pytest.raises(QemuError):
        pair.primary.execute("x-colo-lost-heartbeat")
    pair.world.run_until(lambda: "COLO_EXIT" in pair.secondary.event_names())
    assert story(pair.secondary)[-1] == "secondary error"
    assert run_state(pair.secondary) == "running"
    assert colo_status(pair.secondary) == ("secondary", "none", "none")


@pytest.mark.parametrize("profile", RELEASES)
def test_a_secondary_takes_over_with_what_the_primary_had(profile: str) -> None:
    pair = Pair(profile)
    pair.primary.vm.ram_blocks[0].guest_write(3 * 4096, b"kept")
    pair.checkpoint()
    kept = content(pair.primary)
    pair.primary.vm.ram_blocks[0].guest_write(3 * 4096, b"lost")
    assert go_on_alone(pair.secondary) == ["STOP", "completed", "secondary request", "RESUME"]
    assert colo_status(pair.secondary) == ("none", "secondary", "request")
    assert pair.secondary.execute("query-migrate") == {"status": "completed"}
    assert run_state(pair.secondary) == "running"
    assert content(pair.secondary) == kept


def test_a_link_that_breaks_between_the_pages_leaves_the_last_checkpoint() -> None:
    pair = Pair()
    pair.checkpoint()
    kept = content(pair.secondary)
    pair.primary.vm.ram_blocks[0].guest_dirties(0, PAGES)
    outgoing = pair.primary.vm.migration.outgoing
    assert outgoing is not None
    assert outgoing.f is not None
    assert outgoing.f.channel is not None
    write, channel = outgoing.f.channel.write, outgoing.f.channel

    async def broken(*parts: bytes | bytearray | memoryview) -> None:
        if sum(map(len, parts)) > 4096:
            await write(b"".join(bytes(part) for part in parts)[:6000])
            channel.shutdown()
            raise BrokenPipeError(32, "Broken pipe")
        await write(*parts)

    outgoing.f.channel.write = broken  # type: ignore[method-assign]
    for one in (pair.primary, pair.secondary):
        pair.world.run_until(lambda one=one: "COLO_EXIT" in one.event_names())  # type: ignore[misc]
        assert run_state(one) == "colo"
    assert go_on_alone(pair.secondary) == ["completed", "RESUME"]
    assert content(pair.secondary) == kept


def test_both_go_on_alone_when_the_link_is_cut() -> None:
    pair = Pair()
    pair.cut()
    assert run_state(pair.secondary) == "running"
    pair.world.run_until(lambda: "COLO_EXIT" in pair.primary.event_names())
    for one, mode in ((pair.primary, "primary"), (pair.secondary, "secondary")):
        assert story(one)[-1] == f"{mode} error"
        assert go_on_alone(one) == ["STOP", "completed", "RESUME"]
        assert colo_status(one) == ("none", mode, "request")


def test_a_new_delay_makes_a_checkpoint_at_once() -> None:
    pair = Pair()
    began = pair.primary.host.clock.now_ns()
    pair.primary.execute("migrate-set-parameters", x_checkpoint_delay=100)
    pair.checkpoint()
    pair.checkpoint()
    times = [ns for ns, name, _ in pair.primary.events if name == "RESUME"]
    assert [(ns - began) // NS_PER_MS for ns in times[1:]] == [0, 100]


def test_a_cancelled_pair_stays_until_the_process_ends() -> None:
    pair = Pair()
    pair.primary.events.clear()
    pair.primary.execute("migrate_cancel")
    pair.world.run_until(lambda: "COLO_EXIT" in pair.primary.event_names())
    assert story(pair.primary) == ["cancelling", "primary error"]
    assert run_state(pair.primary) == "running"
    assert colo_status(pair.primary) == ("none", "none", "none")
    assert pair.primary.execute("query-migrate")["status"] == "cancelling"
    with pytest.raises(QemuError, match="VM is not in COLO mode"):
        pair.primary.execute("x-colo-lost-heartbeat")


def test_with_a_return_path_older_sources_take_the_first_message_for_one_of_it() -> None:
    world = SimWorld(seed=5)
    primary, secondary = (machine(world, name, "10.0") for name in ("primary", "secondary"))
    primary.execute("migrate-set-capabilities", capabilities=[{"capability": "return-path", "state": True}])
    secondary.execute("migrate-incoming", uri="unix:/tmp/colo")
    primary.execute("migrate", uri="unix:/tmp/colo")
    world.run_until(lambda: "COLO_EXIT" in secondary.event_names() and "RESUME" in primary.event_names())
    info = primary.execute("query-migrate")
    assert info == {"status": "failed", "error-desc": "Received invalid message 0x0000 length 0x0000"}
    assert story(primary)[-2:] == ["failed", "RESUME"]


def test_a_secondary_that_is_none_just_runs() -> None:
    world = SimWorld(seed=5)
    primary, secondary = (machine(world, name, "11.1") for name in ("primary", "secondary"))
    secondary.execute("migrate-set-capabilities", capabilities=[{"capability": "x-colo", "state": False}])
    secondary.execute("migrate-incoming", uri="unix:/tmp/colo")
    primary.execute("migrate", uri="unix:/tmp/colo")
    world.run_until(lambda: "COLO_EXIT" in primary.event_names())
    assert story(secondary)[-2:] == ["RESUME", "completed"]
    assert story(primary)[-2:] == ["colo", "primary error"]
    assert run_state(primary) == "finish-migrate"
    assert go_on_alone(primary) == ["completed", "RESUME"]


def test_a_secondary_that_waits_hears_of_the_end_before_the_command_is_answered() -> None:
    """As real ones do it most often: a primary sleeps between checkpoints, and is woken."""
    for half in ("primary", "secondary"):
        one: SimMachine = getattr(Pair(), half)
        one.events.clear()
        one.execute("x-colo-lost-heartbeat")
        assert story(one) == ["STOP", "completed", *(["secondary request"] if half == "secondary" else [])]
        one.world.run_until(lambda one=one: "RESUME" in one.event_names())
        assert story(one) == ["STOP", "completed", f"{half} request", "RESUME"]


@pytest.mark.parametrize(
    ("profile", "lines", "status"),
    [
        (
            "11.1",
            ["failed to init colo RAM cache: -1: Can't alloc memory for COLO cache of block ram, size 0x200000"],
            "setup",
        ),
        (
            "10.0",
            [
                "colo_init_ram_cache: Can't alloc memory for COLO cache of block ram,size 0x200000",
                "load of migration failed: Cannot allocate memory",
            ],
            "failed",
        ),
    ],
)
def test_a_secondary_without_memory_for_the_copies(profile: str, lines: list[str], status: str) -> None:
    world = SimWorld(seed=5)
    primary, secondary = (machine(world, name, profile) for name in ("primary", "secondary"))
    Injector(secondary.vm).add(Rule("fake_colo_init_ram_cache", Fail("ENOMEM")))
    secondary.execute("migrate-incoming", uri="unix:/tmp/colo")
    primary.execute("migrate", uri="unix:/tmp/colo")
    world.run_until(lambda: primary.vm.migration.state == "failed")
    assert secondary.host.log_lines == lines
    assert secondary.vm.exit_status == 1
    assert secondary.vm.migration.incoming is not None
    assert secondary.vm.migration.incoming.state == status


def test_a_primary_whose_devices_cannot_be_saved_says_so_where_its_release_does() -> None:
    for profile, said in (("7.2", []), ("10.0", ["Channel error: Input/output error"])):
        pair = Pair(profile)
        Injector(pair.primary.vm).add(Rule("vmstate_save"))
        pair.world.run_until(lambda pair=pair: "COLO_EXIT" in pair.primary.event_names())  # type: ignore[misc]
        assert pair.primary.host.log_lines == said
        assert run_state(pair.primary) == "colo"
        assert pair.primary.execute("query-migrate").get("error-desc", "") == "".join(said)
        assert go_on_alone(pair.primary) == ["completed", "RESUME"]


def told_wrongly(message: str) -> Pair:
    """A pair whose secondary says something else instead, once; up to when the primary has noticed."""
    pair = Pair()
    pair.checkpoint()
    pair.faults.add(Rule("colo_send_message", Corrupt(3), match={"msg": message}))
    pair.world.run_until(lambda: bool(pair.primary.host.log_lines))
    pair.world.run_ready()
    return pair


def test_a_primary_that_has_not_heard_that_the_devices_came_tries_again_at_once() -> None:
    """QEMU forgets that it failed. What was meant for the first try is no answer to the second."""
    pair = told_wrongly("vmstate-received")
    wrong = ["colo_receive_message: Invalid message", "Unexpected COLO message 6, expected 2"]
    assert pair.primary.host.log_lines == wrong
    assert story(pair.primary)[-2:] == ["STOP", "primary error"]
    assert run_state(pair.primary) == "colo"


def test_a_primary_that_has_not_heard_that_the_devices_are_loaded_tries_again_when_it_is_due() -> None:
    """... and its guest is stopped until then."""
    pair = told_wrongly("vmstate-loaded")
    assert pair.primary.host.log_lines == ["colo_receive_message: Invalid message"]
    assert run_state(pair.primary) == "colo"
    stopped_ns = pair.primary.host.clock.now_ns()
    pair.checkpoint()
    assert (pair.primary.host.clock.now_ns() - stopped_ns) // NS_PER_MS == DELAY_MS
    assert content(pair.primary) == content(pair.secondary)
    assert pair.primary.host.log_lines == ["colo_receive_message: Invalid message"]


@pytest.mark.parametrize("profile", RELEASES)
def test_a_guest_that_is_stopped_for_a_checkpoint(profile: str) -> None:
    pair = Pair(profile)
    pair.checkpoint()
    pair.faults.add(Rule("colo_receive_message", Stall(), match={"msg": "vmstate-send"}))
    pair.world.run_until(lambda: bool(pair.faults.stalled()))
    one = pair.secondary
    assert run_state(one) == "colo"
    one.execute("stop")
    assert run_state(one) == "colo"
    if profile == "11.1":
        with pytest.raises(QemuError, match="COLO checkpoint in progress"):
            one.execute("cont")
        one.execute("system_reset")
        assert run_state(one) == "prelaunch"
    else:
        one.execute("cont")
        assert run_state(one) == "running"
