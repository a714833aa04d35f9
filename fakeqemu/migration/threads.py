# SPDX-License-Identifier: MIT
"""The threads of a migration, for those who want to pin them.

A migration here has tasks, no threads. Who asks gets a thread for each, with the task's name, that does nothing and ends
with it.

QEMU: migration/threadinfo.c
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.host.host import HostThread
    from fakeqemu.host.sync import Task
    from fakeqemu.system.machine import Machine

#: the tasks that have a thread of the list: the one that leads, and those of channels for pages
_LEADING = "mig/src/main"
_SENDING = "mig/src/send_"


class MigrationThreads:
    """The threads that were asked for (`vm.migration_threads`)."""

    __slots__ = ("_threads", "_vm")

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self._threads: list[tuple[Task, HostThread]] = []

    def query(self) -> list[dict[str, Any]]:
        """The reply of query-migrationthreads: the youngest first."""
        self._drop_ended()
        known = [task for task, _ in self._threads]
        outgoing = self._vm.migration.outgoing
        connected = outgoing is not None and outgoing.f is not None  # there is no thread before
        tasks = [task for task in self._vm.migration.tasks if not task.done] if connected else []
        for task in tasks:
            if task not in known and (task.name == _LEADING or task.name.startswith(_SENDING)):
                self._threads.append((task, self._vm.host.thread(task.name)))
                task.add_done_callback(self._drop_ended)
        order = {id(task): number for number, task in enumerate(tasks)}
        shown = sorted(self._threads, key=lambda one: -order.get(id(one[0]), 0))
        return [{"name": task.name, "thread-id": thread.tid} for task, thread in shown]

    def _drop_ended(self) -> None:
        for one in [one for one in self._threads if one[0].done]:
            self._threads.remove(one)
            one[1].stop()
