# SPDX-License-Identifier: MIT
"""A host of the simulation: what one machine sees of a `SimWorld`.

    host = SimHost(seed=7)
    host.world.run_until(task)

Hosts of one world share time, network and files; descriptors, process ids and randomness are their own.
"""

from __future__ import annotations

import errno
from random import Random
from typing import TYPE_CHECKING

from fakeqemu.error import QemuError
from fakeqemu.host.host import Host, HostThread
from fakeqemu.sim.files import OpenFile, SimFile, os_error
from fakeqemu.sim.network import SimSocket
from fakeqemu.sim.world import SimWorld

if TYPE_CHECKING:
    from collections.abc import Callable

    from fakeqemu.host.channel import Channel, Listener, SocketAddress

FIRST_PID = 1000


class SimHost(Host):
    """One process's view of the simulation."""

    def __init__(self, seed: int | str = 0, *, world: SimWorld | None = None, name: str = "") -> None:
        super().__init__()
        self.world = world if world is not None else SimWorld(seed)
        self.clock = self.world.clock
        self.name = name or f"host{len(self.world.hosts)}"
        self.pid = FIRST_PID + 100 * len(self.world.hosts)
        self.world.hosts.append(self)
        self._next_tid = self.pid
        self._table: dict[int, OpenFile] = {}
        self._generators: dict[str, Random] = {}
        #: whether the process was killed
        self.killed = False
        #: what was logged: stderr of the process
        self.log_lines: list[str] = []
        #: programs that `spawn` finds, by argv[0]: called with the arguments and the far end of the channel
        self.programs: dict[str, Callable[[list[str], Channel], None]] = {}

    # turns and chance
    def call_soon(self, callback: Callable[[], None]) -> None:
        self.world.call_soon(callback)

    def random(self, name: str) -> Random:
        if name not in self._generators:
            self._generators[name] = Random(f"{self.world.seed}/{self.name}/{name}")
        return self._generators[name]

    # descriptors
    def install(self, file: OpenFile) -> int:
        """The lowest free descriptor, now referring to `file`."""
        fd = 3
        while fd in self._table:
            fd += 1
        file.retain()
        self._table[fd] = file
        return fd

    def open_file(self, fd: int) -> OpenFile:
        """What `fd` refers to; raises EBADF."""
        if fd not in self._table:
            raise os_error(errno.EBADF)
        return self._table[fd]

    def dup_fd(self, fd: int) -> int:
        """A second descriptor for the same thing."""
        return self.install(self.open_file(fd))

    def close_fd(self, fd: int) -> None:
        """Give a descriptor back; raises EBADF."""
        if self.killed:
            return  # they are all closed
        self.open_file(fd)
        self._table.pop(fd).release()

    def is_socket(self, fd: int) -> bool:
        return isinstance(self.open_file(fd), SimSocket)

    def open_fds(self) -> list[int]:
        return sorted(self._table)

    def socketpair(self) -> tuple[int, int]:
        """Two descriptors of connected sockets."""
        near, far = self.world.network.pair()
        return self.install(near), self.install(far)

    def pipe(self) -> tuple[int, int]:
        """Descriptors of the reading and of the writing end of a pipe."""
        reader, writer = self.world.network.pipe()
        return self.install(reader), self.install(writer)

    def memfd(self) -> int:
        """A descriptor of a file without a name."""
        return self.install(SimFile(bytearray()))

    # the outside
    async def connect(self, address: SocketAddress, *, name: str = "") -> Channel:
        if address["type"] == "fd":
            return self.channel_for_fd(int(address["str"]), name=name)
        self._check_type(address)
        return self._channel(await self.world.network.connect(address), name)

    def listen(
        self, address: SocketAddress, on_channel: Callable[[Channel], None], *, backlog: int = 1, name: str = ""
    ) -> Listener:
        self._check_type(address)
        return self.world.network.listen(self, address, on_channel, backlog, name)

    @staticmethod
    def _check_type(address: SocketAddress) -> None:
        if address["type"] not in ("unix", "inet"):
            raise QemuError(f"The simulated host has no sockets of type '{address['type']}'")

    def _channel(self, file: OpenFile, name: str) -> Channel:
        return self.channel_for_fd(self.install(file), name=name)

    def channel_for_fd(self, fd: int, *, name: str = "") -> Channel:
        return self.open_file(fd).channel(self, fd, name)

    def open_channel(self, path: str, flags: int, mode: int = 0o660, *, name: str = "") -> Channel:  # noqa: ARG002
        return self._channel(self.world.files.open(path, flags), name)

    def spawn(self, argv: list[str], *, name: str = "") -> Channel:
        program = self.programs.get(argv[0]) if argv else None
        if program is None:
            raise os_error(errno.ENOENT, argv[0] if argv else None)
        near, far = self.world.network.pair()
        channel = self._channel(near, name)
        program(argv, self._channel(far, argv[0]))
        return channel

    def thread(self, name: str) -> HostThread:
        self._next_tid += 1
        return HostThread(name, self._next_tid)

    def write_stderr(self, text: str) -> None:
        self.log_lines += text.splitlines()

    def log(self, text: str) -> None:
        self.log_lines.append(text)

    def kill(self) -> None:
        self.world.network.forget(self)
        self.close_all()
        self.killed = True

    def close_all(self) -> None:
        """The process is gone: its tasks are cancelled and its descriptors closed, as the kernel does."""
        for task in tuple(self.tasks):
            task.cancel()
        for fd in self.open_fds():
            self.close_fd(fd)
