# SPDX-License-Identifier: MIT
"""Options of the whole suite, the tests of which one release in turn is enough at a time, and chance.

What a real QEMU does is at times a matter of which of its threads is first. A test that asks one is tried again when it fails,
twice at most, and the summary lists what was (`R`); ours alone have to be right at once.
"""

from __future__ import annotations

from zlib import crc32

import pytest

RERUNS = 2


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", default=None, help="repeat a simulation with this seed alone")
    parser.addoption("--every-release", action="store_true", help="with every release also what asks one in turn")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give tests of real ones their further tries; leave out of those in turn all releases but one, by their other parameters."""
    for item in items:
        if item.get_closest_marker("real_qemu") is not None:
            item.add_marker(pytest.mark.flaky(reruns=RERUNS))
    if config.getoption("--every-release"):
        return
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        mark = item.get_closest_marker("in_turn")
        if mark is not None and isinstance(item, pytest.Function):
            others = [f"{name}={value!r}" for name, value in item.callspec.params.items() if name != mark.args[0]]
            cases.setdefault(f"{item.path.name}::{item.originalname} {' '.join(sorted(others))}", []).append(item)
    left_out = []
    for case, releases in cases.items():
        asked = releases[crc32(case.encode()) % len(releases)]
        left_out += [item for item in releases if item is not asked]
    if left_out:
        gone = set(map(id, left_out))
        items[:] = [item for item in items if id(item) not in gone]
        config.hook.pytest_deselected(items=left_out)
