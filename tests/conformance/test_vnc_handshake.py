# SPDX-License-Identifier: MIT
"""The handshake of VNC, byte by byte, with ours and with the real ones: versions, passwords, connections that are cut."""

from __future__ import annotations

import re
import socket
from typing import Any

import pytest

from fakeqemu.ui.vnc_auth import vnc_response
from tests.conformance._vnc import Both, VncEmulator, both, hang_up, read, read_to_end

pytestmark = [pytest.mark.real_qemu, pytest.mark.in_turn("both")]
__all__ = ["both"]

CLIENT_VERSIONS = [
    b"RFB 003.003\n", b"RFB 003.004\n", b"RFB 003.005\n", b"RFB 003.006\n", b"RFB 003.007\n", b"RFB 003.008\n", b"RFB 003.009\n",
    b"RFB 003.889\n", b"RFB 004.000\n", b"RFB 3.8\n\0\0\0\0", b"RFB 3. 8\n\0\0\0", b"RFB   3.  8\n", b"RFB +3.+08\n ",
    b"RFB -3.008\n ", b"GET / HTTP/1", b"\0" * 12, b"RFB 003,008\n", b"RFB003.00008", b"rfb 003.008\n", b"\xff" * 12,
]  # fmt: skip


@pytest.mark.parametrize("auth", ["", ",password=on"], ids=["none", "password"])
def test_versions(both: Both, auth: str) -> None:
    def story(emulator: VncEmulator) -> list[bytes]:
        said = []
        for version in CLIENT_VERSIONS:
            with emulator.client() as client:
                greeting = read(client, 12)
                client.sendall(version)
                answer = hang_up(client)
                # A challenge is random.
                said.append(greeting + (answer if len(answer) < 16 else answer[:-16] + b"challenge"))
        events = [event["event"] for event in emulator.wait_for("VNC_DISCONNECTED", len(CLIENT_VERSIONS))]
        assert "VNC_INITIALIZED" not in events
        return said

    both(story, "-vnc", f"unix:v{auth}")


def log_in(emulator: VncEmulator, minor: int, password: str | None, cut: int | None = None) -> list[bytes]:
    """All that a server says to a client with a password (None: one that proves nothing), its challenges left out."""
    with emulator.client() as client:
        said = [read(client, 12)]
        client.sendall(b"RFB 003.%03d\n" % minor)
        said.append(read(client, 4 if minor == 3 else 2))
        if minor > 3:
            client.sendall(said[-1][1:])
        if said[-1][-1:] == b"\2":
            challenge = read(client, 16)
            said.append(b"%d" % len(challenge))
            client.sendall(vnc_response(password or "", challenge) if password is not None else bytes(16))
        elif minor == 8:
            said.append(read(client, 4))
        if said[-1] == b"16":
            said.append(read(client, 4))
            if said[-1] != bytes(4):
                return [*said, read_to_end(client)]
        client.sendall(b"\1")
        said.append(read(client, 24))
        said.append(hang_up(client))
        return said


@pytest.mark.parametrize("minor", [3, 7, 8])
def test_no_password_asked_for(both: Both, minor: int) -> None:
    def story(emulator: VncEmulator) -> Any:
        return log_in(emulator, minor, None), emulator.wait_for("VNC_DISCONNECTED")

    both(story, "-vnc", "unix:v", "-name", "a guest with a näme")


@pytest.mark.parametrize("name", ["x" * 1015, "x" * 1016, "x" * 1017, "ä" * 600])
def test_long_names(both: Both, name: str) -> None:
    both(lambda emulator: log_in(emulator, 8, None), "-vnc", "unix:v", "-name", name)


@pytest.mark.parametrize("minor", [3, 7, 8])
def test_passwords(both: Both, minor: int) -> None:
    def story(emulator: VncEmulator) -> list[Any]:
        def set_password(password: str) -> None:
            assert emulator.execute("set_password", protocol="vnc", password=password) == {}

        def expire(time: str) -> None:
            assert emulator.execute("expire_password", protocol="vnc", time=time) == {}

        said: list[Any] = [log_in(emulator, minor, ""), log_in(emulator, minor, "secret")]
        set_password("secret12")
        said += [log_in(emulator, minor, word) for word in ("secret12", "secret1", "secret12 and more", "SECRET12", "")]
        said.append(log_in(emulator, minor, None))
        set_password("longer than eight")
        said += [log_in(emulator, minor, word) for word in ("longer than eight", "longer tXXX", "longer")]
        set_password("")
        said += [log_in(emulator, minor, word) for word in ("", "x")]
        set_password("päßwörd")
        said += [log_in(emulator, minor, word) for word in ("päßwörd", "passwörd")]
        for time in ("now", "never", "+100", "1", "99999999999", "0"):
            expire(time)
            said.append((time, log_in(emulator, minor, "päßwörd")))
        emulator.execute("change-vnc-password", password="other")
        expire("never")
        said += [log_in(emulator, minor, word) for word in ("other", "päßwörd")]
        count = sum(isinstance(one, tuple | list) for one in said)
        return [said, sorted(event["event"] for event in emulator.wait_for("VNC_DISCONNECTED", count))]

    both(story, "-vnc", "unix:v,password=on")


