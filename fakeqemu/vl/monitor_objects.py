# SPDX-License-Identifier: MIT
"""The objects `monitor-qmp` and `monitor-hmp` of `-object` and `object-add`: monitors as objects of their own.

QEMU: monitor/qmp.c, monitor/hmp.c (since 11.1)
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.system.user_creatable import UserCreatable
from fakeqemu.vl import monitors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.system.machine import Machine


class MonitorObject(UserCreatable):
    """One monitor on the character device that its property `chardev` names."""

    __slots__ = ("_label",)

    def __init__(self, vm: Machine, type_name: str) -> None:
        super().__init__(vm, type_name)
        self._label: str | None = None

    def complete(self) -> None:
        label = self._values.get("chardev")
        chardev = self.vm.chardevs.find(str(label))
        if chardev is None:
            raise QemuError(f'chardev "{label}" not found')
        mode = "control" if self.type_name == "monitor-qmp" else "readline"
        pretty = mode == "control" and bool(self._values.get("pretty"))
        monitors.attach(self.vm, chardev, self.name or "", mode, pretty=pretty)
        self._label = chardev.label

    def check_deletable(self) -> None:
        current = self.vm.dispatcher.current
        if self.type_name == "monitor-qmp" and current is not None and current.name == self.name:
            raise QemuError("Cannot delete the current QMP monitor")

    def unparented(self) -> None:
        chardev = None if self._label is None else self.vm.chardevs.find(self._label)
        if chardev is not None:
            chardev.release_frontend()
