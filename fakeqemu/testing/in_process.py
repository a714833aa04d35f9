# SPDX-License-Identifier: MIT
"""A machine inside the caller's process, on the running asyncio loop: no start-up, and its model in view.

It has QEMU's command line and real sockets, but no signals, no pid file and no exit status of its own: where a process
would end, `ended` is set and the machine's sockets are closed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fakeqemu.cli import start
from fakeqemu.error import QemuError
from fakeqemu.io.host import ProcessHost
from fakeqemu.io.poller import AsyncioPoller
from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.system.build import new_machine
from fakeqemu.vl import fake
from fakeqemu.vl.location import Reporter, StartEnded

if TYPE_CHECKING:
    from collections.abc import Sequence


class InProcess:
    """One machine made from a command line.

    Raises QemuError with what QEMU would print before it exits, and ValueError for wrong settings of `-fake`. `said` holds
    what a process would have printed on stderr.
    """

    def __init__(self, argv: Sequence[str], program: str = "fakeqemu-system-x86_64") -> None:
        self.said: list[str] = []
        self.ended = asyncio.Event()
        settings = fake.settings(fake.texts_of(list(argv)))
        profile = VersionProfile.load(settings.get("profile", fake.DEFAULT_PROFILE))
        self.host = ProcessHost(
            AsyncioPoller(asyncio.get_running_loop()),
            rate=fake.clock_rate(settings.get("clock", "real")),
            seed=settings.get("seed", "0"),
            program=program,
        )
        self.host.kill = self.close  # type: ignore[method-assign]  # the tester's process lives on
        self.machine = new_machine(self.host, profile, settings)
        # what a test's tool is told is held against the profile's schema; a mismatch counts as a bug of ours
        self.machine.dispatcher.check_replies = True
        self.machine.on_shutdown.add(self._shut_down)
        reporter = Reporter(program, self.said.append, self.said.append, self.host.clock.wall_ns)
        try:
            start(self.machine, list(argv), reporter, None)
        except StartEnded as end:
            self.close()
            raise QemuError("".join(self.said) or f"the start ended with status {end.status}") from end
        except BaseException:
            self.close()
            raise

    def _shut_down(self, _cause: str) -> None:
        # what is being answered now still goes out
        self.host.call_soon(self.close)

    def close(self) -> None:
        """End the machine: its tasks, sockets and files. A second call does nothing."""
        if not self.ended.is_set():
            self.ended.set()
            for task in tuple(self.host.tasks):
                task.cancel()
            self.machine.chardevs.close_all()
            self.host.close()
