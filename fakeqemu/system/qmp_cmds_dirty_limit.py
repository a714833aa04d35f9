# SPDX-License-Identifier: MIT
"""Limits of the rate at which each vCPU dirties memory.

QEMU keeps them with KVM's dirty ring only. Nothing here has one: no limit can be set, so there is none to show or to cancel.

QEMU: system/dirtylimit.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.monitor.registry import qmp_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.system.machine import Machine


@qmp_command
def qmp_set_vcpu_dirty_limit(vm: Machine, *, dirty_rate: int, cpu_index: int | None = None) -> None:  # noqa: ARG001
    """Limit the dirty rate of one vCPU or of all: refused without a dirty ring, whatever is asked for."""
    raise QemuError("dirty page limit feature requires KVM with accelerator property 'dirty-ring-size' set'")


@qmp_command
def qmp_cancel_vcpu_dirty_limit(vm: Machine, *, cpu_index: int | None = None) -> None:
    """Give a limit up; without a dirty ring nothing is looked at, nor refused."""


@qmp_command
def qmp_query_vcpu_dirty_limit(vm: Machine) -> list[dict[str, Any]]:  # noqa: ARG001
    """The limits in force."""
    return []


def hmp_set_vcpu_dirty_limit(vm: Machine, *, dirty_rate: int, cpu_index: int = -1) -> str:
    """The human monitor's set_vcpu_dirty_limit; -1 stands for all."""
    if dirty_rate < 0 and vm.compat.dirty_limit_negative_refused:
        raise QemuError(f"invalid dirty page limit {dirty_rate}")
    qmp_set_vcpu_dirty_limit(vm, dirty_rate=dirty_rate, cpu_index=None if cpu_index == -1 else cpu_index)
    return ""


def hmp_cancel_vcpu_dirty_limit(vm: Machine, *, cpu_index: int = -1) -> str:
    """The human monitor's cancel_vcpu_dirty_limit; -1 stands for all."""
    qmp_cancel_vcpu_dirty_limit(vm, cpu_index=None if cpu_index == -1 else cpu_index)
    return "[Please use 'info vcpu_dirty_limit' to query dirty limit for virtual CPU]\n"


def info_vcpu_dirty_limit(vm: Machine, flags: list[str] | None = None) -> str:  # noqa: ARG001
    """The text of `info vcpu_dirty_limit`."""
    return "".join(
        f"vcpu[{limit['cpu-index']}], limit rate {limit['limit-rate']} (MB/s), current rate {limit['current-rate']} (MB/s)\n"
        for limit in qmp_query_vcpu_dirty_limit(vm)
    ) or "Dirty page limit not enabled!\n"  # fmt: skip
