# SPDX-License-Identifier: MIT
"""A machine on a simulated host, and monitors whose clients are lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from fakeqemu.monitor import registry
from fakeqemu.monitor.qmp import MonitorQMP
from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.sim.host import SimHost
from fakeqemu.system.build import new_machine
from fakeqemu.system.machine import Machine

from . import wire_commands


class Client:
    """The far end of a monitor: what it sent, line by line, and what the monitor asked of its transport."""

    def __init__(self, vm: Machine, name: str, *, pretty: bool = False, oob: bool = True) -> None:
        self.vm = vm
        self.written: list[bytes] = []
        self.reading: list[str] = []
        self.closed_fds: list[int] = []
        self.monitor = MonitorQMP(
            vm,
            write=self.written.append,
            pretty=pretty,
            pause_reading=lambda: self.reading.append("pause"),
            resume_reading=lambda: self.reading.append("resume"),
            name=name,
            oob=oob,
            close_fd=self.closed_fds.append,
        )
        self.monitor.connected()

    def send(self, data: str | bytes, fds: tuple[int, ...] = ()) -> list[str]:
        """Send bytes; the lines that came back."""
        self.monitor.receive_data(data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data, fds)
        return self.lines()

    def lines(self) -> list[str]:
        """What has come since last time."""
        text = b"".join(self.written).decode()
        self.written.clear()
        assert not text or text.endswith("\r\n")
        return text.split("\r\n")[:-1]

    def negotiate(self, *capabilities: str) -> Client:
        enable = ", ".join(f'"{name}"' for name in capabilities)
        assert (
            self.send(f'{{"execute": "qmp_capabilities", "arguments": {{"enable": [{enable}]}}}}')[-1]
            == '{"return": {}}'
        )
        return self


MakeMachine = Callable[..., Machine]


@pytest.fixture
def make_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeMachine]:
    """`make_machine("10.0")`: a machine past preconfig, with the commands of wire_commands."""
    monkeypatch.setattr(registry, "MODULES", wire_commands.install())
    made: list[Machine] = []

    def make(profile: str = "11.1") -> Machine:
        vm = new_machine(SimHost(seed=1), VersionProfile.load(profile))
        vm.phase = "ready"
        made.append(vm)
        return vm

    yield make
    for vm in made:
        wire_commands.gates.pop(id(vm), None)


@pytest.fixture
def vm(make_machine: MakeMachine) -> Machine:
    return make_machine()


@pytest.fixture
def client(vm: Machine) -> Client:
    """A client of 11.1 that has negotiated."""
    return Client(vm, "compat_monitor0").negotiate()
