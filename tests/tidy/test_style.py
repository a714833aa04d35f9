# SPDX-License-Identifier: MIT
"""The linters find nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "command", [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]], ids=" ".join
)
@pytest.mark.timeout(600)
def test_linter_is_content(command: list[str]) -> None:
    module, *arguments = command
    result = subprocess.run(
        [sys.executable, "-m", module, *arguments], check=False, cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
