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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Version = tuple[int, ...]
    Value = bool | int | str


class CompatRow:
    """One difference between releases."""

    __slots__ = ("choices", "doc", "effect", "name", "values")

    def __init__(self, name: str, doc: str, values: tuple[tuple[Version, Value], ...], effect: str,
                 choices: tuple[str, ...] = ()) -> None:
        """`values`: (first version, value) in ascending order, the first for every version: `()`.

        `doc` says what the name means, `effect` what a user sees; `choices` are the words that a row of text takes.
        """
        self.name = name
        self.doc = doc
        self.values = values
        self.effect = effect
        self.choices = choices

    def resolve(self, version: Version) -> Value:
        """The value that a QEMU of this version has."""
        value = self.values[0][1]
        for since, candidate in self.values:
            if since <= version:
                value = candidate
        return value

    def parse(self, text: str) -> Value:
        """The value that a user wrote as `text`; raises ValueError, naming what the row takes."""
        default = self.values[0][1]
        if isinstance(default, bool):
            if text in ("on", "off"):
                return text == "on"
            raise ValueError(f"compat.{self.name} takes on or off, not '{text}'")
        if isinstance(default, int):
            try:
                return int(text, 0)
            except ValueError:
                raise ValueError(f"compat.{self.name} takes a number, not '{text}'") from None
        if self.choices and text not in self.choices:
            raise ValueError(f"compat.{self.name} takes {' or '.join(self.choices)}, not '{text}'")
        return text


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


# By subject, in the order of the alphabet: add yours where it belongs.
ROWS: tuple[CompatRow, ...] = (
    # --- memory ---
    CompatRow(
        "memory_load_transaction",
        "Loading the devices of an incoming migration is one memory transaction.",
        (((), False),),
        "The memory topology is rendered once per load, not once per device: a shorter downtime.",
    ),
    CompatRow(
        "memory_read_policy",
        "How a read of memory that is not there or not ready is treated while devices are loaded.",
        (((), "stale"),),
        "`stale` reads through the last rendered topology; `force` renders the pending one first, at its cost.",
        ("stale", "strict", "force", "rcu"),
    ),
    # --- vfio ---
    CompatRow(
        "vfio_parallel_states",
        "vfio-pci has the property x-migration-parallel-states: devices of one depth change state side by side.",
        (((), False),),
        "Stopping N devices takes as long as the slowest, not as long as all together; in `next` only.",
    ),
)

ROWS_BY_NAME: dict[str, CompatRow] = {row.name: row for row in ROWS}
