# SPDX-License-Identifier: MIT
"""Commands about the monitor itself and about what this QEMU knows.

The replies to query-qmp-schema and query-commands are always the same, so they are put together once, as text: the
schema's 1,200 entities stay the bytes that the real QEMU wrote, and nothing is parsed.

QEMU: monitor/qmp-cmds-control.c, monitor/qmp-cmds.c
"""

from __future__ import annotations

from fakeqemu.error import COMMAND_NOT_FOUND, QemuError
from fakeqemu.monitor.qmp import version_info
from fakeqemu.monitor.registry import qmp_command
from fakeqemu.qapi.json_out import RawJSON, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.qapi.profile import VersionProfile
    from fakeqemu.system.machine import Machine

# What has been put together, by table, for each profile.
_ready: dict[tuple[int, str], RawJSON] = {}


@qmp_command
def qmp_qmp_capabilities(vm: Machine, *, enable: list[str] | None = None) -> None:
    """Leave negotiation mode, with the capabilities that the client wants."""
    monitor = vm.dispatcher.current
    assert monitor is not None
    if monitor.negotiated:
        raise QemuError("Capabilities negotiation is already complete, command ignored", COMMAND_NOT_FOUND)
    wanted = enable or []
    if "oob" in wanted and not monitor.oob_available:
        raise QemuError("Capability oob not available")
    monitor.oob_enabled = "oob" in wanted
    monitor.negotiated = True


@qmp_command
def qmp_query_version(vm: Machine) -> dict[str, Any]:
    """The version that the greeting has."""
    return version_info(vm.profile)


@qmp_command
def qmp_query_commands(vm: Machine) -> Any:
    """The names of all commands: emulated or not, and whatever `-compat` says of them."""
    profile = vm.profile
    ready = _ready.get((id(profile), "commands"))
    if ready is None:
        text = ", ".join('{"name": ' + quoted(name) + "}" for name in profile.keys("commands"))
        ready = _ready[(id(profile), "commands")] = RawJSON(f"[{text}]".encode())
    return ready


@qmp_command
def qmp_query_qmp_schema(vm: Machine) -> Any:
    """The interface, as the profile's QEMU describes it."""
    if "deprecated" in vm.dispatcher.policy.hidden:
        from fakeqemu.qapi.schema import schema_of

        return vm.dispatcher.policy.strip_schema(schema_of(vm.profile))
    return _schema(vm.profile)


def _schema(profile: VersionProfile) -> RawJSON:
    ready = _ready.get((id(profile), "schema"))
    if ready is None:
        text = b", ".join([record for _, record in profile.records("schema")])
        ready = _ready[(id(profile), "schema")] = RawJSON(b"[" + text + b"]")
    return ready


@qmp_command
def qmp_human_monitor_command(vm: Machine, *, command_line: str, cpu_index: int | None = None) -> Any:
    """What a line of the human monitor prints."""
    from fakeqemu.monitor.hmp import run_line

    return run_line(vm, command_line, cpu_index)
