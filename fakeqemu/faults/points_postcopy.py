# SPDX-License-Identifier: MIT
"""Fault points of postcopy and of background snapshots.

QEMU: migration/postcopy-ram.c, and what migration.c and ram.c do for them.
"""

from __future__ import annotations

from fakeqemu.faults.point import Point, point

POINTS: tuple[Point, ...] = (
    point("ram_write_tracking_ramblock_start", "source", "qemu", "Failed to watch the guest's writes: {error}", "",
          "freezing the memory for a background snapshot", waits=True),
    point("fake_bg_migration_completion", "source", "qemu", "Failed to complete the background snapshot: {error}", "",
          "devices of a background snapshot, all memory being sent", waits=True),
    point("postcopy_start", "source", "qemu", "Failed to start postcopy: {error}", "", "the switch to postcopy", waits=True),
)  # fmt: skip
