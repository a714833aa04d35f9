# SPDX-License-Identifier: MIT
"""Fault points of COLO: what the two sides say to each other between checkpoints.

QEMU: migration/colo.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fakeqemu.faults.point import Point

POINTS: tuple[Point, ...] = ()
