# SPDX-License-Identifier: MIT
"""QMP commands that make and take away objects.

QEMU: qom/qom-qmp-cmds.c
"""

from __future__ import annotations

from fakeqemu.monitor.registry import qmp_command
from fakeqemu.system import user_creatable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.system.machine import Machine


@qmp_command
def qmp_object_add(vm: Machine, options: dict[str, Any]) -> None:
    """Make an object."""
    user_creatable.object_add(vm, options)


@qmp_command
def qmp_object_del(vm: Machine, *, id: str) -> None:
    """Take an object away."""
    user_creatable.object_del(vm, id)
