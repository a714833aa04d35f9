# SPDX-License-Identifier: MIT
"""Announcing the guest: its network cards tell the network, in several rounds, where they are now.

A series of rounds runs under an id, "" for the one of `announce-self` without an id; a new series under the same id takes
the place of the old one. The first round is at once, the waits between grow from `initial` by `step` up to `max`, in ms.
What the world sees is the trace: no frames leave this machine.

QEMU: net/announce.c
"""

from __future__ import annotations

from fakeqemu.host.clock import NS_PER_MS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from fakeqemu.host.clock import Timer
    from fakeqemu.qom.object import Object
    from fakeqemu.system.machine import Machine


class _Series:
    """The rounds under one id that are still to come."""

    __slots__ = ("done", "id", "initial_ms", "interfaces", "max_ms", "rounds", "step_ms", "timer")

    def __init__(self, id: str | None, parameters: dict[str, Any], interfaces: list[str] | None) -> None:
        self.id = id
        self.initial_ms: int = parameters["initial"]
        self.max_ms: int = parameters["max"]
        self.rounds: int = parameters["rounds"]
        self.step_ms: int = parameters["step"]
        self.interfaces = interfaces
        self.done = 0
        self.timer: Timer | None = None

    def delay_ns(self) -> int:
        """The wait behind the round that was the last."""
        return min(self.initial_ms + (self.done - 1) * self.step_ms, self.max_ms) * NS_PER_MS


class Announcer:
    """The series of one machine (`vm.announcer`)."""

    __slots__ = ("_series", "_vm")

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self._series: dict[str | None, _Series] = {}

    def announce(
        self, parameters: dict[str, Any], interfaces: list[str] | None = None, *, id: str | None = None
    ) -> None:  # fmt: skip
        """Begin a series. `parameters`: initial, max, rounds, step; `interfaces`: the cards that take part, None for all."""
        old = self._series.pop(id, None)
        if old is not None and old.timer is not None:
            old.timer.cancel()
        self._vm.trace("qemu_announce_timer_del", free_named=False, free_timer=False, id=None if old is None else id)
        series = _Series(id, parameters, interfaces)
        if series.rounds <= 0:
            self._vm.trace("qemu_announce_timer_del", free_named=True, free_timer=True, id=id)
            return
        self._series[id] = series
        self._round(series)

    def announce_incoming(self) -> None:
        """A guest has come in: as the migration parameters say."""
        self.announce(_of_migration(self._vm))

    def _round(self, series: _Series) -> None:
        for name, mac in self._cards() if self._vm.trace.watched else ():
            skip = series.interfaces is not None and name not in series.interfaces
            self._vm.trace("qemu_announce_self_iter", id=series.id, name=name, mac=mac, skip=skip)
        series.done += 1
        if series.done < series.rounds:
            series.timer = self._vm.host.clock.call_at(
                self._vm.host.clock.now_ns() + max(0, series.delay_ns()), lambda: self._round(series)
            )
        else:
            del self._series[series.id]
            self._vm.trace("qemu_announce_timer_del", free_named=series.id is not None, free_timer=True, id=series.id)

    def _cards(self) -> Iterator[tuple[str, str]]:
        """Name and hardware address of each network card."""
        waiting: list[Object] = [self._vm.qom.root]
        while waiting:
            one = waiting.pop(0)
            if one.find_property("mac") is not None and one.find_property("netdev") is not None:
                yield getattr(one, "id", None) or one.type_name, one.get("mac")
            else:  # the inner half of a virtio card is no card of its own
                waiting += one.children.values()


def _of_migration(vm: Machine) -> dict[str, Any]:
    return {name: vm.migration.options.get(f"announce-{name}") for name in ("initial", "max", "rounds", "step")}


def hmp_announce_self(vm: Machine, *, interfaces: str | None = None, id: str = "") -> None:
    """The human monitor's announce_self: with the migration's parameters."""
    vm.announcer.announce(_of_migration(vm), None if interfaces is None else interfaces.split(","), id=id)
