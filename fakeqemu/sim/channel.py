# SPDX-License-Identifier: MIT
"""A simulated socket as a `Channel`: pulled by coroutines or pushed to call-backs.

QEMU: io/channel-socket.c
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from fakeqemu.host.channel import Channel
from fakeqemu.sim.files import OpenFile, os_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from fakeqemu.host.channel import SocketAddress
    from fakeqemu.sim.host import SimHost
    from fakeqemu.sim.network import Pipe, SimSocket

PUSH_SIZE = 65_536


class SimChannel(Channel):
    """Works through one descriptor of one host."""

    def __init__(self, host: SimHost, fd: int, socket: SimSocket, name: str) -> None:
        super().__init__(name)
        self._host = host
        self._socket = socket
        self._fd = fd
        self._fds: list[int] = []
        self._on_data: Callable[[bytes, list[int]], None] | None = None
        self._on_hangup: Callable[[], None] | None = None
        self._paused = False
        self._unsent = bytearray()
        self.is_socket = socket.rx is not None and socket.tx is not None
        self.is_pipe = not self.is_socket
        self.can_read = socket.rx is not None
        self.can_write = socket.tx is not None

    def fileno(self) -> int:
        """The descriptor's number in its host, -1 once closed."""
        return self._fd

    def _rx(self) -> Pipe:
        if self._fd < 0 or self._socket.rx is None:
            raise os_error(errno.EBADF)
        return self._socket.rx

    def _tx(self) -> Pipe:
        if self._fd < 0 or self._socket.tx is None:
            raise os_error(errno.EBADF)
        return self._socket.tx

    # pulled
    async def read(self, size: int) -> bytes:
        rx = self._rx()
        while not len(rx) and not rx.at_end():
            await rx.wait()
            rx = self._rx()
        data, riders = rx.take(size)
        self._fds += self._receive(riders)
        if not data and rx.reset:
            raise os_error(errno.ECONNRESET)
        return data

    async def peek(self, size: int) -> bytes:
        rx = self._rx()
        while len(rx) < size and not rx.ended and not rx.deaf:
            await rx.wait()
            rx = self._rx()
        return rx.take(size, keep=True)[0]

    async def write(self, *buffers: bytes | bytearray | memoryview) -> None:
        for buffer in buffers:
            await self._tx().write(buffer)

    async def write_fds(self, data: bytes, fds: list[int]) -> None:
        riders = [self._host.open_file(fd) for fd in fds]
        await self._tx().write(data, riders)

    def take_fds(self) -> list[int]:
        fds, self._fds = self._fds, []
        return fds

    def _receive(self, riders: list[OpenFile]) -> list[int]:
        """Descriptors of this host for what came with a message."""
        fds = [self._host.install(rider) for rider in riders]
        for rider in riders:
            rider.release()  # the message's own reference
        return fds

    # pushed
    def attach(self, on_data: Callable[[bytes, list[int]], None], on_hangup: Callable[[], None]) -> None:
        self._on_data = on_data
        self._on_hangup = on_hangup
        rx = self._rx()
        if self._push not in rx.listeners:
            rx.listeners.append(self._push)
        self._host.call_soon(self._push)

    def _push(self) -> None:
        if self._fd < 0 or self._paused or self._on_data is None:
            return
        rx = self._rx()
        data, riders = rx.take(PUSH_SIZE)
        if data:
            self._on_data(data, self._receive(riders))
            self._host.call_soon(self._push)
        elif rx.at_end() and self._on_hangup is not None:
            on_hangup, self._on_hangup = self._on_hangup, None
            on_hangup()

    def send(self, data: bytes) -> None:
        self._unsent += data
        if self._socket.tx is not None and self._flush not in self._socket.tx.listeners:
            self._socket.tx.listeners.append(self._flush)
        self._flush()

    def _flush(self) -> None:
        if self._fd < 0:
            return
        while self._unsent:
            try:
                count = self._tx().offer(bytes(self._unsent))
            except OSError:
                self._unsent.clear()  # nobody is there to read it; the hang-up is heard on the reading side
                return
            if count == 0:
                return
            del self._unsent[:count]

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self._host.call_soon(self._push)

    # both
    def shutdown(self, how: str = "both") -> None:
        if self._fd < 0:
            return
        if how in ("write", "both") and self._socket.tx is not None:
            self._socket.tx.end()
        if how in ("read", "both") and self._socket.rx is not None:
            self._socket.rx.end()

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            for pipe in (self._socket.rx, self._socket.tx):
                if pipe is not None:
                    pipe.listeners = [told for told in pipe.listeners if told not in (self._push, self._flush)]
            for unclaimed in self.take_fds():
                self._host.close_fd(unclaimed)
            self._host.close_fd(fd)

    def local_address(self) -> SocketAddress | None:
        return self._socket.local

    def peer_address(self) -> SocketAddress | None:
        return self._socket.peer
