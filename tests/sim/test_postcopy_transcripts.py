# SPDX-License-Identifier: MIT
"""Recorded postcopies of real QEMUs, repeated on emulators of ours (see _replay)."""

from __future__ import annotations

import pytest

from tests.sim._replay import Replay
from tests.sim._replay_side import transcripts

#: recordings that do not yet repeat: work goes on
NOT_YET = {
    "postcopy-destination-killed", "postcopy-multifd", "postcopy-pause-command", "postcopy-preempt", "postcopy-source-killed",
    "q35-postcopy-preempt",
}  # fmt: skip
NAMES = [name for name in transcripts() if "postcopy" in name and name.partition("/")[2] not in NOT_YET]


@pytest.mark.parametrize("name", NAMES)
def test_emulators_of_ours_do_what_was_recorded(name: str) -> None:
    Replay(name).run()
