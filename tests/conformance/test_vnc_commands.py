# SPDX-License-Identifier: MIT
"""Commands about VNC, in the machine's language and in people's, asked of ours and of the real ones."""

from __future__ import annotations

import os
import re
import socket
from typing import Any

import pytest

from tests.conformance._vnc import Both, VncEmulator, both, greet, lives, read

pytestmark = [pytest.mark.real_qemu, pytest.mark.in_turn("both")]
__all__ = ["both"]

TIMES = (
    "now", "never", "+3", "bogus", "-5", "", "12x", "+x", "+ 5", " 5", "0x10", "+-5", "010", "1e3", "99999999999999999999999",
    "18446744073709551615", "+18446744073709551615", "9223372036854775808",
)  # fmt: skip
COMMANDS: list[tuple[str, dict[str, Any]]] = [
    ("query-vnc", {}),
    ("query-vnc-servers", {}),
    ("change-vnc-password", {"password": "a"}),
    *(
        ("set_password", {"protocol": "vnc", "password": "abc", **more})
        for more in (
            {},
            {"connected": "keep"},
            {"connected": "fail"},
            {"connected": "disconnect"},
            {"display": "two"},
            {"display": "default"},
            {"display": "nosuch"},
            {"display": "nosuch", "connected": "fail"},
        )
    ),
    ("set_password", {"protocol": "spice", "password": "abc"}),
    ("set_password", {"protocol": "spice", "password": "abc", "connected": "fail"}),
    *(("expire_password", {"protocol": "vnc", "time": time}) for time in TIMES),
    ("expire_password", {"protocol": "vnc", "time": "now", "display": "two"}),
    ("expire_password", {"protocol": "vnc", "time": "now", "display": "nosuch"}),
    ("expire_password", {"protocol": "vnc", "time": "bogus", "display": "nosuch"}),
    ("expire_password", {"protocol": "spice", "time": "bogus"}),
    ("display-reload", {"type": "vnc"}),
    ("display-reload", {"type": "vnc", "tls-certs": True}),
    ("display-reload", {"type": "vnc", "tls-certs": False}),
    ("display-update", {"type": "vnc"}),
]
LINES = (
    "info vnc", "info vnc x", "set_password vnc x", "set_password vnc x keep", "set_password vnc x fail",
    "set_password vnc x disconnect", "set_password vnc x bogus", "set_password vnc x -d two", "set_password vnc x -d nosuch keep",
    "set_password vnc x -d default keep", "set_password vnc x -ddefault", "set_password vnc x -d", "set_password vnc x -e y",
    "set_password -d two vnc x", "set_password bogus x", "set_password vnc", "set_password", "set_password spice x",
    'set_password vnc "x y" -d "two" keep', "set_password vnc x -d two fail", "set_password vnc x keep -d two",
    "expire_password vnc now", "expire_password vnc bogus", "expire_password vnc now -d two", "expire_password vnc now -d nosuch",
    "expire_password -d two vnc now", "expire_password bogus now", "expire_password vnc", "expire_password spice now",
    "expire_password vnc now two", "change vnc password x", "change vnc passwd x", "change vnc -f password x",
    "change vnc bogus x", "change vnc bogus", "change vnc :1", "change vnc password", "change vnc password x retain",
    "change vnc password x bogus", "change vnc bogus x read-only", "change vnc", "change", "help set_password",
    "help expire_password", "help change",
)  # fmt: skip

MACHINES = [
    ["-machine", "none"],
    ["-machine", "none", "-vnc", "none"],
    ["-machine", "none", "-vnc", "none,id=two,password=on", "-vnc", "none"],
    ["-machine", "q35", "-device", "VGA,id=g", "-vnc", "unix:v,password=on"],
    ["-machine", "q35", "-device", "VGA,id=g", "-vnc", "unix:v", "-vnc", "unix:w,id=two,password=on,display=g"],
    [
        "-machine",
        "q35",
        "-device",
        "VGA",
        "-vnc",
        "unix:v,vnc=unix:w,password=on",
        "-vnc",
        "none,id=two",
        "-vnc",
        "none",
    ],
]


