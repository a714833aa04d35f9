# SPDX-License-Identifier: MIT
"""Back ends that are no sockets: nothing, stdin and stdout, a file, a pseudo terminal, a ring of bytes.

QEMU: chardev/char-null.c, char-stdio.c, char-file.c, char-pty.c, char-ringbuf.c
"""

from __future__ import annotations

import os

from fakeqemu.chardev.channel import ChannelChardev
from fakeqemu.chardev.char import Chardev
from fakeqemu.error import QemuError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.host.channel import Channel, Terminal
    from fakeqemu.host.clock import Timer
    from fakeqemu.system.machine import Machine

_DEFAULT_RING_BYTES = 65536
_PTY_LOOK_AGAIN_NS = 1_000_000_000


class NullChardev(Chardev):
    """Takes everything, gives nothing."""

    __slots__ = ()

    def open(self, backend: dict[str, Any]) -> None:
        pass


class StdioChardev(ChannelChardev):
    """Stdin and stdout; a terminal is made raw while it is in use."""

    __slots__ = ("_owns_stdio", "_terminal")

    def __init__(self, vm: Machine, label: str, kind: str) -> None:
        super().__init__(vm, label, kind)
        self._owns_stdio = False
        self._terminal: Terminal | None = None

    def open(self, backend: dict[str, Any]) -> None:
        self.vm.chardevs.take_stdio()
        self._owns_stdio = True
        self._make_raw(bool(backend.get("signal", True)))
        self.start(self.vm.host.stdio())

    def _make_raw(self, signals: bool) -> None:
        terminal = self.vm.host.stdio_terminal()
        if terminal is not None:
            terminal.make_raw(signals)
            self._terminal = terminal

    def release(self) -> None:
        super().release()
        if self._terminal is not None:
            self._terminal.restore()
            self._terminal = None
        if self._owns_stdio:
            self._owns_stdio = False
            self.vm.chardevs.give_stdio_back()


class FileChardev(ChannelChardev):
    """Output to a file, made or emptied unless `append`; input, if any, from another."""

    __slots__ = ("_input",)

    def __init__(self, vm: Machine, label: str, kind: str) -> None:
        super().__init__(vm, label, kind)
        self._input: Channel | None = None

    def open(self, backend: dict[str, Any]) -> None:
        flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if backend.get("append") else os.O_TRUNC)
        output = self._open(backend["out"], flags)
        if backend.get("in") is not None:
            try:
                self._input = self._open(backend["in"], os.O_RDONLY)
            except QemuError:
                output.close()
                raise
            self._input.attach(self.received, self.closed)
        self.start_writing(output)

    def _open(self, path: str, flags: int) -> Channel:
        try:
            if path.startswith("/dev/fdset/"):
                return self.vm.host.channel_for_fd(self.vm.fds.open_path(path, flags), name=self.label)
            return self.vm.host.open_channel(path, flags, 0o666, name=self.label)
        except OSError as error:
            raise QemuError(f"Could not open '{path}': {error.strerror}") from None

    def update_reading(self) -> None:
        if self._input is not None:
            if self.wants_input:
                self._input.resume_reading()
            else:
                self._input.pause_reading()

    def release(self) -> None:
        super().release()
        if self._input is not None:
            self._input.close()
            self._input = None


class PipeChardev(FileChardev):
    """A pair of named pipes, `PATH.in` and `PATH.out`, or one that goes both ways."""

    __slots__ = ()

    def open(self, backend: dict[str, Any]) -> None:
        path = backend["device"]
        try:
            self._input = self._open(f"{path}.in", os.O_RDWR)
            output = self._open(f"{path}.out", os.O_RDWR)
        except QemuError:
            if self._input is not None:
                self._input.close()
            self._input = output = self._open(path, os.O_RDWR)
        self._input.attach(self.received, self.closed)
        self.start_writing(output)


class PtyChardev(ChannelChardev):
    """A pseudo terminal. Whether somebody has its other end open is looked at once a second, as there is no way to wait."""

    __slots__ = ("_fd", "_link", "_look_again", "_slave_name")

    def __init__(self, vm: Machine, label: str, kind: str) -> None:
        super().__init__(vm, label, kind)
        self._look_again: Timer | None = None
        self._slave_name = ""
        self._link = ""
        self._fd = -1

    def open(self, backend: dict[str, Any]) -> None:
        import tty

        try:
            master, slave = os.openpty()
        except OSError as error:
            raise QemuError(f"Failed to create PTY: {error.strerror}") from None
        tty.setraw(slave)
        self._slave_name = os.ttyname(slave)
        os.close(slave)
        link = backend.get("path")
        if link is not None:
            try:
                os.symlink(self._slave_name, link)
            except OSError as error:
                os.close(master)
                raise QemuError(f"Failed to create PTY symlink: {error.strerror}") from None
            self._link = link
        self._fd = master
        self._channel = self.vm.host.channel_for_fd(master, name=self.label)
        self._channel.pause_reading()
        self._channel.attach(self.received, self._other_end_closed)
        self._look()

    @property
    def filename(self) -> str:
        return f"pty:{self._slave_name}"

    def opened_result(self) -> dict[str, Any]:
        return {"pty": self._slave_name}

    def _look(self) -> None:
        """Is the other end open? While it is not, reading would report a hang-up again and again."""
        import select

        self._look_again = None
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        hung_up = any(events & select.POLLHUP for _fd, events in poll.poll(0))
        if hung_up:
            clock = self.vm.host.clock
            self._look_again = clock.call_at(clock.now_ns() + _PTY_LOOK_AGAIN_NS, self._look)
        elif not self.be_open:
            self.opened()
            self.update_reading()

    def _other_end_closed(self) -> None:
        self.closed()
        assert self._channel is not None
        self._channel.pause_reading()
        self._channel.attach(self.received, self._other_end_closed)
        self._look()

    def send_out(self, data: bytes) -> None:
        if self.be_open:
            super().send_out(data)

    def update_reading(self) -> None:
        if self._channel is not None:
            if self.wants_input and self.be_open:
                self._channel.resume_reading()
            else:
                self._channel.pause_reading()

    def release(self) -> None:
        if self._look_again is not None:
            self._look_again.cancel()
            self._look_again = None
        super().release()
        if self._link:
            try:
                os.unlink(self._link)
            except OSError:
                pass
            self._link = ""


class RingbufChardev(Chardev):
    """Keeps the last bytes that the front end wrote, for ringbuf-read."""

    __slots__ = ("_bytes", "_size")

    def __init__(self, vm: Machine, label: str, kind: str) -> None:
        super().__init__(vm, label, kind)
        self._bytes = bytearray()
        self._size = _DEFAULT_RING_BYTES

    def open(self, backend: dict[str, Any]) -> None:
        size = backend.get("size", _DEFAULT_RING_BYTES)
        if size & (size - 1):
            raise QemuError("size of ringbuf chardev must be power of two")
        self._size = size
        self.opened()

    def send_out(self, data: bytes) -> None:
        self._bytes += data
        del self._bytes[: max(0, len(self._bytes) - self._size)]

    def take(self, size: int) -> bytes:
        """The oldest bytes, up to `size`."""
        taken = bytes(self._bytes[:size])
        del self._bytes[:size]
        return taken

    @property
    def count(self) -> int:
        return len(self._bytes)
