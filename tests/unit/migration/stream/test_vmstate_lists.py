# SPDX-License-Identifier: MIT
"""Lists, trees and tables: their bytes, their order, and what is wrong with them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakeqemu.migration.stream import vmdesc, vmstate
from fakeqemu.migration.stream.vmstate import Field, VMStateDescription
from fakeqemu.migration.stream.vmstate_fields import uint8, uint16
from fakeqemu.migration.stream.vmstate_lists import ghash, gtree, qlist, qtailq
from tests.unit.migration.stream.test_vmstate_fields import failure, loaded, of, saved

ELEMENT = VMStateDescription("element", 2, 1, (uint8("x"), uint8("y", since=2)))
KEY = VMStateDescription("key", 2, 1, (uint16("k"),))


def new() -> dict[str, int]:
    return {"x": 0, "y": 0}


def element(x: int) -> dict[str, int]:
    return {"x": x, "y": x + 1}


@pytest.mark.parametrize("kind", [qlist, qtailq])
def test_a_list_has_a_byte_before_each_element_and_one_at_its_end(kind: Any) -> None:
    vmsd = of(kind("l", ELEMENT, new, version=2))
    state = {"l": [element(1), element(2)]}
    assert saved(vmsd, state) == b"\1\1\2" + b"\1\2\3" + b"\0"
    assert loaded(vmsd, saved(vmsd, state), {"l": []}) == state
    assert saved(vmsd, {"l": []}) == b"\0"


def test_a_queue_goes_on_behind_what_is_there_and_a_list_before_it() -> None:
    there, came = [element(9)], [element(1), element(2)]
    data = b"\1\1\2" + b"\1\2\3" + b"\0"
    assert loaded(of(qtailq("l", ELEMENT, new, version=2)), data, {"l": there}) == {"l": there + came}
    assert loaded(of(qlist("l", ELEMENT, new, version=2)), data, {"l": there}) == {"l": came + there}


@given(st.dictionaries(st.integers(0, 2**64 - 1), st.integers(0, 254), max_size=6))
def test_a_tree_is_sent_in_the_order_of_its_keys(values: dict[int, int]) -> None:
    vmsd = of(gtree("t", ELEMENT, new, version=2))
    pairs = [(key, element(x)) for key, x in values.items()]
    data = saved(vmsd, {"t": pairs})
    expected = b"".join(
        b"\1" + key.to_bytes(8, "big") + bytes((values[key], values[key] + 1)) for key in sorted(values)
    )
    assert data == len(values).to_bytes(4, "big") + expected + b"\0"
    assert loaded(vmsd, data, {"t": []}) == {"t": sorted(pairs, key=lambda pair: pair[0])}


def test_a_table_is_sent_in_the_order_of_its_buckets() -> None:
    pairs = [(7, element(1)), (3, element(2))]
    data = saved(of(ghash("t", ELEMENT, new, version=2)), {"t": pairs})
    assert data == b"\0\0\0\2" + b"\1" + bytes(7) + b"\7\1\2" + b"\1" + bytes(7) + b"\3\2\3" + b"\0"
    assert loaded(of(ghash("t", ELEMENT, new, version=2)), data, {"t": []}) == {"t": pairs}


def described_keys(kind: Any) -> Field:
    def order(key: dict[str, int]) -> int:
        return key["k"]

    options: dict[str, Any] = {"order": order} if kind is gtree else {}
    field: Field = kind("t", ELEMENT, new, version=2, key=KEY, make_key=lambda: {"k": 0}, **options)
    return field


@pytest.mark.parametrize("kind", [gtree, ghash])
def test_keys_may_have_a_description_of_their_own(kind: Any) -> None:
    vmsd = of(described_keys(kind))
    pairs = [({"k": 1}, element(5)), ({"k": 2}, element(6))]
    data = saved(vmsd, {"t": pairs})
    assert data == b"\0\0\0\2" + b"\1\0\1\5\6" + b"\1\0\2\6\7" + b"\0"
    assert loaded(vmsd, data, {"t": []}) == {"t": pairs}


@pytest.mark.parametrize(
    ("field", "key"),
    [(gtree("t", ELEMENT, new, version=2), 7), (described_keys(gtree), {"k": 7})],
    ids=["plain", "described"],
)
def test_of_equal_keys_the_last_one_stays(field: Field, key: Any) -> None:
    data = saved(of(field), {"t": [(key, element(1)), (key, element(2))]})
    assert loaded(of(field), data, {"t": []}) == {"t": [(key, element(2))]}


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("kind", [gtree, ghash])
def test_a_count_that_is_not_that_of_the_pairs_is_refused(kind: Any, count: int) -> None:
    data = count.to_bytes(4, "big") + (b"\1" + bytes(8) + b"\1\2") * 2 + b"\0"
    error = failure(of(kind("t", ELEMENT, new, version=2)), data, {"t": []})
    assert error.desc == f"t inconsistent stream when loading the {kind.__name__}"
    assert error.old_lines[0] == error.desc


@pytest.mark.parametrize(("version", "text"), [(3, "element too new"), (0, "element too old")])
@pytest.mark.parametrize("kind", [qlist, qtailq, gtree, ghash])
def test_the_version_of_the_field_has_to_suit_the_elements(kind: Any, version: int, text: str) -> None:
    error = failure(of(kind("l", ELEMENT, new, version=version)), b"\0\0\0\0\0", {"l": []})
    assert (error.desc, error.old_lines[0]) == (text, text)


def test_an_element_of_an_older_version_lacks_what_came_later() -> None:
    assert loaded(of(qlist("l", ELEMENT, new, version=1)), b"\1\5\0", {"l": []}) == {"l": [{"x": 5, "y": 0}]}


def test_what_fails_inside_says_where_in_older_releases() -> None:
    odd = VMStateDescription("odd", 1, 1, (uint8("x", equal=""),))
    error = failure(of(qlist("l", odd, lambda: {"x": 1}, version=1)), b"\1\2\0", {"l": []})
    assert error.desc == "1 != 2"
    assert error.old_lines == [
        "1 != 2", "Failed to load odd:x", "l: failed to load odd (-22)", "Failed to load thing:l",
    ]  # fmt: skip
    error = failure(of(qtailq("l", odd, lambda: {"x": 1}, version=1)), b"\1\2\0", {"l": []})
    assert error.old_lines == ["1 != 2", "Failed to load odd:x", "Failed to load thing:l"]
    error = failure(of(gtree("l", odd, lambda: {"x": 1}, version=1)), b"\0\0\0\1\1" + bytes(8) + b"\2\0", {"l": []})
    assert error.old_lines[2] == "l : failed to load odd (-22)"


def test_the_description_of_a_list_has_that_of_each_element_side_by_side() -> None:
    vmsd = of(qlist("l", ELEMENT, new, version=2))
    desc = vmstate.describe(vmsd, {"l": [element(1), element(2)]})
    inside = '[{"name": "x", "type": "uint8", "size": 1}, {"name": "y", "type": "uint8", "size": 1}]'
    one = f'"vmsd_name": "element", "version": 2, "fields": {inside}'
    text = vmdesc.dumps(desc["fields"][0]).decode()
    assert text == f'{{"name": "l", "type": "qlist", {one}, {one}, "size": 7}}'
    assert json.loads(text)["size"] == 7


def test_equal_keys_come_many_times_and_stay_one() -> None:
    vmsd = of(gtree("t", VMStateDescription("nothing", 1, 1), dict, version=1))
    n = 20_000
    data = n.to_bytes(4, "big") + (b"\1" + bytes(8)) * n + b"\0"
    assert loaded(vmsd, data, {"t": []}) == {"t": [(0, {})]}
