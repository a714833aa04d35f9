# SPDX-License-Identifier: MIT
"""What all channels over descriptors share: waiting, buffering output, the pulled and the pushed face.

A subclass says how bytes are taken from and given to its descriptors (`_take`, `_give`); both raise BlockingIOError when
the kernel has nothing or no room. Reading and writing may use one descriptor (a socket) or two (a pair of pipes).

    pulled      await read()  ── _take ── would block? ── reader registered ── readable ── _take
    pushed      reader registered while attached and not paused;  send() ── kept till the end of the turn ── one _give

QEMU: io/channel.c
"""

from __future__ import annotations

import select

from fakeqemu.host.channel import Channel
from fakeqemu.host.sync import Future

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeVar

    from fakeqemu.io.host import ProcessHost

    T = TypeVar("T")

    Buffer = bytes | bytearray | memoryview

#: taken at most in one read of a pushed channel
PUSHED_READ_SIZE = 65536
#: buffers given to the kernel in one call: all of them are looked at again for those that it did not take
MAX_BUFFERS = 64


class StreamChannel(Channel):
    """A channel over one or two descriptors, which it owns. -1 stands for a direction that does not exist."""

    __slots__ = (
        "_closed",
        "_fds",
        "_flush_wanted",
        "_host",
        "_on_data",
        "_on_hangup",
        "_output",
        "_paused",
        "_peeked",
        "_read_end",
        "_read_waiter",
        "_reading",
        "_rfd",
        "_wfd",
        "_write_end",
        "_write_waiter",
        "_writing",
    )

    def __init__(self, host: ProcessHost, rfd: int, wfd: int, name: str = "") -> None:
        super().__init__(name)
        self._host = host
        self._rfd = rfd
        self._wfd = wfd
        self._closed = False
        # pulled
        self._peeked = b""
        self._read_waiter: Future | None = None
        self._write_waiter: Future | None = None
        self._read_end = False  # shut down by us
        self._write_end = False
        # pushed
        self._on_data: Callable[[bytes, list[int]], None] | None = None
        self._on_hangup: Callable[[], None] | None = None
        self._paused = False
        self._output: list[Buffer] = []
        self._flush_wanted = False
        # registrations at the poller
        self._reading = False
        self._writing = False
        self._fds: list[int] = []

    # what a subclass provides
    def _take(self, size: int) -> bytes:
        """1 to `size` bytes, b"" at the end; raises OSError, BlockingIOError when there are none yet."""
        raise NotImplementedError

    def _take_into(self, buffer: memoryview) -> int:
        """The same, into a buffer; how many bytes came."""
        raise NotImplementedError

    def _give(self, buffers: list[Buffer]) -> int:
        """Give bytes of `buffers` to the kernel; how many it took. Raises OSError, BlockingIOError when it has no room."""
        raise NotImplementedError

    def _release(self) -> None:
        """Close the descriptors."""
        raise NotImplementedError

    # pulled
    async def read(self, size: int) -> bytes:
        if self._peeked:
            data, self._peeked = self._peeked[:size], self._peeked[size:]
            return data
        return await self._read_more(size)

    async def read_into(self, buffer: memoryview) -> int:
        if self._peeked:
            data, self._peeked = self._peeked[: len(buffer)], self._peeked[len(buffer) :]
            buffer[: len(data)] = data
            return len(data)
        return await self._when_readable(lambda: self._take_into(buffer), 0)

    async def peek(self, size: int) -> bytes:
        while len(self._peeked) < size:
            more = await self._read_more(size - len(self._peeked))
            if not more:
                break
            self._peeked += more
        return self._peeked[:size]

    async def wait_readable(self) -> bool:
        return bool(self._peeked) or await self._when_readable(self._look, True)

    def _look(self) -> bool:
        """Whether there is input; False for what has hung up and never had any, like a socket that is not connected."""
        if self._rfd < 0:
            return True
        poll = select.poll()
        poll.register(self._rfd, select.POLLIN)
        found = poll.poll(0)
        if not found:
            raise BlockingIOError
        return bool(found[0][1] & select.POLLIN)

    async def _read_more(self, size: int) -> bytes:
        return await self._when_readable(lambda: self._take(size), b"")

    async def _when_readable(self, take: Callable[[], T], nothing: T) -> T:
        """What `take` brings, as soon as it does not want to wait; `nothing` once reading was shut down."""
        while True:
            if self._closed:
                raise OSError(9, "Bad file descriptor")
            if self._read_end:
                return nothing
            try:
                return take()
            except BlockingIOError:
                pass
            assert self._read_waiter is None, "two readers of one channel"
            self._read_waiter = Future(self._host)
            self._update()
            try:
                await self._read_waiter
            finally:
                self._read_waiter = None

    async def write(self, *buffers: Buffer) -> None:
        await self._write_all(buffers, self._give)

    async def _write_all(self, buffers: Sequence[Buffer], give: Callable[[list[Buffer]], int]) -> None:
        for at in range(0, len(buffers), MAX_BUFFERS):
            await self._write_some(list(buffers[at : at + MAX_BUFFERS]), give)

    async def _write_some(self, left: list[Buffer], give: Callable[[list[Buffer]], int]) -> None:
        while left:
            if self._closed:
                raise OSError(9, "Bad file descriptor")
            if self._write_end:
                raise BrokenPipeError(32, "Broken pipe")
            try:
                taken = give(left)
            except BlockingIOError:
                assert self._write_waiter is None, "two writers of one channel"
                self._write_waiter = Future(self._host)
                self._update()
                try:
                    await self._write_waiter
                finally:
                    self._write_waiter = None
            else:
                drop(left, taken)

    def take_fds(self) -> list[int]:
        fds, self._fds = self._fds, []
        return fds

    # pushed
    def attach(self, on_data: Callable[[bytes, list[int]], None], on_hangup: Callable[[], None]) -> None:
        self._on_data = on_data
        self._on_hangup = on_hangup
        self._update()
        if self._peeked:
            early, self._peeked = self._peeked, b""
            self._host.call_soon(lambda: on_data(early, self.take_fds()))

    def pause_reading(self) -> None:
        self._paused = True
        self._update()

    def resume_reading(self) -> None:
        self._paused = False
        self._update()

    def send(self, data: Buffer) -> None:
        if self._closed or self._write_end or not data:
            return
        self._output.append(data)
        if not self._flush_wanted and not self._writing:
            self._flush_wanted = True
            self._host.poller.at_end_of_turn(self._flush)

    def flush(self) -> None:
        if self._flush_wanted:
            self._flush()

    @property
    def unsent(self) -> int:
        """Bytes that were sent here and that the kernel has not taken yet."""
        return sum(len(data) for data in self._output)

    def _flush(self) -> None:
        """Write what is kept, in one go; the rest follows when the kernel has room."""
        self._flush_wanted = False
        if self._closed:
            return
        output = self._output
        if len(output) > MAX_BUFFERS:
            output[:] = [b"".join(output)]
        try:
            while output:
                drop(output, self._give(output))
        except BlockingIOError:
            pass
        except OSError:
            output.clear()  # the peer is gone; reading hears of that
        self._update()

    def _readable(self) -> None:
        if self._read_waiter is not None:
            self._read_waiter.set_result()
            return
        if self._on_data is None:
            self._update()
            return
        try:
            data = self._take(PUSHED_READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._on_data(data, self.take_fds() if self._fds else [])
        else:
            self._on_data = None
            self._update()
            assert self._on_hangup is not None
            self._on_hangup()

    def _writable(self) -> None:
        if self._write_waiter is not None:
            self._write_waiter.set_result()
        else:
            self._flush()

    def _update(self) -> None:
        """Bring the registrations at the poller in line with what is wanted.

        Who has waited will wait again, most of the time: the registration stays, until the poller calls for nobody.
        """
        if self._closed:
            return
        want = self._read_waiter is not None or (self._on_data is not None and not self._paused)
        if want != self._reading and self._rfd >= 0:
            if want:
                self._add(self._host.poller.add_reader, self._rfd, self._readable)
            else:
                self._host.poller.remove_reader(self._rfd)
            self._reading = want
        want = self._write_waiter is not None or (bool(self._output) and not self._flush_wanted)
        if want != self._writing and self._wfd >= 0:
            if want:
                self._add(self._host.poller.add_writer, self._wfd, self._writable)
            else:
                self._host.poller.remove_writer(self._wfd)
            self._writing = want

    def _add(self, add: Callable[[int, Callable[[], None]], None], fd: int, callback: Callable[[], None]) -> None:
        try:
            add(fd, callback)
        except PermissionError:  # a regular file: always ready, and epoll will not have it
            self._host.call_soon(lambda: self._always_ready(add, fd, callback))

    def _always_ready(self, add: Callable[..., Any], fd: int, callback: Callable[[], None]) -> None:
        if self._closed or not (self._reading if callback == self._readable else self._writing):
            return
        callback()
        if not self._closed and (self._reading if callback == self._readable else self._writing):
            self._host.call_soon(lambda: self._always_ready(add, fd, callback))

    # both
    def shutdown(self, how: str = "both") -> None:
        if how != "write":
            self._read_end = True
            if self._read_waiter is not None:
                self._read_waiter.set_result()
        if how != "read":
            self._write_end = True
            if self._write_waiter is not None:
                self._write_waiter.set_result()

    def close(self) -> None:
        if self._closed:
            return
        if self._output and not self._write_end:
            try:
                while self._output:
                    drop(self._output, self._give(self._output[:MAX_BUFFERS]))
            except OSError:
                pass
        poller = self._host.poller
        if self._reading:
            poller.remove_reader(self._rfd)
        if self._writing:
            poller.remove_writer(self._wfd)
        self._closed = True
        self._reading = self._writing = False
        self._on_data = self._on_hangup = None
        self._output.clear()
        for waiter in (self._read_waiter, self._write_waiter):
            if waiter is not None:
                waiter.set_result()
        self._host.close_fds(self.take_fds())
        self._release()


def drop(buffers: list[Buffer], count: int) -> None:
    """Take `count` bytes off the front of a list of buffers."""
    if count == sum(map(len, buffers)):
        buffers.clear()
        return
    done = 0
    for buffer in buffers:
        size = len(buffer)
        if count < size:
            break
        count -= size
        done += 1
    del buffers[:done]
    if count:
        buffers[0] = memoryview(buffers[0])[count:]
