# SPDX-License-Identifier: MIT
"""Parameters in the form key=value,...: what is taken, what is refused, in which words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakeqemu.error import QemuError
from fakeqemu.vl.location import NOWHERE
from fakeqemu.vl.opts import HelpWanted, Opts, OptsList, Param, id_wellformed, take_value

PARAMS = [
    Param("path", "string"),
    Param("server", "boolean", "listen"),
    Param("delay", "boolean"),
    Param("to", "number"),
    Param("size", "size", None, "4k"),
]


def group(**options: object) -> OptsList:
    return OptsList("chardev", "path", params=list(PARAMS), **options)  # type: ignore[arg-type]


def refused(text: str, implied: bool = True) -> str:
    with pytest.raises(QemuError) as caught:
        group().parse(text, NOWHERE, implied)
    return caught.value.desc


def test_a_first_value_belongs_to_the_implied_key() -> None:
    opts = group().parse("/tmp/x,server=on", NOWHERE, True)
    assert opts.values == [("path", "/tmp/x"), ("server", "on")]
    assert opts.get_bool("server")


def test_without_an_implied_key_a_first_word_is_a_switch() -> None:
    assert refused("nosuch", implied=False) == "Invalid parameter 'such'"


def test_the_last_value_counts_and_none_is_lost() -> None:
    opts = group().parse("a,to=1,to=2", NOWHERE, True)
    assert opts.get_number("to", 0) == 2
    assert opts.values[1:] == [("to", "1"), ("to", "2")]


def test_a_doubled_comma_is_one() -> None:
    assert group().parse("a,,b,to=0x10", NOWHERE, True).get("path") == "a,b"


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_any_text_can_be_written_as_a_value(text: str) -> None:
    assert take_value(text.replace(",", ",,") + ",rest=1") == (text, "rest=1")


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        ("p,server", [("short-form boolean option 'server' deprecated", "Please use server=on instead")]),
        ("p,noserver", [("short-form boolean option 'noserver' deprecated", "Please use server=off instead")]),
        ("p,nodelay", [("short-form boolean option 'nodelay' deprecated", "Please use nodelay=on instead")]),
        ("p,server=on", []),
    ],
)
def test_switches_in_short_form_are_warned_of(text: str, warned: list[tuple[str, str]]) -> None:
    heard: list[tuple[str, str]] = []
    group().parse(text, NOWHERE, True, lambda text, hint: heard.append((text, hint)))
    assert heard == warned


@pytest.mark.parametrize(
    ("text", "desc"),
    [
        ("p,foo=1", "Invalid parameter 'foo'"),
        ("p,server=maybe", "Parameter 'server' expects 'on' or 'off'"),
        ("p,to=x", "Parameter 'to' expects a number"),
        ("p,to=99999999999999999999", "Value '99999999999999999999' is out of range for parameter 'to'"),
        ("p,size=1X", "Parameter 'size' expects a non-negative number below 2^64"),
        ("p,size=-1", "Value '-1' is out of range for parameter 'size'"),
        ("p,id=1", "Parameter 'id' expects an identifier"),
        ("p,id=", "Parameter 'id' expects an identifier"),
    ],
)
def test_wrong_parameters_are_refused(text: str, desc: str) -> None:
    assert refused(text) == desc


def test_a_refused_set_is_not_kept() -> None:
    opts_list = group()
    with pytest.raises(QemuError):
        opts_list.parse("p,id=a,foo=1", NOWHERE, True)
    assert opts_list.items == []
    opts_list.parse("p,id=a", NOWHERE, True)


def test_an_id_is_given_once() -> None:
    opts_list = group()
    opts_list.parse("p,id=a", NOWHERE, True)
    with pytest.raises(QemuError, match="Duplicate ID 'a' for chardev"):
        opts_list.parse("q,id=a", NOWHERE, True)


def test_groups_that_merge_have_one_set_and_no_id() -> None:
    opts_list = group(merge=True)
    first = opts_list.parse("a", NOWHERE, True)
    assert opts_list.parse("b,server=on", NOWHERE, True) is first
    assert first.get("path") == "b"
    with pytest.raises(QemuError, match="Invalid parameter 'id'"):
        opts_list.parse("id=x", NOWHERE, True)


def test_a_group_without_a_list_takes_anything() -> None:
    opts = OptsList("device", "driver").parse("e1000,whatever=x,help", NOWHERE, True)
    assert opts.values == [("driver", "e1000"), ("whatever", "x"), ("help", "on")]


def test_help_is_asked_for_by_word() -> None:
    for text in ("p,help", "p,?", "p,server=on,help"):
        with pytest.raises(HelpWanted):
            group().parse(text, NOWHERE, True)
    assert group().parse("help", NOWHERE, True).get("path") == "help"


def test_help_text_is_sorted_by_line() -> None:
    names = OptsList("boot", params=[Param("splash-time", "number"), Param("splash", "string", "picture")])
    assert names.help_text() == "boot options:\n  splash-time=<num>\n  splash=<str>           - picture\n"


def test_defaults_stand_in_for_what_is_not_given() -> None:
    opts = Opts(group(), None, NOWHERE)
    assert opts.get_size("size", 0) == 4096
    assert opts.get("path") is None
    assert opts.get_number("to", -1) == -1


def test_numbers_wrap_as_in_c() -> None:
    assert group().parse("p,to=-1", NOWHERE, True).get_number("to", 0) == -1


@pytest.mark.parametrize(
    ("text", "good"), [("a", True), ("a-._1", True), ("", False), ("1a", False), ("ä", False), ("a b", False)]
)
def test_ids(text: str, good: bool) -> None:
    assert id_wellformed(text) is good
