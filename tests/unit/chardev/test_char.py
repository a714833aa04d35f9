# SPDX-License-Identifier: MIT
"""The registry, rings, multiplexers, and the options that make chardevs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fakeqemu.chardev import qmp_cmds
from fakeqemu.chardev.opts import new_from_opts, parse_compat
from fakeqemu.error import NotEmulated, QemuError
from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.sim.host import SimHost
from fakeqemu.system.build import new_machine

if TYPE_CHECKING:
    from fakeqemu.system.machine import Machine


@pytest.fixture
def vm() -> Machine:
    return new_machine(SimHost(), VersionProfile.load("11.1"))


class Options:
    """Parameters as the command line gives them."""

    def __init__(self, text: str, id: str | None = None) -> None:
        self.id = id
        self.values: dict[str, str] = {}
        self.do_parse(text, None)

    def get(self, name: str, default: str | None = None) -> str | None:
        return self.values.get(name, default)

    def get_bool(self, name: str, default: bool = False) -> bool:
        return self.values[name] == "on" if name in self.values else default

    def get_number(self, name: str, default: int) -> int:
        return int(self.values.get(name, default))

    get_size = get_number

    def has(self, name: str) -> bool:
        return name in self.values

    def set(self, name: str, value: str) -> None:
        self.values[name] = value

    def do_parse(self, text: str, implied: str | None) -> None:
        for word in filter(None, text.split(",")):
            key, equals, value = word.partition("=")
            self.values[key if equals else str(implied)] = value if equals else key
            implied = None


def test_a_ring_keeps_the_last_bytes(vm: Machine) -> None:
    vm.chardevs.add("r", {"type": "ringbuf", "data": {"size": 8}})
    qmp_cmds.qmp_ringbuf_write(vm, device="r", data="0123456789")
    assert qmp_cmds.qmp_ringbuf_read(vm, device="r", size=3) == "234"
    assert qmp_cmds.qmp_ringbuf_read(vm, device="r", size=100, format="base64") == "NTY3ODk="
    assert qmp_cmds.qmp_ringbuf_read(vm, device="r", size=1) == ""


@pytest.mark.parametrize(
    ("call", "desc"),
    [
        (lambda vm: qmp_cmds.qmp_ringbuf_read(vm, device="r", size=0), "size must be greater than zero"),
        (lambda vm: qmp_cmds.qmp_ringbuf_read(vm, device="n", size=1), "n is not a ringbuf device"),
        (lambda vm: qmp_cmds.qmp_ringbuf_read(vm, device="x", size=1), "Device 'x' not found"),
        (
            lambda vm: qmp_cmds.qmp_ringbuf_write(vm, device="r", data="!!!", format="base64"),
            "Base64 data contains invalid characters",
        ),
        (
            lambda vm: qmp_cmds.qmp_chardev_add(vm, id="n", backend={"type": "null", "data": {}}),
            "Chardev with id 'n' already exists",
        ),
        (
            lambda vm: qmp_cmds.qmp_chardev_add(vm, id="y", backend={"type": "ringbuf", "data": {"size": 3}}),
            "Failed to add chardev 'y': size of ringbuf chardev must be power of two",
        ),
        (
            lambda vm: qmp_cmds.qmp_chardev_add(vm, id="y", backend={"type": "dbus", "data": {"name": "a"}}),
            "Failed to add chardev 'y': 'dbus' is not a valid char driver name",
        ),
        (lambda vm: qmp_cmds.qmp_chardev_remove(vm, id="x"), "Chardev 'x' not found"),
        (
            lambda vm: qmp_cmds.qmp_chardev_change(vm, id="x", backend={"type": "null", "data": {}}),
            "Chardev 'x' does not exist",
        ),
        (lambda vm: qmp_cmds.qmp_chardev_send_break(vm, id="x"), "Chardev 'x' not found"),
    ],
)
def test_refusals(vm: Machine, call: Any, desc: str) -> None:
    vm.chardevs.add("r", {"type": "ringbuf", "data": {}})
    vm.chardevs.add("n", {"type": "null", "data": {}})
    with pytest.raises(QemuError) as caught:
        call(vm)
    assert caught.value.desc == desc
    assert sorted(chardev.label for chardev in vm.chardevs.all()) == ["n", "r"]


def test_what_a_release_has_and_we_have_not_is_said(vm: Machine) -> None:
    with pytest.raises(NotEmulated, match="'udp': not emulated"):
        vm.chardevs.add("u", {"type": "udp", "data": {}})


def test_chardevs_stand_in_the_tree_and_are_listed_in_its_order(vm: Machine) -> None:
    labels = ["qq", "s1", "s3", "s4", "s5", "s6", "s7", "s8", "r", "p", "pt", "fo", "mm"]
    for label in labels:
        vm.chardevs.add(label, {"type": "null", "data": {}})
    assert vm.qom.resolve("/chardevs/s4").type_name == "chardev-null"
    # seen on 11.1.2
    expected = ["mm", "fo", "p", "s3", "s4", "r", "s5", "qq", "s6", "pt", "s7", "s1", "s8"]
    assert [entry["label"] for entry in qmp_cmds.qmp_query_chardev(vm)] == expected


def test_a_multiplexer_shares_one_back_end(vm: Machine) -> None:
    mux = new_from_opts(vm, Options("backend=ringbuf,mux=on", "m"))
    base = vm.chardevs.get("m-base")
    heard: dict[str, list[Any]] = {"first": [], "second": []}
    for who in heard:
        mux.claim()
        mux.set_frontend(lambda data, _fds, who=who: heard[who].append(data), heard[who].append)  # type: ignore[misc]
    mux.write(b"said")
    assert qmp_cmds.qmp_ringbuf_read(vm, device="m-base", size=9) == "said"
    base.received(b"to second\x01c to first \x01\x01", [])
    assert heard == {
        "first": ["opened", "mux-in", "mux-out", "mux-in", b" to first \x01"],
        "second": ["opened", "mux-in", b"to second", "mux-out"],
    }


def test_a_back_end_is_exchanged_under_a_front_end_that_allows_it(vm: Machine) -> None:
    chardev = vm.chardevs.add("c", {"type": "null", "data": {}})
    heard: list[Any] = []
    chardev.claim()
    chardev.set_frontend(lambda data, _fds: heard.append(data), heard.append, can_hotswap=True)
    new = vm.chardevs.change("c", {"type": "ringbuf", "data": {}})
    new.write(b"to the new one")
    assert qmp_cmds.qmp_ringbuf_read(vm, device="c", size=99) == "to the new one"
    assert heard == ["opened"]
    new.can_hotswap = False
    with pytest.raises(QemuError, match=r"^Chardev user does not support chardev hotswap$"):
        vm.chardevs.change("c", {"type": "null", "data": {}})


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("stdio", {"backend": "stdio"}),
        ("mon:stdio", {"mux": "on", "signal": "off", "backend": "stdio"}),
        ("unix:/run/s,server=on", {"backend": "socket", "path": "/run/s", "server": "on"}),
        ("tcp:localhost:1,server=on", {"backend": "socket", "host": "localhost", "port": "1", "server": "on"}),
        ("tcp::1", {"backend": "socket", "host": "", "port": "1"}),
        ("tcp:[::1]:5", {"backend": "socket", "host": "::1", "port": "5"}),
        ("telnet::1", {"backend": "socket", "host": "", "port": "1", "telnet": "on"}),
        ("file:/a,b", {"backend": "file", "path": "/a,b"}),
        ("/dev/ttyS0", {"backend": "serial", "path": "/dev/ttyS0"}),
    ],
)
def test_short_forms(text: str, values: dict[str, str]) -> None:
    options = Options("")
    assert parse_compat(text, options, allow_mon=True)
    assert options.values == values


@pytest.mark.parametrize("text", ["", "nosuch", "tcp:nohost", "foo:bar", "mon"])
def test_what_is_no_short_form(text: str) -> None:
    assert not parse_compat(text, Options(""))


def test_mon_is_known_only_where_it_makes_sense() -> None:
    assert not parse_compat("mon:stdio", Options(""))
