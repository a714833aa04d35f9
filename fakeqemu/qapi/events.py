# SPDX-License-Identifier: MIT
"""Events: their shape, their time, and how often some of them may come.

    {"timestamp": {"seconds": S, "microseconds": U}, "event": NAME, "data": {...}}

Events that a guest can cause at will are limited to one a second: the first goes out at once, of those that come within
the second only the last is kept, and it goes out when the second is over, with the time at which it was raised. For
some events the second is counted for each value of one member (each device, each node).

QEMU: monitor/monitor.c, qapi/qmp-event.c
"""

from __future__ import annotations

from fakeqemu.qapi.json_out import encode_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fakeqemu.host.clock import Timer
    from fakeqemu.system.machine import Machine

_SECOND_NS = 1_000_000_000

#: event -> the member that the limit goes by, None when it is for the event as a whole
RATE_LIMITED: dict[str, str | None] = {
    "BALLOON_CHANGE": None,
    "BLOCK_IO_ERROR": "qom-path",  # compat.event_block_io_error_limited
    "HV_BALLOON_STATUS_REPORT": None,
    "MEMORY_DEVICE_SIZE_CHANGE": "qom-path",
    "QUORUM_FAILURE": None,
    "QUORUM_REPORT_BAD": "node-name",
    "RTC_CHANGE": None,
    "VSERPORT_CHANGE": "id",
    "WATCHDOG": None,
}


class _Window:
    """A second that has begun with an event; `held` is the last one that came within it."""

    __slots__ = ("held", "timer")

    def __init__(self, timer: Timer) -> None:
        self.timer = timer
        self.held: dict[str, Any] | None = None


class EventHub:
    """Sends the events of one machine to its monitors, and to whoever else listens."""

    __slots__ = ("_known", "_sinks", "_vm", "_windows")

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self._known: dict[str, bool] = {}
        self._sinks: list[Callable[[dict[str, Any]], None]] = []
        self._windows: dict[tuple[str, Any], _Window] = {}

    def emit(self, name: str, data: dict[str, Any] | None = None) -> None:
        """Raise an event; one that the profile's QEMU does not have is not sent."""
        if not self._is_known(name):
            self._vm.trace("fake_event_unknown", event=name)
            return
        wall_us = self._vm.host.clock.wall_ns() // 1000
        event: dict[str, Any] = {
            "timestamp": {"seconds": wall_us // 1_000_000, "microseconds": wall_us % 1_000_000},
            "event": name,
        }
        if data is not None:
            event["data"] = self._checked(name, data)
        if self._hidden(name):
            return
        if name in RATE_LIMITED and self._is_limited(name):
            self._emit_limited(name, event)
        else:
            self._send(event)

    def add_sink(self, sink: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        """Call `sink(event)` for each event that goes out; returns the function that ends it."""
        self._sinks.append(sink)

        def remove() -> None:
            if sink in self._sinks:
                self._sinks.remove(sink)

        return remove

    def _is_known(self, name: str) -> bool:
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = self._vm.profile.has("schema", name)
        return known

    def _is_limited(self, name: str) -> bool:
        return name != "BLOCK_IO_ERROR" or bool(self._vm.compat.event_block_io_error_limited)

    def _hidden(self, name: str) -> bool:
        policy = self._vm.dispatcher.policy
        return bool(policy.hidden) and policy.hides(self._vm.profile.get("schema", name).get("features", []))

    def _checked(self, name: str, data: dict[str, Any]) -> dict[str, Any]:
        dispatcher = self._vm.dispatcher
        if dispatcher.check_replies or dispatcher.policy.hidden:
            from fakeqemu.qapi.schema import schema_of

            type_ = schema_of(self._vm.profile).event_data(name)
            if dispatcher.check_replies:
                from fakeqemu.qapi.reply_check import check_reply

                check_reply(self._vm, type_, data)
            stripped: dict[str, Any] = dispatcher.policy.strip(type_, data)
            return stripped
        return data

    def _send(self, event: dict[str, Any]) -> None:
        self._vm.trace("monitor_protocol_event_emit", event=event["event"], data=event.get("data"))
        for sink in tuple(self._sinks):
            sink(event)
        monitors = self._vm.dispatcher.monitors
        if monitors:
            line = encode_line(event)
            for monitor in tuple(monitors):
                monitor.emit(event, line)

    # --- rate limits ----------------------------------------------------------------------------------

    def _emit_limited(self, name: str, event: dict[str, Any]) -> None:
        member = RATE_LIMITED[name]
        key = (name, event.get("data", {}).get(member) if member else None)
        window = self._windows.get(key)
        if window is None:
            self._send(event)
            self._windows[key] = _Window(self._in_a_second(key))
        else:
            window.held = event

    def _in_a_second(self, key: tuple[str, Any]) -> Timer:
        clock = self._vm.host.clock
        return clock.call_at(clock.now_ns() + _SECOND_NS, lambda: self._second_over(key))

    def _second_over(self, key: tuple[str, Any]) -> None:
        window = self._windows[key]
        if window.held is None:
            del self._windows[key]
            return
        event, window.held = window.held, None
        window.timer = self._in_a_second(key)
        self._send(event)
