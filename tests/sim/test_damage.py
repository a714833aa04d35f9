# SPDX-License-Identifier: MIT
"""Whatever comes, from the source or back from the destination: it ends, in words, with nothing left behind.

The streams of tests/migration/damage.py are cut, mixed and changed at random (`test_damaged_streams` has every byte of
them, as real QEMUs take it), the way back is fed with anything, and the other side is one that does not answer.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakeqemu.host.clock import NS_PER_S
from fakeqemu.migration.postcopy_load import LISTENING
from fakeqemu.migration.stream import return_path as rp
from fakeqemu.sim.world import SimWorld
from fakeqemu.system.ramblock import RAMBlock
from fakeqemu.testing.sim_machine import SimMachine
from tests.migration import damage
from tests.sim._destination import Destination

VERSIONS = ("7.2", "10.0", "11.1")
ADDRESS = {"type": "unix", "path": "/tmp/migration"}
URI = "unix:/tmp/migration"
PAGES = 64


# --- the destination --------------------------------------------------------------------------------------


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """The stream with pieces of it removed, doubled, changed, replaced, or put elsewhere."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        size = draw(st.integers(0, min(40, len(data) - at)))
        piece = bytes(data[at : at + size])
        what = draw(st.sampled_from(["remove", "double", "random", "move"]))
        if what == "remove":
            del data[at : at + size]
        elif what == "double":
            data[at:at] = piece
        elif what == "random":
            data[at : at + size] = draw(st.binary(max_size=40))
        else:
            del data[at : at + size]
            to = draw(st.integers(0, len(data)))
            data[to:to] = piece
    return bytes(data)


@settings(deadline=None)
@given(st.data())
@pytest.mark.parametrize("whole", damage.WHOLE, ids=lambda whole: str(whole.__name__))
@pytest.mark.parametrize("version", VERSIONS)
def test_any_stream_ends_with_nothing_left(version: str, whole: Any, data: st.DataObject) -> None:
    case = whole(version)
    case = replace(case, data=data.draw(damaged(case.data)))
    destination = Destination(case, version)
    destination.send(case.data)
    incoming = destination.vm.migration.incoming
    assert incoming is not None
    assert destination.vm.bugs == 0, destination.machine.host.log_lines
    if incoming.state == "postcopy-paused":  # from LISTEN on a broken stream is waited for
        return
    if incoming.state in ("postcopy-device", "postcopy-active"):  # all has come but RUN: real ones wait as well
        assert incoming.postcopy is not None
        assert incoming.postcopy.phase == LISTENING
        return
    assert incoming.state in ("completed", "failed"), destination.machine.host.log_lines
    assert destination.leftovers() == []
    if incoming.state == "failed" and destination.vm.compat.migration_exit_on_error:
        assert destination.outcome["query-status"] == "inmigrate"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_next_stream_does_not_remember_the_last_one(version: str) -> None:
    """A destination has one try; another one is not changed by what went wrong before."""
    whole = damage.precopy(version)
    for size in (100, len(whole.data)):
        destination = Destination(whole, version)
        destination.send(whole.data[:size])
        assert destination.leftovers() == []
    assert destination.outcome["query-migrate"] == {"status": "completed"}


# --- the source -------------------------------------------------------------------------------------------


class Source:
    """A source whose guest runs, and a destination that reads `reads` bytes, says `says`, and goes."""

    def __init__(self, version: str, says: bytes, reads: int = 1 << 30, *, stays: bool = False) -> None:
        self.world = SimWorld()
        self.machine = SimMachine(self.world, name="source", profile=version)
        block = RAMBlock("ram", PAGES * 4096)
        self.machine.vm.ram_blocks.append(block)
        block.write_pages(0, bytes(range(1, PAGES + 1)) * 4096)
        self.machine.execute("cont")
        wanted = [{"capability": name, "state": True} for name in ("events", "return-path")]
        self.machine.execute("migrate-set-capabilities", capabilities=wanted)
        self.descriptors = self.machine.host.open_fds()
        self.far: Any = None
        host = self.world.host("destination")

        async def talk(channel: Any) -> None:
            self.far = channel
            left = reads
            try:
                await channel.write(says)
                while left and (chunk := await channel.read(min(left, 65536))):
                    left -= len(chunk)
            except OSError:
                pass
            if not stays:
                channel.close()

        def accepted(channel: Any) -> None:
            host.start(talk(channel), "destination")

        host.listen(ADDRESS, accepted)
        self.machine.execute("migrate", uri=URI)

    @property
    def statuses(self) -> list[str]:
        return [data["status"] for _, name, data in self.machine.events if name == "MIGRATION"]

    def check_runs_on(self) -> None:
        """It has failed, and its guest is what it was."""
        info = self.machine.execute("query-migrate")
        assert info["status"] == "failed"
        assert self.machine.execute("query-status")["status"] == "running"
        self.check_nothing_left()

    def check_nothing_left(self) -> None:
        assert self.machine.vm.bugs == 0, self.machine.host.log_lines
        assert [task.name for task in self.machine.host.tasks] == []
        assert self.machine.host.open_fds() == self.descriptors


MESSAGES = st.one_of(
    st.binary(max_size=30),
    st.builds(rp.message, st.sampled_from(sorted(rp.MESSAGES)), st.binary(max_size=20)),
    st.builds(rp.message, st.integers(0, 65535), st.binary(max_size=600)),
    st.builds(rp.shut, st.integers(0, 2**32 - 1)),
    st.just(rp.pong(1)),
)


@settings(deadline=None)
@given(st.lists(MESSAGES, max_size=3))
@pytest.mark.parametrize("version", VERSIONS)
def test_whatever_comes_back_the_source_ends_and_its_guest_runs(version: str, messages: list[bytes]) -> None:
    source = Source(version, b"".join(messages))
    source.world.run_until_idle()
    source.far.close()  # it has read all, and says no more
    source.world.run_until_idle()
    if source.statuses[-1] == "completed":  # SHUT 0 was among it
        assert source.machine.execute("query-status")["status"] == "postmigrate"
        source.check_nothing_left()
    else:
        source.check_runs_on()


@pytest.mark.parametrize("reads", [0, 1, 17, 100, 5000, 100_000])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_destination_that_goes_away_leaves_the_guest_where_it_was(version: str, reads: int) -> None:
    source = Source(version, b"", reads)
    source.world.run_until_idle()
    source.check_runs_on()


@pytest.mark.parametrize("reads", [0, 100, 100_000, 1 << 30])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_destination_that_does_nothing_is_waited_for_until_somebody_cancels(version: str, reads: int) -> None:
    source = Source(version, b"", reads, stays=True)
    source.world.run_for(60 * NS_PER_S)
    assert source.statuses[-1] in ("active", "device")
    source.machine.execute("migrate_cancel")
    source.world.run_for(NS_PER_S)
    assert source.statuses[-1] == "cancelled"
    assert source.machine.execute("query-status")["status"] == "running"
    source.far.close()
    source.world.run_until_idle()
    source.check_nothing_left()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_connection_that_is_refused_is_said_and_another_one_works(version: str) -> None:
    source = Source(version, rp.shut(0), 0)
    source.world.run_until_idle()
    before = len(source.machine.events)
    source.machine.execute("migrate", uri="unix:/tmp/nobody")
    source.world.run_until_idle()
    info = source.machine.execute("query-migrate")
    assert info["status"] == "failed"
    assert info.get("error-desc", "").startswith("Failed to connect to '/tmp/nobody'")
    assert [name for _, name, _ in source.machine.events[before:]].count("MIGRATION") >= 2
    source.check_nothing_left()
