# SPDX-License-Identifier: MIT
"""What an older machine type or another CPU changes in a recorded board, as it is told and as it is applied."""

from __future__ import annotations

import base64
from types import SimpleNamespace
from typing import Any

import pytest

from fakeqemu.migration.board_changes import with_changes
from fakeqemu.record.capture_changes import _change
from tests.unit._boards import board


def section(name: str, number: int, data: bytes, *subsections: str) -> tuple[dict[str, Any], dict[str, Any]]:
    one = {"name": name, "instance": 0, "version": 1, "section_id": number, "data": base64.b64encode(data).decode()}
    described = [{"vmsd_name": sub, "version": 1, "fields": [{"name": "x", "size": 1}]} for sub in subsections]
    desc = {"name": name, "instance_id": 0, "vmsd_name": name, "version": 1, "fields": [{"name": "a", "size": 4}]}
    return one, {**desc, "subsections": described} if described else desc


def record(*sections: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
    return {
        "sections": [one for one, _ in sections],
        "vmdesc": {"page_size": 4096, "devices": [d for _, d in sections]},
    }


def machine(table: dict[str, Any], cpu: str = "qemu64") -> Any:
    profile = SimpleNamespace(get=lambda _table, key, default: table.get(key, default))
    return SimpleNamespace(board=SimpleNamespace(name="pc-9", cpu_type=f"{cpu}-x86_64-cpu"), profile=profile)


PLAIN = section("dev", 5, b"abcd")


@pytest.mark.parametrize(
    "other",
    [
        section("dev", 5, b"abcd"),
        section("dev", 5, b"xbcx"),
        section("dev", 5, b"abcX\x05more", "dev/more"),
        section("dev", 5, b"ab", "dev/less"),
    ],
)
def test_what_is_told_of_a_section_makes_it_of_the_plain_one(other: tuple[dict[str, Any], dict[str, Any]]) -> None:
    change = _change(*PLAIN, *other)
    assert bool(change) == (other != PLAIN)
    table = {"pc-9/pc": {"changed": [{"name": "dev", "instance": 0, **change}]}}
    assert with_changes(machine(table), "pc", record(PLAIN)) == record(other)
    assert with_changes(machine(table), "q35", record(PLAIN)) == record(PLAIN)


def test_little_is_told_of_a_little_change() -> None:
    assert _change(*PLAIN, *section("dev", 5, b"xycz")) == {"patch": [[0, "7879"], [3, "7a"]]}


@pytest.mark.parametrize(("renumbered", "number"), [(True, 8), (False, 9)])
def test_sections_that_are_missing_may_leave_their_numbers_free(renumbered: bool, number: int) -> None:
    first, last = section("first", 4, b""), section("last", 9, b"")
    table = {"cpu/486": {"missing": [["dev", 0]], "renumbered": renumbered}}
    changed = with_changes(machine(table, "486"), "pc", record(first, PLAIN, last))
    assert [(one["name"], one["section_id"]) for one in changed["sections"]] == [("first", 4), ("last", number)]
    assert [one["name"] for one in changed["vmdesc"]["devices"]] == ["first", "last"]


def test_the_type_comes_before_the_cpu() -> None:
    table = {
        "pc-9/pc": {"changed": [{"name": "dev", "instance": 0, "patch": [[0, "7879"]]}]},
        "cpu/max": {"changed": [{"name": "dev", "instance": 0, "patch": [[1, "7a"]]}]},
    }
    changed = with_changes(machine(table, "max"), "pc", record(PLAIN))
    assert base64.b64decode(changed["sections"][0]["data"]) == b"xzcd"


@pytest.mark.parametrize("version", ["7.2", "10.0", "11.1"])
def test_profiles_know_of_older_types_and_other_cpus(version: str) -> None:
    vm: Any = board(version)
    plain = vm.profile.get("vmstate", "q35-nodefaults")
    vm.board.cpu_type = "max-x86_64-cpu"
    changed = with_changes(vm, "q35-nodefaults", plain)
    differ = [one["name"] for one, old in zip(changed["sections"], plain["sections"], strict=True) if one != old]
    assert differ == ["cpu"]
