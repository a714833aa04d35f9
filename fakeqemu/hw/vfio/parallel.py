# SPDX-License-Identifier: MIT
"""Transitions of several devices side by side: launch in one run state handler, join in another.

A device with x-migration-parallel-states registers two handlers around the ordinary ones of its depth:

                    starting (ascending)      stopping (descending)
    (depth, -1)     launch                    join
    (depth,  0)     ordinary handlers of this depth, meanwhile
    (depth, +1)     join                      launch

Whichever of the two runs first launches, the second joins; so a depth is through before the next one begins. Prepare and
main are pairs of their own, and the run state code runs all prepare call-backs before the first main one.

QEMU: the series "vfio/migration: parallel device state transitions", not merged
"""

from __future__ import annotations

from fakeqemu.host.clock import NS_PER_US

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from fakeqemu.host.sync import Task
    from fakeqemu.system.machine import Machine
    from fakeqemu.system.runstate import ChangeHandler, ChangeStateEntry

    #: (running, run state) -> the transition; it reports its own failure
    Transition = Callable[[bool, str], Coroutine[Any, Any, None]]


class ParallelTransitions:
    """The two handlers of one device. Never more than one transition is on its way."""

    def __init__(self, vm: Machine, main: Transition, prepare: Transition | None, depth: int) -> None:
        self._vm = vm
        self._task: Task | None = None
        names = vm.compat.vfio_thread_names
        self._entries: list[ChangeStateEntry] = []
        for adjustment in (-1, 1):
            self._entries.append(
                vm.runstate.add_change_handler(
                    self._half(main, names, adjustment),
                    self._half(prepare, f"{names}_prepare", adjustment) if prepare is not None else None,
                    (depth, adjustment),
                )
            )

    def _half(self, transition: Transition, thread_name: str, adjustment: int) -> ChangeHandler:
        """The handler below (-1) or above (+1) the ordinary ones."""

        async def launch_or_join(running: bool, state: str) -> None:
            if running == (adjustment < 0):
                await self._launch(transition(running, state), thread_name)
            else:
                await self._join()

        return launch_or_join

    async def _launch(self, transition: Coroutine[Any, Any, None], thread_name: str) -> None:
        assert self._task is None, "two transitions of one device at once"
        await self._vm.host.clock.sleep(self._vm.compat.vfio_launch_us * NS_PER_US)
        self._task = self._vm.host.start(transition, thread_name)

    async def _join(self) -> None:
        # Nothing was launched when the device came while the machine was between the two.
        task, self._task = self._task, None
        if task is not None:
            await task.join()

    def remove(self) -> None:
        """Take both handlers out of the list."""
        for entry in self._entries:
            entry.remove()
