# SPDX-License-Identifier: MIT
"""The make-believe silicon: sessions, sizes, time, failures."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakeqemu.host.clock import NS_PER_MS, NS_PER_S
from fakeqemu.host.faults import FaultPoints
from fakeqemu.hw.vfio import fsm
from fakeqemu.hw.vfio.vendor import (
    STUCK_NS,
    Arcs,
    DataSession,
    LoadingSession,
    MigrationFeatures,
    SavingSession,
    VendorDriver,
)
from fakeqemu.sim.host import SimHost
from fakeqemu.trace import Trace

ALL_FLAGS = fsm.FLAG_STOP_COPY | fsm.FLAG_P2P | fsm.FLAG_PRE_COPY
FLAG_SETS = [
    fsm.FLAG_STOP_COPY | extra for extra in (0, fsm.FLAG_P2P, fsm.FLAG_PRE_COPY, fsm.FLAG_P2P | fsm.FLAG_PRE_COPY)
]


class BareMachine:
    """As much of a machine as a driver needs."""

    def __init__(self, seed: int = 0) -> None:
        self.host = SimHost(seed)
        self.trace = Trace()
        self.faults = FaultPoints()


def driver(features: MigrationFeatures, *, name: str = "0000:3b:00.1", seed: int = 0, kind: int = 1) -> VendorDriver:
    vm: Any = BareMachine(seed)
    return VendorDriver(vm, name, kind, features)


def move(device: VendorDriver, state: str) -> DataSession | None:
    host: Any = device.host
    session: DataSession | None = host.world.run(device.set_state(state))
    return session


def read_all(session: SavingSession) -> bytes:
    data = b""
    while chunk := session.read(10_000):
        data += chunk
    return data


@settings(deadline=None)
@given(flags=st.sampled_from(FLAG_SETS), targets=st.lists(st.sampled_from(list(fsm.NUMBERS)), max_size=12))
def test_sessions_open_and_close_exactly_on_the_arcs_of_the_table(flags: int, targets: list[str]) -> None:
    device = driver(MigrationFeatures(flags))
    session: DataSession | None = None
    for target in targets:
        try:
            hops = fsm.path(device.state, target, flags)
        except OSError:
            before = device.state
            with pytest.raises(OSError):
                move(device, target)
            assert device.state == before
            continue
        if fsm.RESUMING in (device.state, *hops[:-1]) and hops:
            # Nothing was loaded, so leaving RESUMING breaks the device; only a reset helps.
            with pytest.raises(OSError):
                move(device, target)
            assert device.state == fsm.ERROR
            device.reset()
            assert device.state == fsm.RUNNING
            session = None
            continue
        arcs = list(zip([device.state, *hops], hops, strict=False))
        opened = move(device, target)
        assert device.state == target
        if arcs and (arcs[-1] in fsm.OPENS_SAVING or arcs[-1] == fsm.OPENS_LOADING):
            assert opened is not None
            session = opened
        else:
            assert opened is None
        if session is not None:
            assert session.ended == (target not in (*fsm.SAVING, fsm.RESUMING))


def test_a_state_travels() -> None:
    features = MigrationFeatures(ALL_FLAGS, initial_bytes=5_000, stop_copy_bytes=70_000)
    source, target = driver(features, seed=1), driver(features, seed=2)
    assert source.internal != target.internal
    session = move(source, fsm.PRE_COPY)
    assert isinstance(session, SavingSession)
    data = session.read(3_000)
    assert source.precopy_info() == (2_000, 0)
    assert move(source, fsm.PRE_COPY_P2P) is None
    assert move(source, fsm.STOP_COPY) is None
    assert source.stop_copy_size() == 72_000
    data += read_all(session)
    assert len(data) == 75_000

    loading = move(target, fsm.RESUMING)
    assert isinstance(loading, LoadingSession)
    for at in range(0, len(data), 7_001):
        loading.write(data[at : at + 7_001])
    move(target, fsm.STOP)
    assert target.internal == source.internal


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_bad_data_breaks_the_device_when_it_leaves_resuming(damage: str) -> None:
    features = MigrationFeatures(fsm.FLAG_STOP_COPY)
    session = move(source := driver(features), fsm.STOP_COPY)
    assert isinstance(session, SavingSession)
    assert source.state == fsm.STOP_COPY
    data = read_all(session)
    data = {"cut": data[:-1], "flip": data[:500] + b"!" + data[501:], "empty": b""}[damage]
    target = driver(features)
    loading = move(target, fsm.RESUMING)
    assert isinstance(loading, LoadingSession)
    if data:
        loading.write(data)
    with pytest.raises(OSError) as failed:
        move(target, fsm.STOP)
    assert failed.value.errno == errno.EINVAL
    assert target.state == fsm.ERROR


def test_data_of_another_kind_of_device_is_refused_when_written() -> None:
    features = MigrationFeatures(fsm.FLAG_STOP_COPY)
    session = move(driver(features, kind=1), fsm.STOP_COPY)
    assert isinstance(session, SavingSession)
    loading = move(driver(features, kind=2), fsm.RESUMING)
    assert isinstance(loading, LoadingSession)
    with pytest.raises(OSError):
        loading.write(read_all(session))


def test_precopy_data_runs_dry_and_grows_again() -> None:
    device = driver(MigrationFeatures(ALL_FLAGS, initial_bytes=100, dirty_bytes_per_s=1_000))
    session = move(device, fsm.PRE_COPY)
    assert isinstance(session, SavingSession)
    assert len(session.read(1 << 20)) == 100
    with pytest.raises(OSError) as dry:
        session.read(1)
    assert dry.value.errno == errno.ENOMSG
    host: Any = device.host
    host.world.run_for(NS_PER_S // 2)
    assert device.precopy_info() == (0, 500)
    assert len(session.read(200)) == 200
    assert device.precopy_info() == (0, 300)


def test_precopy_info_is_refused_outside_of_pre_copy() -> None:
    device = driver(MigrationFeatures(ALL_FLAGS))
    with pytest.raises(OSError):
        device.precopy_info()
    move(device, fsm.PRE_COPY)
    move(device, fsm.STOP_COPY)
    with pytest.raises(OSError):
        device.precopy_info()


def test_each_arc_takes_its_time() -> None:
    arcs = Arcs(10 * NS_PER_MS, {"running-p2p>stop": 70 * NS_PER_MS})
    device = driver(MigrationFeatures(ALL_FLAGS, arcs=arcs))
    move(device, fsm.STOP)
    assert device.host.clock.now_ns() == 80 * NS_PER_MS


def test_jitter_repeats_with_the_seed() -> None:
    def run(seed: int) -> int:
        device = driver(MigrationFeatures(ALL_FLAGS, arcs=Arcs(10 * NS_PER_MS, jitter=0.5)), seed=seed)
        move(device, fsm.STOP)
        return device.host.clock.now_ns()

    assert run(1) == run(1)
    assert run(1) != run(2)
    assert 20 * NS_PER_MS <= run(1) <= 30 * NS_PER_MS


def test_a_stuck_arc_waits_until_it_is_released() -> None:
    device = driver(MigrationFeatures(ALL_FLAGS, arcs=Arcs(0, {"running>running-p2p": STUCK_NS})))
    host: Any = device.host
    task = host.start(device.set_state(fsm.STOP), "test")
    host.world.run_until_idle()
    assert not task.done
    assert device.state == fsm.RUNNING
    device.release()
    host.world.run_until(task)
    assert device.state == fsm.STOP


def test_a_failed_arc_leaves_the_device_where_the_last_good_one_ended() -> None:
    device = driver(MigrationFeatures(ALL_FLAGS, arcs=Arcs(failures={"running-p2p>stop": errno.EIO})))
    with pytest.raises(OSError) as failed:
        move(device, fsm.STOP)
    assert failed.value.errno == errno.EIO
    assert device.state == fsm.RUNNING_P2P


def test_a_breaking_arc_leaves_the_device_in_error_until_it_is_reset() -> None:
    arcs = Arcs(failures={"running-p2p>stop": errno.EIO}, broken=("running-p2p>stop",))
    device = driver(MigrationFeatures(ALL_FLAGS, arcs=arcs))
    with pytest.raises(OSError):
        move(device, fsm.STOP)
    assert device.state == fsm.ERROR
    with pytest.raises(OSError):
        move(device, fsm.RUNNING)
    device.reset()
    assert device.state == fsm.RUNNING
