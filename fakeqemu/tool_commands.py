# SPDX-License-Identifier: MIT
"""`fakeqemu commands [PROFILE]`: the QMP commands that a profile lists, and whether something emulates them."""

from __future__ import annotations

import sys

from fakeqemu.monitor import registry
from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.vl.fake import DEFAULT_PROFILE

_USAGE = "usage: fakeqemu commands [PROFILE] [--missing]\n\n--missing: only those that have no emulation\n"


def main(argv: list[str]) -> int:
    """The sub-command; returns the exit status."""
    names = [word for word in argv if not word.startswith("-")]
    flags = [word for word in argv if word.startswith("-")]
    if "--help" in flags or "-h" in flags:
        sys.stdout.write(_USAGE)
        return 0
    if len(names) > 1 or any(flag != "--missing" for flag in flags):
        sys.stderr.write(_USAGE)
        return 2
    try:
        profile = VersionProfile.load(names[0] if names else DEFAULT_PROFILE)
    except ValueError as error:
        sys.stderr.write(f"fakeqemu commands: {error}\n")
        return 1
    emulated = registry.emulated(profile.keys("commands"))
    for name in sorted(emulated):
        if "--missing" in flags:
            if not emulated[name]:
                sys.stdout.write(f"{name}\n")
        else:
            sys.stdout.write(f"{'emulated' if emulated[name] else 'no':8}  {name}\n")
    count = sum(emulated.values())
    sys.stdout.write(f"\n{count} of the {len(emulated)} commands of QEMU {profile.name} are emulated\n")
    return 0
