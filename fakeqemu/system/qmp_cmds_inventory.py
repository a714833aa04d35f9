# SPDX-License-Identifier: MIT
"""QMP commands that list what this QEMU has: always the same, so the profile's own text goes out.

QEMU: hw/core/machine-qmp-cmds.c, util/qemu-config.c, target/i386/cpu.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.monitor.registry import qmp_command
from fakeqemu.qapi.json_out import RawJSON

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.system.machine import Machine


def inventory(vm: Machine, command: str) -> RawJSON:
    """What the profile's QEMU answered to a command whose reply does not depend on the machine."""
    return RawJSON(vm.profile.raw("queries", f"none/{command}"))


@qmp_command
def qmp_query_target(vm: Machine) -> Any:
    """The architecture."""
    return inventory(vm, "query-target")


@qmp_command
def qmp_query_machines(vm: Machine, *, compat_props: bool = False) -> Any:
    """The machine types; with their compatibility properties if wanted."""
    if not compat_props:
        return inventory(vm, "query-machines")
    machines = vm.profile.get("queries", "none/query-machines")
    return [{**entry, **_compat_props(vm, entry["name"])} for entry in machines]


def _compat_props(vm: Machine, name: str) -> dict[str, Any]:
    properties = vm.profile.get("machine-compat", name, None)
    return {} if properties is None else {"compat-props": properties}


@qmp_command
def qmp_query_current_machine(vm: Machine) -> dict[str, bool]:
    """What the running machine can do: be woken from suspension, which takes ACPI's power management."""
    return {"wakeup-suspend-support": wakeup_suspend_enabled(vm)}


def wakeup_suspend_enabled(vm: Machine) -> bool:
    """Whether the board can wake a guest that suspended itself."""
    return vm.board is not None and vm.board.family in ("pc", "q35")


@qmp_command
def qmp_query_cpu_definitions(vm: Machine) -> Any:
    """The CPU models; what the unversioned names stand for is the board's choice."""
    key = f"{vm.board.family}/query-cpu-definitions" if vm.board is not None else ""
    if vm.profile.has("queries", key):
        return RawJSON(vm.profile.raw("queries", key))
    return inventory(vm, "query-cpu-definitions")


@qmp_command
def qmp_query_command_line_options(vm: Machine, *, option: str | None = None) -> Any:
    """The command line options that have parameters, or one of them; raises QemuError if there is none of that name."""
    if option is None:
        return inventory(vm, "query-command-line-options")
    for entry in vm.profile.get("queries", "none/query-command-line-options"):
        if entry["option"] == option:
            return [entry]
    raise QemuError(f"invalid option name: {option}")
