# SPDX-License-Identifier: MIT
"""Ordered bytes both ways: what monitors, character devices and migrations talk over.

A channel is used in one of two ways. *Pulled*, by coroutines (`await read`, `await write`), as migrations do. *Pushed*
(`attach`): call-backs hear of data and of the end, as monitors and character devices want it.

QEMU: include/io/channel.h
"""

from __future__ import annotations

_EINVAL = 22

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    SocketAddress = dict[str, Any]  # QAPI's SocketAddress: {"type": "unix", "path": ...}, {"type": "inet", ...}, ...


class Channel:
    """Base of all channels; every method may raise OSError as the system call behind it does."""

    __slots__ = ("name",)

    #: whether bytes can come back (a socket) or not (a pipe, a file that is written)
    can_read = True
    can_write = True
    #: whether several connections to the same address make sense (multifd, postcopy preempt)
    is_socket = False
    #: a pipe, or a program behind pipes
    is_pipe = False
    #: whether bytes can be looked at before they are read (`peek`)
    can_peek = True
    #: whether positions make sense (`read_at`, `write_at`, `seek`)
    is_seekable = False

    def __init__(self, name: str = "") -> None:
        self.name = name

    # pulled
    async def read(self, size: int) -> bytes:
        """1 to `size` bytes as soon as there are any; b"" at the end."""
        raise NotImplementedError

    async def read_into(self, buffer: memoryview) -> int:
        """Read into a buffer of bytes, as much as there is, but at least one; how many, 0 at the end."""
        data = await self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    async def wait_readable(self) -> bool:
        """Wait until there is something to read, or a read would tell of the end; False where neither will ever be."""
        return True

    async def peek(self, size: int) -> bytes:
        """`size` bytes (fewer only at the end) without taking them; raises OSError(ENOTSUP) where that is impossible."""
        raise NotImplementedError

    async def write(self, *buffers: bytes | bytearray | memoryview) -> None:
        """Send all bytes of all buffers, in order; returns when the kernel has taken them."""
        raise NotImplementedError

    async def write_fds(self, data: bytes, fds: list[int]) -> None:
        """Send `data` with descriptors riding on its first byte."""
        raise NotImplementedError

    def take_fds(self) -> list[int]:
        """Descriptors that came with the bytes read so far and were not taken yet."""
        return []

    # pushed
    def attach(self, on_data: Callable[[bytes, list[int]], None], on_hangup: Callable[[], None]) -> None:
        """Hear of incoming bytes (with descriptors) and of the end. Replaces what was attached before."""
        raise NotImplementedError

    def send(self, data: bytes) -> None:
        """Send without waiting; what the kernel does not take now is kept and sent when it does."""
        raise NotImplementedError

    def flush(self) -> None:
        """Send now what `send` keeps for the end of the turn; what the kernel does not take still follows by itself."""

    def pause_reading(self) -> None:
        raise NotImplementedError

    def resume_reading(self) -> None:
        raise NotImplementedError

    # files
    async def read_at(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`, b"" at the end; the position stays."""
        raise NotImplementedError

    async def read_at_into(self, offset: int, buffer: memoryview) -> int:
        """Read from `offset` on into a buffer, fewer bytes than it has only at the end; how many. The position stays."""
        data = await self.read_at(offset, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    async def write_at(self, offset: int, *buffers: bytes | bytearray | memoryview) -> None:
        """Write all bytes from `offset` on; the position stays."""
        raise NotImplementedError

    def seek(self, offset: int) -> None:
        """Go on reading and writing at `offset`."""
        raise NotImplementedError

    def tell(self) -> int:
        """The position."""
        raise NotImplementedError

    def truncate(self, size: int) -> None:  # noqa: ARG002 - the interface
        """Cut a file, or fill it up with zeroes; raises OSError where that makes no sense."""
        raise OSError(_EINVAL, "Invalid argument")

    # both
    def shutdown(self, how: str = "both") -> None:
        """End the conversation ("read", "write", "both") but keep the descriptor; those who wait in read or write go on."""
        raise NotImplementedError

    def close(self) -> None:
        """Give the descriptor back. A second call does nothing."""
        raise NotImplementedError

    def local_address(self) -> SocketAddress | None:
        """As QAPI's SocketAddress; None for what is no socket."""
        return None

    def peer_address(self) -> SocketAddress | None:
        return None


class Terminal:
    """A terminal that can be made raw: every key is heard at once, and none is shown."""

    __slots__ = ()

    def make_raw(self, signals: bool) -> None:
        """`signals`: Ctrl-C and its kin still send signals."""
        raise NotImplementedError

    def restore(self) -> None:
        """Back to how it was before `make_raw`."""
        raise NotImplementedError


class Listener:
    """Something that accepts channels until closed."""

    __slots__ = ()

    def address(self) -> SocketAddress:
        """Where it listens: the bound address, port filled in."""
        raise NotImplementedError

    def accept_blocking(self) -> None:
        """Take one client now, holding everything else up until there is one."""
        raise NotImplementedError

    def accept_waiting(self) -> None:
        """Take a client that waits already now instead of in the next turn; nothing happens when there is none."""

    def pause(self) -> None:
        """Leave further connections in the backlog."""
        raise NotImplementedError

    def resume(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Stop listening; a UNIX socket's file is unlinked. A second call does nothing."""
        raise NotImplementedError
