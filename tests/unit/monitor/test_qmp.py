# SPDX-License-Identifier: MIT
"""A monitor's session: negotiation, queue, out-of-band commands, events, descriptors, reconnects."""

from __future__ import annotations

import pytest

from fakeqemu.system.machine import Machine

from . import wire_commands
from .conftest import Client

GREETING = (
    '{"QMP": {"version": {"qemu": {"micro": 2, "minor": 1, "major": 11}, "package": "%s"}, "capabilities": ["oob"]}}'
)
STATUS = '{"return": {"status": "running", "running": true}}'


def test_greeting_and_negotiation(vm: Machine) -> None:
    client = Client(vm, "m")
    assert client.lines() == [GREETING % vm.profile.package]
    expecting = "Expecting capabilities negotiation with 'qmp_capabilities'"
    assert client.send('{"execute": "query-status"}') == [
        f'{{"error": {{"class": "CommandNotFound", "desc": "{expecting}"}}}}'
    ]
    assert client.send('{"execute": "qmp_capabilities"}') == ['{"return": {}}']
    assert client.send('{"execute": "query-status"}') == [STATUS]
    ignored = "Capabilities negotiation is already complete, command ignored"
    assert client.send('{"execute": "qmp_capabilities"}') == [
        f'{{"error": {{"class": "CommandNotFound", "desc": "{ignored}"}}}}'
    ]


def test_a_monitor_without_oob_says_so(vm: Machine) -> None:
    client = Client(vm, "m", oob=False)
    assert client.lines()[0].endswith('"capabilities": []}}')
    answer = client.send('{"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}}')
    assert answer == ['{"error": {"class": "GenericError", "desc": "Capability oob not available"}}']


def test_what_one_read_asks_is_answered_in_one_write(client: Client) -> None:
    client.monitor.receive_data(b'{"execute": "query-name"}{"execute": "query-uuid"}}{"execute": "stop"}')
    assert len(client.written) == 1
    kinds = [line[:9] for line in client.lines()]
    assert kinds == ['{"return"', '{"return"', '{"error":', '{"timesta', '{"return"']


def test_events_reach_negotiated_monitors_only(vm: Machine, client: Client) -> None:
    other = Client(vm, "n")
    other.lines()
    vm.emit("STOP")
    assert len(client.lines()) == 1
    assert other.lines() == []


def test_an_event_is_written_at_once(vm: Machine, client: Client) -> None:
    vm.emit("STOP")
    assert len(client.written) == 1


# --- waiting commands -------------------------------------------------------------------------------------

SLOW = '{"execute": "balloon", "arguments": {"value": 1}, "id": "slow"}'
SLOW_DONE = '{"return": {}, "id": "slow"}'


def names(count: int, start: int = 0) -> str:
    return "".join(f'{{"execute": "query-name", "id": {i}}}' for i in range(start, start + count))


def answers(count: int, start: int = 0) -> list[str]:
    return [f'{{"return": {{}}, "id": {i}}}' for i in range(start, start + count)]


def open_gate(vm: Machine) -> None:
    wire_commands.gates[id(vm)].set()
    vm.host.world.run_ready()  # type: ignore[attr-defined]


def test_without_oob_nothing_is_read_while_a_command_waits(vm: Machine, client: Client) -> None:
    assert client.send(SLOW) == []
    assert client.reading == ["pause"]
    assert client.send(names(3)) == []
    assert len(client.monitor.queue) == 0
    open_gate(vm)
    assert client.lines() == [SLOW_DONE, *answers(3)]
    assert client.reading == ["pause", "resume"]


def test_a_waiting_command_holds_up_all_monitors(vm: Machine, client: Client) -> None:
    other = Client(vm, "n").negotiate()
    client.send(SLOW)
    assert other.send('{"execute": "query-name", "id": 7}') == []
    open_gate(vm)
    assert client.lines() == [SLOW_DONE]
    assert other.lines() == answers(1, 7)


def test_an_oob_command_overtakes(vm: Machine) -> None:
    client = Client(vm, "m").negotiate("oob")
    client.send(SLOW)
    assert client.send(names(7)) == []
    assert client.send('{"exec-oob": "query-yank", "id": "oob"}') == [
        '{"return": [{"type": "chardev", "id": "m"}], "id": "oob"}'
    ]
    assert client.reading == []
    open_gate(vm)
    assert client.lines() == [SLOW_DONE, *answers(7)]


def test_an_oob_command_behind_a_full_queue_waits_for_a_place(vm: Machine) -> None:
    client = Client(vm, "m").negotiate("oob")
    client.send(SLOW)
    client.send(names(8))
    assert client.reading == ["pause"]
    assert client.send('{"exec-oob": "query-yank", "id": "oob"}') == []
    open_gate(vm)
    oob = '{"return": [{"type": "chardev", "id": "m"}], "id": "oob"}'
    assert client.lines() == [SLOW_DONE, *answers(1), oob, *answers(7, 1)]


