# SPDX-License-Identifier: MIT
"""Options of the whole suite."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", default=None, help="repeat a simulation with this seed alone")
