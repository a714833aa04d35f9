# SPDX-License-Identifier: MIT
"""release-ram: a source whose guest has left does not keep the pages that the destination has."""

from __future__ import annotations

import pytest

from fakeqemu.error import QemuError
from tests.sim.test_postcopy import CONTENT, MIB, PAGES, Pair


@pytest.mark.parametrize("release", [False, True])
@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
def test_pages_are_kept_until_the_guest_leaves(profile: str, release: bool) -> None:
    pair = Pair(profile, release_ram=release)
    ram = pair.source.vm.ram_blocks[0]
    pair.source.execute("migrate-set-parameters", max_bandwidth=MIB, max_postcopy_bandwidth=MIB)
    pair.source.execute("migrate", uri="unix:/tmp/d")
    pair.world.run_until(lambda: pair.source.vm.migration.stats.normal > 64)
    assert ram.read_pages(0, PAGES) == CONTENT
    pair.source.execute("migrate-start-postcopy")
    pair.wait(pair.source, "postcopy-active")
    pair.world.run_until(lambda: pair.source.vm.migration.stats.package_bytes > 0)
    sent = pair.source.vm.migration.stats.normal + pair.source.vm.migration.stats.duplicate
    left = ram.read_pages(0, PAGES)
    assert left[sent * 4096 :] == CONTENT[sent * 4096 :]
    assert any(left[: 64 * 4096]) != release
    pair.completed()
    assert any(ram.read_pages(0, PAGES)) != release


def test_a_precopy_releases_nothing() -> None:
    pair = Pair(release_ram=True)
    pair.source.execute("migrate", uri="unix:/tmp/d")
    pair.completed()
    assert pair.source.vm.ram_blocks[0].read_pages(0, PAGES) == CONTENT


def test_a_break_cannot_be_mended() -> None:
    pair = Pair(release_ram=True)
    pair.start(postcopy=MIB)
    pair.wait(pair.source, "postcopy-active")
    pair.break_link()
    pair.wait(pair.source, "postcopy-paused")
    with pytest.raises(QemuError, match=r"^Postcopy recovery cannot work when release-ram capability is set$"):
        pair.source.execute("migrate", uri="unix:/tmp/d", resume=True)
