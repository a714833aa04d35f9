# SPDX-License-Identifier: MIT
"""`fakeqemu faults`: the fault points, for those who write rules."""

from __future__ import annotations

import sys

from fakeqemu.faults.catalogue import POINTS

_USAGE = "usage: fakeqemu faults\n\nlists the points at which a rule of a scenario can act\n"


def main(argv: list[str]) -> int:
    """The sub-command; returns the exit status."""
    if argv:
        (sys.stdout if argv[0] in ("-h", "--help") else sys.stderr).write(_USAGE)
        return 0 if argv[0] in ("-h", "--help") else 2
    width = max(map(len, POINTS))
    for point in POINTS.values():
        fields = " ".join(point.fields) or "-"
        sys.stdout.write(f"{point.name:{width}}  {point.side:11}  {point.what}\n")
        sys.stdout.write(f"{'':{width}}  {'':11}  fields: {fields}; actions: {', '.join(point.actions())}\n")
    sys.stdout.write(f"\n{len(POINTS)} fault points\n")
    return 0
