# SPDX-License-Identifier: MIT
"""The human monitor's commands that steer a migration: each is the QMP command of that name, with words for people.

QEMU: migration/migration-hmp-cmds.c
"""

from __future__ import annotations

import shlex

from fakeqemu.error import QemuError
from fakeqemu.host.clock import NS_PER_S
from fakeqemu.migration import qmp_cmds
from fakeqemu.migration.channel import parse_uri
from fakeqemu.qapi.cutils import NumberError, parse_size
from fakeqemu.qapi.schema import schema_of
from fakeqemu.qapi.string_visitor import StringInputVisitor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.system.machine import Machine

#: parameters that are typed in MiB
_IN_MIB = ("max-bandwidth", "avail-switchover-bandwidth")


def migrate(
    vm: Machine, *, uri: str, detach: bool = False, resume: bool = False, blk: bool = False, inc: bool = False
) -> Any:  # fmt: skip
    """Send the guest away; without -d the monitor waits for the end, where it can."""
    qmp_cmds.qmp_migrate(vm, uri=uri, resume=resume, blk=blk, inc=inc)
    if detach:
        return ""
    if vm.dispatcher.current is not None:
        said = vm.compat.migration_hmp_detached_words
        return "terminal does not allow synchronous migration, continuing detached\n" if said else ""
    return _end_of_migration(vm)


async def _end_of_migration(vm: Machine) -> str:
    """Look every second, as QEMU does."""
    while vm.migration.is_running():
        await vm.host.clock.sleep_until(vm.host.clock.now_ns() + NS_PER_S)
    return ""


def migrate_continue(vm: Machine, *, state: str) -> None:
    if state not in schema_of(vm.profile).arguments("migrate-continue").member_names["state"].type.values:
        raise QemuError(f"invalid parameter value: {state}")
    qmp_cmds.qmp_migrate_continue(vm, state=state)


def migrate_incoming(vm: Machine, *, uri: str) -> None:
    if vm.compat.migration_uri_words == "early":  # an address by then
        parse_uri(vm.compat, uri)
    qmp_cmds.qmp_migrate_incoming(vm, uri=uri)


def migrate_recover(vm: Machine, *, uri: str) -> None:
    qmp_cmds.qmp_migrate_recover(vm, uri=uri)


def migrate_set_capability(vm: Machine, *, capability: str, state: bool) -> None:
    if capability not in vm.migration.options.capabilities:
        raise QemuError(f"invalid parameter value: {capability}")
    qmp_cmds.qmp_migrate_set_capabilities(vm, capabilities=[{"capability": capability, "state": state}])


def migrate_set_parameter(vm: Machine, *, parameter: str, value: str) -> None:
    name, text = parameter, value
    member = schema_of(vm.profile).arguments("migrate-set-parameters").member_names.get(name)
    if member is None:
        raise QemuError(f"invalid parameter value: {name}")
    new: Any
    if name in _IN_MIB:
        try:
            new = parse_size(text, "M")
        except NumberError:
            raise QemuError(f"Invalid size {text}") from None
    elif name == "block-bitmap-mapping":
        raise QemuError("The block-bitmap-mapping parameter can only be set through QMP")
    elif name == "cpr-exec-command":
        new = _words(text)
    else:
        new = StringInputVisitor(negative_sizes=vm.compat.negative_size_out_of_range).visit_member(member, text)
    qmp_cmds.qmp_migrate_set_parameters(vm, {name: new})


def _words(text: str) -> list[str]:
    """As GLib's g_shell_parse_argv, and in its words."""
    try:
        return shlex.split(text)
    except ValueError as err:
        if "escape" in str(err):
            reason = "Text ended just after a \u201c\\\u201d character."
        else:
            reason = f"Text ended before matching quote was found for {_open_quote(text)}."
        raise QemuError(f"{reason} (The text was \u201c{text}\u201d)") from None


def _open_quote(text: str) -> str:
    quote, escaped = "", False
    for char in text:
        if escaped:
            escaped = False
        elif char == "\\" and quote != "'":
            escaped = True
        elif char in ("'", '"') and quote in ("", char):
            quote = "" if quote else char
    return quote


def client_migrate_info(vm: Machine, *, protocol: str, hostname: str, **_further: Any) -> None:
    qmp_cmds.qmp_client_migrate_info(vm, protocol=protocol, hostname=hostname)
