# SPDX-License-Identifier: MIT
"""Whole machines in the simulation, driven over QMP.

    world = SimWorld(seed=7)
    source = SimMachine(world, board="q35")
    source.device_add("vfio-pci", id="vf0", host="0000:3b:00.1")
    source.execute("cont")

Commands go through a real `MonitorQMP`, bytes in, bytes out; simulated time passes until the reply is there.

A `SimEmulator` is made from a command line, as the process is: monitors are where `-qmp` says, and a start may fail.

    emulator = SimEmulator(world, ["-machine", "none", "-qmp", "unix:/tmp/qmp,server=on,wait=off"])
    emulator.connect("/tmp/qmp")
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fakeqemu.cli import report_failure, start
from fakeqemu.error import QemuError
from fakeqemu.monitor.qmp import MonitorQMP
from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.sim.world import SimWorld
from fakeqemu.system.board import create_board
from fakeqemu.system.build import new_machine
from fakeqemu.vl.location import Reporter, StartEnded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fakeqemu.host.channel import Channel
    from fakeqemu.host.host import Host


class Client:
    """Speaks QMP: sends requests, keeps what comes back. `world` lets time pass."""

    def __init__(self, world: Any, now_ns: Callable[[], int]) -> None:
        self.world = world
        self._now_ns = now_ns
        #: events so far: (ns, name, data)
        self.events: list[tuple[int, str, dict[str, Any]]] = []
        self._replies: list[dict[str, Any]] = []
        self._unread = b""

    def _transmit(self, data: bytes, fds: Sequence[int]) -> None:
        """Send bytes, with descriptors of the client riding on them."""
        raise NotImplementedError

    def _gone(self) -> bool:
        """Whether nobody is there to answer."""
        return False

    def _received(self, data: bytes) -> None:
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "event" in message:
                self.events.append((self._now_ns(), message["event"], message.get("data", {})))
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

    def send(self, request: Mapping[str, Any], fds: Sequence[int] = ()) -> Any:
        """As `execute`, with the message as it stands and descriptors riding on it; raises EOFError when nobody answers."""
        self._transmit(json.dumps(request).encode() + b"\n", fds)
        self.world.run_until(lambda: bool(self._replies) or self._gone())
        if not self._replies:
            raise EOFError(f"no reply to {request}")
        reply = self._replies.pop(0)
        if "error" in reply:
            raise QemuError(reply["error"]["desc"], reply["error"]["class"])
        return reply["return"]

    def event_names(self) -> list[str]:
        return [name for _, name, _ in self.events]


class SimMachine(Client):
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
        self.host = world.host(name)
        super().__init__(world, self.host.clock.now_ns)
        self.vm = new_machine(self.host, VersionProfile.load(profile), dict(fake or {}))
        create_board(self.vm, board, nodefaults=True).init()
        self.vm.phase = "ready"
        self._monitor = MonitorQMP(self.vm, write=self._received, close_fd=self.host.close_fd)
        self._monitor.connected()
        self.execute("qmp_capabilities")

    def _transmit(self, data: bytes, fds: Sequence[int]) -> None:
        self._monitor.receive_data(data, list(fds))

    def _gone(self) -> bool:
        return self.host.killed

    def _received(self, data: bytes) -> None:
        if not self.host.killed:  # what unwinds in a dead process is heard by nobody
            super()._received(data)

    def device_add(self, driver: str, **properties: str) -> Any:
        """A device of the command line: `-device DRIVER,key=value` (`_` stands for `-`). Raises QemuError."""
        return self.device(driver, {key.replace("_", "-"): value for key, value in properties.items()})

    def device(self, driver: str, properties: Mapping[str, str]) -> Any:
        """As `device_add`, with the names as they stand."""
        from fakeqemu.vl.qdev_monitor import device_add

        options = {"driver": driver, **properties}
        return device_add(self.vm, options, from_json=False, hotplug=False)

    def close(self) -> None:
        """The process ends. Raises AssertionError when it met a bug of ours."""
        bugs, log = self.vm.bugs, self.host.log_lines
        self.host.close_all()
        assert bugs == 0, "\n".join(log)


class SimEmulator(Client):
    """A process of the simulation, started from a command line; `exit_status` is None while it lives.

    `said` is its stderr. Raises ValueError for wrong settings of ours (`fake`).
    """

    def __init__(
        self,
        world: Any,
        argv: Sequence[str],
        *,
        name: str = "",
        profile: str = "next",
        fake: Mapping[str, str] | None = None,
        program: str = "qemu-system-x86_64",
    ) -> None:
        self.host: Host = world.host(name)
        super().__init__(world, self.host.clock.now_ns)
        self.exit_status: int | None = None
        self.said: list[str] = []
        self._lab: Host = world.host(f"{name}-client")
        self._channel: Channel | None = None
        self.vm = new_machine(self.host, VersionProfile.load(profile), dict(fake or {}))
        self.vm.dispatcher.check_replies = True  # what is said is held against the profile's schema
        self.vm.on_shutdown.add(lambda _cause: self.host.call_soon(lambda: self._end(self.vm.exit_status)))
        self.host.log_plain = lambda text: self.said.append(f"{text}\n")
        reporter = Reporter(program, self.said.append, self.said.append, self.host.clock.wall_ns)
        try:
            start(self.vm, list(argv), reporter, None)
        except StartEnded as ended:
            self._end(ended.status)
        except QemuError as error:
            report_failure(reporter, error)
            self._end(1)

    def connect(self, path: str) -> None:
        """Connect to a monitor at a UNIX socket and negotiate."""
        self._channel = self._lab.connect_now({"type": "unix", "path": path})
        self._channel.attach(lambda data, _fds: self._received(data), lambda: None)
        self.execute("qmp_capabilities")

    def _transmit(self, data: bytes, fds: Sequence[int]) -> None:
        assert self._channel is not None
        if fds:
            self._lab.start(self._channel.write_fds(data, list(fds)), "client")
        else:
            self._channel.send(data)

    def _gone(self) -> bool:
        return self.exit_status is not None

    def kill(self) -> None:
        """SIGKILL."""
        if self.exit_status is None:
            self.exit_status = -9
            self.host.kill()
            self._forget()

    def _end(self, status: int) -> None:
        if self.exit_status is None:
            self.exit_status = status
            self.vm.chardevs.close_all()
            self.host.kill()
            self._forget()

    def _forget(self) -> None:
        """What the kernel closes with a process, where several are in one."""
        if self.host.real_fds:
            self.vm.chardevs.close_all()
            if self._channel is not None:
                self._channel.close()
            for block in self.vm.ram_blocks:
                block.close()
