# SPDX-License-Identifier: MIT
"""The laws of `_laws`, after one migration of each kind."""

from __future__ import annotations

import pytest

from tests.sim import _laws
from tests.sim._migrations import KINDS, Kind, Run

PRECOPY = [kind for kind in KINDS if "migrate-start-postcopy" not in kind.told.values()]


@pytest.mark.parametrize("kind", PRECOPY, ids=lambda kind: kind.name)
def test_counters_of_a_migration_agree(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    wires = _laws.tally(monkeypatch)
    run = Run(kind)
    told = _laws.run_watched(run)
    _laws.check_on_the_way(told)
    _laws.check_completed(run, told[-1], wires)
