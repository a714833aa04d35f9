# SPDX-License-Identifier: MIT
"""Every fault point is passed by some migration that the tests make fail at every point: none is there in name only."""

from __future__ import annotations

from typing import Any

from fakeqemu.faults.catalogue import POINTS
from fakeqemu.faults.injector import Injector
from tests.sim._colo import COLO_KINDS, ColoRun
from tests.sim._migrations import KINDS, Run
from tests.sim._postcopies import KINDS as POSTCOPY_KINDS
from tests.sim._postcopies import PostcopyRun

#: points of what comes before a migration, or in place of it: they are made to fail elsewhere
ELSEWHERE = {
    "fake_vfio_query_migration_flags": "a device is plugged (test_vfio_points.py)",
    "fake_vfio_set_precopy_info_v2": "a device is plugged (test_vfio_points.py)",
    "fake_vfio_set_dirty_page_tracking": "a device that does not log what it writes to (test_vfio_points.py)",
    "vfio_pci_reset": "a device is reset because one of its states cannot be left (test_vfio_failures.py)",
}


def passed_by(run: Run | ColoRun) -> dict[str, None]:
    """The points that a migration passes on either side, in which nothing fails."""
    passed: dict[str, None] = {}
    for injector in run.injectors.values():
        _record(injector, passed)
    run.go()
    if isinstance(run, PostcopyRun):
        run.recover()
    return passed


def _record(injector: Injector, passed: dict[str, None]) -> None:
    check = injector.check

    def recorded(point: str, fields: dict[str, Any], /) -> None:
        passed[point] = None
        check(point, fields)

    injector.check = recorded  # type: ignore[method-assign]


def test_every_point_is_passed_by_some_migration() -> None:
    passed: dict[str, None] = {}
    for run in (
        *(Run(kind) for kind in KINDS),
        *(PostcopyRun(kind) for kind in POSTCOPY_KINDS),
        *(ColoRun(kind) for kind in COLO_KINDS),
    ):
        passed.update(passed_by(run))
    assert sorted({*passed, *ELSEWHERE}) == sorted(POINTS)
    assert [name for name in ELSEWHERE if name in passed] == []
