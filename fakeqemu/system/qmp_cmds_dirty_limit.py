# SPDX-License-Identifier: MIT
"""Commands about limits of the rate at which each vCPU dirties memory, QMP's and the human monitor's.

QEMU: system/dirtylimit.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.monitor.registry import qmp_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.system.machine import Machine

_HINT = "[Please use 'info vcpu_dirty_limit' to query dirty limit for virtual CPU]\n"
_UINT64_MASK = (1 << 64) - 1


@qmp_command
def qmp_set_vcpu_dirty_limit(vm: Machine, *, dirty_rate: int, cpu_index: int | None = None) -> None:
    """Limit the dirty rate of one vCPU or of all, in MB/s; 0 gives the limit up."""
    vm.dirty_limits.set(dirty_rate & _UINT64_MASK, cpu_index)


@qmp_command
def qmp_cancel_vcpu_dirty_limit(vm: Machine, *, cpu_index: int | None = None) -> None:
    """Give a limit up, or all of them. QEMU answers at the end of the period in which it measures, here it does so at once."""
    vm.dirty_limits.cancel(cpu_index)


@qmp_command
def qmp_query_vcpu_dirty_limit(vm: Machine) -> list[dict[str, Any]]:
    """The limits in force."""
    return vm.dirty_limits.query() if vm.has_part("dirty_limits") else []


def hmp_set_vcpu_dirty_limit(vm: Machine, *, dirty_rate: int, cpu_index: int = -1) -> str:
    """The human monitor's set_vcpu_dirty_limit; -1 stands for all."""
    if dirty_rate < 0 and vm.compat.dirty_limit_negative_refused:
        raise QemuError(f"invalid dirty page limit {dirty_rate}")
    qmp_set_vcpu_dirty_limit(vm, dirty_rate=dirty_rate, cpu_index=None if cpu_index == -1 else cpu_index)
    return _HINT if vm.compat.dirty_limit_set_told else ""


def hmp_cancel_vcpu_dirty_limit(vm: Machine, *, cpu_index: int = -1) -> str:
    """The human monitor's cancel_vcpu_dirty_limit; -1 stands for all."""
    qmp_cancel_vcpu_dirty_limit(vm, cpu_index=None if cpu_index == -1 else cpu_index)
    return _HINT


def info_vcpu_dirty_limit(vm: Machine, flags: list[str] | None = None) -> str:  # noqa: ARG001
    """The text of `info vcpu_dirty_limit`."""
    return "".join(
        f"vcpu[{limit['cpu-index']}], limit rate {_signed(limit['limit-rate'])} (MB/s), "
        f"current rate {limit['current-rate']} (MB/s)\n"
        for limit in qmp_query_vcpu_dirty_limit(vm)
    ) or "Dirty page limit not enabled!\n"  # fmt: skip


def _signed(value: int) -> int:
    """A number of 64 bits as the human monitor writes it."""
    return value - (1 << 64) if value >> 63 else value
