# SPDX-License-Identifier: MIT
"""Steps: what happens at a time or when something else does; what guests do; answers that are not the usual ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fakeqemu.error import QemuError
from fakeqemu.faults.injector import Injector
from fakeqemu.host.clock import NS_PER_MS, NS_PER_S
from fakeqemu.scenario.load import parse
from fakeqemu.scenario.runner import Runner
from fakeqemu.sim.world import SimWorld
from fakeqemu.system.ramblock import RAMBlock
from fakeqemu.testing.sim_machine import SimMachine

URI = "unix:/tmp/steps"
MIB = 1 << 20


@pytest.fixture
def world() -> SimWorld:
    return SimWorld(seed=5)


@pytest.fixture
def machine(world: SimWorld) -> Iterator[SimMachine]:
    one = SimMachine(world, name="source", profile="11.1")
    one.vm.ram_blocks.append(RAMBlock("ram", 8 * MIB))
    one.execute("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
    one.execute("cont")
    yield one
    one.close()


@pytest.fixture
def destination(world: SimWorld) -> Iterator[SimMachine]:
    one = SimMachine(world, name="destination", profile="11.1")
    one.vm.ram_blocks.append(RAMBlock("ram", 8 * MIB))
    one.vm.runstate.set("inmigrate")
    one.execute("migrate-incoming", uri=URI)
    yield one
    one.close()


def told(machine: SimMachine) -> list[tuple[str, object]]:
    """Events since the test's beginning that are no statuses of a migration."""
    return [(name, data) for _, name, data in machine.events if name not in ("MIGRATION", "RESUME")]


def play(machine: SimMachine, text: str) -> Runner:
    return Runner(machine.vm, parse(text, "a.toml"))


# --- when -------------------------------------------------------------------------------------------------


def test_a_stall_ends_at_its_time(machine: SimMachine, destination: SimMachine) -> None:
    play(
        machine,
        """
        [[rules]]
        where = "savevm_section_start"
        match = { phase = "end" }
        stall = true
        name = "held"

        [[steps]]
        at-ms = 5000
        release = "held"
        """,
    )
    machine.execute("migrate", uri=URI)
    machine.world.run_for(4900 * NS_PER_MS)
    assert machine.vm.migration.state == "device"
    machine.world.run_until_idle()
    assert machine.vm.migration.state == "completed"
    assert 4900 <= machine.execute("query-migrate")["downtime"] <= 5100
    assert destination.vm.runstate.running


def test_a_stall_ends_when_somebody_asks(machine: SimMachine, destination: SimMachine) -> None:
    text = """
        [[links]]
        name = "line"
        stall-at = 500

        [[steps]]
        command = "query-name"
        after = 1
        release = "line"
        """
    play(machine, text)
    machine.execute("migrate", uri=URI)
    machine.execute("query-name")
    machine.world.run_for(NS_PER_S)
    assert machine.vm.migration.state == "active"
    machine.execute("query-name")
    machine.world.run_until_idle()
    assert machine.vm.migration.state == "completed"
    assert destination.vm.runstate.running


def test_a_step_waits_for_an_event_and_a_while(machine: SimMachine, destination: SimMachine) -> None:
    play(machine, '[[steps]]\nevent = "MIGRATION"\nmatch = { status = "device" }\nkill = true')
    machine.execute("migrate", uri=URI)
    machine.world.run_until_idle()
    assert machine.host.killed
    assert [data["status"] for _, name, data in machine.events if name == "MIGRATION"][-1] == "device"
    assert destination.vm.migration.incoming is not None
    assert destination.vm.migration.incoming.state == "failed"


def test_a_step_on_a_trace_event_changes_what_the_guest_does(machine: SimMachine, destination: SimMachine) -> None:
    machine.vm.ram_blocks[0].guest_dirties(0, 2048)
    machine.execute("migrate-set-parameters", max_bandwidth=4 * MIB, downtime_limit=10)
    text = """
        [guest]
        dirty-rate = "8M"

        [[steps]]
        on = "migration_bitmap_sync_start"
        after = 20
        dirty-rate = 0
        """
    play(machine, text)
    machine.execute("migrate", uri=URI)
    machine.world.run_until_idle(60 * NS_PER_S)
    assert machine.vm.migration.state == "completed"
    assert machine.execute("query-migrate")["ram"]["dirty-sync-count"] > 3
    assert destination.vm.runstate.running


def test_a_runner_that_is_stopped_does_nothing_more(machine: SimMachine) -> None:
    runner = play(
        machine, '[[steps]]\nat-ms = 100\nguest = "panic"\n[[steps]]\ncommand = "query-name"\nguest = "reboot"'
    )
    runner.stop()
    machine.execute("query-name")
    machine.world.run_for(NS_PER_S)
    assert told(machine) == []


