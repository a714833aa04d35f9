# SPDX-License-Identifier: MIT
"""A few commands with the simplest of answers, for tests of what is around commands."""

from __future__ import annotations

from typing import Any

from fakeqemu.host.sync import Event
from fakeqemu.monitor import registry
from fakeqemu.monitor.registry import qmp_command
from fakeqemu.system.machine import Machine

COMMANDS = (
    "query-name",
    "query-status",
    "query-yank",
    "stop",
    "cont",
    "system_wakeup",
    "balloon",
    "yank",
    "query-uuid",
)

#: what `balloon` waits for
gates: dict[int, Event] = {}


@qmp_command
def qmp_query_name(vm: Machine) -> dict[str, Any]:
    return {} if vm.name is None else {"name": vm.name}


@qmp_command
def qmp_query_status(vm: Machine) -> dict[str, Any]:
    singlestep = {"singlestep": False} if vm.profile.name == "7.2" else {}
    return {"running": True, **singlestep, "status": "running"}


@qmp_command
def qmp_query_yank(vm: Machine) -> list[dict[str, Any]]:
    return [{"type": "chardev", "id": monitor.name} for monitor in sorted(vm.dispatcher.monitors, key=lambda m: m.name)]


@qmp_command
def qmp_stop(vm: Machine) -> None:
    vm.emit("STOP")


@qmp_command
def qmp_cont(vm: Machine) -> None:
    vm.emit("RESUME")


@qmp_command
def qmp_system_wakeup(_vm: Machine) -> None:
    raise ZeroDivisionError("a bug")


@qmp_command
async def qmp_balloon(vm: Machine, *, value: int) -> None:
    """Waits until the test opens the gate; not at all for a value of 0."""
    if value:
        await gates.setdefault(id(vm), vm.host.event()).wait()


@qmp_command
def qmp_yank(_vm: Machine, *, instances: list[Any]) -> None:
    assert isinstance(instances, list)


@qmp_command
async def qmp_query_uuid(_vm: Machine) -> dict[str, str]:
    """Could wait, does not."""
    return {"UUID": "00000000-0000-0000-0000-000000000000"}


def install() -> dict[str, tuple[str, ...]]:
    """The table of commands with these in the place of the real ones."""
    table = {
        module: tuple(name for name in names if name not in COMMANDS) for module, names in registry.MODULES.items()
    }
    return {**table, __name__: COMMANDS}
