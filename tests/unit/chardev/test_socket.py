# SPDX-License-Identifier: MIT
"""Sockets as character devices, on the simulated host: one peer at a time, reconnecting, names, yank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fakeqemu.error import DEVICE_NOT_FOUND, NotEmulated, QemuError
from fakeqemu.host.clock import NS_PER_MS
from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.sim.host import SimHost
from fakeqemu.system.build import new_machine

if TYPE_CHECKING:
    from fakeqemu.chardev.char import Chardev
    from fakeqemu.host.channel import Channel
    from fakeqemu.system.machine import Machine

UNIX = {"type": "unix", "data": {"path": "/run/s"}}


@pytest.fixture
def vm() -> Machine:
    return new_machine(SimHost(), VersionProfile.load("11.1"))


class Frontend:
    """A front end that remembers."""

    def __init__(self, chardev: Chardev) -> None:
        self.chardev = chardev
        self.heard: list[Any] = []
        chardev.claim()
        chardev.set_frontend(lambda data, _fds: self.heard.append(data), self.heard.append)


def add(vm: Machine, label: str = "c", /, **data: Any) -> Chardev:
    return vm.chardevs.add(label, {"type": "socket", "data": {"addr": UNIX, **data}})


def settle(vm: Machine) -> None:
    host = vm.host
    assert isinstance(host, SimHost)
    host.world.run_for(0)


def connect(vm: Machine) -> Channel:
    host = vm.host
    assert isinstance(host, SimHost)
    channel: Channel = host.world.run(host.connect({"type": "unix", "path": "/run/s"}))
    settle(vm)
    return channel


def read(vm: Machine, channel: Channel) -> bytes:
    host = vm.host
    assert isinstance(host, SimHost)
    data: bytes = host.world.run(channel.read(1000))
    return data


def test_a_client_is_heard_from_its_coming_to_its_leaving(vm: Machine) -> None:
    frontend = Frontend(add(vm, wait=False))
    client = connect(vm)
    client.send(b"hello")
    settle(vm)
    frontend.chardev.write(b"welcome")
    assert read(vm, client) == b"welcome"
    client.close()
    settle(vm)
    assert frontend.heard == ["opened", b"hello", "closed"]


def test_the_second_client_has_its_turn_when_the_first_leaves(vm: Machine) -> None:
    frontend = Frontend(add(vm, wait=False))
    first, second = connect(vm), connect(vm)
    second.send(b"second")
    settle(vm)
    assert frontend.heard == ["opened"]
    first.close()
    settle(vm)
    assert frontend.heard == ["opened", "closed", "opened", b"second"]


def test_a_paused_front_end_gets_everything_later(vm: Machine) -> None:
    frontend = Frontend(add(vm, wait=False))
    client = connect(vm)
    frontend.chardev.pause_input()
    client.send(b"one")
    settle(vm)
    assert frontend.heard == ["opened"]
    frontend.chardev.resume_input()
    settle(vm)
    assert frontend.heard == ["opened", b"one"]


def test_what_came_before_there_was_a_front_end_is_not_lost(vm: Machine) -> None:
    chardev = add(vm, wait=False)
    connect(vm).send(b"early")
    settle(vm)
    assert Frontend(chardev).heard == ["opened", b"early"]


def test_only_one_front_end(vm: Machine) -> None:
    chardev = Frontend(add(vm, wait=False)).chardev
    with pytest.raises(QemuError, match=r"^chardev 'c' is already in use$"):
        chardev.claim()
    with pytest.raises(QemuError, match=r"^Chardev 'c' is busy$"):
        vm.chardevs.remove("c")
    chardev.release_frontend()
    vm.chardevs.remove("c")
    assert vm.chardevs.find("c") is None


def test_older_releases_call_it_a_device() -> None:
    vm = new_machine(SimHost(), VersionProfile.load("7.2"))
    with pytest.raises(QemuError, match=r"^Device 'c' is in use$"):
        Frontend(add(vm, wait=False)).chardev.claim()


def test_names_say_who_is_connected(vm: Machine) -> None:
    server = add(vm, "server", wait=False)
    assert server.filename == "disconnected:unix:/run/s,server=on"
    client = add(vm, "client", server=False)
    settle(vm)
    assert server.filename == "unix:/run/s,server=on"
    assert client.filename == "unix:/run/s"
    vm.chardevs.remove("client")
    settle(vm)
    assert server.filename == "disconnected:unix:/run/s,server=on"


def test_a_client_with_no_server_is_refused_and_leaves_nothing_behind(vm: Machine) -> None:
    with pytest.raises(QemuError, match=r"^Failed to connect to '/run/s': No such file or directory$"):
        add(vm, server=False)
    assert vm.chardevs.all() == []
    assert vm.yank.query() == []


def test_a_client_with_reconnect_comes_back(vm: Machine) -> None:
    host = vm.host
    assert isinstance(host, SimHost)
    frontend = Frontend(add(vm, server=False, **{"reconnect-ms": 100}))
    settle(vm)
    assert host.log_lines == [
        "Unable to connect character device c: Failed to connect to '/run/s': No such file or directory"
    ]
    accepted: list[Channel] = []
    host.listen({"type": "unix", "path": "/run/s"}, accepted.append)
    host.world.run_for(100 * NS_PER_MS)
    assert frontend.heard == ["opened"]
    accepted.pop().close()
    host.world.run_for(100 * NS_PER_MS)
    assert frontend.heard == ["opened", "closed", "opened"]
    assert len(host.log_lines) == 1


def test_removing_a_reconnecting_client_leaves_no_timer(vm: Machine) -> None:
    host = vm.host
    assert isinstance(host, SimHost)
    add(vm, server=False, **{"reconnect-ms": 100})
    settle(vm)
    vm.chardevs.remove("c")
    assert host.clock.next_deadline_ns() is None
    assert host.tasks == []


def test_yank_breaks_the_connection_and_the_next_client_is_taken(vm: Machine) -> None:
    frontend = Frontend(add(vm, wait=False))
    client = connect(vm)
    vm.yank.yank([{"type": "chardev", "id": "c"}])
    settle(vm)
    assert frontend.heard == ["opened", "closed"]
    assert read(vm, client) == b""
    connect(vm)
    assert frontend.heard == ["opened", "closed", "opened"]


def test_yank_of_an_unknown_instance_breaks_nothing(vm: Machine) -> None:
    frontend = Frontend(add(vm, wait=False))
    connect(vm)
    with pytest.raises(QemuError, match=r"^Instance not found$") as caught:
        vm.yank.yank([{"type": "chardev", "id": "c"}, {"type": "chardev", "id": "nosuch"}])
    assert caught.value.cls == DEVICE_NOT_FOUND
    settle(vm)
    assert frontend.heard == ["opened"]


def test_changing_one_socket_for_another_keeps_the_yank_instance(vm: Machine) -> None:
    add(vm, wait=False)
    vm.chardevs.change(
        "c", {"type": "socket", "data": {"addr": {"type": "unix", "data": {"path": "/run/t"}}, "wait": False}}
    )
    assert vm.yank.query() == [{"type": "chardev", "id": "c"}]
    vm.chardevs.change("c", {"type": "null", "data": {}})
    assert vm.yank.query() == []


@pytest.mark.parametrize(
    ("data", "desc"),
    [
        ({"server": False, "wait": True}, "'wait' option is incompatible with socket in client connect mode"),
        ({"reconnect-ms": 5}, "'reconnect-ms' option is incompatible with socket in server listen mode"),
        ({"tls-creds": "nosuch"}, "No TLS credentials with id 'nosuch'"),
        ({"tls-authz": "a"}, "'tls_authz' option requires 'tls_creds' option"),
        (
            {"addr": {"type": "unix", "data": {"path": "/nosuch/s"}}},
            "Failed to bind socket to /nosuch/s: No such file or directory",
        ),
    ],
)
def test_contradictions_are_refused(vm: Machine, data: dict[str, Any], desc: str) -> None:
    with pytest.raises(QemuError) as caught:
        add(vm, **data)
    assert caught.value.desc == desc


@pytest.mark.parametrize("option", ["telnet", "tn3270", "websocket"])
def test_protocols_that_have_no_emulation_say_so(vm: Machine, option: str) -> None:
    with pytest.raises(NotEmulated, match=f"'{option}': not emulated"):
        add(vm, wait=False, **{option: True})


def test_properties_show_the_connection(vm: Machine) -> None:
    chardev = add(vm, wait=False)
    assert chardev.get("connected") is False
    connect(vm)
    assert chardev.get("connected") is True
    assert chardev.get("addr") == {"type": "unix", "path": "/run/s"}
    with pytest.raises(QemuError, match="not writable"):
        chardev.set("connected", False)
