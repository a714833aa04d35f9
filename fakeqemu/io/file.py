# SPDX-License-Identifier: MIT
"""Pipes, terminals, files and programs as channels.

QEMU: io/channel-file.c, io/channel-command.c
"""

from __future__ import annotations

import os
from stat import S_ISFIFO, S_ISREG, S_ISSOCK

from fakeqemu.io.stream import StreamChannel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.host.channel import Channel
    from fakeqemu.io.host import ProcessHost
    from fakeqemu.io.stream import Buffer

_EBADF = 9
_EINVAL = 22
_ENOTSUP = 95
#: files are no larger
_MAX_SIZE = (1 << 63) - 1


class FileChannel(StreamChannel):
    """A file, pipe or terminal: one descriptor for each direction, or the same for both, or none (-1)."""

    __slots__ = ("_was_blocking", "can_read", "can_write", "is_pipe", "is_seekable", "pid")

    def __init__(self, host: ProcessHost, rfd: int, wfd: int, name: str = "") -> None:
        super().__init__(host, rfd, wfd, name)
        self.can_read = rfd >= 0
        self.can_write = wfd >= 0
        mode = os.fstat(rfd if rfd >= 0 else wfd).st_mode
        self.is_seekable = S_ISREG(mode)
        self.is_pipe = S_ISFIFO(mode)
        #: the program behind the two pipes, 0 for none
        self.pid = 0
        # Others may share what we were given, so they get it back as it was.
        self._was_blocking: list[int] = []
        if not self.is_seekable:
            for fd in {rfd, wfd} - {-1}:
                if os.get_blocking(fd):
                    os.set_blocking(fd, False)
                    self._was_blocking.append(fd)

    def fileno(self) -> int:
        return self._rfd if self._rfd >= 0 else self._wfd

    def _take(self, size: int) -> bytes:
        if self._rfd < 0:
            return b""
        return os.read(self._rfd, size)

    def _take_into(self, buffer: memoryview) -> int:
        return os.readv(self._rfd, [buffer]) if self._rfd >= 0 else 0

    def _give(self, buffers: list[Buffer]) -> int:
        if not self.can_write:
            raise OSError(_EBADF, "Bad file descriptor")
        if self._wfd < 0:
            raise BrokenPipeError(32, "Broken pipe")
        return os.writev(self._wfd, buffers)

    async def write_fds(self, data: bytes, fds: list[int]) -> None:  # noqa: ARG002 - the interface
        raise OSError(_ENOTSUP, "Operation not supported")

    # files
    def seek(self, offset: int) -> None:
        """Go on reading and writing at `offset`; raises OSError where positions make no sense."""
        os.lseek(self.fileno(), offset, os.SEEK_SET)

    def tell(self) -> int:
        return os.lseek(self.fileno(), 0, os.SEEK_CUR)

    def truncate(self, size: int) -> None:
        """Cut the file, or fill it up with zeroes; raises OSError for what is no file."""
        if size > _MAX_SIZE:
            raise OSError(_EINVAL, "Invalid argument")
        os.ftruncate(self.fileno(), size)

    async def read_at(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes at `offset`, without moving the position."""
        return os.pread(self._rfd, size, offset)

    async def read_at_into(self, offset: int, buffer: memoryview) -> int:
        """The same into a buffer, which is filled but at the end of the file."""
        found = 0
        while found < len(buffer):
            count = os.preadv(self._rfd, [buffer[found:]], offset + found)
            if not count:
                break
            found += count
        return found

    async def write_at(self, offset: int, *buffers: Buffer) -> None:
        """Write all bytes at `offset`, without moving the position."""
        for buffer in buffers:
            left = memoryview(buffer)
            while left:
                taken = os.pwrite(self._wfd, left, offset)
                offset += taken
                left = left[taken:]

    def shutdown(self, how: str = "both") -> None:
        super().shutdown(how)
        # A pipe has no half to shut down but the descriptor itself.
        if how != "read" and self._wfd >= 0 and self._wfd != self._rfd and not self._closed:
            if self._writing:
                self._host.poller.remove_writer(self._wfd)
                self._writing = False
            os.close(self._wfd)
            self._wfd = -1

    def _release(self) -> None:
        for fd in self._was_blocking:
            if fd in (self._rfd, self._wfd):
                os.set_blocking(fd, True)
        for fd in {self._rfd, self._wfd} - {-1}:
            os.close(fd)
        if self.pid:
            self._host.reap(self.pid)
            self.pid = 0


def channel_for_fd(host: ProcessHost, fd: int, name: str) -> Channel:
    """A channel over any descriptor, by what it is."""
    if S_ISSOCK(os.fstat(fd).st_mode):
        import _socket

        from fakeqemu.io.socket import SocketChannel

        return SocketChannel(host, _socket.socket(-1, -1, -1, fd), name)
    import fcntl

    access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    return FileChannel(host, -1 if access == os.O_WRONLY else fd, -1 if access == os.O_RDONLY else fd, name)


def open_channel(host: ProcessHost, path: str, flags: int, mode: int, name: str) -> Channel:
    """Open a file; raises OSError."""
    fd = os.open(path, flags | os.O_CLOEXEC, mode)
    access = flags & os.O_ACCMODE
    return FileChannel(host, -1 if access == os.O_WRONLY else fd, -1 if access == os.O_RDONLY else fd, name)


def spawn(host: ProcessHost, argv: list[str], name: str) -> Channel:
    """Run a program between two pipes; raises OSError. Its signals are as at the start of a process."""
    child_in, ours_out = os.pipe()
    ours_in, child_out = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, child_in, 0), (os.POSIX_SPAWN_DUP2, child_out, 1)]
    try:
        pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=actions, setsigmask=(), setsigdef=(13,))
    except OSError:
        for fd in (child_in, ours_out, ours_in, child_out):
            os.close(fd)
        raise
    os.close(child_in)
    os.close(child_out)
    channel = FileChannel(host, ours_in, ours_out, name)
    channel.pid = pid
    return channel
