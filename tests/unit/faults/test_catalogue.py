# SPDX-License-Identifier: MIT
"""The catalogue lists every fault point of the source, with its fields, and nothing else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import fakeqemu
from fakeqemu.faults import catalogue, catalogue_cli
from fakeqemu.faults.point import READ, WRITE, Point, error_at
from fakeqemu.qapi.profile import VersionProfile

PACKAGE = Path(fakeqemu.__file__).parent
#: called with a name that is made of the channel's: the three kinds of channel, in both directions
OPENED = [f"migration_{kind}_{way}" for kind in ("exec", "file", "fd") for way in ("outgoing", "incoming")]


def calls() -> Iterator[tuple[str, list[str], bool]]:
    """(point, fields, whether it can wait) of each call in the source whose point is written out."""
    constants = {"READ": READ, "WRITE": WRITE}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
                continue
            name = node.func.attr
            if name not in ("check", "pass_through", "fault_check", "fault_point"):
                continue
            if not name.startswith("fault_") and not ast.unparse(node.func.value).endswith("faults"):
                continue
            first = node.args[0]
            point = constants.get(first.id) if isinstance(first, ast.Name) else getattr(first, "value", None)
            if isinstance(point, str):
                yield point, [keyword.arg or "" for keyword in node.keywords], not name.endswith("check")


def test_every_point_of_the_source_is_listed_and_every_listed_one_is_there() -> None:
    assert sorted({*(point for point, _, _ in calls()), *OPENED}) == sorted(catalogue.POINTS)


def test_fields_and_waiting_are_as_the_source_has_them() -> None:
    for name, fields, waits in calls():
        point = catalogue.POINTS[name]
        assert set(fields) <= set(point.fields), name
        assert waits == point.waits, name


def test_points_are_named_as_trace_events() -> None:
    known = list(VersionProfile.load("11.1").keys("trace-events"))
    ours = [name for name in catalogue.POINTS if name not in known]
    assert [name for name in ours if not name.startswith("fake_")] == []


@pytest.mark.parametrize("point", catalogue.POINTS.values(), ids=lambda point: point.name)
def test_each_point_has_an_error_that_can_be_raised(point: Point) -> None:
    fields: dict[str, object] = dict.fromkeys(point.fields, "x")
    error = error_at(point, 5, "Input/output error", fields)
    assert isinstance(error, Exception)
    assert "{" not in str(error)


def test_the_tool_prints_every_point(capsys: pytest.CaptureFixture[str]) -> None:
    assert catalogue_cli.main([]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in catalogue.POINTS)
    assert printed.endswith(f"{len(catalogue.POINTS)} fault points\n")
    assert catalogue_cli.main(["more"]) == 2
