# SPDX-License-Identifier: MIT
"""QMP commands of COLO, and of the replication of disks that Xen steers by itself.

QEMU: migration/colo.c, migration/colo-failover.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.monitor.registry import qmp_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.system.machine import Machine


@qmp_command
def qmp_query_colo_status(vm: Machine) -> dict[str, Any]:
    """Which half of a pair this is, or was last, and why it is no more."""
    return {"mode": vm.colo.mode, "last-mode": vm.colo.last_mode, "reason": vm.colo.reason}


@qmp_command
async def qmp_x_colo_lost_heartbeat(vm: Machine) -> None:
    """The other half is gone: go on alone."""
    await vm.colo.lost_heartbeat()


@qmp_command
def qmp_xen_set_replication(vm: Machine, *, enable: bool, primary: bool, failover: bool | None = None) -> None:
    """Start or stop the replication of disks; this machine has none that takes part."""
    if enable and failover is not None:
        raise QemuError("Parameter 'failover' is only for stopping replication")
    vm.trace("fake_xen_set_replication", enable=enable, primary=primary, failover=bool(failover))


@qmp_command
def qmp_query_xen_replication_status(vm: Machine) -> dict[str, Any]:  # noqa: ARG001
    """Whether a disk's replication has failed; without such disks none has."""
    return {"error": False}


@qmp_command
def qmp_xen_colo_do_checkpoint(vm: Machine) -> None:
    """Have the disks' replication make a checkpoint; this machine has none that takes part."""
    vm.trace("fake_xen_colo_do_checkpoint")
