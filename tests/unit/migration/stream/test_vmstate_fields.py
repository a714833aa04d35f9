# SPDX-License-Identifier: MIT
"""Every kind of field: its bytes, its name, and any mixture of all of them."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakeqemu.host.sync import run_sync
from fakeqemu.migration.stream import vmdesc, vmstate
from fakeqemu.migration.stream import vmstate_fields as fields
from fakeqemu.migration.stream.qemu_file import QEMUFile
from fakeqemu.migration.stream.vmstate import Field, LoadError, VMStateDescription
from fakeqemu.migration.stream.vmstate_lists import ghash, gtree, qlist, qtailq

#: what stands behind every state in a stream
FOOTER = b"\x7e" * 300


def of(*members: Field) -> VMStateDescription:
    return VMStateDescription("thing", 1, 1, members)


def saved(vmsd: VMStateDescription, state: Any) -> bytes:
    f = QEMUFile()
    vmstate.save_state(f, vmsd, state)
    return f.getvalue()


def loaded(vmsd: VMStateDescription, data: bytes, into: Any) -> Any:
    f = QEMUFile.over(data + FOOTER)
    run_sync(vmstate.load_state(f, vmsd, into, 1))
    assert f.available == len(FOOTER)
    return into


def failure(vmsd: VMStateDescription, data: bytes, into: Any) -> LoadError:
    with pytest.raises(LoadError) as caught:
        loaded(vmsd, data, into)
    return caught.value


@pytest.mark.parametrize(
    ("field", "value", "data", "kind"),
    [
        (fields.int8("x"), -2, b"\xfe", "int8"),
        (fields.int16("x"), -2, b"\xff\xfe", "int16"),
        (fields.int32("x"), -2, b"\xff\xff\xff\xfe", "int32"),
        (fields.int64("x"), -(2**63), b"\x80" + bytes(7), "int64"),
        (fields.uint8("x"), 255, b"\xff", "uint8"),
        (fields.uint16("x"), 0x102, b"\1\2", "uint16"),
        (fields.uint32("x"), 0x1020304, b"\1\2\3\4", "uint32"),
        (fields.uint64("x"), 1, bytes(7) + b"\1", "uint64"),
        (fields.boolean("x"), True, b"\1", "bool"),
        (fields.cpu_double("x"), 1.5, b"\x3f\xf8" + bytes(6), "CPU_Double_U"),
        (fields.timer("x"), 1000, bytes(6) + b"\3\xe8", "timer"),
        (fields.timer("x"), None, b"\xff" * 8, "timer"),
        (fields.buffer("x", 3), b"abc", b"abc", "buffer"),
        (fields.byte_array("x"), b"abc", b"\0\0\0\3abc", "GByteArray"),
        (fields.bitmap("x", 65), 1 << 64 | 2, bytes(7) + b"\2" + bytes(7) + b"\1", "bitmap"),
        (fields.uint16("x", count=2), [1, 2], b"\0\1\0\2", "uint16"),
    ],
    ids=lambda value: value.kind if isinstance(value, Field) else None,
)
def test_the_bytes_of_a_kind(field: Field, value: Any, data: bytes, kind: str) -> None:
    assert saved(of(field), {"x": value}) == data
    old: Any = [0, 0] if field.count else 0
    assert loaded(of(field), data, {"x": old}) == {"x": value}
    assert vmstate.describe(of(field), {"x": value})["fields"][0]["type"] == kind


def test_what_is_not_used_is_zeroes_and_is_not_kept() -> None:
    assert saved(of(fields.unused(3)), {}) == bytes(3)
    assert loaded(of(fields.unused(3)), b"abc", {}) == {}


def test_a_buffer_as_long_as_a_member_says() -> None:
    vmsd = of(fields.uint8("n"), fields.buffer_from("x", "n", factor=2))
    assert saved(vmsd, {"n": 2, "x": b"abcdef"}) == b"\2abcd"
    assert loaded(vmsd, b"\2abcd", {"n": 0, "x": b""}) == {"n": 2, "x": b"abcd"}


def test_members_of_members_have_names_with_dots() -> None:
    vmsd = of(fields.uint8("a.b"), fields.uint8("a.c", count=2))
    state = {"a": {"b": 1, "c": [2, 3]}}
    assert saved(vmsd, state) == b"\1\2\3"
    assert loaded(vmsd, b"\1\2\3", {"a": {"b": 0, "c": []}}) == state


@pytest.mark.parametrize(
    ("kind", "name", "there", "came", "text"),
    [
        ("uint8", "uint8 equal", 4, 5, "4 != 5"),
        ("uint16", "uint16 equal", 0x1234, 5, "1234 != 5"),
        ("uint32", "uint32 equal", 4, 0xFF, "4 != ff"),
        ("int32", "int32 equal", 4, -1, "4 != ffffffff"),
        ("uint64", "int64 equal", 4, 1 << 40, "4 != 10000000000"),
    ],
)
def test_a_value_that_must_be_equal(kind: str, name: str, there: int, came: int, text: str) -> None:
    vmsd = of(fields.integer(kind, "x", equal=""))
    assert vmstate.describe(vmsd, {"x": there})["fields"] == [
        {"name": "x", "type": name, "size": len(saved(vmsd, {"x": there}))}
    ]
    assert loaded(vmsd, saved(vmsd, {"x": there}), {"x": there}) == {"x": there}
    error = failure(vmsd, saved(vmsd, {"x": came}), {"x": there})
    assert (error.desc, error.old_lines) == (text, [text, "Failed to load thing:x"])


def test_a_hint_is_printed_with_what_is_not_equal() -> None:
    error = failure(of(fields.uint8("x", equal="look there")), b"\2", {"x": 1})
    assert error.old_lines == ["1 != 2", "look there", "Failed to load thing:x"]


def test_elements_that_must_be_equal_are_compared_one_by_one() -> None:
    vmsd = of(fields.uint8("x", equal="", count=3))
    assert loaded(vmsd, b"\1\2\3", {"x": [1, 2, 3]}) == {"x": [1, 2, 3]}
    assert failure(vmsd, b"\1\2\4", {"x": [1, 2, 3]}).desc == "3 != 4"


def test_a_value_that_may_not_be_more_than_what_is_there() -> None:
    vmsd = of(fields.int32("x", le=True))
    assert vmstate.describe(vmsd, {"x": 3})["fields"][0]["type"] == "int32 le"
    assert loaded(vmsd, saved(vmsd, {"x": 3}), {"x": 4}) == {"x": 3}
    for wrong in (5, -1):
        error = failure(vmsd, saved(vmsd, {"x": wrong}), {"x": 4})
        assert error.desc == f"Invalid value {wrong} expecting positive value <= 4"


def test_a_scratch_state_is_worked_out_for_the_stream() -> None:
    def fill(scratch: Any) -> None:
        scratch["twice"] = 2 * scratch["of"]["x"]

    def put_back(scratch: Any, _version: int) -> None:
        scratch["of"]["x"] = scratch["twice"] // 2

    doubled = VMStateDescription("doubled", 1, 1, (fields.uint8("twice"),), pre_save=fill, post_load=put_back)
    vmsd = of(fields.temporary(doubled, lambda state: {"of": state, "twice": 0}))
    assert saved(vmsd, {"x": 21}) == b"\x2a"
    assert loaded(vmsd, b"\x2a", {"x": 0}) == {"x": 21}
    inside = {"name": "twice", "type": "uint8", "size": 1}
    assert vmstate.describe(vmsd, {"x": 21})["fields"] == [
        {"name": "tmp", "type": "tmp", "vmsd_name": "doubled", "version": 1, "fields": [inside], "size": 1}
    ]


def test_a_structure_may_travel_as_an_older_version_of_itself() -> None:
    inner = VMStateDescription("inner", 2, 1, (fields.uint8("x"), fields.uint8("y", since=2)))
    vmsd = of(fields.structure("in", inner, version=1))
    assert saved(vmsd, {"in": {"x": 1, "y": 2}}) == b"\1"
    assert loaded(vmsd, b"\1", {"in": {"x": 0, "y": 7}}) == {"in": {"x": 1, "y": 7}}
    inside = {"name": "x", "type": "uint8", "size": 1}
    assert vmstate.describe(vmsd, {"in": {"x": 1, "y": 2}})["fields"] == [
        {"name": "in", "type": "vstruct", "vmsd_name": "inner", "version": 1, "fields": [inside], "size": 1}
    ]


def test_a_byte_array_takes_memory_for_what_comes_not_for_what_it_announces() -> None:
    error = failure(of(fields.byte_array("x")), b"\xff\xff\xff\xff" + b"abc", {"x": b""})
    assert error.desc == "Failed to load thing state: stream error: -5"


# --- any mixture ----------------------------------------------------------------------------------------

_KINDS: dict[str, tuple[Any, st.SearchStrategy[Any], Any]] = {
    **{
        kind: (
            lambda name, kind=kind, **options: fields.integer(kind, name, **options),
            st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if kind[0] == "i" else st.integers(0, 2**bits - 1),
            0,
        )
        for bits in (8, 16, 32, 64)
        for kind in (f"int{bits}", f"uint{bits}")
    },
    "bool": (fields.boolean, st.booleans(), False),
    "double": (fields.cpu_double, st.floats(allow_nan=False), 0.0),
    "timer": (fields.timer, st.none() | st.integers(0, 2**63), None),
    "bytes": (fields.byte_array, st.binary(max_size=9), b""),
    "bitmap": (lambda name, **options: fields.bitmap(name, 70, **options), st.integers(0, 2**70 - 1), 0),
}


@st.composite
def described(draw: st.DrawFn, depth: int = 2, own_name: str = "d") -> tuple[VMStateDescription, Any, Any]:
    """A description, a state of it, and another one to load into.

    Names tell one from the other: a subsection is taken by the first that ends before it and whose name it begins with.
    """
    members: list[Field] = []
    state: dict[str, Any] = {}
    empty: dict[str, Any] = {}

    def add(field: Field, value: Any, blank: Any) -> None:
        members.append(field)
        state[field.name], empty[field.name] = value, blank

    shapes = ["plain", "plain", "array", "variable"] + (
        ["struct", "pointers", "list", "tree", "table"] if depth else []
    )
    for index in range(draw(st.integers(1, 4))):
        name, shape = f"f{index}", draw(st.sampled_from(shapes))
        if shape in ("plain", "array", "variable"):
            # Neighbours are described together, as if they were of one length.
            suitable = [kind for kind in sorted(_KINDS) if shape == "plain" or kind != "bytes"]
            make, values, blank = _KINDS[draw(st.sampled_from(suitable))]
            if shape == "plain":
                add(make(name), draw(values), blank)
                continue
            elements = draw(st.lists(values, max_size=4))
            if shape == "array":
                add(make(name, count=len(elements)), elements, [blank] * len(elements))
                continue
            add(fields.uint8(f"{name}n"), len(elements), 0)
            add(make(name, count_from=f"{name}n"), elements, [])
            continue
        inner, value, blank = draw(described(depth - 1, f"{own_name}{index}"))
        fresh = _copier(blank)
        if shape == "struct":
            add(fields.structure(name, inner), value, fresh())
        elif shape == "pointers":
            nulls = draw(st.lists(st.booleans(), max_size=4))
            pointers = [None if null else _copier(value)() for null in nulls]
            add(fields.structure(name, inner, nullable=True, make=fresh, count=len(nulls)), pointers, [])
        elif shape == "list":
            kind = draw(st.sampled_from([qlist, qtailq]))
            count = draw(st.integers(0, 3))
            add(kind(name, inner, fresh, version=1), [_copier(value)() for _ in range(count)], [])
        else:
            keys = draw(st.lists(st.integers(0, 2**64 - 1), unique=True, max_size=3))
            pairs = [(key, _copier(value)()) for key in (sorted(keys) if shape == "tree" else keys)]
            add((gtree if shape == "tree" else ghash)(name, inner, fresh, version=1), pairs, [])
    subsections: tuple[VMStateDescription, ...] = ()
    if draw(st.booleans()):
        needed = draw(st.booleans())
        state["sub"], empty["sub"] = (draw(st.integers(1, 255)) if needed else 0), 0
        sub = VMStateDescription(
            f"{own_name}/sub", 1, 1, (fields.uint8("sub"),), needed=lambda state: state["sub"] != 0
        )
        subsections = (sub,)
    return VMStateDescription(own_name, 1, 1, tuple(members), subsections), state, empty


def _copier(blank: Any) -> Any:
    from copy import deepcopy

    return lambda: deepcopy(blank)


@given(described())
def test_any_description_is_saved_and_loaded_and_described(one: tuple[VMStateDescription, Any, Any]) -> None:
    vmsd, state, empty = one
    data = saved(vmsd, state)
    assert loaded(vmsd, data, empty) == state
    for arrays in (vmstate.SPLIT, vmstate.MARKED):
        text = vmdesc.dumps(vmstate.describe(vmsd, state, arrays=arrays))
        described_again = vmdesc.loads(text)
        f = QEMUFile.over(data + FOOTER)
        assert run_sync(vmdesc.consume(f, described_again)) == data
        assert vmdesc.described_size(described_again) == len(data)


@given(described(), st.data())
def test_any_description_that_is_cut_fails_with_a_reason(
    one: tuple[VMStateDescription, Any, Any], data: st.DataObject
) -> None:
    vmsd, state, empty = one
    stream = saved(vmsd, state)
    size = data.draw(st.integers(0, len(stream)))
    f = QEMUFile.over(stream[:size])
    with suppress(LoadError):
        run_sync(vmstate.load_state(f, vmsd, empty, 1))
    # All fields may have been there, and only a subsection missing: then the next reader hears of the end.
    assert size == len(stream) or f.end is not None


def test_a_number_that_is_none_is_kept_as_it_is() -> None:
    vmsd = of(fields.cpu_double("x"))
    assert math.isnan(loaded(vmsd, saved(vmsd, {"x": math.nan}), {"x": 0.0})["x"])
