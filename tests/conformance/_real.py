# SPDX-License-Identifier: MIT
"""Where tests find real QEMUs: they are asked the same as ours, and what they answer is right.

In this order, for release 11.1 (Debian's suite forky), 10.0 (trixie) and 7.2 (bookworm):

1. the command in `FAKEQEMU_REAL_QEMU_11_1`, `_10_0`, `_7_2`;
2. `.oracle/<suite>/qemu-system-x86_64` in the checkout, where `tests/oracle/install-qemu <suite>` unpacks one;
3. the same below `qemu-oracle/` in the user's cache ($XDG_CACHE_HOME, ~/.cache).
"""

from __future__ import annotations

import os
import shlex
import subprocess
from functools import cache
from pathlib import Path

import pytest

SUITES = {"7.2": "bookworm", "10.0": "trixie", "11.1": "forky"}
_CHECKOUT = Path(__file__).resolve().parents[2]


def real_qemu(version: str) -> list[str] | None:
    """The command of a real QEMU of this release; None when there is none here."""
    given = os.environ.get("FAKEQEMU_REAL_QEMU_" + version.replace(".", "_"))
    if given:
        return shlex.split(given)
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    for folder in (_CHECKOUT / ".oracle", caches / "qemu-oracle"):
        binary = folder / SUITES[version] / "qemu-system-x86_64"
        if os.access(binary, os.X_OK):
            return [str(binary)]
    return None


@cache
def _said_version(command: tuple[str, ...]) -> str:
    """The first line of what a QEMU prints of its version; "" for one that does not start."""
    try:
        result = subprocess.run([*command, "--version"], check=False, capture_output=True, text=True, timeout=60)
    except OSError:
        return ""
    return result.stdout.partition("\n")[0]


def need_real_qemu(version: str) -> list[str]:
    """As `real_qemu`, but the test is skipped, with the reason, when there is none, or one of another release.

    A suite of Debian moves on; what a newer QEMU answers says nothing of the profile.
    """
    command = real_qemu(version)
    if command is None:
        pytest.skip(f"no real QEMU {version} here: tests/oracle/install-qemu {SUITES[version]} unpacks one")
    said = _said_version(tuple(command))
    if not said.startswith(f"QEMU emulator version {version}."):
        pytest.skip(f"no real QEMU {version} here: {command[0]} is {said or 'no QEMU'}")
    return command
