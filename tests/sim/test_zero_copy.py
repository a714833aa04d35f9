# SPDX-License-Identifier: MIT
"""zero-copy-send, as real QEMUs were seen with it on one machine: bytes are copied all the same, and counted as missed."""

from __future__ import annotations

import pytest

from tests.sim._pair import RELEASES
from tests.sim.test_multifd import PAGES, arrived, multifd_pair


@pytest.mark.parametrize("profile", RELEASES)
@pytest.mark.parametrize(("pages", "missed"), [(PAGES, 3), (0, 0)])
def test_a_flush_of_each_channel_finds_bytes_copied(profile: str, pages: int, missed: int) -> None:
    pair = multifd_pair(profile, channels=3)
    pair.capabilities(zero_copy_send=True)
    pair.fill(pages)
    pair.destination.execute("migrate-incoming", uri="tcp:127.0.0.1:4444")
    pair.source.execute("migrate", uri="tcp:127.0.0.1:4444")
    info = pair.finish()
    assert info["status"] == "completed"
    assert info["ram"]["dirty-sync-missed-zero-copy"] == missed
    arrived(pair)


def test_unix_sockets_cannot() -> None:
    pair = multifd_pair()
    pair.capabilities(zero_copy_send=True)
    pair.destination.execute("migrate-incoming", uri="unix:/tmp/migration", exit_on_error=False)
    pair.source.execute("migrate", uri="unix:/tmp/migration")
    info = pair.finish()
    assert (info["status"], info["error-desc"]) == ("failed", "Zero copy send feature not detected in host kernel")
