# SPDX-License-Identifier: MIT
"""Sockets within the simulation: addresses, byte pipes with flow control, and how conversations end.

A connection is two `Pipe`s. What the kernel does with a socket that ends is kept, since tools and migrations see it:

    shutdown(write) or close      the other side reads what is left, then b""
    close with unread input       the other side reads what is left, then ECONNRESET
    write to a side that is gone  EPIPE

QEMU: util/qemu-sockets.c
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from fakeqemu.error import QemuError
from fakeqemu.host.channel import Channel, Listener
from fakeqemu.host.clock import NS_PER_S
from fakeqemu.host.sync import Event, Future
from fakeqemu.sim.files import OpenFile, os_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from fakeqemu.host.channel import SocketAddress
    from fakeqemu.sim.host import SimHost
    from fakeqemu.sim.world import SimWorld

#: what Linux lets a UNIX socket hold by default
PIPE_CAPACITY = 212_992
FIRST_EPHEMERAL_PORT = 40_000


class Pipe:
    """Bytes in one direction, with descriptors riding on some of them."""

    def __init__(self, world: SimWorld) -> None:
        self._world = world
        self._buffer = bytearray()
        self._taken = 0  # position in the stream of the buffer's first byte
        self._riders: list[tuple[int, list[OpenFile]]] = []
        self._busy_until_ns = 0
        self._busy_rest = 0
        self._change = Event(world)
        self.ended = False  # no more bytes will be written
        self.reset = False  # ... and the end is ECONNRESET
        self.deaf = False  # nobody will read any more
        #: told in a later turn of anything that a reader or writer may care about
        self.listeners: list[Callable[[], None]] = []

    def __len__(self) -> int:
        return len(self._buffer)

    def changed(self) -> None:
        self._change.set()
        self._change.clear()
        for listener in self.listeners:
            self._world.call_soon(listener)

    async def wait(self) -> None:
        """Until something changes."""
        await self._change.wait()

    # the writing side
    def offer(self, data: bytes | memoryview, riders: list[OpenFile] | None = None) -> int:
        """Take as many bytes as there is room for; raises BrokenPipeError when nobody will ever read them."""
        if self.deaf or self.ended:
            raise os_error(errno.EPIPE)
        count = min(len(data), self._world.network.capacity - len(self._buffer))
        if count > 0:
            if riders:
                for rider in riders:
                    rider.retain()
                self._riders.append((self._taken + len(self._buffer), riders))
            self._buffer += data[:count]
            self.changed()
        return count

    async def write(self, data: bytes | bytearray | memoryview, riders: list[OpenFile] | None = None) -> None:
        view = memoryview(data)
        while len(view):
            step = view[:PIPE_CAPACITY]
            await self._occupy_link(len(step))
            while len(step):
                count = self.offer(step, riders)
                if count:
                    riders = None
                    step = step[count:]
                else:
                    await self.wait()
            view = view[PIPE_CAPACITY:]

    async def _occupy_link(self, size: int) -> None:
        """Wait while earlier bytes and these `size` bytes pass a link of limited speed."""
        rate = self._world.network.bandwidth_bytes_per_s
        if rate:
            clock = self._world.clock
            start = max(clock.now_ns(), self._busy_until_ns)
            if start > self._busy_until_ns:
                self._busy_rest = 0
            # What is less than a ns is not lost: it would make many small pieces faster than one large one.
            busy, self._busy_rest = divmod(size * NS_PER_S + self._busy_rest, rate)
            self._busy_until_ns = start + busy
            await clock.sleep_until(self._busy_until_ns)

    def end(self) -> None:
        if not self.ended:
            self.ended = True
            self.changed()

    # the reading side
    def at_end(self) -> bool:
        return not self._buffer and (self.ended or self.deaf)

    def take(self, size: int, *, keep: bool = False) -> tuple[bytes, list[OpenFile]]:
        """Up to `size` bytes and the descriptors that rode on them; never beyond the next byte with riders of its own."""
        if self._riders:
            first = self._riders[0][0] - self._taken
            stops = [at - self._taken for at, _ in self._riders[first == 0 :]]
            size = min(size, *stops) if stops else size
        data = bytes(self._buffer[:size])
        if keep or not data:
            return data, []
        riders: list[OpenFile] = []
        if self._riders and self._riders[0][0] == self._taken:
            riders = self._riders.pop(0)[1]
        del self._buffer[:size]
        self._taken += len(data)
        self.changed()
        return data, riders

    def close_reader(self) -> bool:
        """Nobody reads any more; says whether input was thrown away unread."""
        unread = len(self._buffer) > 0
        self.deaf = True
        self._buffer.clear()
        for _, riders in self._riders:
            for rider in riders:
                rider.release()
        self._riders.clear()
        self.changed()
        return unread


class SimSocket(OpenFile):
    """One end of a connection (or of a pipe: then one of the directions is missing)."""

    def __init__(
        self, rx: Pipe | None, tx: Pipe | None, local: SocketAddress | None = None, peer: SocketAddress | None = None
    ) -> None:
        super().__init__()
        self.rx = rx
        self.tx = tx
        self.local = local
        self.peer = peer

    def on_last_close(self) -> None:
        unread = self.rx is not None and self.rx.close_reader()
        if self.tx is not None:
            self.tx.reset = self.tx.reset or unread
            self.tx.end()

    def channel(self, host: SimHost, fd: int, name: str) -> Channel:
        from fakeqemu.sim.channel import SimChannel

        return SimChannel(host, fd, self, name)


class SimListener(Listener):
    """A bound address with its backlog."""

    def __init__(
        self, host: SimHost, address: SocketAddress, on_channel: Callable[[Channel], None], backlog: int, name: str
    ) -> None:
        self.host = host
        self._address = address
        self._on_channel = on_channel
        self._waiting: list[SimSocket] = []
        self._paused = False
        self._name = name
        self.closed = False
        self.backlog = max(1, backlog)
        self.room = Future(host.world)

    @property
    def full(self) -> bool:
        return len(self._waiting) > self.backlog

    def address(self) -> SocketAddress:
        return self._address

    def arrived(self, socket: SimSocket) -> None:
        """A connection is there, to be accepted in a later turn."""
        socket.retain()
        self._waiting.append(socket)
        self.host.call_soon(self._accept)

    def _accept(self) -> None:
        if self._waiting and not self._paused and not self.closed:
            socket = self._waiting.pop(0)
            self._make_room()
            channel = self.host.channel_for_fd(self.host.install(socket), name=self._name)
            socket.release()
            self._on_channel(channel)

    def _make_room(self) -> None:
        self.room.set_result()
        self.room = Future(self.host.world)

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        for _ in self._waiting:
            self.host.call_soon(self._accept)

    def close(self) -> None:
        if not self.closed:
            self.host.world.network.unbind(self._address)
            self.drop()

    def drop(self) -> None:
        """Stop listening; connections that nobody accepted are closed."""
        self.closed = True
        for socket in self._waiting:
            socket.release()
        self._waiting.clear()
        self._make_room()


class SimNetwork:
    """The addresses of one world and who listens there."""

    def __init__(self, world: SimWorld) -> None:
        self._world = world
        self._bound: dict[str, SimListener] = {}
        self._next_port = FIRST_EPHEMERAL_PORT
        self._next_own_port = FIRST_EPHEMERAL_PORT + 10_000
        #: how fast one direction of one connection is; 0: no limit
        self.bandwidth_bytes_per_s = 0
        #: how many bytes one direction of a connection holds
        self.capacity = PIPE_CAPACITY

    def pair(
        self, local: SocketAddress | None = None, peer: SocketAddress | None = None
    ) -> tuple[SimSocket, SimSocket]:
        """Two connected sockets; `local` is the first one's address."""
        there, back = Pipe(self._world), Pipe(self._world)
        return SimSocket(back, there, local, peer), SimSocket(there, back, peer, local)

    def pipe(self) -> tuple[SimSocket, SimSocket]:
        """The reading and the writing end of a pipe."""
        pipe = Pipe(self._world)
        return SimSocket(pipe, None), SimSocket(None, pipe)

    def listen(
        self, host: SimHost, address: SocketAddress, on_channel: Callable[[Channel], None], backlog: int, name: str
    ) -> SimListener:
        """Bind; raises QemuError in QEMU's words."""
        bound = self._bind_unix(address) if address["type"] == "unix" else self._bind_inet(address)
        listener = SimListener(host, bound, on_channel, backlog, name)
        self._bound[_key(bound)] = listener
        return listener

    def _bind_unix(self, address: SocketAddress) -> SocketAddress:
        path = address["path"]
        _check_length(path)
        if not address.get("abstract"):
            try:
                self._world.files.check_parent(path)
            except OSError as error:
                raise QemuError(f"Failed to bind socket to {path}: {error.strerror}") from None
            # An old socket file is unlinked, whoever still listens behind it.
            old = self._bound.pop(_key(address), None)
            if old is None and path in self._world.files.contents:
                self._world.files.unlink(path)
            self._world.files.sockets[path] = True
        elif _key(address) in self._bound:
            raise QemuError(f"Failed to bind socket to {path}: Address already in use")
        return dict(address)

    def _bind_inet(self, address: SocketAddress) -> SocketAddress:
        port = int(address.get("port") or 0)
        last = int(address.get("to") or port)
        if port == 0:
            while _key({**address, "port": self._next_port}) in self._bound:
                self._next_port += 1
            port = last = self._next_port
            self._next_port += 1
        for candidate in range(port, last + 1):
            bound = {"type": "inet", "host": address["host"], "port": str(candidate), "ipv4": True}
            if _key(bound) not in self._bound:
                return bound
        raise QemuError("Failed to find an available port: Address already in use")

    def unbind(self, address: SocketAddress) -> None:
        self._bound.pop(_key(address), None)
        if address["type"] == "unix" and not address.get("abstract"):
            self._world.files.sockets.pop(address["path"], None)

    def forget(self, host: SimHost) -> None:
        """A process is gone: nobody listens any more where it did; names of UNIX sockets stay."""
        for key, listener in list(self._bound.items()):
            if listener.host is host:
                del self._bound[key]
                listener.drop()

    async def connect(self, address: SocketAddress) -> SimSocket:
        """Connect; raises QemuError in QEMU's words. Waits while the listener's backlog is full."""
        while True:
            listener = self._listener(address)
            if not listener.full:
                break
            await listener.room
        near, far = self.pair(self._own_address(address), listener.address())
        listener.arrived(far)
        return near

    def _own_address(self, address: SocketAddress) -> SocketAddress:
        """Where one is that has connected without being bound: a port of its own, or a UNIX socket without a name."""
        if address["type"] == "unix":
            return {"type": "unix", "path": ""}
        self._next_own_port += 1
        return {"type": "inet", "host": "127.0.0.1", "port": str(self._next_own_port), "ipv4": True}

    def _listener(self, address: SocketAddress) -> SimListener:
        listener = self._bound.get(_key(address)) or self._bound.get(_key({**address, "host": "0.0.0.0"}))
        if listener is not None:
            return listener
        if address["type"] == "unix":
            path = address["path"]
            _check_length(path)
            there = self._world.files.exists(path) or address.get("abstract")
            why = "Connection refused" if there else "No such file or directory"
            raise QemuError(f"Failed to connect to '{path}': {why}")
        raise QemuError(f"Failed to connect to '{address['host']}:{address['port']}': Connection refused")


_UNIX_PATH_SIZE = 108
_ANY = ("", "0.0.0.0", "::", "*")
_LOOPBACK = ("localhost", "::1")


def _check_length(path: str) -> None:
    if len(path.encode()) > _UNIX_PATH_SIZE:
        raise QemuError(
            f"UNIX socket path '{path}' is too long", hint=f"Path must be less than {_UNIX_PATH_SIZE} bytes"
        )


def _key(address: SocketAddress) -> str:
    """One text for all spellings of an address."""
    if address["type"] == "unix":
        return f"unix:{'@' if address.get('abstract') else ''}{address['path']}"
    host = address["host"]
    host = "0.0.0.0" if host in _ANY else "127.0.0.1" if host in _LOOPBACK else host
    return f"inet:{host}:{int(address['port'])}"
