# SPDX-License-Identifier: MIT
"""Scenarios that come with us, one a file: `-fake scenario=NAME`, listed by `fakeqemu scenarios`."""

from __future__ import annotations

import os

FOLDER = os.path.dirname(__file__)
_ENDING = ".toml"


def names() -> list[str]:
    """The names of all of them."""
    return sorted(name.removesuffix(_ENDING) for name in os.listdir(FOLDER) if name.endswith(_ENDING))


def path_of(name: str) -> str | None:
    """The file of the scenario of that name; None when there is none."""
    path = os.path.join(FOLDER, name + _ENDING)
    return path if name.replace("-", "").isalpha() and os.path.isfile(path) else None
