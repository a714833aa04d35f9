# SPDX-License-Identifier: MIT
"""Events: their shape, and how the rate of some is limited."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.qapi.reply_check import WrongShape
from fakeqemu.sim.host import SimHost
from fakeqemu.system.build import new_machine
from fakeqemu.system.machine import Machine

MS = 1_000_000


def machine(profile: str = "11.1") -> tuple[Machine, list[dict[str, Any]], SimHost]:
    host = SimHost(seed=1)
    vm = new_machine(host, VersionProfile.load(profile))
    seen: list[dict[str, Any]] = []
    vm.events.add_sink(seen.append)
    return vm, seen, host


def test_the_shape_of_an_event() -> None:
    vm, seen, host = machine()
    vm.emit("STOP")
    vm.emit("SHUTDOWN", {"guest": False, "reason": "host-qmp-quit"})
    wall = host.clock.wall_ns() // 1000
    stamp = {"seconds": wall // 1_000_000, "microseconds": wall % 1_000_000}
    assert seen == [
        {"timestamp": stamp, "event": "STOP"},
        {"timestamp": stamp, "event": "SHUTDOWN", "data": {"guest": False, "reason": "host-qmp-quit"}},
    ]


def data_of(seen: list[dict[str, Any]]) -> list[Any]:
    return [event["data"] for event in seen]


def test_one_a_second_the_first_at_once_the_last_at_the_end() -> None:
    vm, seen, host = machine()
    for offset in range(5):
        vm.emit("RTC_CHANGE", {"offset": offset, "qom-path": "/rtc"})
        host.world.run_for(100 * MS)
    assert [data["offset"] for data in data_of(seen)] == [0]
    host.world.run_for(500 * MS)
    assert [data["offset"] for data in data_of(seen)] == [0, 4]
    # the second begins anew with the one that was held
    vm.emit("RTC_CHANGE", {"offset": 9, "qom-path": "/rtc"})
    host.world.run_for(900 * MS)
    assert len(seen) == 2
    host.world.run_for(100 * MS)
    assert [data["offset"] for data in data_of(seen)] == [0, 4, 9]
    host.world.run_for(2000 * MS)
    vm.emit("RTC_CHANGE", {"offset": 10, "qom-path": "/rtc"})
    assert len(seen) == 4


def test_a_held_event_keeps_the_time_at_which_it_was_raised() -> None:
    vm, seen, host = machine()
    vm.emit("WATCHDOG", {"action": "none"})
    host.world.run_for(300 * MS)
    vm.emit("WATCHDOG", {"action": "none"})
    host.world.run_for(700 * MS)
    first, second = (event["timestamp"]["seconds"] * 1_000_000 + event["timestamp"]["microseconds"] for event in seen)
    assert second - first == 300_000


def test_a_limit_by_member() -> None:
    vm, seen, _ = machine()
    for port in ("a", "b", "a"):
        vm.emit("VSERPORT_CHANGE", {"id": port, "open": True})
    assert [data["id"] for data in data_of(seen)] == ["a", "b"]


@pytest.mark.parametrize(("profile", "count"), [("7.2", 3), ("10.0", 1), ("11.1", 1)])
def test_block_io_error_is_limited_since_10_0(profile: str, count: int) -> None:
    vm, seen, _ = machine(profile)
    for _ in range(3):
        data = {"device": "d", "operation": "read", "action": "report", "reason": "r"}
        vm.emit("BLOCK_IO_ERROR", data if profile == "7.2" else {"qom-path": "/d", **data})
    assert len(seen) == count


def test_stop_is_not_limited() -> None:
    vm, seen, _ = machine()
    for _ in range(3):
        vm.emit("STOP")
    assert len(seen) == 3


def test_an_event_that_this_qemu_lacks_is_not_sent() -> None:
    vm, seen, _ = machine("7.2")
    traced: list[str] = []
    vm.trace.watch(lambda _event, fields: traced.append(fields["event"]), "fake_event_unknown")
    vm.emit("VFIO_MIGRATION", {"device-id": "x", "qom-path": "/x", "device-state": "stop"})
    assert seen == []
    assert traced == ["VFIO_MIGRATION"]


def test_data_of_the_wrong_shape_is_a_bug() -> None:
    vm, _, _ = machine()
    vm.dispatcher.check_replies = True
    with pytest.raises(WrongShape):
        vm.emit("SHUTDOWN", {"guest": "no"})
