# SPDX-License-Identifier: MIT
"""Every fault point, by its name: the tables of the parts of a migration, in one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.faults import points_channels, points_colo, points_migration, points_multifd, points_postcopy, points_vfio

if TYPE_CHECKING:
    from fakeqemu.faults.point import Point

_TABLES = (points_channels, points_migration, points_postcopy, points_multifd, points_colo, points_vfio)

POINTS: dict[str, Point] = {point.name: point for table in _TABLES for point in table.POINTS}
