# SPDX-License-Identifier: MIT
"""iothreads: a visible, idle thread each, with the settings that tools give them.

QEMU: iothread.c, event-loop-base.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.system.user_creatable import UserCreatable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fakeqemu.host.host import HostThread
    from fakeqemu.system.machine import Machine

I64_MAX = (1 << 63) - 1
DEFAULT_POLL_MAX_NS = 32768
DEFAULT_POLL_WEIGHT = 3
DEFAULT_POOL_MAX = 64
MAX_POLL_WEIGHT = 63


class EventLoopBase(UserCreatable):
    """What iothreads and the main loop have in common."""

    __slots__ = ("settings",)

    def __init__(self, vm: Machine, type_name: str) -> None:
        super().__init__(vm, type_name)
        self.settings: dict[str, int] = {}
        self._setting("aio-max-batch", 0)
        self._setting("thread-pool-min", 0)
        self._setting("thread-pool-max", DEFAULT_POOL_MAX)

    def _setting(self, name: str, default: int, largest: int = I64_MAX) -> None:
        self.settings[name] = default
        self.define(name, "int", lambda: self.settings[name], self._setter(name, largest))

    def _setter(self, name: str, largest: int) -> Callable[[Any], None]:
        def set_value(value: int) -> None:
            if not 0 <= value <= largest:
                raise QemuError(f"{name} value must be in range [0, {largest}]")
            before = self.settings[name]
            self.settings[name] = value
            if self.parent is not None:
                try:
                    self.check_pool()
                except QemuError:
                    self.settings[name] = before
                    raise

        return set_value

    def check_pool(self) -> None:
        low, high = self.settings["thread-pool-min"], self.settings["thread-pool-max"]
        if low > high or not high:
            raise QemuError("bad thread-pool-min/thread-pool-max values")

    def complete(self) -> None:
        self.check_pool()


class MainLoop(EventLoopBase):
    """The settings of the main loop's event loop. There is at most one."""

    __slots__ = ()

    def complete(self) -> None:
        others = [other for other in self.vm.qom.objects.children.values() if isinstance(other, MainLoop)]
        if len(others) > 1:
            raise QemuError("only one main-loop instance allowed")
        super().complete()

    def check_deletable(self) -> None:
        raise QemuError(f"object '{self.name}' is in use, can not be deleted")


class IOThread(EventLoopBase):
    """One iothread."""

    __slots__ = ("thread",)

    def __init__(self, vm: Machine, type_name: str) -> None:
        super().__init__(vm, type_name)
        self.thread: HostThread | None = None
        factor: int = vm.compat.iothread_poll_factors
        self._setting("poll-max-ns", DEFAULT_POLL_MAX_NS)
        self._setting("poll-grow", factor)
        self._setting("poll-shrink", factor)
        if vm.compat.iothread_poll_weight:
            self._setting("poll-weight", DEFAULT_POLL_WEIGHT, MAX_POLL_WEIGHT)

    def complete(self) -> None:
        super().complete()
        self.thread = self.vm.host.thread(f"IO {self.name}")

    def unparented(self) -> None:
        if self.thread is not None:
            self.thread.stop()
            self.thread = None


def query_iothreads(vm: Machine) -> list[dict[str, Any]]:
    """IOThreadInfo of every iothread."""
    shown = []
    for child in vm.qom.objects.in_table_order():
        if isinstance(child, IOThread) and child.thread is not None:
            names = ("poll-max-ns", "poll-grow", "poll-shrink", "poll-weight", "aio-max-batch")
            known = {name: child.settings[name] for name in names if name in child.settings}
            shown.append({"id": child.name, "thread-id": child.thread.tid, **known})
    return shown