# --- what guests do (as seen on 11.1.2, from a guest of a few instructions) -----------------------------------


@pytest.mark.parametrize(
    ("act", "actions", "events", "state"),
    [
        ("panic", {}, [("GUEST_PANICKED", {"action": "poweroff"}), ("SHUTDOWN", {"guest": True, "reason": "guest-panic"})], ""),
        ("panic", {"panic": "pause"}, [("GUEST_PANICKED", {"action": "pause"}), ("STOP", {})], "guest-panicked"),
        ("panic", {"shutdown": "pause"}, [("GUEST_PANICKED", {"action": "pause"}), ("STOP", {})], "guest-panicked"),
        ("panic", {"panic": "none"}, [("GUEST_PANICKED", {"action": "run"})], "running"),
        ("crash-dump", {}, [("GUEST_CRASHLOADED", {"action": "run"})], "running"),
        ("shutdown", {}, [("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"})], ""),
        (
            "shutdown", {"shutdown": "pause"}, [("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"}), ("STOP", {})],
            "shutdown",
        ),
        ("reboot", {}, [("RESET", {"guest": True, "reason": "guest-reset"})], "running"),
        ("reboot", {"reboot": "shutdown"}, [("SHUTDOWN", {"guest": True, "reason": "guest-reset"})], ""),
        ("suspend", {}, [("SUSPEND", {})], "suspended"),
        ("hibernate", {}, [("SUSPEND_DISK", {}), ("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"})], ""),
    ],
)  # fmt: skip
def test_what_a_guest_does_is_told_as_by_qemu(
    machine: SimMachine, act: str, actions: dict[str, str], events: list[tuple[str, object]], state: str
) -> None:
    machine.vm.actions.update(actions)
    machine.events.clear()
    play(machine, f'[[steps]]\nat-ms = 100\nguest = "{act}"')
    machine.world.run_for(NS_PER_S)
    assert told(machine) == events
    assert machine.vm.quit_requested == (state == "")
    if state:
        assert machine.vm.runstate.state == state


def test_a_guest_that_sleeps_wakes_up_and_one_that_is_stopped_does_nothing(machine: SimMachine) -> None:
    machine.events.clear()
    play(machine, "\n".join(f'[[steps]]\nat-ms = {ms}\nguest = "{act}"' for ms, act in
                            ((100, "suspend"), (150, "panic"), (200, "wake-up"), (400, "wake-up"))))  # fmt: skip
    machine.world.run_for(150 * NS_PER_MS)
    assert machine.execute("query-status") == {"status": "suspended", "running": False}
    machine.world.run_for(150 * NS_PER_MS)
    assert machine.execute("query-status") == {"status": "running", "running": True}
    machine.execute("stop")
    machine.world.run_for(NS_PER_S)
    assert [name for name, _ in told(machine)] == ["SUSPEND", "WAKEUP", "STOP"]


# --- answers ------------------------------------------------------------------------------------------------


def test_answers_are_late_fail_or_are_others(machine: SimMachine) -> None:
    play(
        machine,
        """
        [[answers]]
        command = "query-name"
        delay-ms = 180000

        [[answers]]
        command = "stop"
        after = 1
        error = "the disk is on fire"

        [[answers]]
        command = "query-balloon"
        times = "always"
        return = { actual = 4096 }
        """,
    )
    start_ns = machine.host.clock.now_ns()
    assert machine.execute("query-name") == {}
    assert machine.host.clock.now_ns() - start_ns == 180 * NS_PER_S
    machine.execute("stop")
    with pytest.raises(QemuError, match=r"^the disk is on fire$"):
        machine.execute("stop")
    machine.execute("stop")
    assert [machine.execute("query-balloon") for _ in range(3)] == [{"actual": 4096}] * 3


def test_a_monitor_is_silent_until_it_is_released(machine: SimMachine) -> None:
    text = """
        [[answers]]
        command = "query-*"
        stall = true
        name = "stuck"

        [[steps]]
        at-ms = 60000
        release = "stuck"
        """
    play(machine, text)
    start_ns = machine.host.clock.now_ns()
    assert machine.execute("query-status")["status"] == "running"
    assert machine.host.clock.now_ns() - start_ns == 60 * NS_PER_S


def test_a_test_that_has_the_machine_releases_what_is_stalled(machine: SimMachine, destination: SimMachine) -> None:
    play(machine, '[[rules]]\nwhere = "savevm_section_start"\nstall = true\nname = "held"')
    machine.execute("migrate", uri=URI)
    machine.world.run_until_idle()
    assert machine.vm.migration.state == "setup"
    injector = machine.vm.faults.injector
    assert isinstance(injector, Injector)
    assert injector.stalled() == ["held"]
    injector.release("held")
    machine.world.run_until_idle()
    assert destination.vm.runstate.running
