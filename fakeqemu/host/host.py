# SPDX-License-Identifier: MIT
"""What a machine is given: time, chance, tasks and the outside. Nothing below `io` and `sim` reaches past it.

Two subclasses exist: `fakeqemu.io.host.ProcessHost` (the real world) and `fakeqemu.sim.host.SimHost` (one process, one
seed, no real time). Error texts of connect, listen and open are QEMU's, raised as QemuError.

QEMU: the operating system, util/qemu-sockets.c
"""

from __future__ import annotations

from fakeqemu.host.sync import Event, Future, Lock, Task, run_sync

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from random import Random
    from typing import Any

    from fakeqemu.host.channel import Channel, Listener, SocketAddress, Terminal
    from fakeqemu.host.clock import Clock


class HostThread:
    """A thread that a tool can see: a vCPU's or an iothread's. It does nothing."""

    __slots__ = ("name", "tid")

    def __init__(self, name: str, tid: int) -> None:
        self.name = name
        self.tid = tid

    def stop(self) -> None:
        """End the thread."""


class Host:
    """Base of all hosts."""

    clock: Clock
    #: process id that a tool would see
    pid: int = 1
    #: whether descriptors are those of the operating system
    real_fds = False

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        #: told of a task that failed and that nobody joined
        self.on_task_failure: Callable[[Task, BaseException], None] | None = None

    # turns and tasks
    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call `callback()` in the next turn, in the order of the requests."""
        raise NotImplementedError

    def when_idle(self, work: Callable[[], bool] | None) -> None:
        """Do `work()` piece by piece while there is nothing else to do: it returns False when there is none for now.

        None ends it. It is for what makes later work faster: a Host may as well never do it.
        """

    def start(self, coro: Coroutine[Any, Any, Any], name: str) -> Task:
        """Run `coro` at once up to its first wait and then on; `name` is QEMU's thread name where there is one."""
        task = Task(self, coro, name)
        self.tasks.append(task)
        task._step()
        return task

    def task_ended(self, task: Task) -> None:
        self.tasks.remove(task)

    def task_failed(self, task: Task, error: BaseException) -> None:
        if self.on_task_failure is not None:
            self.on_task_failure(task, error)
        else:
            raise error

    def future(self) -> Future:
        return Future(self)

    async def turn(self) -> None:
        """Let all others have their turn."""
        turn = self.future()
        self.call_soon(turn.set_result)
        await turn

    def event(self) -> Event:
        return Event(self)

    def lock(self) -> Lock:
        return Lock(self)

    # chance
    def random(self, name: str) -> Random:
        """A generator of its own for `name`, from the host's seed: one more user does not change what others draw."""
        raise NotImplementedError

    # the outside
    async def connect(self, address: SocketAddress, *, name: str = "") -> Channel:
        """Connect to a QAPI SocketAddress; raises QemuError in QEMU's words."""
        raise NotImplementedError

    def connect_now(self, address: SocketAddress, *, name: str = "") -> Channel:
        """As connect, holding everything else up meanwhile, as start-up and chardev-add do."""
        channel: Channel = run_sync(self.connect(address, name=name))
        return channel

    def listen(
        self, address: SocketAddress, on_channel: Callable[[Channel], None], *, backlog: int = 1, name: str = ""
    ) -> Listener:
        """Listen at a QAPI SocketAddress; `on_channel(channel)` for each connection. Raises QemuError in QEMU's words."""
        raise NotImplementedError

    def resolve(self, address: SocketAddress) -> list[SocketAddress]:
        """The places where something listens that listens at all that a name stands for; raises QemuError in QEMU's words."""
        return [address]

    def is_socket(self, fd: int) -> bool:
        """Whether a descriptor is a socket's; raises OSError."""
        raise NotImplementedError

    def channel_for_fd(self, fd: int, *, name: str = "") -> Channel:
        """A channel over a descriptor (socket, pipe, file), which it then owns."""
        raise NotImplementedError

    def close_fd(self, fd: int) -> None:
        """Give a descriptor back; raises OSError."""
        raise NotImplementedError

    def dup_fd(self, fd: int) -> int:
        """A second descriptor for the same thing; raises OSError."""
        raise NotImplementedError

    def open_channel(self, path: str, flags: int, mode: int = 0o660, *, name: str = "") -> Channel:
        """Open a file as a channel (seekable when the file is); raises OSError."""
        raise NotImplementedError

    def spawn(self, argv: list[str], *, name: str = "") -> Channel:
        """Run a program with its stdin and stdout as the channel's two directions; raises OSError."""
        raise NotImplementedError

    def stdio(self) -> Channel:
        """Stdin and stdout as one channel."""
        raise NotImplementedError

    def stdio_terminal(self) -> Terminal | None:
        """The terminal that stdin is, None when it is none."""
        return None

    def kill(self) -> None:
        """The process is gone at once, as by SIGKILL: nothing is said, nothing is tidied up."""
        raise NotImplementedError

    def thread(self, name: str) -> HostThread:
        """A visible, idle thread (real in an emulator process)."""
        raise NotImplementedError

    def print(self, text: str) -> None:
        """Text for those who started the emulator: stdout of a process."""

    def write_stderr(self, text: str) -> None:
        """Text to stderr as it is; nothing happens when nobody reads it."""
        raise NotImplementedError

    def log(self, text: str) -> None:
        """A line for those who run the emulator: stderr of a process, without program name and newline."""
        raise NotImplementedError

    def log_plain(self, text: str) -> None:
        """As `log`, and no program name is put in front: the line comes from a client's command."""
        self.log(text)
