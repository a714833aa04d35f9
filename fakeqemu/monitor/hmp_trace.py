# SPDX-License-Identifier: MIT
"""The human monitor's trace-event, log, logfile and info trace-events.

QEMU: trace/trace-hmp-cmds.c, hmp_log and hmp_logfile in monitor/hmp-cmds.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.monitor.qmp_cmds_trace import qmp_trace_event_get_state, qmp_trace_event_set_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fakeqemu.system.machine import Machine


def _cpu(vm: Machine, vcpu: int | None) -> dict[str, Any]:
    """The argument of QMP; later releases take a CPU, and mind it no more."""
    return {} if vcpu is None or not vm.compat.trace_events_of_cpus else {"vcpu": vcpu}


def _told(call: Callable[[], Any]) -> str:
    """What a function prints; its error without the word that most commands put in front."""
    try:
        return call() or ""
    except QemuError as err:
        return err.desc + "\n"


def trace_event(vm: Machine, *, name: str, option: bool, vcpu: int | None = None) -> str:
    """trace-event NAME on|off."""
    return _told(lambda: qmp_trace_event_set_state(vm, name=name, enable=option, **_cpu(vm, vcpu)))


def info_trace_events(vm: Machine, *, name: str = "*", vcpu: int | None = None) -> str:
    """The text of `info trace-events`."""

    def text() -> str:
        events = qmp_trace_event_get_state(vm, name=name, **_cpu(vm, vcpu))
        return "".join(f"{event['name']} : state {int(event['state'] == 'enabled')}\n" for event in events)

    return _told(text)


def log(vm: Machine, *, items: str) -> str:
    """log ITEMS: what a mask of -d does; for one that there is not, those that there are."""
    control = vm.trace_control
    known: str = vm.profile.get("hmp", "help/log", "").replace("\r\n", "\n")
    names = [line.split()[0] for line in known.splitlines()[1:] if line.strip()]
    warnings = ""
    if items == "none":
        return ""
    for item in items.split(","):
        if item.startswith("trace:"):
            pattern = item[len("trace:") :]
            if control.is_unknown(pattern):
                warnings += f"warning: trace event '{pattern.removeprefix('-')}' does not exist\n"
            control.apply(pattern)
        elif item not in names and item != "all":
            return warnings + known
    return warnings


def logfile(vm: Machine, *, filename: str) -> str:
    """logfile FILE: where lines go from now on."""
    return _told(lambda: vm.trace_control.open(filename))
