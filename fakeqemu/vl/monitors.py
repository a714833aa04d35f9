# SPDX-License-Identifier: MIT
"""-mon, -qmp, -monitor: a monitor on a character device.

QEMU: monitor_init_opts in monitor/monitor.c
"""

from __future__ import annotations

from fakeqemu.chardev.monitor import attach_monitor
from fakeqemu.error import QemuError
from fakeqemu.monitor.qmp import MonitorQMP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.chardev.char import Chardev
    from fakeqemu.system.machine import Machine
    from fakeqemu.vl.opts import Opts

#: what monitors that -qmp and -monitor make are called, with a number
COMPAT_NAME = "compat_monitor"


def new_monitor(vm: Machine, opts: Opts) -> None:
    """The monitor that the parameters ask for; raises QemuError."""
    label = opts.get("chardev")
    if label is None:
        raise QemuError("Parameter 'chardev' is missing")
    mode = opts.get("mode", "readline")
    if mode not in ("readline", "control"):
        raise QemuError(f"Parameter 'mode' does not accept value '{mode}'")
    chardev = vm.chardevs.find(label)
    if chardev is None:
        raise QemuError(f'chardev "{label}" not found')
    if mode == "readline" and opts.get_bool("pretty"):
        raise QemuError("'pretty' is not compatible with HMP monitors")
    if vm.profile.is_type("monitor-qmp"):
        _new_object(vm, opts.id, label, str(mode), pretty=opts.get_bool("pretty"))
        return
    attach(vm, chardev, opts.id or label, str(mode), pretty=opts.get_bool("pretty"))


def _new_object(vm: Machine, name: str | None, label: str, mode: str, *, pretty: bool) -> None:
    """The monitor as an object, where releases have those; one without a name gets the next free number."""
    from fakeqemu.system.user_creatable import add_type

    number = 0
    while name is None:
        free = f"{COMPAT_NAME}{number}"
        if vm.chardevs.find(free) is None and vm.qom.objects.child(free) is None:
            name = free
        number += 1
    if mode == "control":
        add_type(vm, "monitor-qmp", name, {"chardev": label, "pretty": pretty})
    else:
        add_type(vm, "monitor-hmp", name, {"chardev": label, "readline": True})


def attach(vm: Machine, chardev: Chardev, name: str, mode: str, *, pretty: bool) -> None:
    """Put a monitor on a character device; raises QemuError when that is in use."""
    if mode == "control":

        def make_qmp(**io: Any) -> MonitorQMP:
            io["name"] = name
            return MonitorQMP(vm, pretty=pretty, close_fd=vm.host.close_fd, **io)

        attach_monitor(chardev, make_qmp)
        # QEMU's monitors have a thread that takes clients, and so greets one while the machine is still being made. What
        # the client asks is answered when it is ready.
        chardev.greet_waiting()
        return
    from fakeqemu.monitor.terminal import MonitorHMP

    attach_monitor(chardev, lambda **io: MonitorHMP(vm, **io))
