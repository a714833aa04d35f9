# SPDX-License-Identifier: MIT
"""What a guest may do of its own accord: each as QEMU makes it known.

    panic       GUEST_PANICKED, then what `-action panic=` says
    crash-dump  GUEST_CRASHLOADED: it takes a dump of itself, and goes on
    shutdown    SHUTDOWN, then what `-action shutdown=` says
    reboot      RESET, or with -no-reboot SHUTDOWN
    suspend     SUSPEND, run state suspended
    hibernate   SUSPEND_DISK, then it shuts down
    wake-up     WAKEUP, run state running: by itself, as by a timer

A guest that does not run does nothing; one that is suspended can only wake up. Compared with 7.2.22 and 11.1.2
(tests/conformance/test_guest_acts.py).

QEMU: system/runstate.c (qemu_system_guest_panicked, qemu_system_suspend, ...)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.system import runstate as rs

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from fakeqemu.system.machine import Machine


async def act(vm: Machine, name: str) -> None:
    """Have the guest do something, one of `ACTS`."""
    async with vm.bql:
        wanted = rs.SUSPENDED if name == "wake-up" else rs.RUNNING
        done = vm.runstate.state == wanted and not vm.quit_requested
        vm.trace("fake_guest_act", act=name, done=int(done))
        if done:
            await ACTS[name](vm)


async def _panic(vm: Machine) -> None:
    action = vm.actions["panic"]
    if action == "none":
        vm.emit("GUEST_PANICKED", {"action": "run"})
    elif action == "pause" or (action == "shutdown" and vm.actions["shutdown"] == "pause"):
        vm.emit("GUEST_PANICKED", {"action": "pause"})
        await vm.runstate.vm_stop(rs.GUEST_PANICKED)
    else:
        vm.emit("GUEST_PANICKED", {"action": "poweroff"})
        if action == "exit-failure":
            vm.exit_status = 1
        vm.request_shutdown("guest-panic", guest=True)


async def _crash_dump(vm: Machine) -> None:
    vm.emit("GUEST_CRASHLOADED", {"action": "run"})


async def _shutdown(vm: Machine) -> None:
    vm.request_shutdown("guest-shutdown", guest=True)


async def _reboot(vm: Machine) -> None:
    vm.request_reset("guest-reset", guest=True)


async def _suspend(vm: Machine) -> None:
    vm.guest.stopped()
    vm.runstate.set(rs.SUSPENDED)
    vm.emit("SUSPEND")


async def _hibernate(vm: Machine) -> None:
    vm.emit("SUSPEND_DISK")
    vm.request_shutdown("guest-shutdown", guest=True)


async def _wake_up(vm: Machine) -> None:
    vm.emit("WAKEUP")
    vm.runstate.set(rs.RUNNING)
    vm.guest.started()


ACTS: dict[str, Callable[[Machine], Coroutine[Any, Any, None]]] = {
    "panic": _panic, "crash-dump": _crash_dump, "shutdown": _shutdown, "reboot": _reboot, "suspend": _suspend,
    "hibernate": _hibernate, "wake-up": _wake_up,
}  # fmt: skip