@pytest.mark.parametrize("machine", MACHINES, ids=" ".join)
def test_commands(both: Both, machine: list[str]) -> None:
    def story(emulator: VncEmulator) -> list[Any]:
        said: list[Any] = []
        for command, arguments in COMMANDS:
            said.append((command, arguments, emulator.execute(command, **arguments)))
        for line in LINES:
            said.append((line, emulator.hmp(line)))
        return said

    both(story, *machine)


@pytest.mark.parametrize(
    "devices",
    [
        ["VGA,id=a", "secondary-vga,id=b"],
        ["secondary-vga,id=b", "VGA,id=a"],
        ["bochs-display,id=b", "secondary-vga"],
        ["pcie-root-port,id=r", "bochs-display,id=b,bus=r", "secondary-vga,id=a"],
        ["virtio-vga,id=a"],
        ["virtio-gpu-pci,id=a,max_outputs=3"],
        ["ramfb,id=a"],
        ["cirrus-vga,id=a"],
        [],
    ],
    ids=str,
)
def test_whose_picture_it_is(both: Both, devices: list[str]) -> None:
    arguments = [word for device in devices for word in ("-device", device)]
    both(lambda emulator: emulator.execute("query-vnc-servers"), "-machine", "q35", *arguments, "-vnc", "none")


UPDATES: list[list[dict[str, Any]]] = [
    [{"type": "unix", "path": "z"}],
    [{"type": "unix", "path": "y"}, {"type": "inet", "host": "127.0.0.1", "port": "0"}],
    [{"type": "inet", "host": "localhost", "port": "0", "ipv4": True}],
    [{"type": "inet", "host": "", "port": "6478", "to": 6499}],
    [{"type": "inet", "host": "nosuch.invalid", "port": "1"}],
    [{"type": "inet", "host": "127.0.0.1", "port": "x"}],
    [{"type": "inet", "host": "127.0.0.1", "port": "0", "ipv4": False, "ipv6": False}],
    [{"type": "unix", "path": "/nonexistent/a"}],
    [{"type": "unix", "path": "x" * 120}],
    [{"type": "unix", "path": "z"}, {"type": "unix", "path": "/nonexistent/a"}],
    [{"type": "unix", "path": "abstract of a test", "abstract": True}],
    [{"type": "fd", "str": "0"}],
    [{"type": "fd", "str": "nosuch"}],
    [],
    [{"type": "unix", "path": "v"}],
]


@pytest.mark.parametrize("options", ["", ",id=two"])
def test_listening_elsewhere(both: Both, options: str) -> None:
    def story(emulator: VncEmulator) -> list[Any]:
        client = emulator.client()
        greet(client)
        emulator.wait_for("VNC_INITIALIZED")
        said: list[Any] = []
        for addresses in UPDATES:
            result = emulator.execute("display-update", type="vnc", addresses=addresses)
            infos = [emulator.execute("query-vnc"), emulator.execute("query-vnc-servers"), emulator.hmp("info vnc")]
            ports = re.sub(r"('service': '|127\.0\.0\.1:)[34567]\d{4}\b", r"\1PORT", repr(infos))
            left = sorted(path.name for path in emulator.folder.iterdir())
            said.append((addresses, result, ports, left, lives(client)))
        with emulator.client() as other:
            said.append(read(other, 12))
            emulator.wait_for("VNC_CONNECTED", 2)
        client.close()
        emulator.wait_for("VNC_DISCONNECTED", 2)
        said.append(emulator.events)
        return said

    both(story, "-vnc", f"unix:v{options}")