def test_a_parse_error_waits_its_turn(vm: Machine) -> None:
    client = Client(vm, "m").negotiate("oob")
    client.send(SLOW)
    assert client.send("}\n") == []
    open_gate(vm)
    slow, error = client.lines()
    assert slow == SLOW_DONE
    assert "expecting value" in error


def test_monitors_take_turns(vm: Machine) -> None:
    first, second = (Client(vm, name).negotiate("oob") for name in "mn")
    order: list[str] = []
    vm.trace.watch(
        lambda _event, fields: order.append(f"{fields['monitor']}{fields['data'][-4:-3].decode()}"),
        "fake_monitor_output",
    )
    first.send(SLOW)
    first.send(names(3))
    second.send(names(3, 5))
    open_gate(vm)
    assert order[1:] == ["n5", "m0", "n6", "m1", "n7", "m2"]


def test_somebody_elses_hold_on_the_bql_delays_in_band_commands_only(vm: Machine) -> None:
    client = Client(vm, "m").negotiate("oob")
    assert vm.bql.try_acquire()
    assert client.send('{"execute": "query-name", "id": 0}') == []
    assert len(client.send('{"exec-oob": "query-yank"}')) == 1
    vm.bql.release()
    vm.host.world.run_ready()  # type: ignore[attr-defined]
    assert client.lines() == answers(1)
    assert not vm.bql.locked


def test_the_bql_is_free_after_each_way_to_end(vm: Machine, client: Client) -> None:
    for command in ("query-name", "query-uuid", "system_wakeup", "nosuch", "query-block"):
        assert len(client.send(f'{{"execute": "{command}"}}')) == 1
        assert not vm.bql.locked
    client.send(SLOW)
    assert vm.bql.locked
    open_gate(vm)
    assert not vm.bql.locked


# --- connections ------------------------------------------------------------------------------------------


def test_a_client_that_leaves_takes_its_requests_with_it(vm: Machine, client: Client) -> None:
    client.send(SLOW)
    client.send(names(2))
    client.monitor.disconnected()
    client.monitor.connected()
    assert len(client.lines()) == 1
    assert client.reading == ["pause", "resume"]
    assert len(client.send('{"execute": "qmp_capabilities"}')) == 0  # the slow one still runs
    open_gate(vm)
    # what was begun is answered to whoever is there, as the real one does
    assert client.lines() == [SLOW_DONE, '{"return": {}}']


def test_half_a_message_is_forgotten_with_its_client(client: Client) -> None:
    assert client.send('{"execute": "query-') == []
    client.monitor.disconnected()
    client.monitor.connected()
    client.lines()
    assert client.send('{"execute": "qmp_capabilities"}') == ['{"return": {}}']


def test_oob_is_negotiated_anew(vm: Machine) -> None:
    client = Client(vm, "m").negotiate("oob")
    client.monitor.disconnected()
    client.monitor.connected()
    client.negotiate()
    assert "QMP input member 'exec-oob' is unexpected" in client.send('{"exec-oob": "query-yank"}')[0]


def test_pretty_monitors_get_events_pretty(vm: Machine) -> None:
    client = Client(vm, "p", pretty=True)
    client.monitor.receive_data(b'{"execute": "qmp_capabilities"}')
    client.written.clear()
    vm.emit("STOP")
    assert client.written[0].startswith(b'{\r\n    "timestamp": {\r\n        "seconds": ')
    assert client.written[0].endswith(b'    "event": "STOP"\r\n}\r\n')


# --- descriptors ------------------------------------------------------------------------------------------


def test_the_first_descriptor_of_the_last_message_that_had_some(client: Client) -> None:
    client.send(names(1), (10, 11))
    client.send(names(1))
    assert client.monitor.take_fd() == 10
    assert client.closed_fds == [11]
    assert client.monitor.take_fd() is None


def test_newer_descriptors_take_the_place_of_older_ones(client: Client) -> None:
    client.send(names(1), (10, 11))
    client.send(names(1), (12,))
    assert client.closed_fds == [10, 11]
    assert client.monitor.take_fd() == 12


def test_descriptors_nobody_wanted_are_closed_with_the_client(client: Client) -> None:
    client.send(names(1), (10,))
    client.monitor.disconnected()
    assert client.closed_fds == [10]


@pytest.mark.parametrize("data", [b"\x00\xff\xfe" * 10, b'{"execute": "' + b"x" * 100_000 + b'"}', b"[" * 5000])
def test_no_input_ends_the_conversation(client: Client, data: bytes) -> None:
    client.send(data)
    client.send(b"\xff\n" + b"}" * 5)
    assert client.send('{"execute": "query-status"}')[-1] == STATUS
