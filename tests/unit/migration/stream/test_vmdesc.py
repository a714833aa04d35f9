# SPDX-License-Identifier: MIT
"""QEMU's own descriptions cut QEMU's own bytes: every captured section of every profile."""

from __future__ import annotations

from base64 import b64decode

import pytest

from fakeqemu.error import StreamError
from fakeqemu.host.sync import run_sync
from fakeqemu.migration.stream import vmdesc
from fakeqemu.migration.stream.qemu_file import EndOfStream, QEMUFile
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
        assert run_sync(vmdesc.consume(f, desc)) == data, one["name"]
        if data:
            with pytest.raises(EndOfStream):
                run_sync(vmdesc.consume(QEMUFile.over(data[:-1]), desc))


def test_a_subsection_that_is_not_described_is_refused() -> None:
    desc = {"vmsd_name": "dev", "fields": [{"name": "x", "type": "uint8", "size": 1}], "subsections": []}
    data = b"\x01" + b"\x05\x05dev/y" + bytes(4)
    with pytest.raises(StreamError, match=r"^VM subsection 'dev/y' in 'dev' does not exist$"):
        run_sync(vmdesc.consume(QEMUFile.over(data), desc))


def test_the_text_is_as_qemu_writes_it() -> None:
    assert vmdesc.dumps({"a": [1, "x"], "b": {}}) == b'{"a": [1, "x"], "b": {}}'
