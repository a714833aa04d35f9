# SPDX-License-Identifier: MIT
"""The objects `monitor-qmp` and `monitor-hmp` of `-object` and `object-add`: monitors as objects of their own.

QEMU: monitor/qmp.c, monitor/hmp.c (since 11.1)
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.system.user_creatable import UserCreatable
from fakeqemu.vl import monitors


class MonitorObject(UserCreatable):
    """One monitor on the character device that its property `chardev` names."""

    __slots__ = ("_chardev_label",)

    def complete(self) -> None:
        label = self._values.get("chardev")
        chardev = self.vm.chardevs.find(str(label))
        if chardev is None:
            raise QemuError(f'chardev "{label}" not found')
        mode = "control" if self.type_name == "monitor-qmp" else "readline"
        pretty = mode == "control" and bool(self._values.get("pretty"))
        monitors.attach(self.vm, chardev, self.name or "", mode, pretty=pretty)
        self._chardev_label = chardev.label

    def unparented(self) -> None:
        chardev = self.vm.chardevs.find(self._chardev_label)
        if chardev is not None:
            chardev.release_frontend()
