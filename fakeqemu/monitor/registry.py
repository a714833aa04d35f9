# SPDX-License-Identifier: MIT
"""Which module holds which QMP command: the index, and the reason a module loads on first use.

A command is one function, `qmp_` and its name with `-` and `.` as `_`, marked by `@qmp_command`:

    @qmp_command
    def qmp_device_del(vm: Machine, *, id: str) -> None:

It gets the machine and the members of its arguments by keyword, checked, in the union of all versions; a member that
was not given is not passed. A name that is a Python keyword gets a `_` behind. Names inside of a member's value are
those of the wire. `async def` only where it must wait; the BQL is held meanwhile.

A few commands QEMU checks itself, not by its schema (`UNCHECKED`): those get one dict, as it came.

A test keeps table, marks and every profile's schema in agreement (tests/unit/monitor/test_registry.py).

QEMU: the generated qapi-init-commands.c
"""

from __future__ import annotations

from sys import modules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    F = TypeVar("F", bound=Callable[..., Any])

#: module -> its commands. Add yours here.
MODULES: dict[str, tuple[str, ...]] = {
    "fakeqemu.hw.qmp_cmds": ("device-sync-config", "device_add", "device_del", "query-pci"),
    "fakeqemu.chardev.qmp_cmds": (
        "chardev-add",
        "chardev-change",
        "chardev-remove",
        "chardev-send-break",
        "query-chardev",
        "query-chardev-backends",
        "query-yank",
        "ringbuf-read",
        "ringbuf-write",
        "yank",
    ),
    "fakeqemu.migration.qmp_cmds_dirty_rate": ("calc-dirty-rate", "query-dirty-rate"),
    "fakeqemu.migration.qmp_cmds": (
        "client_migrate_info",
        "migrate",
        "migrate-continue",
        "migrate-incoming",
        "migrate-pause",
        "migrate-recover",
        "migrate-set-capabilities",
        "migrate-set-parameters",
        "migrate-start-postcopy",
        "migrate_cancel",
        "query-migrate",
        "query-migrate-capabilities",
        "query-migrate-parameters",
        "query-migrationthreads",
    ),
    "fakeqemu.migration.qmp_cmds_colo": (
        "query-colo-status",
        "query-xen-replication-status",
        "x-colo-lost-heartbeat",
        "xen-colo-do-checkpoint",
        "xen-set-replication",
    ),
    "fakeqemu.migration.qmp_cmds_xen": (
        "xen-load-devices-state",
        "xen-save-devices-state",
        "xen-set-global-dirty-log",
    ),
    "fakeqemu.net.qmp_cmds": ("announce-self",),
    "fakeqemu.qom.qmp_cmds": (
        "device-list-properties",
        "qom-get",
        "qom-list",
        "qom-list-get",
        "qom-list-properties",
        "qom-list-types",
        "qom-set",
    ),
    "fakeqemu.system.qmp_cmds_dirty_limit": (
        "cancel-vcpu-dirty-limit",
        "query-vcpu-dirty-limit",
        "set-vcpu-dirty-limit",
    ),
    "fakeqemu.system.qmp_cmds": (
        "cont",
        "query-accelerators",
        "query-cpus-fast",
        "query-hotpluggable-cpus",
        "query-iothreads",
        "query-kvm",
        "query-memdev",
        "query-memory-size-summary",
        "query-name",
        "query-status",
        "query-uuid",
        "quit",
        "set-action",
        "stop",
        "system_powerdown",
        "system_reset",
        "system_wakeup",
        "x-exit-preconfig",
    ),
    "fakeqemu.system.qmp_cmds_fds": (
        "add-fd",
        "closefd",
        "getfd",
        "query-fdsets",
        "remove-fd",
    ),
    "fakeqemu.system.qmp_cmds_inventory": (
        "query-command-line-options",
        "query-cpu-definitions",
        "query-current-machine",
        "query-machines",
        "query-target",
    ),
    "fakeqemu.system.qmp_cmds_objects": (
        "object-add",
        "object-del",
    ),
    "fakeqemu.ui.qmp_cmds": (
        "add_client",
        "change-vnc-password",
        "display-reload",
        "display-update",
        "expire_password",
        "query-vnc",
        "query-vnc-servers",
        "set_password",
    ),
    "fakeqemu.monitor.qmp_cmds_trace": ("trace-event-get-state", "trace-event-set-state"),
    "fakeqemu.monitor.qmp_cmds": (
        "human-monitor-command",
        "qmp_capabilities",
        "query-commands",
        "query-qmp-schema",
        "query-version",
    ),
}

#: commands whose arguments the schema does not judge (`gen: false` in QEMU's QAPI)
UNCHECKED = ("device_add",)

#: commands that get their checked arguments as one dict: unions with more members than a function should name
WHOLE = ("migrate-set-parameters", "object-add")

#: arguments whose names are keywords of Python
_KEYWORDS = ("class", "from", "if", "in", "is", "lambda", "pass")


def qmp_command(function: F) -> F:
    """Mark a function as a QMP command; its name says which."""
    function.is_qmp_command = True  # type: ignore[attr-defined]
    return function


def function_name(command: str) -> str:
    """The name of the function that a command is."""
    return "qmp_" + command.replace("-", "_").replace(".", "_")


def parameter_name(member: str) -> str:
    """The name of the parameter that a member of the arguments is passed as."""
    name = member.replace("-", "_").replace(".", "_")
    return name + "_" if name in _KEYWORDS else name


def module_of(command: str) -> str | None:
    """The module that holds a command; None if nothing emulates it."""
    for module, commands in MODULES.items():
        if command in commands:
            return module
    return None


def find(command: str) -> Callable[..., Any] | None:
    """The function of a command, its module loaded; None if nothing emulates it."""
    module = module_of(command)
    if module is None:
        return None
    if module not in modules:
        __import__(module)
    function = getattr(modules[module], function_name(command))
    assert function.is_qmp_command, f"{function_name(command)} lacks @qmp_command"
    return function  # type: ignore[no-any-return]


def emulated(commands: list[str]) -> dict[str, bool]:
    """Of these commands, which are emulated: for `fakeqemu commands`."""
    known = {command for listed in MODULES.values() for command in listed}
    return {command: command in known for command in commands}
