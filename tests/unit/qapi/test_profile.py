# SPDX-License-Identifier: MIT
"""Profiles: the reader, piece by piece, and the compat rows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fakeqemu.qapi import profile as module
from fakeqemu.qapi.compat import ROWS, Compat
from fakeqemu.qapi.compat_row import CompatRow
from fakeqemu.qapi.profile import MISSING, ProfileError, VersionProfile, known_profiles
from fakeqemu.record.capture_tables import ProfileWriter

MANIFEST = {
    "name": "mine",
    "version": {"major": 9, "minor": 2, "micro": 1},
    "package": "mine",
    "version-line": "QEMU emulator version 9.2.1 (mine)",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small profile: one plain table, one deflated, and a type tree."""
    writer = ProfileWriter(str(tmp_path / "mine"), MANIFEST)
    writer.table("plain", {"b": 1, "a": [True, None], "ab": {"x": "ä\n\t"}})
    writer.table("packed", {"one": {"n": 18446744073709551615}, "two": "2" * 1000}, compress=True)
    writer.table(
        "types",
        {
            "object": {"parent": None, "abstract": True, "implements": [], "user-creatable": False, "device": False},
            "device": {
                "parent": "object",
                "abstract": True,
                "implements": ["vmstate-if"],
                "user-creatable": False,
                "device": True,
            },
            "nic": {
                "parent": "device",
                "abstract": False,
                "implements": ["pci-interface"],
                "user-creatable": False,
                "device": True,
            },
        },
    )
    return tmp_path / "mine"


def opened(folder: Path) -> VersionProfile:
    return VersionProfile.load(str(folder))


def test_a_record_is_found_by_its_whole_key(folder: Path) -> None:
    profile = opened(folder)
    assert profile.get("plain", "b") == 1
    assert profile.get("plain", "a") == [True, None]
    assert profile.get("plain", "ab") == {"x": "ä\n\t"}
    assert not profile.has("plain", "A")
    assert not profile.has("plain", "")
    assert profile.get("plain", "abc", None) is None
    with pytest.raises(KeyError, match="plain/abc"):
        profile.get("plain", "abc")


def test_keys_keep_the_order_in_which_they_were_told(folder: Path) -> None:
    assert opened(folder).keys("plain") == ["b", "a", "ab"]
    assert opened(folder).keys("nosuch") == []


def test_a_deflated_table_reads_as_a_plain_one(folder: Path) -> None:
    profile = opened(folder)
    assert profile.get("packed", "one") == {"n": 18446744073709551615}
    assert profile.raw("packed", "two") == b'"' + b"2" * 1000 + b'"'
    assert profile.records("packed") == [("one", b'{"n": 18446744073709551615}'), ("two", profile.raw("packed", "two"))]


def test_raw_is_the_text_that_was_written(folder: Path) -> None:
    profile = opened(folder)
    assert profile.raw("plain", "ab") == rb'{"x": "\u00e4\n\t"}'
    with pytest.raises(KeyError):
        profile.raw("plain", "zz")


def test_one_look_up_parses_one_record(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []
    parse = module.parse_json
    profile = VersionProfile(str(folder))

    def watched(data: bytes) -> object:
        parsed.append(data)
        return parse(data)

    monkeypatch.setattr(module, "parse_json", watched)
    profile.get("plain", "a")
    profile.get("plain", "a")
    assert parsed == [b"[true, null]"]


def test_an_overlay_changes_and_adds_and_keeps_the_rest(folder: Path) -> None:
    overlay = folder.parent / "over"
    writer = ProfileWriter(
        str(overlay), {**MANIFEST, "name": "over", "base": "mine", "compat": {"vfio_parallel_states": True}}
    )
    writer.table("plain", {"c": 3, "a": "new"})
    profile = VersionProfile.load(str(overlay))
    assert profile.keys("plain") == ["b", "a", "ab", "c"]
    assert [profile.get("plain", key) for key in ("a", "b", "c")] == ["new", 1, 3]
    assert dict(profile.records("plain"))["a"] == b'"new"'
    assert profile.get("packed", "one") == opened(folder).get("packed", "one")
    assert profile.compat.vfio_parallel_states is True
    assert opened(folder).compat.vfio_parallel_states is False


def test_types_are_judged_by_parents_and_interfaces(folder: Path) -> None:
    profile = opened(folder)
    assert profile.implements("nic", "nic")
    assert profile.implements("nic", "device")
    assert profile.implements("nic", "vmstate-if")
    assert profile.implements("nic", "pci-interface")
    assert not profile.implements("device", "pci-interface")
    assert not profile.implements("nosuch", "object")
    assert profile.is_abstract("device")
    assert not profile.is_abstract("nic")
    assert profile.type_parent("object") is None


def test_the_folder_may_move_away_once_it_is_open(folder: Path) -> None:
    """As when the process changes its root, or its user, after the start."""
    profile = VersionProfile(str(folder))
    os.rename(folder, folder.parent / "elsewhere")
    assert profile.get("plain", "b") == 1


def test_an_unknown_profile_is_refused_with_those_there_are() -> None:
    with pytest.raises(ProfileError, match=r"unknown profile '9\.9'; there are: 7\.2, 10\.0, 11\.1, next"):
        VersionProfile.load("9.9")
    for name in ("", ".", ".."):
        with pytest.raises(ProfileError):
            VersionProfile.load(name)


@pytest.mark.parametrize("content", ["", "{", '{"format": 99}'])
def test_a_folder_that_is_no_profile_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(ProfileError, match=r"cannot open profile .*/nosuch"):
        VersionProfile.load(str(tmp_path / "nosuch"))
    with pytest.raises(ProfileError, match=r"no manifest\.json"):
        VersionProfile.load(str(tmp_path))
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ProfileError):
        VersionProfile.load(str(tmp_path))


