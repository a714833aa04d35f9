# SPDX-License-Identifier: MIT
"""The kernel's table of device states, written down a second time as the specification has it."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakeqemu.hw.vfio import fsm

COLUMNS = (fsm.STOP, fsm.RUNNING, fsm.PRE_COPY, fsm.PRE_COPY_P2P, fsm.STOP_COPY, fsm.RESUMING, fsm.RUNNING_P2P)

#: rows of the document: "." is there already, "x" is refused
TABLE = """
stop          .            running-p2p  running-p2p  running-p2p   stop-copy     resuming     running-p2p
running       running-p2p  .            pre-copy     running-p2p   running-p2p   running-p2p  running-p2p
pre-copy      running      running      .            pre-copy-p2p  pre-copy-p2p  running      running
pre-copy-p2p  running-p2p  running-p2p  pre-copy     .             stop-copy     running-p2p  running-p2p
stop-copy     stop         stop         x            x             .             stop         stop
resuming      stop         stop         stop         stop          stop          .            stop
running-p2p   stop         running      running      pre-copy-p2p  stop          stop         .
error         x            x            x            x             x             x            x
"""

ALL_FLAGS = fsm.FLAG_STOP_COPY | fsm.FLAG_P2P | fsm.FLAG_PRE_COPY
FLAG_SETS = [
    fsm.FLAG_STOP_COPY | extra for extra in (0, fsm.FLAG_P2P, fsm.FLAG_PRE_COPY, fsm.FLAG_P2P | fsm.FLAG_PRE_COPY)
]

#: section 2.4 of the specification: what the steps of a migration walk, by flags
STEPS = [
    ("running", "pre-copy", ALL_FLAGS, "pre-copy"),
    ("pre-copy", "pre-copy-p2p", ALL_FLAGS, "pre-copy-p2p"),
    ("running", "running-p2p", ALL_FLAGS, "running-p2p"),
    ("pre-copy-p2p", "stop-copy", ALL_FLAGS, "stop-copy"),
    ("running-p2p", "stop", fsm.FLAG_STOP_COPY | fsm.FLAG_P2P, "stop"),
    ("pre-copy", "stop-copy", fsm.FLAG_STOP_COPY | fsm.FLAG_PRE_COPY, "stop-copy"),
    ("running", "stop", fsm.FLAG_STOP_COPY, "stop"),
    ("running", "resuming", ALL_FLAGS, "running-p2p stop resuming"),
    ("running", "resuming", fsm.FLAG_STOP_COPY, "stop resuming"),
    ("resuming", "running-p2p", ALL_FLAGS, "stop running-p2p"),
    ("resuming", "running", fsm.FLAG_STOP_COPY, "stop running"),
    ("stop-copy", "running", ALL_FLAGS, "stop running-p2p running"),
]


def rows() -> list[tuple[str, str, str]]:
    found = []
    for line in TABLE.strip().splitlines():
        current, *cells = line.split()
        found += [(current, target, cell) for target, cell in zip(COLUMNS, cells, strict=True)]
    return found


@pytest.mark.parametrize(("current", "target", "cell"), rows())
def test_the_next_hop_is_the_kernels(current: str, target: str, cell: str) -> None:
    if cell == ".":
        assert fsm.path(current, target, ALL_FLAGS) == []
    elif cell == "x":
        with pytest.raises(OSError) as refused:
            fsm.path(current, target, ALL_FLAGS)
        assert refused.value.errno == errno.EINVAL
    else:
        assert fsm.next_hop(current, target, ALL_FLAGS) == cell


@pytest.mark.parametrize(("current", "target", "flags", "hops"), STEPS)
def test_each_step_of_a_migration_walks_its_arcs(current: str, target: str, flags: int, hops: str) -> None:
    assert fsm.path(current, target, flags) == hops.split()


@given(
    flags=st.sampled_from(FLAG_SETS),
    current=st.sampled_from(COLUMNS),
    target=st.sampled_from((*COLUMNS, fsm.ERROR)),
)
def test_a_walk_ends_at_its_target_and_only_passes_states_that_the_device_has(
    flags: int, current: str, target: str
) -> None:
    if not fsm.has_state(current, flags):
        return
    if not fsm.has_state(target, flags) or (current == fsm.STOP_COPY and target in fsm.PRE_COPYING):
        with pytest.raises(OSError) as refused:
            fsm.path(current, target, flags)
        assert refused.value.errno == errno.EINVAL
        return
    hops = fsm.path(current, target, flags)
    assert all(fsm.has_state(hop, flags) for hop in hops)
    assert ([current, *hops])[-1] == target
    assert len(set(hops)) == len(hops), "no state is passed twice"
    # The only saving state inside a walk is PRE_COPY_P2P, on the way from PRE_COPY to STOP_COPY.
    assert [hop for hop in hops[:-1] if hop in fsm.SAVING] in ([], [fsm.PRE_COPY_P2P])


def test_error_is_never_a_target() -> None:
    for state in COLUMNS:
        with pytest.raises(OSError):
            fsm.path(state, fsm.ERROR, ALL_FLAGS)
