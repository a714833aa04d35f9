# SPDX-License-Identifier: MIT
"""stop, cont, quit, resets: states, events and their data, with -no-shutdown and -no-reboot too."""

from __future__ import annotations

import pytest

from fakeqemu.error import QemuError
from fakeqemu.host.sync import run_sync
from fakeqemu.system import qmp_cmds

from .conftest import Events, MakeMachine


def test_stop_before_the_start_changes_nothing(make_machine: MakeMachine) -> None:
    vm = make_machine("none")
    seen = Events(vm)
    run_sync(qmp_cmds.qmp_stop(vm))
    assert (vm.runstate.state, seen.names) == ("prelaunch", [])


def test_a_reset_while_stopped_is_as_before_the_launch(make_machine: MakeMachine) -> None:
    vm = make_machine("none")
    seen = Events(vm)
    run_sync(qmp_cmds.qmp_cont(vm))
    run_sync(qmp_cmds.qmp_stop(vm))
    assert vm.runstate.state == "paused"
    qmp_cmds.qmp_system_reset(vm)
    assert vm.runstate.state == "prelaunch"
    assert seen.all == [
        ("RESUME", None),
        ("STOP", None),
        ("RESET", {"guest": False, "reason": "host-qmp-system-reset"}),
    ]


def test_a_reset_of_a_running_guest_leaves_it_running(make_machine: MakeMachine) -> None:
    vm = make_machine("none")
    told: list[str] = []
    vm.on_reset.add(told.append)
    run_sync(qmp_cmds.qmp_cont(vm))
    qmp_cmds.qmp_system_reset(vm)
    assert (vm.runstate.state, told) == ("running", ["host-qmp-system-reset"])


def test_quit_ends_whatever_no_shutdown_says(make_machine: MakeMachine) -> None:
    vm = make_machine("none")
    seen = Events(vm)
    told: list[str] = []
    vm.on_shutdown.add(told.append)
    vm.actions["shutdown"] = "pause"
    qmp_cmds.qmp_quit(vm)
    assert seen.all == [("SHUTDOWN", {"guest": False, "reason": "host-qmp-quit"})]
    assert vm.quit_requested
    assert told == []  # the reply goes out first


def test_a_guest_that_shuts_down_stays_with_no_shutdown(make_machine: MakeMachine) -> None:
    vm = make_machine("none")
    vm.actions["shutdown"] = "pause"
    run_sync(qmp_cmds.qmp_cont(vm))
    seen = Events(vm)
    vm.request_shutdown("guest-shutdown", guest=True)
    assert seen.all == [("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"}), ("STOP", None)]
    assert (vm.runstate.state, vm.quit_requested) == ("shutdown", False)
    with pytest.raises(QemuError, match=r"^Resetting the Virtual Machine is required$"):
        run_sync(qmp_cmds.qmp_cont(vm))
    qmp_cmds.qmp_system_reset(vm)
    run_sync(qmp_cmds.qmp_cont(vm))
    assert vm.runstate.running


def test_with_no_reboot_a_reset_is_a_shutdown(make_machine: MakeMachine) -> None:
    vm = make_machine("none")
    vm.actions["reboot"] = "shutdown"
    seen = Events(vm)
    qmp_cmds.qmp_system_reset(vm)
    assert seen.all == [("SHUTDOWN", {"guest": False, "reason": "host-qmp-system-reset"})]
    assert vm.quit_requested


def test_an_incoming_guest_remembers_whether_to_start(make_machine: MakeMachine) -> None:
    vm = make_machine("none")
    vm.runstate.set("inmigrate")
    run_sync(qmp_cmds.qmp_stop(vm))
    assert vm.runstate.autostart is False
    run_sync(qmp_cmds.qmp_cont(vm))
    assert (vm.runstate.autostart, vm.runstate.state) == (True, "inmigrate")


def test_preconfig_ends_once(make_machine: MakeMachine) -> None:
    vm = make_machine()
    completed: list[str] = []

    def complete() -> None:
        completed.append("done")
        vm.phase = "ready"

    vm.complete_startup = complete
    qmp_cmds.qmp_x_exit_preconfig(vm)
    with pytest.raises(QemuError, match=r"^The command is permitted only before machine initialization$"):
        qmp_cmds.qmp_x_exit_preconfig(vm)
    assert completed == ["done"]


@pytest.mark.parametrize(("profile", "members"), [("7.2", 3), ("11.1", 2)])
def test_query_status_of_old_releases_tells_of_single_steps(
    make_machine: MakeMachine, profile: str, members: int
) -> None:
    assert len(qmp_cmds.qmp_query_status(make_machine("none", profile=profile))) == members
