# SPDX-License-Identifier: MIT
"""`fakeqemu options`: what becomes of each option of the command line."""

from __future__ import annotations

import argparse
import os
import sys

from fakeqemu.qapi.profile import ProfileError, VersionProfile
from fakeqemu.vl.options import ACCEPTED, EMULATED, REFUSED, SUB_OPTIONS, UNSUPPORTED, options_table

HEADINGS = {
    EMULATED: "Emulated",
    ACCEPTED: "Accepted without effect",
    REFUSED: "Not emulated: the start ends with status 1 and `-OPTION: not emulated`",
    UNSUPPORTED: "Refused by QEMU itself: not for this target",
}


def text(profile: VersionProfile) -> str:
    """The table as people read it."""
    options = options_table(profile)
    parts = []
    for status, heading in HEADINGS.items():
        lines = [(f"-{o.name}{' ARG' if o.has_arg else ''}", o.reason) for o in options if o.status == status]
        lines += [(name, reason) for name, kind, reason in SUB_OPTIONS if kind == status]
        parts.append(heading + "\n" + "".join(f"  {name:<28} {reason}".rstrip() + "\n" for name, reason in lines))
    return "\n".join(parts)


def main(argv: list[str]) -> int:
    """Run with the words after `fakeqemu options`; returns the exit status."""
    parser = argparse.ArgumentParser(prog="fakeqemu options", description="what becomes of each option of QEMU")
    parser.add_argument("--profile", default="next", help="which QEMU's options (default: %(default)s)")
    arguments = parser.parse_args(argv)
    try:
        profile = VersionProfile.load(arguments.profile)
    except ProfileError as err:
        print(f"fakeqemu options: {err}", file=sys.stderr)
        return 1
    try:
        sys.stdout.write(text(profile))
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0