def test_listening_on_a_socket_of_the_client(both: Both) -> None:
    def story(emulator: VncEmulator) -> list[Any]:
        said: list[Any] = []
        for name in ("n", "m"):
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(emulator.folder / name))
                if name == "m":
                    listener.listen()
                emulator.execute("getfd", listener.fileno(), fdname="given")
            said.append(emulator.execute("display-update", type="vnc", addresses=[{"type": "fd", "str": "given"}]))
            said.append(emulator.execute("closefd", fdname="given"))
            info = emulator.execute("query-vnc")
            said.append({**info, "service": info["service"].replace(str(emulator.folder), "$DIR")})
            with emulator.client(name) as client:
                said.append(read(client, 12))
            emulator.wait_for("VNC_DISCONNECTED", 1 if name == "n" else 2)
        emulator.execute("display-update", type="vnc", addresses=[])
        said.append(sorted(path.name for path in emulator.folder.iterdir()))
        null = os.open(os.devnull, os.O_RDWR)
        emulator.execute("getfd", null, fdname="given")
        os.close(null)
        said.append(emulator.execute("display-update", type="vnc", addresses=[{"type": "fd", "str": "given"}]))
        return said

    both(story, "-vnc", "none")


def test_events_of_a_display_that_listens_no_more(both: Both) -> None:
    def story(emulator: VncEmulator) -> list[Any]:
        with emulator.client() as client:
            greet(client, shared=None)
            emulator.execute("display-update", type="vnc", addresses=[])
            client.sendall(b"\1")
            read(client, 24)
        with emulator.client("w") as client:
            read(client, 12)
            emulator.wait_for("VNC_CONNECTED", 2)
        emulator.wait_for("VNC_DISCONNECTED")
        return emulator.events

    both(story, "-vnc", "unix:v", "-vnc", "unix:w,id=two")


@pytest.mark.parametrize(
    "display", [[], ["-vnc", "none"], ["-vnc", "unix:v"], ["-vnc", "unix:v,password=on"]], ids=" ".join
)
def test_add_client(both: Both, display: list[str]) -> None:
    def story(emulator: VncEmulator) -> list[Any]:
        said: list[Any] = []
        for protocol in ("vnc", "spice", "@dbus-display", "bogus", "@bogus", "c0"):
            for more in ({}, {"skipauth": True}, {"skipauth": False, "tls": True}):
                near, far = socket.socketpair()
                null = os.open(os.devnull, os.O_RDWR)
                for fd in (far.fileno(), null, None):
                    if fd is not None:
                        emulator.execute("getfd", fd, fdname="ac")
                    said.append(emulator.execute("add_client", protocol=protocol, fdname="ac", **more))
                    said.append(emulator.execute("closefd", fdname="ac"))
                os.close(null)
                far.close()
                near.settimeout(30)
                if protocol == "vnc" and display:
                    said.append(read(near, 12))
                    near.sendall(b"RFB 003.008\n")
                    said.append(read(near, 2))
                    said.append(emulator.execute("query-vnc-servers")[0]["clients"][:1])
                elif protocol != "vnc":
                    said.append(read(near, 12))
                near.close()
        return said

    both(story, *display, "-chardev", "null,id=c0")


def test_events_in_order(both: Both) -> None:
    def story(emulator: VncEmulator) -> list[Any]:
        for number in range(3):
            with emulator.client() as client:
                greet(client, shared=None if number == 1 else 1)
            emulator.wait_for("VNC_DISCONNECTED", number + 1)
        return emulator.events

    both(story, "-vnc", "unix:v", "-name", "guest")


def test_the_end(both: Both) -> None:
    """What a client hears of `quit`, and which events come."""

    def story(emulator: VncEmulator) -> list[Any]:
        with emulator.client() as client:
            greet(client)
            emulator.wait_for("VNC_INITIALIZED")
            emulator.quit()
            return [read(client, 1), emulator.events, sorted(path.name for path in emulator.folder.iterdir())]

    both(story, "-vnc", "unix:v", "-vnc", "unix:w")
