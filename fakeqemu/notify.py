# SPDX-License-Identifier: MIT
"""Lists of those who want to be told.

QEMU: util/notify.c
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any


class NotifierList:
    """Call-backs, told in the order in which they were added. Adding or removing one while telling is allowed."""

    __slots__ = ("_callbacks",)

    def __init__(self) -> None:
        self._callbacks: list[Callable[..., Any]] = []

    def add(self, callback: Callable[..., Any]) -> None:
        self._callbacks.append(callback)

    def remove(self, callback: Callable[..., Any]) -> None:
        """Forget `callback`; raises ValueError when it is not in the list."""
        self._callbacks.remove(callback)

    def notify(self, *args: Any) -> None:
        for callback in tuple(self._callbacks):
            callback(*args)

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        """Over a copy, for those who wait between one call-back and the next."""
        return iter(tuple(self._callbacks))

    def __len__(self) -> int:
        return len(self._callbacks)
