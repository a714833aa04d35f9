# SPDX-License-Identifier: MIT
"""QEMUFile: the bytes of a migration, written plainly and read with `await`.

Writing collects; `await flush()` sends. Reading takes from what has arrived and waits only when that is not enough, so
the same loader runs over a socket, over a file, and by `run_sync` over bytes:

    run_sync(device.load_state(QEMUFile.over(data), 1))

Integers are big endian. A string is its length in one byte and the text, without terminator ("counted").

QEMU: migration/qemu-file.c
"""

from __future__ import annotations

import errno
import os
from struct import Struct

from fakeqemu.error import QemuError, StreamError
from fakeqemu.host.faults import FaultPoints

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.host.channel import Channel

_BE16 = Struct(">H")
_BE32 = Struct(">I")
_BE64 = Struct(">Q")

#: what one read asks for
READ_SIZE = 1 << 18
#: ... the first: some streams are short, and there may be thousands of them
_FIRST_READ_SIZE = 1 << 14
#: buffers of this size travel as they are, smaller ones are copied together
_NO_COPY_SIZE = 2048
#: how many buffers one system call takes
_MAX_BUFFERS = 1024

#: what error texts call the channel
SOCKET = "socket"
COMMAND = "command"
FILE = "file"


_NO_FAULTS = FaultPoints()


class EndOfStream(StreamError):
    """The stream ended, or broke, before what was to be read. `reason` is what the channel said."""

    def __init__(self, reason: str = "Channel error: Input/output error", error_number: int = errno.EIO) -> None:
        super().__init__(reason, error_number)
        self.reason = reason


