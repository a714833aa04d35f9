# SPDX-License-Identifier: MIT
"""QMP commands about the machine as a whole: does it run, what is it, what is in it.

QEMU: system/runstate.c, system/runstate-hmp-cmds.c, hw/core/machine-qmp-cmds.c, monitor/qmp-cmds.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.monitor.registry import qmp_command
from fakeqemu.system import runstate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.system.machine import Machine


# --- run state --------------------------------------------------------------------------------------------


@qmp_command
def qmp_query_status(vm: Machine) -> dict[str, Any]:
    """Whether the guest runs, and in which run state it is."""
    state = vm.runstate
    status: dict[str, Any] = {"running": state.running}
    if vm.compat.status_singlestep:
        status["singlestep"] = False  # shares a bucket with "status": which one is put in first shows
    status["status"] = state.state
    return status


@qmp_command
async def qmp_stop(vm: Machine) -> None:
    """Stop the guest; one that is still to come in does not start when it has arrived."""
    if vm.runstate.state == runstate.INMIGRATE:
        vm.runstate.autostart = False
    else:
        await vm.runstate.vm_stop(runstate.PAUSED)


@qmp_command
async def qmp_cont(vm: Machine) -> None:
    """Start or go on; one that is still to come in starts when it has arrived."""
    state = vm.runstate.state
    if state in runstate.NEED_RESET:
        raise QemuError("Resetting the Virtual Machine is required")
    if state == runstate.SUSPENDED:
        return
    if state == runstate.FINISH_MIGRATE:
        raise QemuError("Migration is not finalized yet")
    if state == runstate.COLO and vm.compat.migration_colo_held:
        raise QemuError("COLO checkpoint in progress")
    if state == runstate.INMIGRATE:
        vm.runstate.autostart = True
    else:
        await vm.runstate.vm_start()


@qmp_command
def qmp_quit(vm: Machine) -> None:
    """End the emulator, whatever -no-shutdown says."""
    vm.actions["shutdown"] = "poweroff"
    vm.request_shutdown("host-qmp-quit")


@qmp_command
def qmp_system_reset(vm: Machine) -> None:
    """Reset the guest."""
    vm.request_reset("host-qmp-system-reset")


@qmp_command
def qmp_system_powerdown(vm: Machine) -> None:
    """Press the power button; what follows is the guest's to decide."""
    vm.request_powerdown()


@qmp_command
def qmp_system_wakeup(vm: Machine) -> None:
    """Wake a guest that suspended itself."""
    from fakeqemu.system.qmp_cmds_inventory import wakeup_suspend_enabled

    if not wakeup_suspend_enabled(vm):
        raise QemuError("wake-up from suspend is not supported by this guest")
    if vm.runstate.state != runstate.SUSPENDED:
        raise QemuError("Unable to wake up: guest is not in suspended state")
    vm.runstate.set(runstate.RUNNING)
    vm.guest.started()
    vm.emit("WAKEUP")


@qmp_command
def qmp_set_action(
    vm: Machine,
    *,
    reboot: str | None = None,
    shutdown: str | None = None,
    panic: str | None = None,
    watchdog: str | None = None,
) -> None:
    """Say what happens when the guest reboots, shuts down, panics, or when its watchdog expires."""
    given = {"reboot": reboot, "shutdown": shutdown, "panic": panic, "watchdog": watchdog}
    vm.actions.update({name: action for name, action in given.items() if action is not None})


@qmp_command
def qmp_x_exit_preconfig(vm: Machine) -> None:
    """Build the board that preconfig has held back; raises QemuError when it is there already."""
    if vm.phase != "preconfig":
        raise QemuError("The command is permitted only before machine initialization")
    assert vm.complete_startup is not None, "-preconfig without somebody to complete the start"
    vm.complete_startup()


# --- who and what -----------------------------------------------------------------------------------------


@qmp_command
def qmp_query_name(vm: Machine) -> dict[str, str]:
    """What -name says, if it was given."""
    return {} if vm.name is None else {"name": vm.name}


@qmp_command
def qmp_query_uuid(vm: Machine) -> dict[str, str]:
    """What -uuid says, else zeroes."""
    from fakeqemu.system.info import uuid_text

    return {"UUID": uuid_text(vm.uuid)}


@qmp_command
def qmp_query_kvm(vm: Machine) -> dict[str, bool]:
    """Whether KVM is used; QEMU for this target always knows of it."""
    return {"enabled": vm.kvm_enabled, "present": True}


@qmp_command
def qmp_query_accelerators(vm: Machine) -> dict[str, Any]:
    """The accelerators that this QEMU has, and the one in use."""
    known = vm.profile.get("queries", "none/query-accelerators")
    return {"enabled": "kvm" if vm.kvm_enabled else "tcg", "present": known["present"]}


@qmp_command
def qmp_query_cpus_fast(vm: Machine) -> list[dict[str, Any]]:
    """The CPUs and their threads."""
    from fakeqemu.system.cpus import query_cpus_fast

    return query_cpus_fast(vm)


@qmp_command
def qmp_query_hotpluggable_cpus(vm: Machine) -> list[dict[str, Any]]:
    """Every place for a CPU, and what sits there."""
    from fakeqemu.system.cpus import query_hotpluggable_cpus

    return query_hotpluggable_cpus(vm)


@qmp_command
def qmp_query_memory_size_summary(vm: Machine) -> dict[str, int]:
    """How much memory the guest has, at the start and plugged in later."""
    return {"base-memory": 0 if vm.board is None else vm.board.ram_size, "plugged-memory": 0}


@qmp_command
def qmp_query_memdev(vm: Machine) -> list[dict[str, Any]]:
    """The memory backends, that of the board included."""
    from fakeqemu.system.hostmem import query_memdev

    return query_memdev(vm)


@qmp_command
def qmp_query_iothreads(vm: Machine) -> list[dict[str, Any]]:
    """The iothreads."""
    from fakeqemu.system.iothread import query_iothreads

    return query_iothreads(vm)
