# SPDX-License-Identifier: MIT
"""What becomes of a request: checks in QEMU's order, bugs of ours, commands without emulation."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fakeqemu.monitor.dispatch import envelope
from fakeqemu.system.machine import Machine

from .conftest import Client, MakeMachine


def error_of(lines: list[str]) -> tuple[str, str]:
    (line,) = lines
    error: dict[str, Any] = json.loads(line)["error"]
    return error["class"], error["desc"]


def test_a_bug_of_ours_is_answered_counted_and_survived(vm: Machine, client: Client) -> None:
    cls, desc = error_of(client.send('{"execute": "system_wakeup", "id": 3}'))
    assert cls == "GenericError"
    assert desc == "internal error: ZeroDivisionError: a bug"
    assert vm.bugs == 1
    assert "Traceback" in vm.host.log_lines[-1]  # type: ignore[attr-defined]
    assert client.send('{"execute": "query-name"}') == ['{"return": {}}']


def test_a_command_without_emulation_says_so_after_its_arguments_are_checked(vm: Machine, client: Client) -> None:
    traced: list[dict[str, Any]] = []
    vm.trace.watch(lambda _event, fields: traced.append(fields), "fake_not_emulated")
    assert error_of(client.send('{"execute": "blockdev-add"}'))[1] == "Parameter 'driver' is missing"
    assert traced == []
    ask = '{"execute": "blockdev-add", "arguments": {"driver": "null-co", "node-name": "n"}}'
    assert error_of(client.send(ask)) == ("GenericError", "The command blockdev-add is not emulated")
    assert traced == [{"command": "blockdev-add", "desc": "The command blockdev-add is not emulated"}]
    client.send(ask)
    assert vm.dispatcher.not_emulated == {"blockdev-add": 2}


def test_before_the_machine_is_built_only_some_commands_are_permitted(vm: Machine, client: Client) -> None:
    vm.phase = "preconfig"
    text = "The command 'stop' is permitted only after machine initialization has completed"
    assert error_of(client.send('{"execute": "stop"}')) == ("GenericError", text)
    assert client.send('{"execute": "query-name"}') == ['{"return": {}}']


def test_policy_comes_before_arguments(vm: Machine, client: Client) -> None:
    vm.dispatcher.policy.set({"deprecated-input": "reject", "unstable-input": "reject"})
    assert error_of(client.send('{"execute": "query-kvm", "arguments": {"x": 1}}')) == (
        "CommandNotFound",
        "Deprecated command query-kvm disabled by policy",
    )


@pytest.mark.parametrize(("profile", "count", "size"), [("7.2", 1047, 193817), ("11.1", 1221, 232952)])
def test_the_schema_without_what_is_deprecated(make_machine: MakeMachine, profile: str, count: int, size: int) -> None:
    """As long as the real one's under `-compat deprecated-output=hide`."""
    vm = make_machine(profile)
    client = Client(vm, "m").negotiate()
    vm.dispatcher.policy.set({"deprecated-output": "hide"})
    (line,) = client.send('{"execute": "query-qmp-schema"}')
    assert len(json.loads(line)["return"]) == count
    assert len(line) == size


@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
def test_query_qmp_schema_is_what_the_profile_holds(make_machine: MakeMachine, profile: str) -> None:
    vm = make_machine(profile)
    client = Client(vm, "m").negotiate()
    (line,) = client.send('{"execute": "query-qmp-schema", "id": {"a": 1}}')
    records = [record.decode() for _, record in vm.profile.records("schema")]
    assert line == '{"return": [' + ", ".join(records) + '], "id": {"a": 1}}'
    assert len(json.loads(line)["return"]) > 1000


def test_ready_texts_go_through_pretty_monitors_too(vm: Machine) -> None:
    client = Client(vm, "p", pretty=True)
    client.monitor.receive_data(b'{"execute": "qmp_capabilities"}')
    client.written.clear()
    client.monitor.receive_data(b'{"execute": "query-commands"}')
    text = b"".join(client.written).decode()
    assert text.startswith('{\r\n    "return": [\r\n        {\r\n            "name": "')
    assert len(json.loads(text)["return"]) > 200


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ([], "QMP input must be a JSON object"),
        ({}, "QMP input lacks member 'execute'"),
        ({"execute": 1}, "QMP input member 'execute' must be a string"),
        ({"execute": "x", "arguments": None}, "QMP input member 'arguments' must be an object"),
        ({"execute": "x", "exec-oob": "y"}, "QMP input member 'exec-oob' is unexpected"),
        # in the order of the hash table
        ({"zzz": 1, "execute": 1}, "QMP input member 'execute' must be a string"),
        ({"a": 1, "b": 2, "c": 3, "d": 4, "execute": "x"}, "QMP input member 'd' is unexpected"),
    ],
)
def test_envelope(client: Client, message: Any, text: str) -> None:
    assert error_of(client.send(json.dumps(message))) == ("GenericError", text)


def test_envelope_with_oob() -> None:
    assert envelope({"exec-oob": "x", "id": 1}, True) == ("x", {})
    assert envelope({"execute": "x", "arguments": {"a": 1}}, True) == ("x", {"a": 1})


def test_replies_can_be_held_against_the_schema(vm: Machine, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    vm.dispatcher.check_replies = True
    assert client.send('{"execute": "query-name"}') == ['{"return": {}}']
    vm.name = 5  # type: ignore[assignment]
    assert "internal error: WrongShape" in error_of(client.send('{"execute": "query-name"}'))[1]
    assert vm.bugs == 1


def test_a_deep_message_is_echoed(client: Client) -> None:
    deep = "[" * 1020 + "]" * 1020
    assert client.send(f'{{"execute": "query-name", "id": {deep}}}') == [f'{{"return": {{}}, "id": {deep}}}']


def test_a_deep_argument_is_checked(client: Client) -> None:
    """Each level of a block graph is one of the schema too."""
    node = '{"driver": "null-co"}'
    for _ in range(400):
        node = f'{{"driver": "raw", "file": {node}}}'
    answer = client.send(f'{{"execute": "blockdev-add", "arguments": {node}}}')
    assert error_of(answer)[1] == "The command blockdev-add is not emulated"
