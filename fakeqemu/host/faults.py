# SPDX-License-Identifier: MIT
"""The places where something can be made to fail.

Code calls `vm.faults.check("vfio_migration_set_state", device=..., to=...)` where QEMU has an error path. Nothing happens
until an injector is plugged in; then the call may raise, which is the failure itself, or the awaitable form may wait.
Points carry names of trace events, so the catalogue of faults and that of events are one list.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any, Protocol

    from fakeqemu.host.channel import Channel

    class Injector(Protocol):
        """Decides what happens at a point; raises what is to be raised there."""

        def check(self, point: str, fields: dict[str, Any], /) -> None: ...

        def wait(self, point: str, fields: dict[str, Any], /) -> Awaitable[None] | None: ...


class FaultPoints:
    """The fault points of one machine; empty by default."""

    __slots__ = ("answer", "injector", "wrap")

    def __init__(self) -> None:
        self.injector: Injector | None = None
        #: puts faults of the link between a channel and those who use it
        self.wrap: Callable[[Channel], Channel] | None = None
        #: called in place of a QMP command's function, with the command and its arguments
        self.answer: Callable[[Any, dict[str, Any]], Any] | None = None

    def check(self, point: str, /, **fields: Any) -> None:
        """Raise what the injector wants raised at `point`; does nothing without one."""
        if self.injector is not None:
            self.injector.check(point, fields)

    async def pass_through(self, point: str, /, **fields: Any) -> None:
        """As `check`, for places that can also be delayed or stalled."""
        if self.injector is not None:
            delay = self.injector.wait(point, fields)
            if delay is not None:
                await delay
            self.injector.check(point, fields)

    def channel(self, channel: Channel) -> Channel:
        """The channel to use instead of one that was just opened: the same, unless links can have faults."""
        return channel if self.wrap is None else self.wrap(channel)
