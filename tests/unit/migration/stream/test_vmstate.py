# SPDX-License-Identifier: MIT
"""Described state: what is saved is loaded, by version, and what is wrong is said."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakeqemu.host.sync import run_sync
from fakeqemu.migration.stream import vmdesc, vmstate
from fakeqemu.migration.stream.qemu_file import QEMUFile
from fakeqemu.migration.stream.vmstate import (
    LoadError,
    PostLoadError,
    VMStateDescription,
    boolean,
    buffer,
    int64,
    structure,
    uint8,
    uint16,
    uint32,
    unused,
)

POINT = VMStateDescription("point", 1, 1, (uint32("x"), uint32("y")))
DEVICE = VMStateDescription(
    "device",
    3,
    2,
    (
        uint8("count"),
        uint16("values", count_from="count"),
        unused(3),
        boolean("on", since=2),
        buffer("raw", 5),
        int64("late", since=3),
        structure("at", POINT),
        structure("path", POINT, count=2),
    ),
    subsections=(
        VMStateDescription("device/extra", 1, 1, (uint32("extra"),), needed=lambda state: state["extra"] != 0),
        VMStateDescription("device/more", 1, 1, (uint8("more"),), needed=lambda state: state["more"] != 0),
    ),
)

POINTS = st.fixed_dictionaries({"x": st.integers(0, 2**32 - 1), "y": st.integers(0, 2**32 - 1)})
STATES = st.fixed_dictionaries(
    {
        "values": st.lists(st.integers(0, 65535), max_size=20),
        "on": st.booleans(),
        "raw": st.binary(min_size=5, max_size=5),
        "late": st.integers(-(2**63), 2**63 - 1),
        "at": POINTS,
        "path": st.lists(POINTS, min_size=2, max_size=2),
        "extra": st.integers(0, 2**32 - 1),
        "more": st.integers(0, 255),
    }
)


def empty(state: dict[str, Any]) -> dict[str, Any]:
    point = {"x": 0, "y": 0}
    return {
        "count": 0, "values": [], "on": False, "raw": bytes(5), "late": 0, "at": dict(point),
        "path": [dict(point), dict(point)], "extra": 0, "more": 0,
    }  # fmt: skip


def saved(state: dict[str, Any], version: int = -1) -> bytes:
    f = QEMUFile()
    vmstate.save_state(f, DEVICE, state, version)
    return f.getvalue()


@given(STATES)
def test_what_is_saved_is_loaded(state: dict[str, Any]) -> None:
    state["count"] = len(state["values"])
    data = saved(state)
    f = QEMUFile.over(data)
    into = empty(state)
    run_sync(vmstate.load_state(f, DEVICE, into, 3))
    assert into == state
    assert f.available == 0


@given(STATES)
def test_the_description_accounts_for_every_byte(state: dict[str, Any]) -> None:
    state["count"] = len(state["values"])
    data = saved(state)
    desc = vmstate.describe(DEVICE, state)
    f = QEMUFile.over(data + b"next")
    assert run_sync(vmdesc.consume(f, desc)) == data
    assert f.available == 4
    assert vmdesc.described_size(desc) == len(data)


@given(STATES)
def test_an_older_version_lacks_what_came_later(state: dict[str, Any]) -> None:
    state["count"] = len(state["values"])
    state["extra"] = state["more"] = 0
    data = saved(state, 2)
    assert len(data) == len(saved(state)) - 8
    into = empty(state)
    run_sync(vmstate.load_state(QEMUFile.over(data), DEVICE, into, 2))
    assert into == {**state, "late": 0}


def test_a_version_out_of_range_is_refused() -> None:
    with pytest.raises(LoadError) as caught:
        run_sync(vmstate.load_state(QEMUFile(), DEVICE, {}, 4))
    assert caught.value.desc == "device: incoming version_id 4 is too new for local version_id 3"
    with pytest.raises(LoadError) as caught:
        run_sync(vmstate.load_state(QEMUFile(), DEVICE, {}, 1))
    assert caught.value.desc == "device: incoming version_id 1 is too old for local minimum version_id 2"
    assert caught.value.old_lines == ["device: incoming version_id 1 is too old for local minimum version_id  2"]


def test_a_cut_stream_names_the_description() -> None:
    state = {**empty({}), "extra": 7}
    data = saved(state)
    subsection = 1 + 1 + len("device/extra") + 4 + 4
    for size in range(len(data) - subsection):
        with pytest.raises(LoadError) as caught:
            run_sync(vmstate.load_state(QEMUFile.over(data[:size]), DEVICE, empty({}), 3))
        assert caught.value.desc.startswith(("Failed to load device state", "Failed to load point state"))


def test_unknown_subsections_are_refused_and_those_of_others_left() -> None:
    data = saved(empty({}))
    theirs = b"\x05\x0cdevice/bogus" + bytes(4)
    with pytest.raises(LoadError, match=r"^VM subsection 'device/bogus' in 'device' does not exist$"):
        run_sync(vmstate.load_state(QEMUFile.over(data + theirs), DEVICE, empty({}), 3))
    f = QEMUFile.over(data + b"\x05\x05outer" + bytes(4))
    run_sync(vmstate.load_state(f, DEVICE, empty({}), 3))
    assert f.available == 11


def test_a_hook_that_refuses_is_said_in_chain_or_line() -> None:
    def refuse(state: Any, version_id: int) -> None:
        raise PostLoadError("no such thing")

    vmsd = VMStateDescription("thing", 1, 0, (uint8("x"),), post_load=refuse)
    with pytest.raises(LoadError) as caught:
        run_sync(vmstate.load_state(QEMUFile.over(b"\1"), vmsd, {"x": 0}, 1))
    assert caught.value.desc == "post load hook failed for: thing, version_id: 1, minimum_version: 0, ret: -22"
    assert caught.value.lines == caught.value.old_lines == ["no such thing"]


def test_a_value_that_must_be_equal() -> None:
    vmsd = VMStateDescription("bus", 1, 1, (uint32("nirq", equal=""),))
    run_sync(vmstate.load_state(QEMUFile.over(b"\0\0\0\4"), vmsd, {"nirq": 4}, 1))
    with pytest.raises(LoadError, match=r"^4 != 5$"):
        run_sync(vmstate.load_state(QEMUFile.over(b"\0\0\0\5"), vmsd, {"nirq": 4}, 1))


@given(st.lists(st.none() | POINTS, min_size=3, max_size=3))
def test_null_pointers_in_an_array_leave_a_marker(points: list[dict[str, int] | None]) -> None:
    vmsd = VMStateDescription("array", 1, 1, (structure("points", POINT, count=3, nullable=True),))
    f = QEMUFile()
    vmstate.save_state(f, vmsd, {"points": points})
    data = f.getvalue()
    assert len(data) == sum(1 if point is None else 8 for point in points)
    into = {"points": [None if point is None else {"x": 0, "y": 0} for point in points]}
    run_sync(vmstate.load_state(QEMUFile.over(data), vmsd, into, 1))
    assert into["points"] == points


def test_another_byte_than_the_marker_is_refused() -> None:
    vmsd = VMStateDescription("array", 1, 1, (structure("points", POINT, count=1, nullable=True),))
    with pytest.raises(LoadError, match=r"^Unexpected ptr marker: 50$"):
        run_sync(vmstate.load_state(QEMUFile.over(b"2"), vmsd, {"points": [None]}, 1))
