# SPDX-License-Identifier: MIT
"""Described state: what is saved is loaded, by version, and what is wrong is said."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakeqemu.error import QemuError, StreamError
from fakeqemu.host.sync import run_sync
from fakeqemu.migration.stream import vmdesc, vmstate
from fakeqemu.migration.stream.qemu_file import QEMUFile
from fakeqemu.migration.stream.vmstate import LoadError, PostLoadError, PreSaveError, VMStateDescription
from fakeqemu.migration.stream.vmstate_fields import (
    boolean,
    buffer,
    custom,
    int64,
    structure,
    uint8,
    uint16,
    uint32,
    unused,
    validate,
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


def new_point() -> dict[str, int]:
    return {"x": 0, "y": 0}


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


#: what stands behind every state in a stream
FOOTER = b"\x7e" * 300


def saved(state: Any, version: int = -1, vmsd: VMStateDescription = DEVICE) -> bytes:
    f = QEMUFile()
    vmstate.save_state(f, vmsd, state, version)
    return f.getvalue()


def loaded(data: bytes, into: Any, version: int = -1, vmsd: VMStateDescription = DEVICE) -> Any:
    """Load, and see that exactly these bytes are read."""
    f = QEMUFile.over(data + FOOTER)
    run_sync(vmstate.load_state(f, vmsd, into, vmsd.version_id if version < 0 else version))
    assert f.available == len(FOOTER)
    return into


def failure(data: bytes, into: Any, version: int = -1, vmsd: VMStateDescription = DEVICE) -> LoadError:
    with pytest.raises(LoadError) as caught:
        run_sync(vmstate.load_state(QEMUFile.over(data), vmsd, into, vmsd.version_id if version < 0 else version))
    return caught.value


@given(STATES)
def test_what_is_saved_is_loaded(state: dict[str, Any]) -> None:
    state["count"] = len(state["values"])
    assert loaded(saved(state), empty(state)) == state


@given(STATES, st.sampled_from([vmstate.WHOLE, vmstate.SPLIT, vmstate.MARKED]))
def test_the_description_accounts_for_every_byte(state: dict[str, Any], arrays: str) -> None:
    state["count"] = len(state["values"])
    data = saved(state)
    desc = vmstate.describe(DEVICE, state, arrays=arrays)
    f = QEMUFile.over(data + FOOTER)
    assert run_sync(vmdesc.consume(f, desc)) == data
    assert f.available == len(FOOTER)
    assert vmdesc.described_size(desc) == len(data)


@given(STATES)
def test_an_older_version_lacks_what_came_later(state: dict[str, Any]) -> None:
    state["count"] = len(state["values"])
    state["extra"] = state["more"] = 0
    data = saved(state, 2)
    assert len(data) == len(saved(state)) - 8
    assert loaded(data, empty(state), 2) == {**state, "late": 0}


def test_a_version_out_of_range_is_refused() -> None:
    too_new, too_old = failure(b"", {}, 4), failure(b"", {}, 1)
    assert too_new.desc == "device: incoming version_id 4 is too new for local version_id 3"
    assert too_old.desc == "device: incoming version_id 1 is too old for local minimum version_id 2"
    assert too_old.old_lines == ["device: incoming version_id 1 is too old for local minimum version_id  2"]


def test_a_cut_stream_names_the_description() -> None:
    data = saved({**empty({}), "extra": 7})
    subsection = 1 + 1 + len("device/extra") + 4 + 4
    for size in range(len(data) - subsection):
        error = failure(data[:size], empty({}))
        assert error.desc in (
            "Failed to load device state: stream error: -5",
            "Failed to load point state: stream error: -5",
        )
        assert error.old_lines[-1].startswith("Failed to load device:")


def test_unknown_subsections_are_refused_and_those_of_others_left() -> None:
    data = saved(empty({}))
    theirs = b"\x05\x0cdevice/bogus" + bytes(4)
    error = failure(data + theirs + FOOTER, empty({}))
    assert error.desc == "VM subsection 'device/bogus' in 'device' does not exist"
    assert error.old_lines == []
    f = QEMUFile.over(data + b"\x05\x05outer" + bytes(4))
    run_sync(vmstate.load_state(f, DEVICE, empty({}), 3))
    assert f.available == 11


def test_a_subsection_whose_name_is_too_short_or_not_all_there_is_left() -> None:
    for rest in (b"\x05\x05point", b"\x05", b"\x05\x09point/ex"):
        f = QEMUFile.over(bytes(8) + rest)
        run_sync(vmstate.load_state(f, POINT, {"x": 0, "y": 0}, 1))
        assert f.available == len(rest)


def test_subsections_that_are_not_needed_are_not_sent_and_their_state_stays() -> None:
    state = {**empty({}), "extra": 9}
    data = saved(state)
    assert b"device/extra" in data
    assert b"device/more" not in data
    assert loaded(data, {**empty({}), "more": 7}) == {**state, "more": 7}


INNER = VMStateDescription(
    "inner", 1, 1, (uint8("x"),),
    subsections=(VMStateDescription("inner/y", 2, 2, (uint8("y"),), needed=lambda state: state["y"] != 0),),
)  # fmt: skip
OUTER = VMStateDescription(
    "outer", 1, 1, (structure("in", INNER),),
    subsections=(VMStateDescription("outer/z", 1, 1, (uint8("z"),), needed=lambda state: state["z"] != 0),),
)  # fmt: skip


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_a_subsection_belongs_to_the_level_whose_name_it_begins_with(x: int, y: int, z: int) -> None:
    state = {"in": {"x": x, "y": y}, "z": z}
    assert loaded(saved(state, vmsd=OUTER), {"in": {"x": 0, "y": 0}, "z": 0}, vmsd=OUTER) == state


def test_what_fails_in_a_subsection_says_where_it_was() -> None:
    data = saved({"in": {"x": 1, "y": 2}, "z": 3}, vmsd=OUTER)
    at = data.index(b"inner/y") + len("inner/y")
    error = failure(data[:at] + b"\0\0\0\x03" + data[at + 4 :], {"in": {"x": 0, "y": 0}, "z": 0}, vmsd=OUTER)
    text = "inner/y: incoming version_id 3 is too new for local version_id 2"
    assert error.desc == f"Loading VM subsection 'inner/y' in 'inner' failed: {text}"
    assert error.old_lines == [text, "Failed to load outer:in"]


def test_of_the_version_of_a_subsection_only_a_byte_counts() -> None:
    data = saved({"in": {"x": 1, "y": 2}, "z": 3}, vmsd=OUTER)
    at = data.index(b"inner/y") + len("inner/y")
    changed = data[:at] + b"\1\1\1\2" + data[at + 4 :]
    assert loaded(changed, {"in": {"x": 0, "y": 0}, "z": 0}, vmsd=OUTER) == {"in": {"x": 1, "y": 2}, "z": 3}


# --- hooks ----------------------------------------------------------------------------------------------


def refuse(*_: Any) -> None:
    raise PostLoadError("no such thing")


def refuse_in_chain(*_: Any) -> None:
    raise PostLoadError("no such thing", in_chain=True)


def test_a_hook_that_refuses_is_said_in_chain_or_line() -> None:
    vmsd = VMStateDescription("thing", 1, 0, (uint8("x"),), post_load=refuse)
    error = failure(b"\1" + FOOTER, {"x": 0}, vmsd=vmsd)
    assert error.desc == "post load hook failed for: thing, version_id: 1, minimum_version: 0, ret: -22"
    assert error.lines == error.old_lines == ["no such thing"]
    vmsd.post_load = refuse_in_chain
    error = failure(b"\1" + FOOTER, {"x": 0}, vmsd=vmsd)
    assert error.desc == "post load hook failed for: thing, version_id: 1, minimum_version: 0: no such thing"
    assert (error.lines, error.old_lines) == ([], ["no such thing"])


def test_a_hook_before_the_load_may_refuse_too() -> None:
    vmsd = VMStateDescription("thing", 2, 1, (uint8("x"),), pre_load=refuse)
    state = {"x": 0}
    error = failure(b"\1" + FOOTER, state, vmsd=vmsd)
    assert error.desc == "pre load hook failed for: 'thing', version_id: 2, minimum version_id: 1, ret: -22"
    assert state == {"x": 0}


def test_hooks_come_in_order_once_each() -> None:
    calls: list[Any] = []
    vmsd = VMStateDescription(
        "thing", 1, 0, (uint8("x"),),
        pre_save=lambda _: calls.append("pre_save"), post_save=lambda _: calls.append("post_save"),
        pre_load=lambda _: calls.append("pre_load"), post_load=lambda _, version: calls.append(("post_load", version)),
    )  # fmt: skip
    data = saved({"x": 1}, vmsd=vmsd)
    loaded(data, {"x": 0}, 0, vmsd)
    assert calls == ["pre_save", "post_save", "pre_load", ("post_load", 0)]


def test_a_save_that_fails_is_cleaned_up_after() -> None:
    def fail(_f: QEMUFile, _value: Any) -> None:
        raise QemuError("cannot")

    async def never(_f: QEMUFile) -> None:
        raise AssertionError

    calls: list[str] = []
    vmsd = VMStateDescription(
        "thing", 1, 0, (custom("x", "x", 0, fail, never),), post_save=lambda _: calls.append("post_save")
    )
    with pytest.raises(QemuError, match=r"^cannot$"):
        saved({"x": 0}, vmsd=vmsd)
    assert calls == ["post_save"]


def test_a_hook_that_finds_something_that_cannot_be_sent_names_the_description() -> None:
    def fail(_: Any) -> None:
        raise QemuError("too much of it")

    calls: list[str] = []
    vmsd = VMStateDescription(
        "thing", 1, 0, (uint8("x"),), pre_save=fail, post_save=lambda _: calls.append("post_save")
    )
    with pytest.raises(PreSaveError) as caught:
        saved({"x": 1}, vmsd=vmsd)
    assert caught.value.desc == "pre-save for thing failed: too much of it"
    assert caught.value.old_desc == "pre-save failed: thing"
    assert calls == []


# --- fields ---------------------------------------------------------------------------------------------


def test_a_predicate_overrides_the_version() -> None:
    vmsd = VMStateDescription("thing", 5, 0, (uint8("x", since=9, exists=lambda state, _: state["has_x"]),))
    assert saved({"x": 7, "has_x": True}, vmsd=vmsd) == b"\7"
    assert saved({"x": 7, "has_x": False}, vmsd=vmsd) == b""
    assert loaded(b"", {"x": 7, "has_x": False}, vmsd=vmsd) == {"x": 7, "has_x": False}


def test_a_condition_on_what_has_come_fails_the_load() -> None:
    vmsd = VMStateDescription("thing", 3, 1, (uint8("n"), validate("n is small", lambda state, _: state["n"] < 4)))
    assert loaded(b"\3", {"n": 0}, vmsd=vmsd) == {"n": 3}
    error = failure(b"\4" + FOOTER, {"n": 0}, vmsd=vmsd)
    assert error.desc == "Input validation failed: thing/n is small version_id: 3"
    assert error.old_lines == ["Input validation failed: thing/n is small"]


def test_a_reader_of_its_own_that_fails_has_its_text_on_stderr() -> None:
    async def get(_f: QEMUFile) -> None:
        raise StreamError("is no good")

    vmsd = VMStateDescription("thing", 1, 1, (custom("x", "strange", 0, lambda _f, _value: None, get),))
    error = failure(FOOTER, {"x": 0}, vmsd=vmsd)
    assert error.desc == "Failed to load element of type strange for x"
    assert error.lines == ["is no good"]
    assert error.old_lines == ["is no good", "Failed to load thing:x"]


# --- arrays of pointers ---------------------------------------------------------------------------------


def points_of(make: Any = None, **options: Any) -> VMStateDescription:
    field = structure("points", POINT, nullable=True, make=make, **options)
    return VMStateDescription("array", 1, 1, (field,))


@given(st.lists(st.none() | POINTS, min_size=3, max_size=3))
def test_null_pointers_in_an_array_leave_a_marker(points: list[dict[str, int] | None]) -> None:
    vmsd = points_of(count=3)
    data = saved({"points": points}, vmsd=vmsd)
    assert len(data) == sum(1 if point is None else 8 for point in points)
    into = {"points": [None if point is None else {"x": 0, "y": 0} for point in points]}
    assert loaded(data, into, vmsd=vmsd)["points"] == points


@given(st.lists(st.none() | POINTS, max_size=5))
def test_an_array_whose_elements_are_made_on_load_has_a_marker_before_each(points: list[dict[str, int] | None]) -> None:
    vmsd = points_of(new_point, count_from="n")
    vmsd.fields = (uint8("n"), *vmsd.fields)
    state = {"n": len(points), "points": points}
    data = saved(state, vmsd=vmsd)
    sent = [b"0" if point is None else b"1" + saved(point, vmsd=POINT) for point in points]
    assert data == bytes((len(points),)) + b"".join(sent)
    assert loaded(data, {"n": 0, "points": []}, vmsd=vmsd) == state


def test_every_byte_but_the_two_markers_is_refused() -> None:
    for byte in range(256):
        data = bytes((byte,)) + bytes(8) + FOOTER
        if byte == vmstate.VMS_MARKER_PTR_VALID:
            assert loaded(data[:9], {"points": []}, vmsd=points_of(new_point, count=1)) == {
                "points": [{"x": 0, "y": 0}]
            }
            continue
        if byte == vmstate.VMS_MARKER_PTR_NULL:
            assert loaded(data[:1], {"points": []}, vmsd=points_of(new_point, count=1)) == {"points": [None]}
            continue
        for vmsd, into in ((points_of(count=1), {"points": [None]}), (points_of(new_point, count=1), {"points": []})):
            error = failure(data, into, vmsd=vmsd)
            assert error.desc == f"Unexpected ptr marker: {byte}"
            assert error.old_lines == [
                "vmstate: get_nullptr expected VMS_NULLPTR_MARKER",
                "Failed to load array:points",
            ]


def test_ten_thousand_null_pointers_cost_no_field_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    vmsd = points_of(count=10_000)
    monkeypatch.setattr(vmstate.Field, "__init__", lambda *arguments, **_: made.append(arguments))
    data = saved({"points": [None] * 10_000}, vmsd=vmsd)
    assert data == b"0" * 10_000
    assert made == []


def test_a_structure_that_has_no_room_is_refused() -> None:
    vmsd = VMStateDescription("array", 1, 1, (uint8("n"), structure("points", POINT, count_from="n")))
    error = failure(b"\2" + bytes(16) + FOOTER, {"n": 0, "points": [{"x": 0, "y": 0}]}, vmsd=vmsd)
    assert error.lines == ["points has room for 1 elements"]


def test_elements_may_be_made_anew_on_load() -> None:
    field = structure("points", POINT, count_from="n", alloc=new_point)
    vmsd = VMStateDescription("array", 1, 1, (uint8("n"), field))
    state = {"n": 2, "points": [{"x": 1, "y": 2}, {"x": 3, "y": 4}]}
    assert loaded(saved(state, vmsd=vmsd), {"n": 0, "points": None}, vmsd=vmsd) == state


def test_a_count_of_millions_takes_no_memory_for_what_does_not_come() -> None:
    vmsd = VMStateDescription("array", 1, 1, (uint32("n"), structure("points", POINT, count_from="n", alloc=new_point)))
    error = failure(b"\xff\xff\xff\xff" + bytes(20), {"n": 0, "points": None}, vmsd=vmsd)
    assert error.desc == "Failed to load point state: stream error: -5"


def test_a_count_may_be_multiplied() -> None:
    vmsd = VMStateDescription("array", 1, 1, (uint8("n"), uint8("values", count_from="n", count_factor=2)))
    state = {"n": 2, "values": [1, 2, 3, 4]}
    assert saved(state, vmsd=vmsd) == b"\2\1\2\3\4"
    assert loaded(saved(state, vmsd=vmsd), {"n": 0, "values": []}, vmsd=vmsd) == state


# --- the description ------------------------------------------------------------------------------------


def entries(vmsd: VMStateDescription, state: Any, arrays: str) -> list[dict[str, Any]]:
    """Description of the fields, without what is inside of structures."""
    found = []
    for entry in vmstate.describe(vmsd, state, arrays=arrays)["fields"]:
        found.append({key: value for key, value in entry.items() if key != "struct"})
    return found


def test_alike_elements_are_described_once() -> None:
    vmsd = VMStateDescription("array", 1, 1, (structure("points", POINT, count=3),))
    state = {"points": [{"x": 0, "y": 0}] * 3}
    for arrays in (vmstate.WHOLE, vmstate.SPLIT, vmstate.MARKED):
        assert entries(vmsd, state, arrays) == [{"name": "points", "array_len": 3, "type": "struct", "size": 8}]


def test_elements_that_may_differ_are_described_each_as_the_release_does() -> None:
    vmsd = VMStateDescription("array", 1, 1, (structure("ins", INNER, count=3),))
    state = {"ins": [{"x": 0, "y": 0}] * 3}
    one = {"name": "ins", "type": "struct", "size": 1}
    assert entries(vmsd, state, vmstate.WHOLE) == [{**one, "index": 0}, {**one, "index": 1}, {**one, "index": 2}]
    assert entries(vmsd, state, vmstate.SPLIT) == [{**one, "index": 0}, {**one, "index": 1}, one]
    assert entries(vmsd, state, vmstate.MARKED) == [one] * 3


def test_null_pointers_are_described_as_the_release_does() -> None:
    state = {"points": [None, None, {"x": 1, "y": 2}, {"x": 3, "y": 4}, None]}
    vmsd = points_of(count=5)
    # 7.2 takes the first one for all: its description does not account for what was sent.
    assert entries(vmsd, state, vmstate.WHOLE) == [{"name": "points", "array_len": 5, "type": "struct", "size": 1}]
    for arrays, name in ((vmstate.SPLIT, "nullptr"), (vmstate.MARKED, "ptr-marker")):
        assert entries(vmsd, state, arrays) == [
            {"name": "points", "array_len": 2, "type": name, "size": 1},
            {"name": "points", "array_len": 2, "type": "struct", "size": 8},
            {"name": "points", "type": name, "size": 1},
        ]


def test_markers_before_elements_are_described_with_each() -> None:
    state = {"points": [None, {"x": 1, "y": 2}]}
    assert entries(points_of(new_point, count=2), state, vmstate.MARKED) == [
        {"name": "points", "type": "ptr-marker", "size": 1},
        {"name": "points", "type": "ptr-marker", "size": 1},
        {"name": "points", "type": "struct", "size": 8},
    ]


def test_names_that_come_again_are_numbered() -> None:
    vmsd = VMStateDescription("thing", 1, 1, (unused(1), uint8("x"), unused(2)))
    assert [entry["name"] for entry in entries(vmsd, {"x": 0}, vmstate.MARKED)] == ["unused[0]", "x", "unused[1]"]


def test_a_condition_is_not_described() -> None:
    vmsd = VMStateDescription("thing", 1, 1, (uint8("n"), validate("n is small", lambda state, _: state["n"] < 4)))
    assert [entry["name"] for entry in entries(vmsd, {"n": 0}, vmstate.MARKED)] == ["n"]
