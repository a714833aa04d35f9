# SPDX-License-Identifier: MIT
"""`fakeqemu shell ...`: the qmp-shell of the package qemu.qmp, where it is installed."""

from __future__ import annotations

import sys


def main(argv: list[str]) -> int:
    """The sub-command; returns the exit status."""
    try:
        from qemu.qmp import qmp_shell
    except ImportError:
        sys.stderr.write("fakeqemu shell: qemu.qmp is not installed (pip install 'fakeqemu[client]')\n")
        return 1
    sys.argv = ["fakeqemu shell", *argv]
    qmp_shell.main()
    return 0