def test_a_password_from_a_secret(both: Both) -> None:
    def story(emulator: VncEmulator) -> list[Any]:
        return [log_in(emulator, 8, word) for word in ("geheim", "x")]

    both(story, "-object", "secret,id=s,data=geheim", "-vnc", "unix:v,password-secret=s")


@pytest.mark.parametrize("method", [0, 1, 2, 5, 16, 19, 255])
@pytest.mark.parametrize("auth", ["", ",password=on"], ids=["none", "password"])
def test_choosing_a_method(both: Both, auth: str, method: int) -> None:
    if method == (2 if auth else 1):
        pytest.skip("the one that is offered")

    def story(emulator: VncEmulator) -> list[Any]:
        said: list[Any] = []
        for minor in (7, 8):
            with emulator.client() as client:
                read(client, 12)
                client.sendall(b"RFB 003.%03d\n" % minor)
                said.append(read(client, 2))
                client.sendall(bytes((method,)))
                said.append(read_to_end(client))
        return [said, emulator.wait_for("VNC_DISCONNECTED", 2)]

    both(story, "-vnc", f"unix:v{auth}")


WHOLE = {"": b"RFB 003.008\n\1\1", ",password=on": b"RFB 003.008\n\2" + bytes(16) + b"\1"}


@pytest.mark.parametrize("auth", list(WHOLE), ids=["none", "password"])
def test_cut_at_every_byte(both: Both, auth: str) -> None:
    """The client sends so many bytes at once, and hangs up."""
    whole = WHOLE[auth]

    def story(emulator: VncEmulator) -> list[Any]:
        said = []
        for count in range(len(whole) + 1):
            with emulator.client() as client:
                client.sendall(whole[:count])
                said.append(re.sub(rb"(\x01\x02).{16}", rb"\1", hang_up(client), count=1, flags=re.DOTALL))
        events = emulator.wait_for("VNC_DISCONNECTED", len(whole) + 1)
        return [said, [event["event"] for event in events]]

    both(story, "-vnc", f"unix:v{auth}")


def test_bytes_one_by_one(both: Both) -> None:
    def story(emulator: VncEmulator) -> list[Any]:
        with emulator.client() as client:
            for byte in WHOLE[""]:
                client.sendall(bytes((byte,)))
            return [read(client, 12 + 2 + 4 + 24 + 4), emulator.wait_for("VNC_INITIALIZED")]

    both(story, "-vnc", "unix:v")


def test_many_at_once(both: Both) -> None:
    def story(emulator: VncEmulator) -> list[Any]:
        clients = [emulator.client() for _ in range(20)]
        for client in clients:
            client.sendall(WHOLE[""])
        said: list[Any] = [read(client, 12 + 2 + 4 + 24 + 4) for client in clients]
        emulator.wait_for("VNC_INITIALIZED", len(clients))
        said.append(len(emulator.execute("query-vnc")["clients"]))
        said.append(emulator.hmp("info vnc"))
        for client in clients:
            client.close()
        emulator.wait_for("VNC_DISCONNECTED", len(clients))
        said.append(emulator.execute("query-vnc"))
        return said

    both(story, "-vnc", "unix:v")


def test_over_tcp(both: Both) -> None:
    def story(emulator: VncEmulator) -> list[Any]:
        info = emulator.execute("query-vnc")
        port = int(info.pop("service"))
        with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
            said: list[Any] = [info, read(client, 12)]
            events = emulator.wait_for("VNC_CONNECTED")
            own = {str(client.getsockname()[1]): "CLIENT", str(port): "SERVER"}
            infos = [emulator.execute("query-vnc"), emulator.execute("query-vnc-servers"), emulator.hmp("info vnc")]
        text = repr([events, infos])
        for number, word in own.items():
            text = text.replace(number, word)
        return [*said, text]

    both(story, "-vnc", "127.0.0.1:0,to=90")
