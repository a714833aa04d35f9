# SPDX-License-Identifier: MIT
"""One difference between releases of QEMU; `compat` tells the idea, `compat_rows` has the rows."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    Version = tuple[int, ...]
    Value = bool | int | str


class CompatRow:
    """One difference between releases."""

    __slots__ = ("choices", "doc", "effect", "name", "values")

    def __init__(
        self, name: str, doc: str, values: tuple[tuple[Version, Value], ...], effect: str, choices: tuple[str, ...] = ()
    ) -> None:
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