# --- the profiles that ship -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", known_profiles())
def test_every_record_of_a_shipped_profile_is_whole(name: str) -> None:
    profile = VersionProfile.load(name)
    import hashlib

    for table, entry in profile.manifest["tables"].items():
        own = profile._table(table).records()
        digest = hashlib.sha256()
        for key, data in own:
            digest.update(key.encode() + b"\t" + data + b"\n")
            json.loads(data)
        assert (len(own), digest.hexdigest()) == (entry["records"], entry["sha256"]), table
        assert profile._table(table).keys() == [key for key, _ in own]
        if own:
            assert profile.raw(table, own[0][0]) == own[0][1]
            assert profile.raw(table, own[-1][0]) == own[-1][1]


def test_no_record_tells_of_the_machine_it_was_taken_on() -> None:
    told = re.compile(rb"(?<![\w.])/(?:root|work|home)/|\.cache/|fakeqemu-capture")
    for name in known_profiles():
        profile = VersionProfile.load(name)
        for table in profile.manifest["tables"]:
            for key, data in profile._table(table).records():
                assert not told.search(data), f"{name} {table} {key}"


def test_each_folder_holds_just_the_tables_of_its_manifest() -> None:
    for name in known_profiles():
        folder = Path(module.schemas_folder(), name)
        tables = VersionProfile.load(name).manifest["tables"]
        files = {file.name for file in folder.iterdir()} - {"manifest.json"}
        assert {file.rsplit(".", 1)[0] for file in files} == set(tables)
        assert len(files) == 2 * len(tables)


def test_next_is_11_1_and_one_property() -> None:
    base, following = VersionProfile.load("11.1"), VersionProfile.load("next")
    assert following.version == (11, 1, 50)
    assert following.package == ""
    assert following.keys("commands") == base.keys("commands")
    assert following.records("schema") == base.records("schema")
    for name in ("vfio-pci", "vfio-pci-nohotplug"):
        added = [entry for entry in following.device_properties(name) if entry not in base.device_properties(name)]
        assert [(entry["name"], entry["type"], entry["default-value"]) for entry in added] == [
            ("x-migration-parallel-states", "bool", True)
        ]
        text = following.get("help", f"-device {name},help")["stdout"]
        assert "  x-migration-parallel-states=<bool> - " in text
        assert text.splitlines()[1:] == sorted(text.splitlines()[1:], key=lambda line: line.partition("=")[0])
    assert following.device_properties("vfio-user-pci") == base.device_properties("vfio-user-pci")


def test_opening_a_profile_loads_no_module_of_the_slow_kind() -> None:
    code = (
        "import sys; from fakeqemu.qapi.profile import VersionProfile as V; p = V.load('next');"
        "p.get('device-properties', 'vfio-pci'); p.command('query-status'); p.compat.vfio_parallel_states;"
        "print(' '.join(m for m in 'json re enum dataclasses typing functools pathlib collections'.split() "
        "if m in sys.modules))"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            "import sys; sys.path.insert(0, sys.argv[1]); " + code,
            os.path.dirname(os.path.dirname(module.__file__.rsplit("/qapi", 1)[0] + "/")),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("\n", "")


# --- compat ---------------------------------------------------------------------------------------------


def test_a_row_takes_the_newest_value_not_younger_than_the_version() -> None:
    row = CompatRow("x", "", (((), 1), ((9, 1), 2), ((11, 0), 3)), "")
    versions = ((7, 2, 22), (9, 0, 4), (9, 1, 0), (10, 2, 7), (11, 0, 0), (99, 0, 0))
    assert [row.resolve(version) for version in versions] == [1, 1, 2, 2, 3, 3]


def test_a_row_can_be_set_for_a_run() -> None:
    compat = VersionProfile.load("11.1").compat
    changed = compat.override({"vfio.parallel-states": "on", "memory_read_policy": "rcu"})
    assert (changed.vfio_parallel_states, changed.memory_read_policy) == (True, "rcu")
    assert (compat.vfio_parallel_states, compat.memory_read_policy) == (False, "stale")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("nosuch", "on", "there is no compat row 'nosuch'"),
        ("vfio_parallel_states", "yes", "compat.vfio_parallel_states takes on or off, not 'yes'"),
        ("memory_read_policy", "no", "compat.memory_read_policy takes stale or strict or force or rcu, not 'no'"),
    ],
)
def test_a_row_refuses_what_it_does_not_take(name: str, text: str, message: str) -> None:
    with pytest.raises(ValueError, match="^" + message.replace(".", r"\.")):
        VersionProfile.load("11.1").compat.override({name: text})


def test_asking_for_no_row_is_an_error() -> None:
    with pytest.raises(AttributeError):
        _ = Compat((11, 1, 2)).nosuch
    with pytest.raises(ValueError, match="nosuch"):
        Compat((11, 1, 2), {"nosuch": 1})


def test_rows_are_sound() -> None:
    names = [row.name for row in ROWS]
    assert len(names) == len(set(names))
    for row in ROWS:
        sinces = [since for since, _ in row.values]
        assert sinces[0] == (), row.name
        assert sinces == sorted(sinces), row.name
        assert len({type(value) for _, value in row.values}) == 1, row.name
        assert row.name.isidentifier(), row.name
        assert row.doc, row.name
        assert row.effect, row.name


def test_missing_is_not_none() -> None:
    assert repr(MISSING) == "MISSING"
