# SPDX-License-Identifier: MIT
"""`fakeqemu scenarios`: the scenarios that come with us, to be used by name or as a beginning of one's own."""

from __future__ import annotations

import sys
import tomllib

from fakeqemu.scenario import library

_USAGE = """usage: fakeqemu scenarios [NAME]

lists the scenarios that come with fakeqemu; with NAME prints that one's file
use one:  -fake scenario=NAME
"""


def main(argv: list[str]) -> int:
    """The sub-command; returns the exit status."""
    if argv and (argv[0] in ("-h", "--help") or len(argv) > 1):
        (sys.stdout if len(argv) == 1 else sys.stderr).write(_USAGE)
        return 0 if len(argv) == 1 else 2
    if argv:
        path = library.path_of(argv[0])
        if path is None:
            sys.stderr.write(f"fakeqemu scenarios: there is none named '{argv[0]}'\n")
            return 1
        with open(path, encoding="utf-8") as file:
            sys.stdout.write(file.read())
        return 0
    names = library.names()
    width = max(map(len, names))
    for name in names:
        with open(library.path_of(name) or "", "rb") as file:
            sys.stdout.write(f"{name:{width}}  {tomllib.load(file)['description']}\n")
    return 0
