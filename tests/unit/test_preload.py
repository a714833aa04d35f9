# SPDX-License-Identifier: MIT
"""A process that has changed its root imports nothing any more."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import fakeqemu
from fakeqemu import preload

PACKAGE = Path(fakeqemu.__file__).parent


def late_imports() -> set[str]:
    """What the emulator's modules import inside functions."""
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if set(parts) & set(preload._NEVER) or parts[-1].endswith("_cli"):
            continue
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                for node in ast.walk(function):
                    if isinstance(node, ast.Import):
                        found.update(alias.name for alias in node.names)
                    elif isinstance(node, ast.ImportFrom) and node.module:
                        found.add(node.module)
    return {name for name in found if not set(name.split(".")) & set(preload._NEVER)}


def test_everything_that_is_imported_late_is_preloaded() -> None:
    script = f"""
import sys
sys.path.insert(0, {str(PACKAGE.parent)!r})
from fakeqemu.preload import load_everything
load_everything()
print(*sys.modules)
"""
    loaded = subprocess.run(
        [sys.executable, "-S", "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert sorted(late_imports() - set(loaded)) == []
