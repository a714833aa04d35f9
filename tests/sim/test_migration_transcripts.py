# SPDX-License-Identifier: MIT
"""Recorded migrations of real QEMUs, repeated on emulators of ours (see _replay)."""

from __future__ import annotations

import sys

import pytest

from tests.sim._replay import Replay
from tests.sim._replay_keys import use_fast_ciphers
from tests.sim._replay_side import transcripts

#: recordings that need what is not there, and what that is
EXCLUDED = {
    "bad-streams": "two machines: it is one stream a line, and has a test of its own",
    "announce": "network devices",
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
