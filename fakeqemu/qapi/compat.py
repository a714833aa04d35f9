# SPDX-License-Identifier: MIT
"""Compat: where releases of QEMU behave differently, one row each.

What a QEMU accepts and ships is data in `schemas/`. How it behaves is code, and where two releases differ
the code asks a *name*: `if vm.compat.multifd_flush_per_round:`. A name is a row here: what it means, which
value it took with which release, and what a user sees of it. A row holds a value, not only a switch.

A row is resolved by the version number of the profile, so a profile captured from a release we never saw takes
the newest value not younger than itself. An overlay profile sets values in its manifest, and
`-fake compat.NAME=VALUE` sets one for a run.

QEMU: hw_compat_* in hw/core/machine.c is the same idea for properties of machine types
"""

from __future__ import annotations

from fakeqemu.qapi.compat_row import CompatRow
from fakeqemu.qapi.compat_rows import ROWS as GENERAL_ROWS
from fakeqemu.qapi.compat_rows_migration import ROWS as MIGRATION_ROWS
from fakeqemu.qapi.compat_rows_multifd import ROWS as MULTIFD_ROWS
from fakeqemu.qapi.compat_rows_postcopy import ROWS as POSTCOPY_ROWS
from fakeqemu.qapi.compat_rows_tls import ROWS as TLS_ROWS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.qapi.compat_row import Value, Version

ROWS: tuple[CompatRow, ...] = GENERAL_ROWS + MIGRATION_ROWS + MULTIFD_ROWS + POSTCOPY_ROWS + TLS_ROWS
ROWS_BY_NAME: dict[str, CompatRow] = {row.name: row for row in ROWS}


class Compat:
    """The rows as one QEMU has them: `compat.NAME` is the value; AttributeError if there is no such row."""

    def __init__(self, version: Version, values: dict[str, Any] | None = None) -> None:
        """Rows resolved for `version`, those in `values` set; raises ValueError for a name that is no row."""
        self._version = version
        self._set = values or {}
        for name in self._set:
            if name not in ROWS_BY_NAME:
                raise ValueError(f"there is no compat row '{name}'")

    def __getattr__(self, name: str) -> Any:
        # Runs once a row: the value then stands in the instance.
        row = ROWS_BY_NAME.get(name)
        if row is None:
            raise AttributeError(f"there is no compat row '{name}'")
        value = self._set[name] if name in self._set else row.resolve(self._version)
        setattr(self, name, value)
        return value

    def override(self, texts: dict[str, str]) -> Compat:
        """Another Compat with rows set as `-fake compat.NAME=VALUE` writes them; raises ValueError."""
        values = dict(self._set)
        for text_name, text in texts.items():
            name = text_name.replace("-", "_").replace(".", "_")
            row = ROWS_BY_NAME.get(name)
            if row is None:
                raise ValueError(f"there is no compat row '{text_name}'")
            values[name] = row.parse(text)
        return Compat(self._version, values)

    def items(self) -> list[tuple[CompatRow, Value]]:
        """Every row with its value here, in the order of the table."""
        return [(row, getattr(self, row.name)) for row in ROWS]
