# SPDX-License-Identifier: MIT
"""Recorded migrations of real QEMUs, repeated on emulators of ours (see _replay)."""

from __future__ import annotations

import sys

import pytest

from tests.sim._replay import Replay
from tests.sim._replay_keys import use_fast_ciphers
from tests.sim._replay_side import transcripts

#: recordings that are not repeated here, and why: what they need is not there, or they have a test of their own. Parts of
#: others are left out, too: see _replay_side.
EXCLUDED = {
    "announce": "network devices",
    "bad-streams": "a stream a line: test_migration_transcripts_streams",
    "dirty-bitmaps": "block devices",
    "q35-precopy": "network devices",
}


def _names() -> list[str]:
    """Those that have no file of their own."""
    return [name for name in transcripts() if name.partition("/")[2] not in EXCLUDED and "postcopy" not in name]


@pytest.mark.parametrize("name", _names())
def test_emulators_of_ours_do_what_was_recorded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "/tls-" in name:
        pytest.importorskip("cryptography")
    if "anon" in name or "psk" in name:
        pytest.importorskip("tlslite")
        use_fast_ciphers(monkeypatch)
    if ("zstd" in name or "mismatch" in name) and sys.version_info < (3, 14):  # later ones have it
        pytest.importorskip("zstandard")
    Replay(name).run()
