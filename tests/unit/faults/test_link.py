# SPDX-License-Identifier: MIT
"""A channel with faults: time, pieces, ends and changed bytes, and a contract that holds without any."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fakeqemu.faults.injector import Close, Corrupt, Fail, Injector, Rule
from fakeqemu.faults.link import LinkFault
from fakeqemu.host.channel import Channel
from fakeqemu.host.clock import NS_PER_MS
from fakeqemu.sim.world import SimWorld
from fakeqemu.testing.sim_machine import SimMachine

DATA = bytes(range(256)) * 4


class Link:
    """A channel with faults, and the other end of it without."""

    def __init__(self, **fault: Any) -> None:
        self.machine = SimMachine(SimWorld(seed=5))
        self.injector = Injector(self.machine.vm)
        near, far = self.machine.host.socketpair()
        self.channel: Channel = self.machine.vm.faults.channel(self.machine.host.channel_for_fd(near, name="near"))
        self.far = self.machine.host.channel_for_fd(far, name="far")
        self.fault = self.injector.add_link(LinkFault("near", **fault))

    def run(self, coro: Any) -> Any:
        return self.machine.world.run(coro)

    @property
    def ms(self) -> float:
        return self.machine.host.clock.now_ns() / NS_PER_MS

    def arrives(self) -> bytes:
        """What is there at the other end by now."""
        found: bytes = self.run(self.far.read(1 << 20))
        return found


@pytest.fixture
def links() -> Iterator[list[Link]]:
    made: list[Link] = []
    yield made
    for link in made:
        link.machine.close()


@pytest.fixture
def make(links: list[Link]) -> Any:
    def one(**fault: Any) -> Link:
        links.append(Link(**fault))
        return links[-1]

    return one


def test_without_a_fault_that_fits_all_is_as_ever(make: Any) -> None:
    link = make(direction="read", reset_at=0)
    link.run(link.channel.write(DATA[:100], DATA[100:]))
    assert link.arrives() == DATA
    assert link.ms == 0


def test_latency_and_bandwidth_take_time(make: Any) -> None:
    link = make(latency_ms=30, bandwidth=len(DATA) * 10)
    link.run(link.channel.write(DATA))
    assert link.ms == 130
    assert link.arrives() == DATA


def test_slices_arrive_in_order_and_whole(make: Any) -> None:
    link = make(slice=100, latency_ms=1)
    link.run(link.channel.write(DATA))
    assert link.ms == 11
    assert link.arrives() == DATA
    link.run(link.far.write(DATA))
    assert link.run(link.channel.read(4096)) == DATA[:100]


def test_a_reset_is_met_at_its_byte_by_both_sides(make: Any) -> None:
    link = make(direction="write", reset_at=10)
    with pytest.raises(ConnectionResetError):
        link.run(link.channel.write(DATA))
    assert link.arrives() == DATA[:10]
    assert link.arrives() == b""
    with pytest.raises(OSError, match="reset"):
        link.run(link.channel.write(b"more"))


def test_a_close_looks_as_if_the_other_side_had_gone(make: Any) -> None:
    link = make(close_at=10)
    with pytest.raises(BrokenPipeError):
        link.run(link.channel.write(DATA))
    assert link.arrives() == DATA[:10]
    other = make(direction="read", close_at=10)
    other.run(other.far.write(DATA))
    assert other.run(other.channel.read(100)) == DATA[:10]
    assert other.run(other.channel.read(100)) == b""


def test_one_byte_is_changed_whichever_call_moves_it(make: Any) -> None:
    link = make(corrupt_at=150, direction="write", slice=100)
    link.run(link.channel.write(DATA))
    arrived = link.arrives()
    assert [n for n in range(len(DATA)) if arrived[n] != DATA[n]] == [150]
    assert arrived[150] == DATA[150] ^ 0xFF


@pytest.mark.parametrize("end", ["release", "shutdown", "close"])
def test_a_stall_ends_by_release_and_with_the_channel(make: Any, end: str) -> None:
    link = make(stall_at=10)
    task = link.machine.host.start(link.channel.write(DATA), "writer")
    task.claim()
    link.machine.world.run_until_idle()
    assert not task.done
    assert link.arrives() == DATA[:10]
    if end == "release":
        link.fault.release()
    elif end == "shutdown":
        link.channel.shutdown()
    else:
        link.channel.close()
    link.machine.world.run_until(task)
    assert (task.error() is None) == (end == "release")


def test_a_rule_can_name_a_channel_and_a_position(make: Any) -> None:
    link = make(latency_ms=0)
    link.injector.add(Rule("fake_channel_write", Fail("ETIMEDOUT"), match={"channel": "near", "position": "4"}))
    link.run(link.channel.write(b"1234"))
    with pytest.raises(TimeoutError):
        link.run(link.channel.write(b"5678"))


def test_a_rule_changes_a_byte_of_a_call(make: Any) -> None:
    link = make(latency_ms=0)
    link.injector.add(Rule("fake_channel_write", Corrupt(3), after=1))
    link.injector.add(Rule("fake_channel_read", Corrupt(), match={"position": ">=2"}))
    link.run(link.channel.write(b"aaaa"))
    link.run(link.channel.write(b"bbbb", b"cccc"))
    assert link.arrives() == b"aaaabbb" + bytes((ord("b") ^ 0xFF,)) + b"cccc"
    link.run(link.far.write(b"dddd"))
    assert link.run(link.channel.read(2)) == b"dd"
    assert link.run(link.channel.read(2)) == bytes((ord("d") ^ 0xFF,)) + b"d"


def test_a_rule_ends_the_connection_of_a_call(make: Any) -> None:
    link = make(latency_ms=0)
    link.injector.add(Rule("fake_channel_write", Close(), match={"position": ">=4"}))
    link.run(link.channel.write(b"aaaa"))
    with pytest.raises(BrokenPipeError):
        link.run(link.channel.write(b"bbbb"))
    assert link.arrives() == b"aaaa"
    assert link.arrives() == b""


def test_channels_that_are_closed_are_forgotten(make: Any) -> None:
    link = make(latency_ms=0)
    assert link.injector.channels == [link.channel]
    link.channel.close()
    link.channel.close()
    assert link.injector.channels == []
