# SPDX-License-Identifier: MIT
"""Recorded postcopies of real QEMUs, repeated on emulators of ours (see _replay)."""

from __future__ import annotations

import pytest

from tests.sim._replay import Replay
from tests.sim._replay_side import transcripts


@pytest.mark.parametrize("name", [name for name in transcripts() if "postcopy" in name])
def test_emulators_of_ours_do_what_was_recorded(name: str) -> None:
    Replay(name).run()
