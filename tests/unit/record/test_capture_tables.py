# SPDX-License-Identifier: MIT
"""Writing tables: what is written is what is read, and says so."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.record.capture_tables import PLAIN_LIMIT, ProfileWriter, write_table

MANIFEST = {"name": "t", "version": {"major": 1, "minor": 2, "micro": 3}, "package": "", "version-line": "v"}


def test_the_digest_is_of_the_plain_records_whatever_the_form(tmp_path: Path) -> None:
    records = {"a": [1, 2], "b": "x"}
    plain = write_table(str(tmp_path), "t", records, compress=False)
    packed = write_table(str(tmp_path), "t", records, compress=True)
    assert plain == packed == {"records": 2, "bytes": 9, "sha256": hashlib.sha256(b'a\t[1, 2]\nb\t"x"\n').hexdigest()}


def test_a_table_has_one_form_at_a_time(tmp_path: Path) -> None:
    write_table(str(tmp_path), "t", {"a": 1}, compress=False)
    write_table(str(tmp_path), "t", {"a": 1}, compress=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["t.blob", "t.idx"]


def test_large_tables_are_deflated_unasked(tmp_path: Path) -> None:
    write_table(str(tmp_path), "small", {"a": "x" * (PLAIN_LIMIT - 2)})
    write_table(str(tmp_path), "large", {"a": "x" * (PLAIN_LIMIT - 1)})
    assert sorted(file.name for file in tmp_path.iterdir()) == ["large.blob", "large.idx", "small.idx", "small.jsonl"]


@pytest.mark.parametrize("key", ["a\tb", "a\nb", ""])
def test_a_key_that_would_break_the_index_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="cannot have the key"):
        write_table(str(tmp_path), "t", {key: 1})


def test_json_that_is_bytes_already_is_kept_as_it_is(tmp_path: Path) -> None:
    ProfileWriter(str(tmp_path / "t"), MANIFEST).table("x", {"a": b'{"q":1}'})
    assert VersionProfile(str(tmp_path / "t")).raw("x", "a") == b'{"q":1}'


def test_a_folder_can_be_added_to_later(tmp_path: Path) -> None:
    folder = str(tmp_path / "t")
    ProfileWriter(folder, MANIFEST).table("one", {"a": 1})
    ProfileWriter.reopen(folder).table("two", {"b": 2})
    assert list(json.loads((tmp_path / "t" / "manifest.json").read_text())["tables"]) == ["one", "two"]
    assert VersionProfile(folder).get("one", "a") == 1
