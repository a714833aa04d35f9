# SPDX-License-Identifier: MIT
"""`fakeqemu profile`: capture, list and compare profiles."""

from __future__ import annotations

import argparse
import os
import shlex
import sys

from fakeqemu.qapi.profile import ProfileError, VersionProfile, known_profiles, schemas_folder


def main(argv: list[str]) -> int:
    """Run a sub-command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="fakeqemu profile", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    capture = commands.add_parser(
        "capture", help="make a profile of a real QEMU, which is started many times under TCG"
    )
    capture.add_argument("--emulator", required=True, metavar="CMD", help="the command that starts it")
    capture.add_argument(
        "--out", metavar="DIR", help="where the profile's folder goes (default: schemas/ of this copy)"
    )
    capture.add_argument("--name", help="the profile's name (default: MAJOR.MINOR of the version)")
    capture.add_argument("--step", action="append", metavar="STEP", help="only this step, on a folder that stands")
    capture.set_defaults(run=_capture)

    overlay = commands.add_parser("next", help="write the overlay profile 'next' anew from its base")
    overlay.add_argument("--out", metavar="DIR", help="the folder of profiles (default: schemas/ of this copy)")
    overlay.set_defaults(run=_next)

    listing = commands.add_parser("list", help="the profiles there are")
    listing.add_argument("profiles", nargs="*", metavar="PROFILE", help="names or folders (default: those that ship)")
    listing.set_defaults(run=_list)

    comparison = commands.add_parser("diff", help="what differs between two profiles")
    comparison.add_argument("old", metavar="A", help="a name, or a folder with a slash in it")
    comparison.add_argument("new", metavar="B")
    comparison.set_defaults(run=_diff)

    options = parser.parse_args(argv)
    try:
        status: int = options.run(options)
    except ProfileError as err:
        print(f"fakeqemu profile: {err}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader (a pager, head) has had enough. Nothing more can be written, at exit neither.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


def _capture(options: argparse.Namespace) -> int:
    from fakeqemu.record import capture
    from fakeqemu.record.capture_vm import Died

    unknown = [step for step in options.step or () if step not in capture.STEPS]
    if unknown:
        print(f"fakeqemu profile: no step '{unknown[0]}'; there are: {', '.join(capture.STEPS)}", file=sys.stderr)
        return 1
    try:
        folder = capture.capture(
            shlex.split(options.emulator),
            options.out or schemas_folder(),
            options.name,
            options.step,
            lambda line: print(line, file=sys.stderr, flush=True),
        )
    except (Died, OSError) as err:
        print(f"fakeqemu profile: the emulator cannot be captured: {err}", file=sys.stderr)
        return 1
    print(folder)
    return 0


def _next(options: argparse.Namespace) -> int:
    from fakeqemu.record.capture_next import write_next

    print(write_next(options.out or schemas_folder()))
    return 0


def _list(options: argparse.Namespace) -> int:
    print(f"{'name':8} {'commands':>8} {'types':>6} {'machines':>8}  {'captured':10}  version")
    for name in options.profiles or known_profiles():
        profile = VersionProfile.load(name)
        machines = [key for key in profile.keys("machines") if not key.startswith("alias:")]
        base = f" (overlay on {profile.base.name})" if profile.base is not None else ""
        print(
            f"{profile.name:8} {len(profile.keys('commands')):8} {len(profile.keys('types')):6} {len(machines):8}"
            f"  {profile.manifest['captured']:10}  {profile.version_line.removeprefix('QEMU emulator version ')}{base}"
        )
    return 0


def _diff(options: argparse.Namespace) -> int:
    from fakeqemu.record.profile_diff import diff

    old, new = VersionProfile.load(options.old), VersionProfile.load(options.new)
    print(f"{old.name} -> {new.name}")
    for line in diff(old, new):
        print(line)
    return 0
