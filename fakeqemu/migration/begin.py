# SPDX-License-Identifier: MIT
"""`migrate`: everything that is checked before a migration begins, or goes on after a break.

QEMU: qmp_migrate and migrate_prepare in migration/migration.c
"""

from __future__ import annotations

from fakeqemu.error import NotEmulated, QemuError
from fakeqemu.migration import channel as channels
from fakeqemu.migration import state as st
from fakeqemu.migration import transport
from fakeqemu.migration.outgoing import Outgoing
from fakeqemu.migration.savevm import prepare
from fakeqemu.system import runstate as rs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.system.machine import Machine


def begin(
    vm: Machine, uri: str | None, channel_list: list[dict[str, Any]] | None, *, resume: bool, blocks: bool = False
) -> None:
    """`migrate`: check everything, then start; raises QemuError, with status failed where it had begun already."""
    early = vm.compat.migration_uri_words == "early"
    address = channels.resolve(vm.compat, uri, channel_list) if early else None
    if address is not None:
        transport.check(vm, address)
    if resume:
        _resume(vm, uri, channel_list)
        return
    _check_startable(vm)
    outgoing = Outgoing(vm)
    outgoing.begin()
    try:
        if address is None:
            address = channels.resolve(vm.compat, uri, channel_list)
            transport.check_opened(vm, address)
        if blocks:
            raise NotEmulated("Migration of block devices (blk, inc) is not emulated")
        outgoing.start(address)
    except transport.NotSaid as err:
        vm.host.log_plain(err.desc)
        outgoing.refuse(None)
    except QemuError as err:
        transport.report_rdma(vm, err)
        outgoing.refuse(err)
        raise


def _resume(vm: Machine, uri: str | None, channel_list: list[dict[str, Any]] | None) -> None:
    """`migrate` of a postcopy that was broken off; raises QemuError."""
    mig = vm.migration
    if mig.state != st.POSTCOPY_PAUSED or mig.outgoing is None or mig.outgoing.postcopy is None:
        raise QemuError("Cannot resume if there is no paused migration")
    if mig.options.on("release-ram"):
        raise QemuError("Postcopy recovery cannot work when release-ram capability is set")
    address = channels.resolve(vm.compat, uri, channel_list)
    transport.check(vm, address)
    mig.outgoing.postcopy.resume(address)


def _check_startable(vm: Machine) -> None:
    mig = vm.migration
    if mig.is_running():
        raise QemuError("There's a migration process in progress")
    if vm.runstate.state == rs.INMIGRATE:
        raise QemuError("Guest is waiting for an incoming migration")
    if vm.runstate.state == rs.POSTMIGRATE:
        raise QemuError("Can't migrate the vm that was paused due to previous migration")
    options = mig.options
    if options.on("mapped-ram"):
        if options.get("tls-creds"):
            raise QemuError("Cannot use TLS with mapped-ram")
        if options.get("multifd-compression", "none") != "none":
            raise QemuError("Cannot use compression with mapped-ram")
    vm.savevm.check_blocked(options.mode)
    prepare(vm)
    options.check_emulated()
