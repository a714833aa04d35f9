# SPDX-License-Identifier: MIT
"""Emulators of one process on the operating system's sockets, files and programs, in the form of a simulated world.

For recordings that are about what the operating system does: addresses, descriptors of all kinds, programs. Time is
real, and as short as the emulators make it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fakeqemu.host.clock import NS_PER_S
from fakeqemu.io.host import ProcessHost
from fakeqemu.io.poller import EpollPoller
from fakeqemu.sim.world import SimStalled

if TYPE_CHECKING:
    from fakeqemu.host.channel import Channel

#: what does not happen within this time does not happen
PATIENCE_NS = 30 * NS_PER_S


class _SharedPoller(EpollPoller):
    """Outlives the hosts that use it."""

    __slots__ = ()

    def close(self) -> None:
        pass


class OneOfManyHost(ProcessHost):
    """A host whose process is not its own."""

    def __init__(self, poller: EpollPoller) -> None:
        super().__init__(poller)
        self.real_threads = False
        #: pids of those that were given a migration
        self.programs: list[int] = []

    def kill(self) -> None:
        for task in tuple(self.tasks):
            task.cancel()
        self.close()

    def spawn(self, argv: list[str], *, name: str = "") -> Channel:
        """As always; but programs that read nothing end at the same moment each time."""
        if name == "migration-exec-outgoing" and argv[0].endswith("sh") and argv[-1] in ("false", ""):
            # A shell takes its time: the first that is written comes through.
            argv = ["/bin/dd", "bs=4096", "count=1", "of=/dev/null", "status=none"]
        channel = super().spawn(argv, name=name)
        if name == "migration-exec-outgoing":
            self.programs.append(channel.pid)  # type: ignore[attr-defined]
        if argv == ["/bin/false"]:  # has ended when we write first
            os.waitid(os.P_PID, channel.pid, os.WEXITED | os.WNOWAIT)  # type: ignore[attr-defined]
        return channel

    @staticmethod
    def install(fd: Any) -> int:
        """A descriptor for something that may ride on a message: it is one."""
        return int(fd)


class RealWorld:
    """Hosts that share a loop."""

    def __init__(self) -> None:
        self._poller = _SharedPoller()
        self._hosts: list[OneOfManyHost] = []
        self._keeper = self.host("keeper")

    def host(self, name: str = "") -> OneOfManyHost:
        host = OneOfManyHost(self._poller)
        self._hosts.append(host)
        return host

    def await_programs(self) -> None:
        """Wait for the programs whose migration is over: they have written what they got."""
        self.run_ready()
        for pid in [pid for host in self._hosts for pid in host.programs]:
            try:
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            except ChildProcessError:
                pass  # its host has heard of it

    def run_until(self, goal: Callable[[], bool], patience_ns: int = PATIENCE_NS) -> None:
        """Turn until `goal()`, looked at between turns; raises SimStalled when that takes too long."""
        clock = self._keeper.clock
        limit_ns = clock.now_ns() + min(patience_ns, PATIENCE_NS)
        timer = clock.call_at(limit_ns, lambda: None)
        try:
            while not goal():
                if clock.now_ns() >= limit_ns:
                    raise SimStalled("too late")
                self._poller.turn()
        finally:
            timer.cancel()

    def run_ready(self) -> None:
        """Turn while descriptors are ready."""
        for _ in range(100):
            self._poller.turn(wait=False)

    def run_for(self, ns: int) -> None:
        limit_ns = time.monotonic_ns() + ns
        try:
            self.run_until(lambda: time.monotonic_ns() >= limit_ns, ns)
        except SimStalled:
            pass

    def close(self) -> None:
        self._keeper.kill()
        EpollPoller.close(self._poller)

    # what a lab hands over
    def socketpair(self) -> tuple[int, int]:
        import socket

        near, far = socket.socketpair()
        return near.detach(), far.detach()

    def pipe(self) -> tuple[int, int]:
        return os.pipe()
