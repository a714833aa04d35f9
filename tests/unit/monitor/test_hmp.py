# SPDX-License-Identifier: MIT
"""Lines of the human monitor; expected texts are those of real QEMUs 7.2, 10.0 and 11.1."""

from __future__ import annotations

import json

import pytest

from fakeqemu.error import NotEmulated
from fakeqemu.monitor.hmp import run_line
from fakeqemu.system.machine import Machine

from .conftest import Client, MakeMachine

STOP_HELP = "stop|s  -- stop emulation\r\n"


def extraneous(name: str, typed: str) -> str:
    return f'{name}: extraneous characters at the end of line\r\nTry "help {typed}" for more information\r\n'


@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("", ""), (" \n", ""),
        ("nosuch a b", "unknown command: 'nosuch'\r\n"),
        ("  info   nosuch  x", "unknown command: '  info   nosuch'\r\n"),
        ("'stop'", "unknown command: ''stop''\r\n"),
        ("INFO", "unknown command: 'INFO'\r\n"),
        ("info/status", "unknown command: 'info'\r\n"),
        ("help stop", STOP_HELP), ("? s", STOP_HELP), ("help stop cont", STOP_HELP),
        ("help ?", "help|? [cmd] -- show the help\r\n"),
        ("help nosuch", "unknown command: 'nosuch'\r\n"),
        ("help info nosuch", "unknown command: 'info nosuch'\r\n"),
        ("help info status x", "info status  -- show the current VM status (running|paused)\r\n"),
        ("stop x", extraneous("stop|s", "stop")), ("q x", extraneous("quit|q", "q")),
        ("stop/x", extraneous("stop|s", "stop")), ("stop\ncont", extraneous("stop|s", "stop")),
        ("info status extra", extraneous("status", "info status")),
        ("info qtree -bb", extraneous("qtree", "info qtree")),
        ("\tinfo\tstatus", "VM status: paused (prelaunch)\r\n"), ("info status\n", "VM status: paused (prelaunch)\r\n"),
        ("info uuid", "00000000-0000-0000-0000-000000000000\r\n"), ("info name", ""),
    ],
)  # fmt: skip
def test_lines(make_machine: MakeMachine, profile: str, line: str, text: str) -> None:
    assert run_line(make_machine(profile), line) == text


def test_flags_are_those_of_the_release(make_machine: MakeMachine) -> None:
    unsupported = 'qtree: unsupported option -z\r\nTry "help info qtree" for more information\r\n'
    assert run_line(make_machine("11.1"), "info qtree -z") == unsupported
    assert run_line(make_machine("7.2"), "info qtree -z") == extraneous("qtree", "info qtree")


def test_status_of_a_machine(vm: Machine) -> None:
    for state, text in (("running", "running"), ("paused", "paused"), ("postmigrate", "paused (postmigrate)")):
        vm.runstate.state = state
        assert run_line(vm, "info status") == f"VM status: {text}\r\n"


def test_version_is_that_of_the_profile(make_machine: MakeMachine) -> None:
    for name in ("7.2", "10.0", "11.1"):
        vm = make_machine(name)
        assert run_line(vm, "info version") == vm.profile.get("hmp", "none/info version")
        assert run_line(vm, "help") == vm.profile.get("hmp", "none/help")
        assert run_line(vm, "info") == run_line(vm, "help info") == vm.profile.get("hmp", "none/info")


def test_every_command_has_its_help(vm: Machine) -> None:
    """What `help NAME` said of each command when it was asked of the real one."""
    asked = [key for key in vm.profile.keys("hmp") if key.startswith("help/")]
    assert len(asked) > 90
    for key in asked:
        assert run_line(vm, key.replace("/", " ")) == vm.profile.get("hmp", key)


def test_a_command_without_emulation_is_refused(vm: Machine, client: Client) -> None:
    with pytest.raises(NotEmulated):
        run_line(vm, "screendump /tmp/x")
    answer = client.send('{"execute": "human-monitor-command", "arguments": {"command-line": "info jit"}}')
    assert json.loads(answer[0])["error"]["desc"] == "The human monitor command info jit is not emulated"


def test_commands_that_are_qmp_commands(client: Client) -> None:
    event, reply = client.send('{"execute": "human-monitor-command", "arguments": {"command-line": "s"}, "id": 1}')
    assert '"STOP"' in event
    assert reply == '{"return": "", "id": 1}'
