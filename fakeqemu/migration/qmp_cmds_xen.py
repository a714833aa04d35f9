# SPDX-License-Identifier: MIT
"""QMP commands of Xen's toolstack: devices to a file and back, and a log of dirty memory that only Xen reads.

QEMU: migration/savevm.c, hw/i386/xen/xen-hvm.c
"""

from __future__ import annotations

from fakeqemu.migration import devices_state
from fakeqemu.monitor.registry import qmp_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.system.machine import Machine


@qmp_command
async def qmp_xen_save_devices_state(vm: Machine, *, filename: str, live: bool = True) -> None:  # noqa: ARG001
    """Write the state of all devices, but not the RAM."""
    await devices_state.save(vm, filename)


@qmp_command
async def qmp_xen_load_devices_state(vm: Machine, *, filename: str) -> None:
    """Read the state of all devices."""
    await devices_state.load(vm, filename)


@qmp_command
def qmp_xen_set_global_dirty_log(vm: Machine, *, enable: bool) -> None:
    """Log dirty memory for Xen, of which there is none here; the guest's own log goes its way."""
    vm.trace("fake_xen_set_global_dirty_log", enable=enable)
