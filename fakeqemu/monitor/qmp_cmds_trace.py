# SPDX-License-Identifier: MIT
"""trace-event-get-state and trace-event-set-state.

QEMU: trace/qmp.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.monitor.registry import qmp_command
from fakeqemu.monitor.trace_control import is_pattern

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.system.machine import Machine


def _cpus(vm: Machine) -> list[int]:
    from fakeqemu.system.cpus import query_cpus_fast

    return [cpu["cpu-index"] for cpu in query_cpus_fast(vm)]


def _found(vm: Machine, pattern: str, vcpu: int | None) -> list[str]:
    """The events meant; raises QemuError for a name that is none, or a CPU that it has nothing to do with."""
    control = vm.trace_control
    if vcpu is not None and vcpu not in _cpus(vm):
        raise QemuError(f"invalid vCPU index {vcpu}")
    names = control.find(pattern)
    if is_pattern(pattern):
        return [name for name in names if vcpu is None or control.is_of_cpu(name)]
    if not names:
        raise QemuError(f'unknown event "{pattern}"')
    if vcpu is not None and not control.is_of_cpu(pattern):
        raise QemuError(f'event "{pattern}" is not vCPU-specific')
    return names


@qmp_command
def qmp_trace_event_get_state(vm: Machine, *, name: str, vcpu: int | None = None) -> list[dict[str, Any]]:
    """Whether events are printed; raises QemuError."""
    control = vm.trace_control
    result = []
    for event in _found(vm, name, vcpu):
        entry = dict(vm.profile.get("trace-events", event))
        entry.pop("format", None)
        if control.is_on(event, vcpu):
            entry["state"] = "enabled"
        result.append({"name": event, **entry})
    return result


@qmp_command
def qmp_trace_event_set_state(
    vm: Machine,
    *,
    name: str,
    enable: bool,
    ignore_unavailable: bool = False,  # noqa: ARG001  none is: what was compiled out is not listed
    vcpu: int | None = None,
) -> None:
    """Print events from now on, or no more; raises QemuError."""
    control = vm.trace_control
    for event in _found(vm, name, vcpu):
        if vcpu is None:
            control.switch(event, enable)
        else:
            control.switch_for_cpu(event, vcpu, _cpus(vm), enable)
