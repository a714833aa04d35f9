# SPDX-License-Identifier: MIT
"""`fakeqemu profile`: what people read of profiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.record import capture_next, profile_cli
from fakeqemu.record.capture_tables import ProfileWriter
from fakeqemu.record.profile_diff import diff


def made(folder: Path, micro: int, tables: dict[str, dict[str, Any]]) -> VersionProfile:
    writer = ProfileWriter(
        str(folder),
        {
            "name": folder.name,
            "version": {"major": 9, "minor": 0, "micro": micro},
            "package": "",
            "captured": "2026-01-01",
            "version-line": f"QEMU emulator version 9.0.{micro}",
        },
    )
    for name, records in tables.items():
        writer.table(name, records)
    return VersionProfile.load(str(folder))


def command(arg: str | None) -> dict[str, Any]:
    return {"arg": arg, "ret": "0", "oob": False, "preconfig": False, "features": []}


def schema(values: list[str], member: str) -> dict[str, Any]:
    return {
        "0": {"name": "0", "meta-type": "object", "members": []},
        "1": {
            "name": "1",
            "meta-type": "object",
            "members": [{"name": "mode", "type": "2", "default": None}, {"name": member, "type": "int"}],
        },
        "2": {"name": "2", "meta-type": "enum", "members": [{"name": value} for value in values]},
        "int": {"name": "int", "meta-type": "builtin", "json-type": "int"},
    }


def test_a_difference_is_told_by_what_people_know(tmp_path: Path) -> None:
    old = made(
        tmp_path / "old",
        1,
        {
            "commands": {"gone": command(None), "set": command("1")},
            "schema": schema(["a", "b"], "before"),
            "machines": {"pc-1": {"name": "pc-1", "cpu-max": 1}, "alias:pc": "pc-1"},
            "device-properties": {
                "nic": [{"name": "mac", "type": "str"}, {"name": "n", "type": "int", "default-value": 1}]
            },
            "parameters": {"max": 1, "same": 2},
            "capabilities": {"cap": False},
        },
    )
    new = made(
        tmp_path / "new",
        2,
        {
            "commands": {"set": command("1"), "came": command(None)},
            "schema": schema(["a", "c"], "after"),
            "machines": {"pc-1": {"name": "pc-1", "cpu-max": 2}, "pc-2": {"name": "pc-2"}, "alias:pc": "pc-2"},
            "device-properties": {
                "nic": [{"name": "n", "type": "int", "default-value": 5}, {"name": "new", "type": "bool"}]
            },
            "parameters": {"max": 3, "same": 2},
            "capabilities": {"cap": True},
        },
    )
    assert (
        "\n".join(diff(old, new))
        == """
Version
  - QEMU emulator version 9.0.1
  + QEMU emulator version 9.0.2

Commands
  - gone
  + came
  set: -before, +after, mode: -b +c

Machines
  - alias:pc
  + pc-2""".replace("  - alias:pc\n", "")
        + """
  pc-1: cpu-max 1 -> 2
  pc: pc-1 -> pc-2

Device properties
  nic: -mac, +new, n: default 1 -> 5

Migration capabilities
  cap: off -> on

Migration parameters
  max: 1 -> 3"""
    )


def test_a_profile_does_not_differ_from_itself() -> None:
    profile = VersionProfile.load("11.1")
    assert list(diff(profile, profile)) == []


def test_next_differs_by_the_series_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert profile_cli.main(["diff", "11.1", "next"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "11.1 -> next"
    assert [line for line in lines if line and not line.startswith(" ")] == [
        "11.1 -> next",
        "Version",
        "Device properties",
        "Behaviour (fakeqemu/qapi/compat_rows.py)",
    ]
    assert "  vfio-pci: +x-migration-parallel-states" in lines
    assert "  vfio_parallel_states: off -> on" in lines


def test_the_shipped_overlay_is_the_one_that_its_maker_makes(tmp_path: Path) -> None:
    shipped = VersionProfile.load("next")
    assert shipped.base is not None
    (tmp_path / "11.1").symlink_to(Path(capture_next.__file__).parents[2] / "schemas" / "11.1")
    again = VersionProfile.load(capture_next.write_next(str(tmp_path)))
    assert again.manifest == shipped.manifest


def test_the_list_has_a_line_a_profile(capsys: pytest.CaptureFixture[str]) -> None:
    assert profile_cli.main(["list"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["name", "commands", "types", "machines", "captured", "version"]
    assert [line.split()[0] for line in lines] == ["7.2", "10.0", "11.1", "next"]
    assert lines[-1].endswith("(overlay on 11.1)")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["diff", "11.1", "nosuch"], "unknown profile 'nosuch'; there are: "),
        (["list", "./nosuch"], "cannot open profile "),
        (["capture", "--emulator", "/nonexistent/qemu", "--step", "nosuch"], "no step 'nosuch'; there are: "),
        (["capture", "--emulator", "/nonexistent/qemu"], "the emulator cannot be captured: "),
        (["capture", "--emulator", "false"], "the emulator cannot be captured: "),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert profile_cli.main(argv) == 1
    told = capsys.readouterr().err
    assert told.startswith("fakeqemu profile: " + message)
    assert told.count("\n") == 1
