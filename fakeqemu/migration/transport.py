# SPDX-License-Identifier: MIT
"""What can travel over what: capabilities that need more than one connection, a file, or no RDMA.

Releases differ in when they look: before a migration begins, or (7.2) once its channel is open.

QEMU: migration_transport_compatible and qemu_start_incoming_migration in migration/migration.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.migration import channel as channels

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.system.machine import Machine

#: capabilities that do not work over RDMA, in the order in which QEMU looks, as its error spells them
_NOT_OVER_RDMA = (("xbzrle", "XBZRLE"), ("postcopy-ram", "postcopy-ram"))


class NotSaid(QemuError):
    """What ends a migration that has begun, and is printed only: the command is answered, and there is no error-desc."""


def check(vm: Machine, address: dict[str, Any]) -> None:
    """Refuse an address over which the capabilities that are on cannot work; raises QemuError."""
    channels.check_transport(vm.migration.options, address)
    if vm.compat.migration_rdma_checked == "first":
        _check_rdma(vm, address, _NOT_OVER_RDMA)


def check_listening(vm: Machine, address: dict[str, Any]) -> None:
    """What a destination looks at when it is set up already; raises QemuError."""
    if vm.compat.migration_rdma_checked == "listening":
        _check_rdma(vm, address, _NOT_OVER_RDMA[:1])


def _check_rdma(vm: Machine, address: dict[str, Any], excluded: tuple[tuple[str, str], ...]) -> None:
    for name, spelled in excluded:
        if address["transport"] == "rdma" and vm.migration.options.on(name):
            raise QemuError(f"RDMA and {spelled} can't be used together")


def check_opened(vm: Machine, address: dict[str, Any]) -> None:
    """(7.2) The same, once the channel has been opened; raises QemuError, or NotSaid."""
    options = vm.migration.options
    if channels.is_background(address) or not (options.on("multifd") or options.on("postcopy-preempt")):
        return
    channels.close(vm, address, channels.open_now(vm, address))
    if options.on("multifd"):
        raise NotSaid("multifd is not supported by current protocol")
    raise NotSaid("Postcopy preempt is not supported as current migration stream does not support multi-channels.")


def report_rdma(vm: Machine, error: QemuError) -> None:
    """Print an error of RDMA, where a release does so beside answering with it."""
    if vm.compat.migration_rdma_errors_printed and error.desc.startswith("RDMA ERROR: "):
        vm.host.log_plain(error.desc)
