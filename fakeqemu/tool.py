# SPDX-License-Identifier: MIT
"""`fakeqemu`: our own tool. Each sub-command is imported when it is asked for.

The emulator itself is `fakeqemu-system-x86_64`, which takes QEMU's command line.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: sub-command -> (module:function taking the arguments and returning the exit status, what it is for)
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("fakeqemu.demo:main", "migrate eight VFIO devices between two emulators, and show it"),
    "profile": (
        "fakeqemu.record.profile_cli:main",
        "capture what a real QEMU says of itself; list and compare profiles",
    ),
    "shim": ("fakeqemu.shim:main", "make a folder with a qemu-system-x86_64 in it, for PATH"),
    "commands": ("fakeqemu.tool_commands:main", "which QMP commands of a profile are emulated"),
    "options": ("fakeqemu.vl.options_cli:main", "which command line options of a profile are emulated"),
    "faults": ("fakeqemu.faults.catalogue_cli:main", "the points at which a scenario can make something fail"),
    "scenarios": ("fakeqemu.scenario.library_cli:main", "scenarios to use by name, or to begin one's own with"),
    "shell": ("fakeqemu.tool_shell:main", "qmp-shell of qemu.qmp: talk to an emulator"),
    "health": ("fakeqemu.health:main", "ask a running emulator whether it is well"),
}


def usage() -> str:
    width = max(len(name) for name in COMMANDS)
    lines = [f"  {name:{width}}  {what}" for name, (_where, what) in COMMANDS.items()]
    return "usage: fakeqemu COMMAND ...\n\n" + "\n".join(lines) + "\n\nfakeqemu COMMAND --help tells more.\n"


def main() -> int:
    """Run a sub-command with the process' own arguments; returns the exit status."""
    argv = sys.argv[1:]
    if not argv or argv[0] in ("-h", "--help", "help"):
        sys.stdout.write(usage())
        return 0 if argv else 2
    if argv[0] == "--version":
        from fakeqemu import __version__

        sys.stdout.write(f"fakeqemu {__version__}\n")
        return 0
    entry = COMMANDS.get(argv[0])
    if entry is None:
        sys.stderr.write(f"fakeqemu: there is no command '{argv[0]}'\n\n{usage()}")
        return 2
    from importlib import import_module

    module, _, function = entry[0].partition(":")
    run: Callable[[list[str]], int] = getattr(import_module(module), function)
    try:
        return run(argv[1:])
    except BrokenPipeError:  # somebody reads no further
        sys.stderr.close()
        return 1


if __name__ == "__main__":
    sys.exit(main())
