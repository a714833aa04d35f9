# SPDX-License-Identifier: MIT
"""QMP commands about descriptors that ride on messages.

QEMU: monitor/fds.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.monitor.registry import qmp_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.system.machine import Machine


def _descriptor_of_message(vm: Machine) -> int:
    """The descriptor that came with the command; raises QemuError."""
    monitor = vm.dispatcher.current
    fd = None if monitor is None else monitor.take_fd()
    if fd is None:
        raise QemuError("No file descriptor supplied via SCM_RIGHTS")
    return fd


@qmp_command
def qmp_getfd(vm: Machine, *, fdname: str) -> None:
    """Keep the descriptor that came along under a name."""
    vm.fds.put_named(fdname, _descriptor_of_message(vm))


@qmp_command
def qmp_closefd(vm: Machine, *, fdname: str) -> None:
    """Close a descriptor by name."""
    vm.fds.close_named(fdname)


@qmp_command
def qmp_add_fd(vm: Machine, *, fdset_id: int | None = None, opaque: str | None = None) -> dict[str, Any]:
    """Put the descriptor that came along into a set."""
    fd = _descriptor_of_message(vm)
    try:
        return vm.fds.add(fd, fdset_id, opaque)
    except QemuError:
        vm.fds.close(fd)
        raise


@qmp_command
def qmp_remove_fd(vm: Machine, *, fdset_id: int, fd: int | None = None) -> None:
    """Take descriptors out of a set."""
    vm.fds.remove(fdset_id, fd)


@qmp_command
def qmp_query_fdsets(vm: Machine) -> list[dict[str, Any]]:
    """The sets and their descriptors."""
    return vm.fds.query()
