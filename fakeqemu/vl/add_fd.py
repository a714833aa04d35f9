# SPDX-License-Identifier: MIT
"""-add-fd: descriptors that the starting process was given, put into sets.

QEMU: parse_add_fd and cleanup_add_fd in system/vl.c
"""

from __future__ import annotations

import fcntl
import os

from fakeqemu.error import QemuError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.system.machine import Machine
    from fakeqemu.vl.cmdline import CommandLine
    from fakeqemu.vl.opts import Opts


def take_descriptors(line: CommandLine, vm: Machine) -> None:
    """Add a duplicate of each descriptor to its set, then close the originals; raises QemuError."""
    given = line.groups["add-fd"].items
    for opts in given:
        with line.reporter.within(opts.location):
            _take(vm, opts)
    for opts in given:
        try:
            os.close(opts.get_number("fd", -1))
        except OSError:
            pass  # one descriptor may be named twice


def _take(vm: Machine, opts: Opts) -> None:
    fd = opts.get_number("fd", -1)
    fd = (fd & 0xFFFFFFFF) - (1 << 32 if fd & 0x80000000 else 0)  # a C int
    set_id = opts.get_number("set", -1)
    if fd < 0:
        raise QemuError("fd option is required and must be non-negative")
    if fd <= 2:
        raise QemuError("fd cannot be a standard I/O stream")
    # What is inherited has no close-on-exec flag; everything that this process opened itself has.
    try:
        inherited = not fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    except OSError:
        inherited = False
    if not inherited:
        raise QemuError("fd is not valid or already in use")
    if set_id < 0:
        raise QemuError("set option is required and must be non-negative")
    duplicate = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 0)
    vm.fds.add(duplicate, set_id, opts.get("opaque"))
