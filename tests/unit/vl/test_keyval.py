# SPDX-License-Identifier: MIT
"""Dotted keys as trees."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakeqemu.error import QemuError
from fakeqemu.vl import keyval


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("", {}),
        ("q35", {"type": "q35"}),
        ("q35,", {"type": "q35"}),
        ("type=q35,usb=off", {"type": "q35", "usb": "off"}),
        ("a.b=1,a.c=2", {"a": {"b": "1", "c": "2"}}),
        ("a.0=x,a.1=y", {"a": ["x", "y"]}),
        ("a.1.b=y,a.0.b=x", {"a": [{"b": "x"}, {"b": "y"}]}),
        ("a=1,a=2", {"a": "2"}),
        ("a=x,,y", {"a": "x,y"}),
        ("a==", {"a": "="}),
        ("a=", {"a": ""}),
        ("__org.example_a-b=1", {"__org.example_a-b": "1"}),
    ],
)
def test_trees(text: str, tree: dict[str, Any]) -> None:
    assert keyval.parse(text, "type") == (tree, False)


@pytest.mark.parametrize(
    ("text", "desc"),
    [
        (",", "Invalid parameter ''"),
        ("x,,y", "Invalid parameter ''"),
        ("x,usb", "Expected '=' after parameter 'usb'"),
        ("x,1a=2", "Invalid parameter '1a'"),
        ("x,a..b=2", "Invalid parameter 'a..b'"),
        ("x,a.=2", "Invalid parameter 'a.'"),
        ("x,a=1,a.b=2", "Parameters 'a.*' used inconsistently"),
        ("x,a.b=1,a=2", "Parameters 'a.*' used inconsistently"),
        ("x,a.0=1,a.2=2", "Parameter 'a.1' missing"),
        ("x,a.0=1,a.b=2", "Parameters 'a.*' used inconsistently"),
        ("x," + "a" * 128 + "=1", f"Parameter '{'a' * 128}' is too long"),
        ("x,b." + "a" * 128 + "=1", f"Parameter fragment '{'a' * 128}' is too long"),
    ],
)
def test_refusals(text: str, desc: str) -> None:
    with pytest.raises(QemuError) as caught:
        keyval.parse(text, "type")
    assert caught.value.desc == desc


def test_help() -> None:
    assert keyval.parse("help", "type") == ({}, True)
    assert keyval.parse("q35,help", "type") == ({"type": "q35"}, True)
    assert keyval.parse("a=help") == ({"a": "help"}, False)
    with pytest.raises(QemuError, match="Help is not available for this option"):
        keyval.parse_without_help("help")


def test_merging() -> None:
    tree: dict[str, Any] = {"a": "1", "b": {"c": "2"}, "d": ["x"]}
    keyval.merge(tree, {"a": "9", "b": {"e": "3"}, "d": ["y"]})
    assert tree == {"a": "9", "b": {"c": "2", "e": "3"}, "d": ["x", "y"]}
    with pytest.raises(QemuError, match=r"Parameter 'b\.c' used inconsistently"):
        keyval.merge(tree, {"b": {"c": {"x": "1"}}})


NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,5}", fullmatch=True)
VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)
TREES = st.recursive(
    VALUES,
    lambda inner: st.dictionaries(NAMES, inner, min_size=1, max_size=3) | st.lists(inner, min_size=1, max_size=3),
    max_leaves=6,
)


def written(value: Any, key: str) -> list[str]:
    if isinstance(value, dict):
        return [text for name, item in value.items() for text in written(item, f"{key}.{name}" if key else name)]
    if isinstance(value, list):
        return [text for index, item in enumerate(value) for text in written(item, f"{key}.{index}")]
    return [f"{key}={value.replace(',', ',,')}"]


@given(st.dictionaries(NAMES, TREES, max_size=3))
def test_every_tree_can_be_written(tree: dict[str, Any]) -> None:
    assert keyval.parse(",".join(written(tree, ""))) == (tree, False)
