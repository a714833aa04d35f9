# SPDX-License-Identifier: MIT
"""A channel that misbehaves as links do: slow, thin, in pieces, broken off, changed on the way.

    who uses it ── FaultyChannel ── the channel

Every read and write is a fault point (`fake_channel_read`, `fake_channel_write`), so rules apply to them as well; what
belongs to the link as a whole, or happens at a byte, is a `LinkFault`. Faults are looked up by the channel's name at each
call: one that is added in the middle acts from then on.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fakeqemu.faults.point import READ, WRITE
from fakeqemu.host.channel import Channel
from fakeqemu.host.clock import NS_PER_MS, NS_PER_S
from fakeqemu.trace import matches

if TYPE_CHECKING:
    from collections.abc import Callable

    from fakeqemu.host.channel import SocketAddress
    from fakeqemu.host.sync import Future
    from fakeqemu.system.machine import Machine

READING = "read"
WRITING = "write"
BOTH = "both"


@dataclass(slots=True)
class LinkFault:
    """Faults of one direction, or both, of the channels whose names fit. What is None does not happen.

    `..._at` are positions in bytes from the channel's beginning in that direction; in a file they are places.
    """

    channel: str = "*"
    direction: str = BOTH
    latency_ms: float = 0
    bandwidth: int | None = None
    #: no call moves more than this
    slice: int | None = None
    #: from this byte on nothing moves, until `released`
    stall_at: int | None = None
    #: the connection is gone with ECONNRESET
    reset_at: int | None = None
    #: the connection ends as if the other side had closed it
    close_at: int | None = None
    #: the bits of this byte are inverted
    corrupt_at: int | None = None
    #: by which `Injector.release` finds it
    name: str = ""
    released: bool = False
    waiters: list[Future] = field(default_factory=list)

    def release(self) -> None:
        """What was stalled goes on."""
        self.released = True
        for waiter in self.waiters:
            waiter.set_result()

    def fits(self, channel: str, direction: str) -> bool:
        return self.direction in (BOTH, direction) and matches(self.channel, channel)


class FaultyChannel(Channel):
    """A channel as it is, but for the faults that fit it."""

    def __init__(
        self, vm: Machine, inner: Channel, faults: list[LinkFault], on_close: Callable[[FaultyChannel], None]
    ) -> None:
        super().__init__(inner.name)
        self._vm = vm
        self._inner = inner
        self._faults = faults
        self._on_close: Callable[[FaultyChannel], None] | None = on_close
        self._moved = {READING: 0, WRITING: 0}
        #: positions of bytes that are to arrive changed
        self._spoilt: dict[str, list[int]] = {READING: [], WRITING: []}
        self._stalled: list[Future] = []
        self._broken: OSError | None = None
        self._shut = False
        self.can_read = inner.can_read
        self.can_write = inner.can_write
        self.is_socket = inner.is_socket
        self.is_pipe = inner.is_pipe
        self.is_seekable = inner.is_seekable

    def __getattr__(self, name: str) -> Any:
        """What only some channels have: positions, descriptors."""
        return getattr(self._inner, name)

    def __str__(self) -> str:
        return self.name

    def spoil(self, direction: str, offset: int, position: int | None = None) -> None:
        """Have a byte arrive changed: `offset` bytes behind `position`, or behind what has moved by now."""
        self._spoilt[direction].append((self._position(direction) if position is None else position) + offset)

    def _position(self, direction: str) -> int:
        """Where the next byte of a call is: in the conversation, or in the file."""
        return self._inner.tell() if self.is_seekable else self._moved[direction]

    # --- pulled ---------------------------------------------------------------------------------------

    async def read(self, size: int) -> bytes:
        await self._vm.faults.pass_through(READ, channel=self, position=self._position(READING))
        position = self._position(READING)
        faults = self._fitting(READING)
        size = await self._before(faults, READING, size)
        if size == 0:
            return b""
        data = await self._inner.read(size)
        self._moved[READING] += len(data)
        await self._after(faults, len(data))
        return self._corrupted(faults, READING, position, data)

    async def peek(self, size: int) -> bytes:
        return await self._inner.peek(size)

    async def write(self, *buffers: bytes | bytearray | memoryview) -> None:
        faults = self._fitting(WRITING)
        total = sum(map(len, buffers))
        await self._vm.faults.pass_through(WRITE, channel=self, position=self._position(WRITING), size=total)
        if not faults and not self._spoilt[WRITING]:
            self._moved[WRITING] += total
            await self._inner.write(*buffers)
            return
        data = b"".join(bytes(buffer) for buffer in buffers)
        while data:
            step = await self._before(faults, WRITING, len(data))
            position = self._position(WRITING)
            if step == 0:  # ended as by the other side: nobody will read it
                raise OSError(errno.EPIPE, os.strerror(errno.EPIPE))
            await self._after(faults, step)
            await self._inner.write(self._corrupted(faults, WRITING, position, data[:step]))
            self._moved[WRITING] += step
            data = data[step:]

    async def write_fds(self, data: bytes, fds: list[int]) -> None:
        await self._vm.faults.pass_through(WRITE, channel=self, position=self._position(WRITING), size=len(data))
        await self._inner.write_fds(data, fds)
        self._moved[WRITING] += len(data)

    def take_fds(self) -> list[int]:
        return self._inner.take_fds()

    def _fitting(self, direction: str) -> list[LinkFault]:
        return [fault for fault in self._faults if fault.fits(self.name, direction)]

    async def _before(self, faults: list[LinkFault], direction: str, size: int) -> int:
        """How many bytes may move now; 0: the conversation is over. Raises OSError where the connection breaks."""
        position = self._position(direction)
        for fault in faults:
            if fault.slice is not None:
                size = min(size, fault.slice)
            for at in (fault.stall_at, fault.reset_at, fault.close_at):
                if at is not None and position < at:
                    size = min(size, at - position)
            if fault.stall_at is not None and position >= fault.stall_at:
                await self._stall(fault)
            if fault.reset_at is not None and position >= fault.reset_at and self._broken is None:
                self._note("reset", position)
                self._broken = OSError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
                self._inner.shutdown()
            if fault.close_at is not None and position >= fault.close_at:
                self._note("close", position)
                self._inner.shutdown()
                return 0
        if self._broken is not None:
            raise self._broken
        return size

    async def _stall(self, fault: LinkFault) -> None:
        if not fault.released and not self._shut:
            self._note("stall", fault.stall_at or 0)
        while not fault.released and not self._shut:
            waiter = self._vm.host.future()
            self._stalled.append(waiter)
            fault.waiters.append(waiter)
            try:
                await waiter
            finally:
                self._stalled.remove(waiter)
                fault.waiters.remove(waiter)

    async def _after(self, faults: list[LinkFault], size: int) -> None:
        """The time that bytes take."""
        for fault in faults:
            took_ns = int(fault.latency_ms * NS_PER_MS)
            if fault.bandwidth:
                took_ns += size * NS_PER_S // fault.bandwidth
            await self._vm.host.clock.sleep(took_ns)

    def _corrupted(self, faults: list[LinkFault], direction: str, position: int, data: bytes) -> bytes:
        """`data` with the bytes changed that are to arrive changed."""
        spoilt = self._spoilt[direction]
        wanted = [*spoilt, *(fault.corrupt_at for fault in faults if fault.corrupt_at is not None)]
        hit = [at for at in wanted if position <= at < position + len(data)]
        if not hit:
            return data
        changed = bytearray(data)
        for at in hit:
            changed[at - position] ^= 0xFF
            self._note("corrupt", at)
        self._spoilt[direction] = [at for at in spoilt if at not in hit]
        return bytes(changed)

    def _end_stalls(self) -> None:
        self._shut = True
        for waiter in self._stalled:
            waiter.set_result()

    def _note(self, action: str, position: int) -> None:
        self._vm.trace("fake_link_fault", channel=self.name, action=action, position=position)

    # --- files ----------------------------------------------------------------------------------------

    async def read_at(self, offset: int, size: int) -> bytes:
        await self._vm.faults.pass_through(READ, channel=self, position=offset)
        data = await self._inner.read_at(offset, size)
        return self._corrupted(self._fitting(READING), READING, offset, data)

    async def read_at_into(self, offset: int, buffer: memoryview) -> int:
        await self._vm.faults.pass_through(READ, channel=self, position=offset)
        count = await self._inner.read_at_into(offset, buffer)
        buffer[:count] = self._corrupted(self._fitting(READING), READING, offset, bytes(buffer[:count]))
        return count

    async def write_at(self, offset: int, *buffers: bytes | bytearray | memoryview) -> None:
        size = sum(map(len, buffers))
        await self._vm.faults.pass_through(WRITE, channel=self, position=offset, size=size)
        data = b"".join(bytes(buffer) for buffer in buffers)
        await self._inner.write_at(offset, self._corrupted(self._fitting(WRITING), WRITING, offset, data))

    def seek(self, offset: int) -> None:
        self._inner.seek(offset)

    def tell(self) -> int:
        return self._inner.tell()

    # --- pushed ---------------------------------------------------------------------------------------

    def attach(self, on_data: Any, on_hangup: Any) -> None:
        self._inner.attach(on_data, on_hangup)

    def send(self, data: bytes) -> None:
        self._inner.send(data)

    def pause_reading(self) -> None:
        self._inner.pause_reading()

    def resume_reading(self) -> None:
        self._inner.resume_reading()

    # --- both -----------------------------------------------------------------------------------------

    def shutdown(self, how: str = "both") -> None:
        self._end_stalls()
        self._inner.shutdown(how)

    def close(self) -> None:
        self._end_stalls()
        self._inner.close()
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close(self)

    def local_address(self) -> SocketAddress | None:
        return self._inner.local_address()

    def peer_address(self) -> SocketAddress | None:
        return self._inner.peer_address()
