# SPDX-License-Identifier: MIT
"""QEMU's own descriptions cut QEMU's own bytes: every captured section of every profile."""

from __future__ import annotations

from base64 import b64decode
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakeqemu.error import StreamError
from fakeqemu.host.sync import run_sync
from fakeqemu.migration.stream import vmdesc
from fakeqemu.migration.stream.qemu_file import QEMUFile
from fakeqemu.migration.stream.vmstate import LoadError
from fakeqemu.qapi.profile import VersionProfile


def variants() -> list[tuple[str, str]]:
    return [(name, key) for name in ("7.2", "10.0", "11.1") for key in VersionProfile.load(name).keys("vmstate")]


@pytest.mark.parametrize(("name", "variant"), variants())
def test_a_description_consumes_exactly_its_section(name: str, variant: str) -> None:
    record = VersionProfile.load(name).get("vmstate", variant)
    described = {(one["name"], one["instance_id"]): one for one in record["vmdesc"]["devices"]}
    assert len(record["sections"]) == len(described)
    for one in record["sections"]:
        data = b64decode(one["data"])
        f = QEMUFile.over(data + b"\x7e")
        desc = described[one["name"], one["instance"]]
        assert vmdesc.is_sound(desc)
        assert run_sync(vmdesc.consume(f, desc)) == data, one["name"]
        if data:
            with pytest.raises(LoadError, match=r"Failed to load .* state: stream error: -5$"):
                run_sync(vmdesc.consume(QEMUFile.over(data[:-1]), desc))


def test_a_subsection_that_is_not_described_is_refused() -> None:
    desc = {"vmsd_name": "dev", "fields": [{"name": "x", "type": "uint8", "size": 1}], "subsections": []}
    data = b"\x01" + b"\x05\x05dev/y" + bytes(4)
    with pytest.raises(StreamError, match=r"^VM subsection 'dev/y' in 'dev' does not exist$"):
        run_sync(vmdesc.consume(QEMUFile.over(data), desc))


def test_what_is_missing_is_told_as_the_state_itself_would() -> None:
    inner = {"vmsd_name": "inner", "fields": [{"name": "x", "type": "uint8", "size": 1}]}
    word = {"name": "x", "type": "uint16", "size": 2}
    scratch = {"name": "tmp", "type": "tmp", "size": 2, "vmsd_name": "scratch", "fields": [word]}
    subsection = {"vmsd_name": "dev/more", "fields": [{"name": "y", "type": "uint8", "size": 1}]}
    fields = [{"name": "in", "type": "struct", "struct": inner, "size": 1}, scratch]
    desc = {"vmsd_name": "dev", "fields": fields, "subsections": [subsection]}
    whole = b"\1\2\2" + b"\5\x08dev/more" + bytes(4) + b"\3"
    assert run_sync(vmdesc.consume(QEMUFile.over(whole + b"\x7e"), desc)) == whole

    def failure(size: int) -> LoadError:
        with pytest.raises(LoadError) as caught:
            run_sync(vmdesc.consume(QEMUFile.over(whole[:size]), desc))
        return caught.value

    assert failure(0).desc == "Failed to load inner state: stream error: -5"
    assert failure(0).old_lines == ["Failed to load inner:x", "Failed to load dev:in"]
    # Behind `inner` a subsection of it might follow: looking for one finds the end.
    assert failure(1).desc == "Failed to load dev state: stream error: -5"
    assert failure(1).old_lines == ["Failed to load dev:in"]
    assert failure(2).desc == "Failed to load scratch state: stream error: -5"
    assert failure(2).old_lines == ["Failed to load scratch:x", "Failed to load dev:tmp"]
    text = "Loading VM subsection 'dev/more' in 'dev' failed: Failed to load dev/more state: stream error: -5"
    assert failure(len(whole) - 1).desc == text
    assert failure(len(whole) - 1).old_lines == ["Failed to load dev/more:y"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.sampled_from(["", "tmp", "struct", "dev"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["vmsd_name", "fields", "subsections", "name", "type", "size", "array_len", "struct"]),
            inner,
        )
    ),
    max_leaves=20,
)


@given(JSON, st.binary(max_size=40))
def test_what_a_stream_says_of_itself_is_not_believed_until_it_makes_sense(value: object, data: bytes) -> None:
    if vmdesc.is_sound(value):
        assert isinstance(value, dict)
        with suppress(LoadError):
            run_sync(vmdesc.consume(QEMUFile.over(data), value))


def test_a_description_that_would_never_end_makes_no_sense() -> None:
    nothing = {"vmsd_name": "n", "fields": [{"name": "x", "size": 0}]}
    field: dict[str, object] = {"name": "x", "size": 0, "array_len": 1 << 40, "type": "struct", "struct": nothing}
    assert not vmdesc.is_sound({"vmsd_name": "dev", "fields": [field]})
    assert not vmdesc.is_sound({"vmsd_name": "dev", "fields": [{"name": "x", "size": 1 << 40}]})
    assert vmdesc.is_sound({"vmsd_name": "dev", "fields": [{**field, "array_len": 1000}]})


def test_a_description_of_states_inside_of_states_ends_somewhere() -> None:
    def nested(depth: int) -> dict[str, Any]:
        desc: dict[str, Any] = {"vmsd_name": "dev", "fields": []}
        for _ in range(depth):
            desc = {"vmsd_name": "dev", "fields": [{"name": "x", "size": 0, "struct": desc}]}
        return desc

    assert vmdesc.is_sound(nested(20))
    assert not vmdesc.is_sound(nested(100))


def test_a_failure_in_a_long_description_is_told_at_once() -> None:
    """Work that grows with the square of a stream's length would hold the machine up for hours."""
    fields = [{"name": f"x[{n}]", "size": 1} for n in range(1 << 17)]
    with pytest.raises(LoadError) as caught:
        run_sync(vmdesc.consume(QEMUFile.over(b""), {"vmsd_name": "dev", "fields": fields}))
    assert caught.value.old_lines == ["Failed to load dev:x"]


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (["unused[0]"], "unused"),
        (["x[0]", "x[1]"], "x"),
        (["x[1]"], "x"),
        (["env.cr[0]", "env.cr[2]"], "env.cr[0]"),
        (["port.ifs[0]"], "port.ifs[0]"),
        (["_q_ZMMReg[0]", "_q_ZMMReg[1]"], "_q_ZMMReg[0]"),
        (["plain"], "plain"),
    ],
)
def test_numbers_that_only_the_description_has_are_not_told(names: list[str], name: str) -> None:
    desc = {"vmsd_name": "dev", "fields": [{"name": one, "type": "uint8", "size": 1} for one in names]}
    with pytest.raises(LoadError) as caught:
        run_sync(vmdesc.consume(QEMUFile.over(b""), desc))
    assert caught.value.old_lines == [f"Failed to load dev:{name}"]


def test_the_text_is_as_qemu_writes_it() -> None:
    assert vmdesc.dumps({"a": [1, "x"], "b": {}}) == b'{"a": [1, "x"], "b": {}}'
