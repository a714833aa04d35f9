# SPDX-License-Identifier: MIT
"""Files within the simulation, and what a descriptor stands for.

A descriptor is a number in one host's table. It refers to an `OpenFile`, which lives as long as any table, of any host,
refers to it: duplicated, sent over a socket or kept across an exec, it is the same object.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

from fakeqemu.host.channel import Channel

if TYPE_CHECKING:
    from collections.abc import Callable

    from fakeqemu.sim.host import SimHost


def os_error(number: int, path: str | None = None) -> OSError:
    """The OSError (or the fitting subclass) that the kernel would cause."""
    return OSError(number, os.strerror(number)) if path is None else OSError(number, os.strerror(number), path)


class OpenFile:
    """What one or more descriptors refer to; `on_last_close` runs when the last of them is closed."""

    def __init__(self) -> None:
        self._references = 0

    def retain(self) -> None:
        self._references += 1

    def release(self) -> None:
        """One reference less; the last one ends the object."""
        self._references -= 1
        if self._references == 0:
            self.on_last_close()

    def on_last_close(self) -> None:
        """Nobody refers to this any more."""

    def channel(self, host: SimHost, fd: int, name: str) -> Channel:  # noqa: ARG002
        """A channel that works through descriptor `fd` of `host`; raises OSError where that makes no sense."""
        raise os_error(errno.EINVAL)


class SimFile(OpenFile):
    """An open regular file: bytes shared with everybody who has it open, and a position of its own."""

    def __init__(self, data: bytearray, *, readable: bool = True, writable: bool = True, append: bool = False) -> None:
        super().__init__()
        self.data = data
        self.position = 0
        self.readable = readable
        self.writable = writable
        self.append = append

    def read_at(self, size: int, offset: int) -> bytes:
        if not self.readable:
            raise os_error(errno.EBADF)
        return bytes(self.data[offset : offset + size])

    def write_at(self, buffer: bytes | bytearray | memoryview, offset: int) -> None:
        if not self.writable:
            raise os_error(errno.EBADF)
        if offset > len(self.data):
            self.data.extend(bytes(offset - len(self.data)))
        self.data[offset : offset + len(buffer)] = buffer

    def channel(self, host: SimHost, fd: int, name: str) -> Channel:
        return SimFileChannel(host, fd, self, name)


class SimFileChannel(Channel):
    """A file read and written as a channel."""

    is_seekable = True

    def __init__(self, host: SimHost, fd: int, file: SimFile, name: str) -> None:
        super().__init__(name)
        self._host = host
        self._fd = fd
        self._file = file
        self.can_read = file.readable
        self.can_write = file.writable

    def fileno(self) -> int:
        """Its descriptor."""
        return self._fd

    async def read(self, size: int) -> bytes:
        data = self._file.read_at(size, self._file.position)
        self._file.position += len(data)
        return data

    async def peek(self, size: int) -> bytes:
        return self._file.read_at(size, self._file.position)

    async def write(self, *buffers: bytes | bytearray | memoryview) -> None:
        for buffer in buffers:
            self.send(bytes(buffer))

    async def write_fds(self, data: bytes, fds: list[int]) -> None:  # noqa: ARG002
        raise os_error(errno.ENOTSOCK)

    async def read_at(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`; b"" at the end. The position stays."""
        return self._file.read_at(size, offset)

    async def write_at(self, offset: int, *buffers: bytes | bytearray | memoryview) -> None:
        """Write all bytes from `offset` on. The position stays."""
        for buffer in buffers:
            self._file.write_at(buffer, offset)
            offset += len(buffer)

    def seek(self, offset: int) -> None:
        """Go on reading and writing at `offset`."""
        self._file.position = offset

    def tell(self) -> int:
        return self._file.position

    def truncate(self, size: int) -> None:
        """Cut the file, or fill it up with zeroes."""
        del self._file.data[size:]
        self._file.data.extend(bytes(size - len(self._file.data)))

    def send(self, data: bytes) -> None:
        file = self._file
        offset = len(file.data) if file.append else file.position
        file.write_at(data, offset)
        file.position = offset + len(data)

    def attach(self, on_data: Callable[[bytes, list[int]], None], on_hangup: Callable[[], None]) -> None:
        """A file is never a source of input by itself: nothing will be heard."""

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def shutdown(self, how: str = "both") -> None:
        """Files cannot be shut down; nothing happens, as in QEMU."""

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._host.close_fd(fd)


class SimFiles:
    """All files of one world, by path. A path whose parent is not in `directories` cannot be created."""

    def __init__(self) -> None:
        self.directories = ["/", "/tmp", "/run", "/var/tmp", "/dev/shm"]  # names of the simulation, not of this machine
        self.contents: dict[str, bytearray] = {}
        #: paths at which a UNIX socket stands (bound once; whether anybody listens is the network's matter)
        self.sockets: dict[str, Any] = {}

    def exists(self, path: str) -> bool:
        return path in self.contents or path in self.sockets or path in self.directories

    def check_parent(self, path: str) -> None:
        """Raises ENOENT when the folder of `path` is not there."""
        parent = path.rpartition("/")[0] or "/"
        if parent not in self.directories:
            raise os_error(errno.ENOENT, path)

    def unlink(self, path: str) -> None:
        """Remove a name; raises ENOENT. Those who have the file open keep it."""
        if self.contents.pop(path, None) is None and self.sockets.pop(path, None) is None:
            raise os_error(errno.ENOENT, path)

    def open(self, path: str, flags: int) -> SimFile:
        """As open(2) does, with its errors."""
        if path in self.directories:
            raise os_error(errno.EISDIR, path)
        if path in self.sockets:
            raise os_error(errno.ENXIO, path)
        if path not in self.contents:
            if not flags & os.O_CREAT:
                raise os_error(errno.ENOENT, path)
            self.check_parent(path)
            self.contents[path] = bytearray()
        elif flags & os.O_CREAT and flags & os.O_EXCL:
            raise os_error(errno.EEXIST, path)
        data = self.contents[path]
        if flags & os.O_TRUNC:
            del data[:]
        access = flags & os.O_ACCMODE
        return SimFile(
            data, readable=access != os.O_WRONLY, writable=access != os.O_RDONLY, append=bool(flags & os.O_APPEND)
        )
