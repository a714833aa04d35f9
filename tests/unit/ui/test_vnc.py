# SPDX-License-Identifier: MIT
"""Servers on the simulated host: who may stay, what is told, what a bad client cannot do."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from fakeqemu.error import QemuError
from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.sim.host import SimHost
from fakeqemu.sim.world import SimWorld
from fakeqemu.system.build import new_machine
from fakeqemu.system.machine import Machine
from fakeqemu.ui import rfb
from fakeqemu.ui.vnc_auth import vnc_response
from fakeqemu.vl.groups import Groups
from fakeqemu.vl.location import NOWHERE

PROFILE = VersionProfile.load("11.1")
PROBE = struct.pack(">BxHi", rfb.SET_ENCODINGS, 1, rfb.EXT_KEY_EVENT)


class Server:
    """A machine with one display, its events, and a host on which viewers are."""

    def __init__(self, options: str, profile: VersionProfile = PROFILE) -> None:
        self.world = SimWorld(seed=1)
        self.viewer = SimHost(2, world=self.world, name="viewer")
        self.vm: Machine = new_machine(SimHost(1, world=self.world, name="vm"), profile)
        self.events: list[tuple[str, Any]] = []
        self.vm.events.add_sink(lambda event: self.events.append((event["event"], event["data"])))
        self.open(options)

    def open(self, options: str, name: str = "default") -> None:
        opts = Groups(self.vm.profile)["vnc"].parse(options, NOWHERE, True)
        self.vm.vnc.open(name, opts)
        self.world.run_for(0)

    @property
    def names(self) -> list[str]:
        return [name.removeprefix("VNC_") for name, _data in self.events]

    def client(self, host: str = "vm", port: str = "5901") -> Viewer:
        channel = self.world.run(self.viewer.connect({"type": "inet", "host": host, "port": port}))
        self.world.run_for(0)
        return Viewer(self.world, channel)


class Viewer:
    """A client that writes, lets time pass, and reads what there is."""

    def __init__(self, world: SimWorld, channel: Any) -> None:
        self._world = world
        self._channel = channel

    def say(self, data: bytes) -> None:
        self._world.run(self._channel.write(data))
        self._world.run_for(0)

    def hear(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more: bytes = self._world.run(self._channel.read(count - len(data)))
            if not more:
                break
            data += more
        return data

    def close(self) -> None:
        self._channel.close()
        self._world.run_for(0)

    def enter(self, shared: int = 1) -> bytes:
        assert self.hear(12) == rfb.VERSION
        self.say(b"RFB 003.008\n")
        assert self.hear(2) == b"\1\1"
        self.say(b"\1")
        assert self.hear(4) == bytes(4)
        self.say(bytes((shared,)))
        return self.hear(24 + 4)

    def lives(self) -> bool:
        try:
            self.say(PROBE)
        except OSError:
            return False
        return len(self.hear(16)) == 16


def test_a_picture_in_the_simulation() -> None:
    server = Server("vm:1")
    client = server.client()
    assert client.enter()[:4] == struct.pack(">HH", 640, 480)
    client.say(struct.pack(">BBHHHH", rfb.UPDATE_REQUEST, 0, 0, 0, 640, 480))
    head = client.hear(16)
    assert head == rfb.update(rfb.rectangle(0, 0, 640, 480, rfb.RAW))
    assert client.hear(640 * 480 * 4) == bytes(640 * 480 * 4)
    assert client.lives()
    client.close()
    assert server.names == ["CONNECTED", "INITIALIZED", "DISCONNECTED"]
    assert server.vm.vnc.all[0].clients == []


def test_messages_that_come_in_one_piece_are_answered_by_one_update() -> None:
    server = Server("vm:1")
    client = server.client()
    client.enter()
    ask = [struct.pack(">BBHHHH", rfb.UPDATE_REQUEST, 0, 0, row, 16, 1) for row in (0, 1, 5)]
    client.say(b"".join(ask))
    assert client.hear(4) == b"\0\0\0\2"
    assert client.hear(12) == rfb.rectangle(0, 0, 16, 2, rfb.RAW)


def test_the_challenge_comes_from_the_host() -> None:
    def challenge(seed: int) -> bytes:
        server = Server("vm:1,password=on")
        server.vm.vnc.all[0].random.seed(seed)
        client = server.client()
        client.hear(12)
        client.say(b"RFB 003.008\n")
        client.hear(2)
        client.say(b"\2")
        return client.hear(16)

    assert challenge(1) == challenge(1) != challenge(2)


def test_a_password_expires_with_time() -> None:
    server = Server("vm:1,password=on")
    display = server.vm.vnc.all[0]
    display.password = "secret"
    display.expires_s = server.vm.host.clock.wall_ns() // 1_000_000_000 + 10

    def log_in() -> bytes:
        client = server.client()
        client.hear(12)
        client.say(b"RFB 003.007\n")
        client.hear(2)
        client.say(b"\2")
        client.say(vnc_response("secret", client.hear(16)))
        answer = client.hear(4)
        client.close()
        return answer

    assert log_in() == bytes(4)
    server.world.run_for(10_500_000_000)
    assert log_in() == bytes(4)
    server.world.run_for(1_000_000_000)
    assert log_in() == b"\0\0\0\1"


def test_one_who_wants_to_be_alone_sends_the_others_away() -> None:
    server = Server("vm:1")
    first, second = server.client(), server.client()
    first.enter()
    second.enter()
    third = server.client()
    assert third.enter(shared=0)
    assert not first.lives()
    assert not second.lives()
    assert third.lives()
    fourth = server.client()
    assert fourth.enter() == b""
    assert len(server.vm.vnc.all[0].clients) == 1


def test_who_has_been_sent_away_is_not_heard_any_more() -> None:
    server = Server("vm:1,connections=0")
    client = server.client()
    assert client.hear(100) == rfb.VERSION
    assert server.names == ["CONNECTED", "DISCONNECTED"]


@pytest.mark.parametrize("garbage", [bytes((number,)) * 5000 for number in range(0, 256, 5)])
def test_garbage_does_not_harm(garbage: bytes) -> None:
    server = Server("vm:1,power-control=on")
    client = server.client()
    client.enter()
    try:
        client.say(garbage)
    except OSError:
        pass  # it was cut off in the middle
    client.close()
    assert server.vm.bugs == 0
    assert server.vm.vnc.all[0].clients == []
    assert server.client().enter()


def test_what_a_client_announces_is_not_kept_before_it_comes() -> None:
    server = Server("vm:1")
    client = server.client()
    client.enter()
    client.say(struct.pack(">B3xI", rfb.CLIENT_CUT_TEXT, 1 << 20))
    assert len(server.vm.vnc.all[0].clients) == 1
    client.say(struct.pack(">B3xI", rfb.CLIENT_CUT_TEXT, 0))  # that is text by now
    client.say(bytes((1 << 20) - 8) + PROBE)
    assert client.hear(16)[12:] == struct.pack(">i", rfb.EXT_KEY_EVENT)


def test_connecting_to_a_viewer() -> None:
    world_server = Server("none")
    arrived: list[Any] = []
    world_server.viewer.listen({"type": "inet", "host": "viewer", "port": "5500"}, arrived.append)
    world_server.open("viewer:5500,reverse=on", "back")
    viewer = Viewer(world_server.world, arrived[0])
    assert viewer.enter()
    assert world_server.events == []  # a display that does not listen has nothing to tell
    assert [len(display.clients) for display in world_server.vm.vnc.all] == [0, 1]


def test_a_viewer_that_is_not_there() -> None:
    server = Server("none")
    with pytest.raises(QemuError, match="Connection refused"):
        server.open("viewer:5500,reverse=on", "back")


def test_where_one_of_several_addresses_is_taken_none_is_kept() -> None:
    server = Server("vm:1")
    with pytest.raises(QemuError, match="Address already in use"):
        server.open("vm:2,vnc=vm:1", "two")
    server.open("vm:2", "three")
    assert server.client(port="5902").enter()


@pytest.mark.parametrize("release", ["11.1", "10.0", "7.2"])
def test_traces_have_the_forms_of_the_release(release: str) -> None:
    server = Server("vm:1,connections=1", VersionProfile.load(release))
    server.open("vm:2,password=on", "two")
    lines: list[str] = []
    known = server.vm.profile

    def sink(event: str, fields: dict[str, Any]) -> None:
        if known.has("trace-events", event):
            lines.append(server.vm.trace_control.line(event, fields))

    server.vm.trace.watch(sink, "vnc_*")
    client = server.client()
    client.enter()
    client.say(struct.pack(">BBxxI", rfb.KEY_EVENT, 1, 97) + PROBE)
    client.close()
    for chosen in (b"\1", b"\2" + bytes(16)):
        client = server.client(port="5902")
        client.say(b"RFB 003.008\n" + chosen)
        client.close()
    server.client()
    server.client()
    names = {line.partition(" ")[0] for line in lines}
    assert names >= {
        "vnc_client_connect", "vnc_auth_start", "vnc_auth_pass", "vnc_auth_fail", "vnc_auth_reject",
        "vnc_client_disconnect_start", "vnc_client_disconnect_finish",
    }  # fmt: skip
    assert ("vnc_msg_client_key_event" in names) == (release == "11.1")
