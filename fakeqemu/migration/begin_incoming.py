# SPDX-License-Identifier: MIT
"""`migrate-incoming` and `-incoming`: what is checked before a destination listens.

QEMU: qmp_migrate_incoming and qemu_setup_incoming_migration in migration/migration.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.migration import channel as channels
from fakeqemu.migration import state as st
from fakeqemu.migration import transport
from fakeqemu.migration.incoming import Incoming
from fakeqemu.system import runstate as rs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.system.machine import Machine


def start(vm: Machine, where: str | dict[str, Any] | None) -> None:
    """What `-incoming` does: expect a guest, from `defer`, a URI or a channel; raises QemuError."""
    if vm.runstate.state != rs.INMIGRATE:
        vm.runstate.set(rs.INMIGRATE)
    if where == "defer" or where is None:
        return
    if isinstance(where, str):
        begin(vm, where, None, exit_on_error=True)
    else:
        begin(vm, None, [where], exit_on_error=True)


def begin(
    vm: Machine, uri: str | None, channel_list: list[dict[str, Any]] | None, *, exit_on_error: bool
) -> None:  # fmt: skip
    """`migrate-incoming`: listen; raises QemuError."""
    mig = vm.migration
    if mig.incoming is not None and mig.incoming.accepted:
        raise QemuError("The incoming migration has already been started")
    if vm.runstate.state != rs.INMIGRATE:
        raise QemuError("'-incoming' was not specified on the command line")
    if vm.compat.migration_uri_words == "early":
        if uri is not None and not channel_list:
            channel_list = None
        _check_only_main(channel_list)
        address = channels.resolve(vm.compat, uri, channel_list)
        transport.check(vm, address)
        mig.options.check_emulated()
    if mig.incoming is None:
        mig.incoming = Incoming(mig)
    incoming = mig.incoming
    if incoming.state != st.NONE:
        raise QemuError(f"Illegal migration incoming state: {incoming.state}")
    incoming.exit_on_error = exit_on_error
    incoming.set_state(st.SETUP, always_told=vm.compat.migration_incoming_setup_first)
    try:
        if vm.compat.migration_uri_words == "late":
            address = _resolve_late(vm, uri)
            mig.options.check_emulated()
        transport.check_listening(vm, address)
        incoming.listen(address)
    except QemuError as err:
        transport.report_rdma(vm, err)
        if vm.compat.migration_incoming_setup_first:
            incoming.state = st.NONE
        raise


def _resolve_late(vm: Machine, uri: str | None) -> dict[str, Any]:
    try:
        return channels.resolve(vm.compat, uri, None)
    except channels.UnknownProtocol:
        raise QemuError(f"unknown migration protocol: {uri}") from None


def _check_only_main(channel_list: list[dict[str, Any]] | None) -> None:
    if channel_list and len(channel_list) > 1:
        raise QemuError("Channel list must have only one entry, for type 'main'")
