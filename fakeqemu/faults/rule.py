# SPDX-License-Identifier: MIT
"""What a rule says: at which points, how often, and what happens there.

A rule acts when its `where` matches the point's name and every pattern of `match` its field, after it was passed over
`after` times, for `times` times, each time with `probability`. The first rule that acts is the only one.

    Fail     raise what the code there would meet: an errno, in the point's own words or in `text`
    Delay    wait first; then go on
    Stall    wait until `Injector.release(rule.name)`; then go on
    Corrupt  a byte that is written or read next there has its bits inverted; nothing else is said
    Close    the connection of the point is gone, as if the other side had closed it; what follows is for the code to find
    Kill     the whole process is gone, as by SIGKILL

A pattern is a text with `*` and `?`, or, for numbers, a comparison: `>=100000`, `<5`.
"""

from __future__ import annotations

import errno as _errno
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fakeqemu.trace import matches

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(slots=True, frozen=True)
class Fail:
    """An error, by the name of its errno."""

    errno: str = "EIO"
    #: in place of the point's own words
    text: str | None = None

    @property
    def number(self) -> int:
        return int(getattr(_errno, self.errno))


@dataclass(slots=True, frozen=True)
class Delay:
    """Time that passes first."""

    ms: float


@dataclass(slots=True, frozen=True)
class Stall:
    """Nothing goes on until somebody releases the rule."""


@dataclass(slots=True, frozen=True)
class Corrupt:
    """One byte arrives changed: the `offset`th of those that come next at the point."""

    offset: int = 0


@dataclass(slots=True, frozen=True)
class Close:
    """The connection has ended."""


@dataclass(slots=True, frozen=True)
class Kill:
    """The process ends at once."""


Action = Fail | Delay | Stall | Corrupt | Close | Kill

_COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    ">=": lambda value, bound: value >= bound,
    "<=": lambda value, bound: value <= bound,
    ">": lambda value, bound: value > bound,
    "<": lambda value, bound: value < bound,
}


def comparison(pattern: str) -> Callable[[int], bool] | None:
    """What a pattern such as `>=100000` asks of a number; None for a pattern of text. Raises ValueError for a bad bound."""
    for sign, holds in _COMPARISONS.items():
        if pattern.startswith(sign):
            bound = int(pattern[len(sign) :])
            return lambda value: holds(value, bound)
    return None


def fits(pattern: str, value: object) -> bool:
    """Whether the value of a field is one that the pattern means."""
    compare = comparison(pattern)
    if compare is not None:
        return isinstance(value, int) and compare(value)
    return matches(pattern, str(value))


@dataclass(slots=True)
class Rule:
    """What is to happen where."""

    where: str
    action: Action = field(default_factory=Fail)
    match: dict[str, str] = field(default_factory=dict)
    #: how often the rule lets a point that fits pass before it acts
    after: int = 0
    #: how often it acts; None: always
    times: int | None = 1
    probability: float = 1.0
    #: by which `Injector.release` finds it
    name: str = ""
    passed: int = 0
    acted: int = 0

    @property
    def exhausted(self) -> bool:
        """Whether it has acted as often as it is to."""
        return self.times is not None and self.acted >= self.times

    def fits(self, point: str, fields: dict[str, Any]) -> bool:
        """Whether this is about that point, whatever the counts say."""
        if not matches(self.where, point):
            return False
        return all(key in fields and fits(pattern, fields[key]) for key, pattern in self.match.items())
