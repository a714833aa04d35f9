# SPDX-License-Identifier: MIT
"""The Host of a real process: operating system sockets, files, threads and time, over a `Poller`.

QEMU: the operating system, util/main-loop.c
"""

from __future__ import annotations

import _thread
import os
import time
from stat import S_ISSOCK

from fakeqemu.host.clock import Clock
from fakeqemu.host.host import Host, HostThread
from fakeqemu.host.sync import Future
from fakeqemu.io import file, socket
from fakeqemu.io.poller import EpollPoller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random
    from typing import Any

    from fakeqemu.host.channel import Channel, Listener, SocketAddress, Terminal
    from fakeqemu.io.poller import Poller

#: the smallest that the C library takes; an idle thread needs next to nothing
_THREAD_STACK_BYTES = 65536
_SIGKILL = 9


class ProcessHost(Host):
    """The real world. `rate` and `seed` come from `-fake clock=` and `seed=`."""

    real_fds = True

    def __init__(self, poller: Poller | None = None, *, rate: float = 1, seed: str = "0", program: str = "") -> None:
        super().__init__()
        self.poller: Poller = EpollPoller() if poller is None else poller
        self.clock = Clock(self, time.monotonic_ns, time.time_ns, rate)
        self.poller.drive(self.clock)
        self.pid = os.getpid()
        self.seed = seed
        #: begins each line of `log`
        self.program = program
        #: whether vCPUs and iothreads get a thread that tools can see
        self.real_threads = True
        #: whether those threads are named for tools
        self.names_threads = False
        self.listeners: list[socket.SocketListener] = []
        #: called before waiting for one descriptor alone; returns another that ends the wait (a signal came), or -1
        self.interruptible: Callable[[], int] | None = None
        #: called when that one was readable
        self.on_interrupt: Callable[[], None] | None = None
        #: called when the process ends, however it does: a terminal is put back in order
        self.at_exit: list[Callable[[], None]] = []
        self._threads: list[Thread] = []
        self._wake_fd = -1
        self._from_threads: list[Callable[[], None]] = []

    # turns
    def call_soon(self, callback: Callable[[], None]) -> None:
        self.poller.call_soon(callback)

    def when_idle(self, work: Callable[[], bool] | None) -> None:
        if isinstance(self.poller, EpollPoller):
            self.poller.idle_work = work

    def call_from_thread(self, callback: Callable[[], None]) -> None:
        """As call_soon, from another thread. `watch_threads` must have been called before."""
        self._from_threads.append(callback)
        os.eventfd_write(self._wake_fd, 1)

    def watch_threads(self) -> None:
        if self._wake_fd < 0:
            self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self.poller.add_reader(self._wake_fd, self._threads_called)

    def _threads_called(self) -> None:
        os.eventfd_read(self._wake_fd)
        callbacks, self._from_threads = self._from_threads, []
        for callback in callbacks:
            callback()

    async def call_in_thread(self, work: Callable[[], Any]) -> Any:
        """Run `work()` in a thread and return what it returns or raise what it raises."""
        self.watch_threads()
        outcome = Future(self)

        def run() -> None:
            try:
                value = work()
            except Exception as error:
                failure = error
                self.call_from_thread(lambda: outcome.set_exception(failure))
            else:
                self.call_from_thread(lambda: outcome.set_result(value))

        _thread.start_new_thread(run, ())
        return await outcome

    # chance
    def random(self, name: str) -> Random:
        from random import Random

        return Random(f"{self.seed}/{name}")

    # the outside
    async def connect(self, address: SocketAddress, *, name: str = "") -> Channel:
        return await socket.connect(self, address, name)

    def connect_now(self, address: SocketAddress, *, name: str = "") -> Channel:
        return socket.connect_now(self, address, name)

    def listen(
        self, address: SocketAddress, on_channel: Callable[[Channel], None], *, backlog: int = 1, name: str = ""
    ) -> Listener:
        return socket.listen(self, address, on_channel, backlog, name)

    def resolve(self, address: SocketAddress) -> list[SocketAddress]:
        from fakeqemu.io.dns_resolver import places_to_listen

        return places_to_listen(address)

    def is_socket(self, fd: int) -> bool:
        return S_ISSOCK(os.fstat(fd).st_mode)

    def channel_for_fd(self, fd: int, *, name: str = "") -> Channel:
        return file.channel_for_fd(self, fd, name)

    def close_fd(self, fd: int) -> None:
        os.close(fd)

    def dup_fd(self, fd: int) -> int:
        return os.dup(fd)

    def open_channel(self, path: str, flags: int, mode: int = 0o660, *, name: str = "") -> Channel:
        return file.open_channel(self, path, flags, mode, name)

    def spawn(self, argv: list[str], *, name: str = "") -> Channel:
        return file.spawn(self, argv, name)

    def stdio(self) -> Channel:
        return file.FileChannel(self, os.dup(0), os.dup(1), "stdio")

    def stdio_terminal(self) -> Terminal | None:
        if not os.isatty(0):
            return None
        from fakeqemu.io.terminal import StdioTerminal

        return StdioTerminal(self)

    def reap(self, pid: int) -> None:
        """Let a program end: it has lost its pipes and gets SIGTERM if it is still there; its status is collected."""
        try:
            if os.waitpid(pid, os.WNOHANG)[0] == pid:
                return
            fd = os.pidfd_open(pid)
        except OSError:
            return

        def ended() -> None:
            self.poller.remove_reader(fd)
            os.close(fd)
            try:
                os.waitpid(pid, os.WNOHANG)
            except OSError:
                pass

        self.poller.add_reader(fd, ended)

    def block_until_readable(self, fd: int) -> None:
        """Wait for `fd`, turning nothing else; a signal is seen to."""
        import select

        interrupt_fd = self.interruptible() if self.interruptible is not None else -1
        waiting = select.poll()
        waiting.register(fd, select.POLLIN)
        if interrupt_fd >= 0:
            waiting.register(interrupt_fd, select.POLLIN)
        while True:
            ready = [ready_fd for ready_fd, _events in waiting.poll()]
            if interrupt_fd in ready and self.on_interrupt is not None:
                self.on_interrupt()
            if fd in ready:
                return

    def kill(self) -> None:
        os.kill(os.getpid(), _SIGKILL)

    def thread(self, name: str) -> HostThread:
        if not self.real_threads:
            return HostThread(name, self.pid)
        thread = Thread(self, name)
        self._threads.append(thread)
        return thread

    def close_fds(self, fds: list[int]) -> None:
        """Close descriptors that nobody took."""
        for fd in fds:
            try:
                os.close(fd)
            except OSError:
                pass

    def log(self, text: str) -> None:
        self.write_stderr(f"{self.program}: {text}\n" if self.program else f"{text}\n")

    def log_plain(self, text: str) -> None:
        self.write_stderr(f"{text}\n")

    def print(self, text: str) -> None:
        try:
            os.write(1, text.encode("utf-8", "surrogateescape"))
        except OSError:
            pass

    def write_stderr(self, text: str) -> None:
        """Text to stderr at once; nothing happens when nobody reads it."""
        try:
            os.write(2, text.encode("utf-8", "surrogateescape"))
        except OSError:
            pass

    def close(self) -> None:
        """Stop listening, end threads, give descriptors back. For machines that live in somebody's process."""
        for listener in tuple(self.listeners):
            listener.close()
        for thread in tuple(self._threads):
            thread.stop()
        if self._wake_fd >= 0:
            self.poller.remove_reader(self._wake_fd)
            os.close(self._wake_fd)
            self._wake_fd = -1
        self.poller.close()


def set_comm(name: str, tid: int) -> None:
    """What ps and top show for a thread of ours; the kernel cuts it to 15 bytes."""
    try:
        fd = os.open(f"/proc/self/task/{tid}/comm", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(fd, os.fsencode(name)[:15])
    except OSError:
        pass
    os.close(fd)


class Thread(HostThread):
    """A real thread that sleeps until it is stopped."""

    __slots__ = ("_gate", "_host")

    def __init__(self, host: ProcessHost, name: str) -> None:
        super().__init__(name, 0)
        self._host = host
        self._gate = _thread.allocate_lock()
        self._gate.acquire()
        started = _thread.allocate_lock()
        started.acquire()

        def idle() -> None:
            self.tid = _thread.get_native_id()
            started.release()
            self._gate.acquire()

        before = _thread.stack_size(_THREAD_STACK_BYTES)
        try:
            _thread.start_new_thread(idle, ())
        finally:
            _thread.stack_size(before)
        started.acquire()
        if host.names_threads:
            set_comm(name, self.tid)

    def stop(self) -> None:
        if self in self._host._threads:
            self._host._threads.remove(self)
            self._gate.release()
