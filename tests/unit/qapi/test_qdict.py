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


@pytest.mark.parametrize(
    ("keys", "visited", "named"),
    [
        (["a"], [], "a"),
        (["b", "~bogus"], ["b"], "~bogus"),
        # tables that grew while they were filled, and in which taking out left gaps
        (["mode", "name", "~bogus", "qux", "dd", "baz", "123", "cc", "bb"], ["name", "mode"], "dd"),
        (["instances", "~bogus", "cc", "qux", "123", "bb", "\u00e9", "dd", "foo"], ["instances"], "foo"),
        (["id", "step", "rounds", "initial", "max", "~bogus", "123", "cc", "baz"],
         ["initial", "max", "rounds", "step", "id"], "123"),
        (["implements", "~bogus", "aa", "bb", "qux", "dd", "\u00e9", "cc", "foo"], ["implements"], "qux"),
        (["type", "x-y", "name", "~bogus", "qux", "dd", "cc", "foo", "aa"], ["name", "type"], "x-y"),
    ],
)  # fmt: skip
def test_which_unexpected_argument_is_named(keys: list[str], visited: list[str], named: str) -> None:
    """As QEMU 11.1 named them."""
    assert first_in_table(keys, visited) == named


def test_none_is_named_when_all_were_visited() -> None:
    assert first_in_table(["a"], ["a"]) is None
