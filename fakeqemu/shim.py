# SPDX-License-Identifier: MIT
"""`fakeqemu shim DIR`: a folder with a `qemu-system-x86_64` in it, for PATH or for a tool's path of its emulator.

The launcher works with a wiped environment and an unwritable HOME: it names its interpreter and the package by absolute
paths, and holds the settings of `-fake`. The interpreter runs isolated (`-I`) and without `site` (`-S`), which would cost
a good part of the start; the folders that `site` would have added are written into the launcher.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

NAME = "qemu-system-x86_64"
#: what the kernel takes of a first line
_SHEBANG_MAX = 127

_USAGE = """usage: fakeqemu shim DIR [--fake KEY=VALUE,...] [--name NAME]

Write DIR/qemu-system-x86_64, a launcher of the emulator with these settings in it.
"""


def write_shim(folder: Path, settings: str = "", name: str = NAME) -> Path:
    """Write the launcher into `folder`, which is made if need be; returns its path. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    package = Path(__file__).resolve().parent
    _compile(package)
    path = folder / name
    text = launcher(sys.executable, str(package.parent), settings)
    # Whoever runs the old one meanwhile keeps it.
    fresh = folder / f".{name}.{os.getpid()}"
    fresh.write_text(text, encoding="utf-8", errors="surrogateescape")
    fresh.chmod(0o755)
    fresh.rename(path)
    return path.absolute()


def launcher(interpreter: str, package_parent: str, settings: str) -> str:
    """The text of a launcher."""
    others = [entry for entry in sys.path if entry and entry != package_parent and "site-packages" in entry]
    # A start makes little garbage: the collector is switched off until it has ended, here too while modules are loaded.
    body = f"""import gc, sys
gc.disable()
sys.path.insert(0, {package_parent!r})
sys.path.extend({others!r})
"""
    if settings:
        # What the environment or the command line say comes later, and wins.
        body += f"""import os
os.environ["FAKEQEMU"] = {settings!r} + ("," + os.environ["FAKEQEMU"] if os.environ.get("FAKEQEMU") else "")
"""
    body += """from fakeqemu.cli import main
main()
"""
    shebang = f"#!{interpreter} -IS"
    if len(os.fsencode(shebang)) <= _SHEBANG_MAX and not any(c.isspace() for c in interpreter):
        return f"{shebang}\n{body}"
    # A first line cannot hold it: a shell starts the same text. For Python the second line is a string.
    if "'" in interpreter or "\\" in interpreter:
        raise ValueError(f"cannot quote the path of the interpreter: {interpreter}")
    quoted = shlex.quote(interpreter)
    return f"#!/bin/sh\n''':'\nexec {quoted} -IS \"$0\" \"$@\"\n'''\n{body}"


def _check(text: str) -> None:
    """Raise ValueError for settings that the emulator would refuse."""
    from fakeqemu.qapi.profile import VersionProfile
    from fakeqemu.vl import fake

    VersionProfile.load(fake.settings([text]).get("profile", fake.DEFAULT_PROFILE))


def _compile(package: Path) -> None:
    """Compile the package, if we may write there: compiling at each start would take longer than all the rest."""
    from compileall import compile_dir

    compile_dir(package, quiet=2)


def main(argv: list[str]) -> int:
    """The sub-command; returns the exit status."""
    settings, name, folder = "", NAME, ""
    words = list(argv)
    while words:
        word = words.pop(0)
        if word in ("-h", "--help"):
            sys.stdout.write(_USAGE)
            return 0
        if word in ("--fake", "--name") and words:
            if word == "--fake":
                settings = f"{settings},{words.pop(0)}" if settings else words.pop(0)
            else:
                name = words.pop(0)
        elif not word.startswith("-") and not folder:
            folder = word
        else:
            sys.stderr.write(_USAGE)
            return 2
    if not folder or "/" in name:
        sys.stderr.write(_USAGE)
        return 2
    try:
        _check(settings)
        path = write_shim(Path(folder), settings, name)
    except ValueError as error:
        sys.stderr.write(f"fakeqemu shim: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"fakeqemu shim: {error.filename}: {error.strerror}\n")
        return 1
    sys.stdout.write(f"{path}\n")
    return 0