class QEMUFile:
    """One direction or both of a migration channel; without a channel, bytes in memory."""

    __slots__ = (
        "_in", "_in_end", "_iov", "_iov_size", "_pos", "_small", "channel", "end", "faults", "flushed", "kind",
        "read_total", "write_error",
    )  # fmt: skip

    def __init__(self, channel: Channel | None = None, kind: str = SOCKET) -> None:
        """`kind` is how QEMU's error texts call the channel: socket, command or file."""
        self.channel = channel
        self.kind = kind
        # What has arrived: _in[_pos:_in_end]. The same memory is used again and again.
        self._in: bytes | bytearray = b""
        self._pos = 0
        self._in_end = 0
        self._small = bytearray()
        self._iov: list[bytes | bytearray | memoryview] = []
        self._iov_size = 0
        #: bytes that were handed to the channel
        self.flushed = 0
        #: bytes that came from the channel
        self.read_total = 0
        #: the first error of a write, raised again by every later one
        self.write_error: QemuError | None = None
        #: set once the end was seen while reading
        self.end: EndOfStream | None = None
        #: where those who read and know no machine could fail; its owner's, where there is one
        self.faults = _NO_FAULTS

    @staticmethod
    def over(data: bytes) -> QEMUFile:
        """A file to read `data` from."""
        f = QEMUFile()
        f._in = bytes(data)
        f._in_end = len(data)
        return f

    # --- writing --------------------------------------------------------------------------------------

    @property
    def bytes_transferred(self) -> int:
        """All bytes put so far, sent or not."""
        return self.flushed + self._iov_size + len(self._small)

    def put_byte(self, value: int) -> None:
        self._small.append(value)

    def put_be16(self, value: int) -> None:
        self._small += _BE16.pack(value)

    def put_be32(self, value: int) -> None:
        self._small += _BE32.pack(value)

    def put_be64(self, value: int) -> None:
        self._small += _BE64.pack(value)

    def put_buffer(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes; a large buffer is not copied and must stay as it is until the next flush."""
        if len(data) < _NO_COPY_SIZE:
            self._small += data
            return
        self._close_small()
        self._iov.append(data)
        self._iov_size += len(data)

    def put_buffers(self, buffers: list[bytes | bytearray | memoryview], size: int) -> None:
        """Append many buffers, of `size` bytes in all. None is copied: all must stay as they are until the next flush."""
        self._close_small()
        self._iov += buffers
        self._iov_size += size

    def put_counted_string(self, text: str) -> None:
        data = text.encode()
        assert len(data) < 256, "a counted string has at most 255 bytes"
        self._small.append(len(data))
        self._small += data

    def _close_small(self) -> None:
        if self._small:
            self._iov.append(self._small)
            self._iov_size += len(self._small)
            self._small = bytearray()

    def getvalue(self) -> bytes:
        """What was put and not flushed: the whole, for a file without channel."""
        self._close_small()
        return b"".join(self._iov)

    async def flush(self) -> None:
        """Send what was put; raises QemuError in QEMU's words when the channel does not take it."""
        if self.write_error is not None:
            raise self.write_error
        if self.channel is None:
            return
        self._close_small()
        iov, self._iov = self._iov, []
        size, self._iov_size = self._iov_size, 0
        for at in range(0, len(iov), _MAX_BUFFERS):
            part = iov[at : at + _MAX_BUFFERS]
            try:
                await self.channel.write(*part)
            except OSError as err:
                self.write_error = QemuError(channel_error(f"Unable to write to {self.kind}", err))
                raise self.write_error from None
            self.flushed += size if len(part) == len(iov) else sum(map(len, part))

    async def put_at(self, offset: int, data: bytes) -> None:
        """Write at a place of a file, at once, and leave the position; raises QemuError. The bytes count as sent."""
        assert self.channel is not None
        if self.write_error is not None:
            raise self.write_error
        try:
            await self.channel.write_at(offset, data)
        except OSError as err:
            self.write_error = QemuError(f"Unable to write to {self.kind}: {strerror(err.errno)}")
            raise self.write_error from None
        self.flushed += len(data)

    # --- reading --------------------------------------------------------------------------------------

    @property
    def available(self) -> int:
        """Bytes that can be read without waiting."""
        return self._in_end - self._pos

    async def fill(self, size: int) -> None:
        """Wait until `size` bytes are there; raises EndOfStream when they never will be, and forgets what was."""
        while self._in_end - self._pos < size:
            try:
                await self._read_more(size - self.available)
            except EndOfStream:
                self._pos = self._in_end
                raise

    async def _read_more(self, size: int) -> None:
        """Wait for more bytes; there is room for `size` of them at least."""
        if self.end is not None:
            raise self.end
        count = 0
        if self.channel is not None:
            left = self._in_end - self._pos
            rest = self._in[self._pos : self._in_end]
            wanted = READ_SIZE if self.read_total >= _FIRST_READ_SIZE else _FIRST_READ_SIZE
            if type(self._in) is bytes or len(self._in) - left < max(size, wanted // 2):
                self._in = bytearray(left + max(size, wanted))
            buffer = memoryview(self._in)
            buffer[:left] = rest
            self._pos, self._in_end = 0, left
            try:
                count = await self.channel.read_into(buffer[left:])
            except OSError as err:
                self.end = EndOfStream(channel_error(f"Unable to read from {self.kind}", err))
                raise self.end from None
        if not count:
            self.end = EndOfStream()
            raise self.end
        self.read_total += count
        self._in_end += count

    def buffered(self) -> tuple[bytes | bytearray, int]:
        """What has arrived, and the position in it; from there on `available` bytes count. For loaders of many small
        records; then `skip`. The next read overwrites it.
        """
        return self._in, self._pos

    def skip(self, size: int) -> None:
        """Take `size` bytes that are available without looking at them."""
        self._pos += size

    async def get_byte(self) -> int:
        if self._pos >= self._in_end:
            await self.fill(1)
        self._pos += 1
        return self._in[self._pos - 1]

    async def peek(self, size: int) -> bytes:
        """Up to `size` bytes, left where they are; fewer only at the end."""
        while self.available < size:
            try:
                await self._read_more(size - self.available)
            except EndOfStream:
                break
        return bytes(self._in[self._pos : min(self._pos + size, self._in_end)])

    async def await_more(self) -> bool:
        """Wait until more has come than is there, and leave all where it is; False at the end, which who reads up to it meets
        again.
        """
        ended = self.end
        try:
            await self._read_more(1)
        except EndOfStream:
            self.end = ended
            return False
        return True

    async def get_be32(self) -> int:
        await self.fill(4)
        self._pos += 4
        return int.from_bytes(self._in[self._pos - 4 : self._pos], "big")

    async def get_be64(self) -> int:
        await self.fill(8)
        self._pos += 8
        return int.from_bytes(self._in[self._pos - 8 : self._pos], "big")

    async def get_buffer(self, size: int) -> bytes:
        """Exactly `size` bytes; the caller has checked that the size is sane."""
        await self.fill(size)
        self._pos += size
        return bytes(memoryview(self._in)[self._pos - size : self._pos])

    # QEMU's own readers know no end: they take zeroes where nothing is left, and whoever called asks later whether there was
    # an error. What a broken stream is found guilty of depends on that, so loaders read as follows, then look at `end`.

    async def take(self, size: int) -> bytes:
        """Up to `size` bytes; fewer only at the end, and then `end` is set."""
        data = await self.peek(min(size, READ_SIZE))
        self._pos += len(data)
        # Memory is taken for what comes, not for what is announced.
        while READ_SIZE <= len(data) < size and self.end is None:
            more = await self.peek(min(size - len(data), READ_SIZE))
            self._pos += len(more)
            data += more
        return data

    async def take_uint(self, size: int) -> int:
        """An integer of `size` bytes; those behind the end are zeroes."""
        end = self._pos + size
        if end <= self._in_end:
            value = int.from_bytes(self._in[self._pos : end], "big")
            self._pos = end
            return value
        data = await self.take(size)
        return int.from_bytes(data, "big") << 8 * (size - len(data))

    async def take_counted_string(self) -> str:
        """A counted string as far as it is there, up to its first NUL; what is no text stays in it as lone surrogates."""
        return c_string(await self.take(await self.take_uint(1)))

    async def drop(self, size: int) -> None:
        """Take `size` bytes and forget them; however many, memory is not."""
        while size:
            if not self.available:
                await self.fill(1)
            step = min(size, self.available)
            self._pos += step
            size -= step

    async def get_at(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from a place of a file, fewer only at its end; the position stays. Raises EndOfStream."""
        assert self.channel is not None
        data = b""
        while len(data) < size:
            try:
                chunk = await self.channel.read_at(offset + len(data), size - len(data))
            except (OSError, OverflowError) as err:
                number = err.errno if isinstance(err, OSError) else errno.EINVAL
                raise EndOfStream(f"Unable to read from {self.kind}: {strerror(number)}") from None
            if not chunk:
                break
            data = data + chunk if data else chunk
        return data

    # --- both -----------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """Where in the file the next byte is read or, when all was flushed, written."""
        assert self.channel is not None
        return self.channel.tell() - self.available

    def seek(self, position: int) -> None:
        """Go on at a place of the file. What was put must have been flushed; what was read ahead is forgotten."""
        assert self.channel is not None
        assert self.bytes_transferred == self.flushed
        self.channel.seek(position)
        self._pos = self._in_end = 0
        self.end = None

    def shutdown(self) -> None:
        """Break the conversation: those who wait in it go on with an error."""
        if self.channel is not None:
            self.channel.shutdown()

    def close(self) -> None:
        if self.channel is not None:
            self.channel.close()


def c_string(data: bytes) -> str:
    """The text up to the first NUL; bytes that are no text are kept, so that stderr shows them as they are."""
    return data.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def channel_error(what: str, error: OSError) -> str:
    """What is said when `what` did not go: the channel's own words, where it has some."""
    return getattr(error, "desc", None) or f"{what}: {strerror(error.errno)}"


def strerror(error_number: int | None) -> str:
    """The text of an errno."""
    return os.strerror(error_number if error_number is not None else errno.EIO)
