# SPDX-License-Identifier: MIT
"""Everything that is otherwise loaded on first use, loaded now: for a process that is about to lose sight of its files.

After `-run-with chroot=` there is no package any more to import from, and after `-run-with user=` perhaps no right to read
it. Start-up takes longer with these options; nothing else changes.
"""

from __future__ import annotations

import os

#: packages and modules that an emulator process never needs
_NEVER = (
    "demo",
    "health",
    "hostfile",
    "record",
    "scenario",  # a file is read when the machine is made, long before
    "schemas",
    "shim",
    "sim",
    "testing",
    "tool",
    "tool_shell",
    "__main__",
    "__pycache__",
    "preload",
)
#: what our modules import inside functions from the standard library, and what decoding of names may load
_STANDARD = (
    "_signal", "_socket", "binascii", "fcntl", "fnmatch", "getpass", "grp", "heapq", "json", "mmap", "pwd", "random", "select",
    "struct", "tempfile", "termios", "time", "traceback", "tty", "zlib", "encodings.idna", "encodings.latin_1",
    "encodings.ascii", "linecache", "tokenize",
)  # fmt: skip


def load_everything() -> None:
    """Import all modules of the emulator."""
    package = os.path.dirname(os.path.abspath(__file__))
    for name in _modules(package, "fakeqemu"):
        __import__(name)
    for name in _STANDARD:
        __import__(name)


def _modules(folder: str, prefix: str) -> list[str]:
    found = []
    for entry in sorted(os.listdir(folder)):
        name = entry.removesuffix(".py")
        if name in _NEVER or name.endswith("_cli"):
            continue
        path = os.path.join(folder, entry)
        if entry.endswith(".py"):
            if name != "__init__":
                found.append(f"{prefix}.{name}")
        elif os.path.exists(os.path.join(path, "__init__.py")) or os.path.isdir(path):
            found += _modules(path, f"{prefix}.{name}")
    return found
