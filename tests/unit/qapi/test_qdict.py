# SPDX-License-Identifier: MIT
"""QEMU's hash tables: orders as real QEMUs showed them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.qapi.qdict import GHashTable, bucket, first_in_table


@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
def test_keys_of_recorded_objects_are_in_the_order_of_buckets(profile: str) -> None:
    """The raw records of the schema are objects as that QEMU wrote them."""
    loaded = VersionProfile.load(profile)
    for name in loaded.keys("schema"):
        entity = loaded.get("schema", name)
        buckets = [bucket(key) for key in entity]
        assert buckets == sorted(buckets)


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=5)), st.data())
def test_the_table_holds_what_was_put_in_and_not_taken_out(keys: list[str], data: st.DataObject) -> None:
    table = GHashTable(keys)
    gone = data.draw(st.lists(st.sampled_from(keys))) if keys else []
    for key in gone:
        there = key in table
        assert table.remove(key) == there
    left = {*keys} - {*gone}
    assert {*table} == left
    assert len(table) == len(left)
    assert all(key in table for key in left)


def test_which_unexpected_member_is_named() -> None:
    # {"execute": "query-name", "arguments": {...}} on QEMU 11.1
    assert first_in_table({"a": 1}, ()) == "a"
    assert first_in_table({"a": 1}, ("a",)) is None
    assert first_in_table({"b": 1, "~bogus": 2}, ("b",)) == "~bogus"
