# SPDX-License-Identifier: MIT
"""Whole machines in the simulation, driven over QMP.

    world = SimWorld(seed=7)
    source = SimMachine(world, board="q35")
    source.device_add("vfio-pci", id="vf0", host="0000:3b:00.1")
    source.execute("cont")

Commands go through a real `MonitorQMP`, bytes in, bytes out; simulated time passes until the reply is there.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fakeqemu.error import QemuError
from fakeqemu.monitor.qmp import MonitorQMP
from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.sim.world import SimWorld
from fakeqemu.system.board import create_board
from fakeqemu.system.build import new_machine

if TYPE_CHECKING:
    from collections.abc import Mapping


class SimMachine:
    """A machine on a host of its own, and a client of its monitor."""

    def __init__(
        self,
        world: SimWorld,
        *,
        name: str = "",
        profile: str = "next",
        board: str = "none",
        fake: Mapping[str, str] | None = None,
    ) -> None:
        self.world = world
        self.host = world.host(name)
        self.vm = new_machine(self.host, VersionProfile.load(profile), dict(fake or {}))
        create_board(self.vm, board, nodefaults=True).init()
        self.vm.phase = "ready"
        #: events so far: (simulated ns, name, data)
        self.events: list[tuple[int, str, dict[str, Any]]] = []
        self._replies: list[dict[str, Any]] = []
        self._monitor = MonitorQMP(self.vm, write=self._received, close_fd=self.host.close_fd)
        self._monitor.connected()
        self.execute("qmp_capabilities")

    def _received(self, data: bytes) -> None:
        for line in data.splitlines():
            message = json.loads(line)
            if "event" in message:
                self.events.append((self.host.clock.now_ns(), message["event"], message.get("data", {})))
            elif "QMP" not in message:
                self._replies.append(message)

    def execute(self, command: str, **arguments: Any) -> Any:
        """Send a command (`_` in the names of arguments stands for `-`) and let time pass until its reply is there.

        Raises QemuError with the reply's error.
        """
        request: dict[str, Any] = {"execute": command}
        if arguments:
            request["arguments"] = {key.replace("_", "-"): value for key, value in arguments.items()}
        return self.send(request)

    def send(self, request: Mapping[str, Any]) -> Any:
        """As `execute`, with the message as it stands."""
        self._monitor.receive_data(json.dumps(request).encode() + b"\n")
        self.world.run_until(lambda: bool(self._replies))
        reply = self._replies.pop(0)
        if "error" in reply:
            raise QemuError(reply["error"]["desc"], reply["error"]["class"])
        return reply["return"]

    def device_add(self, driver: str, **properties: str) -> Any:
        """A device of the command line: `-device DRIVER,key=value` (`_` stands for `-`). Raises QemuError."""
        return self.device(driver, {key.replace("_", "-"): value for key, value in properties.items()})

    def device(self, driver: str, properties: Mapping[str, str]) -> Any:
        """As `device_add`, with the names as they stand."""
        from fakeqemu.vl.qdev_monitor import device_add

        options = {"driver": driver, **properties}
        return device_add(self.vm, options, from_json=False, hotplug=False)

    def event_names(self) -> list[str]:
        return [name for _, name, _ in self.events]

    def close(self) -> None:
        """The process ends. Raises AssertionError when it met a bug of ours."""
        bugs, log = self.vm.bugs, self.host.log_lines
        self.host.close_all()
        assert bugs == 0, "\n".join(log)
