# SPDX-License-Identifier: MIT
"""State of unknown devices is cut as the stream's own description says, and as the captured one where there is none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fakeqemu.error import StreamError
from fakeqemu.host.channel import Channel
from fakeqemu.host.sync import run_sync
from fakeqemu.migration.further_cpus import with_place_bytes, with_places
from fakeqemu.migration.kept_state import KeptState
from fakeqemu.migration.register import SaveStateEntry, StockState
from fakeqemu.migration.stream import vmdesc
from fakeqemu.migration.stream.qemu_file import QEMUFile
from fakeqemu.migration.stream.vmstate import LoadError

CAPTURED = {"name": "dev", "instance_id": 0, "vmsd_name": "dev", "version": 1, "fields": [{"name": "a", "size": 2}]}
OWN = {
    **CAPTURED, "version": 3, "fields": [{"name": "a", "size": 2}, {"name": "b", "size": 1, "array_len": 3}],
    "subsections": [{"vmsd_name": "dev/more", "version": 1, "fields": [{"name": "c", "size": 1}]}],
}  # fmt: skip
SUBSECTION = b"\x05\x08dev/more\x00\x00\x00\x01\x07"
BODY = b"aabbb" + SUBSECTION
AFTER = b"\x7e\x00\x00\x00\x09"


class Pieces(Channel):
    """Gives bytes in pieces of one size."""

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__("")
        self._data = data
        self._size = size

    async def read(self, size: int) -> bytes:
        size = min(size, self._size)
        piece, self._data = self._data[:size], self._data[size:]
        return piece


def machine(*, suppress: bool = False) -> Any:
    return SimpleNamespace(qom=SimpleNamespace(machine=SimpleNamespace(get=lambda name: suppress)))


def entry() -> SaveStateEntry:
    one = SaveStateEntry("dev", 0, 9)
    one.stock = StockState.of(b"zz", CAPTURED)
    return one


def described(body: bytes, *devices: dict[str, Any]) -> bytes:
    text = vmdesc.dumps({"page_size": 4096, "devices": list(devices)})
    return body + AFTER + b"\x00\x06" + len(text).to_bytes(4, "big") + text


@pytest.mark.parametrize("size", [1, 2, 7, 64, 1 << 18])
@pytest.mark.parametrize("noise", [b"", b"\x00\x06\x00\x00\x00\x02{}", b"\x00\x06\xff\xff\xff\xff{", b"\x00\x06"])
def test_the_streams_own_description_says_how_long_a_body_is(size: int, noise: bytes) -> None:
    f = QEMUFile(Pieces(described(BODY + AFTER + noise, OWN), size))
    one = entry()
    run_sync(KeptState(machine(), f).load(one))
    assert one.stock is not None
    assert one.stock.data == BODY
    assert one.stock.desc["version"] == 3
    assert run_sync(f.get_buffer(len(AFTER))) == AFTER


@pytest.mark.parametrize("suppress", [False, True])
def test_without_a_description_the_captured_one_serves(suppress: bool) -> None:
    stream = described(b"aa", OWN) if suppress else b"aa" + AFTER
    f = QEMUFile.over(stream)
    one = entry()
    run_sync(KeptState(machine(suppress=suppress), f).load(one))
    assert one.stock is not None
    assert one.stock.data == b"aa"
    assert one.stock.desc == CAPTURED


def test_a_stream_cut_anywhere_ends_in_an_error_of_the_stream_or_with_what_the_captured_description_knows() -> None:
    whole = described(BODY, OWN)
    for at in range(len(whole)):
        one = entry()
        try:
            run_sync(KeptState(machine(), QEMUFile(Pieces(whole[:at], 16))).load(one))
        except LoadError:
            assert at < 2
        else:
            assert one.stock is not None
            assert one.stock.data == b"aa"


def test_an_unknown_subsection_is_refused() -> None:
    stream = described(b"aa" + SUBSECTION, CAPTURED)
    with pytest.raises(StreamError, match="VM subsection 'dev/more' in 'dev' does not exist"):
        run_sync(KeptState(machine(), QEMUFile.over(stream)).load(entry()))


class Live(Pieces):
    """Its source waits: nobody may ask for more than there is."""

    async def read(self, size: int) -> bytes:
        assert self._data, "more was asked for than a whole section with its footer"
        return await super().read(size)


def began(version: int, desc: dict[str, Any], body: bytes) -> SaveStateEntry:
    one = SaveStateEntry("dev", 0, version)
    one.load_section_id, one.load_version_id = 9, version
    one.stock = StockState.of(body, desc)
    return one


@pytest.mark.parametrize("body", [BODY.replace(b"aa", b"xy"), b"xybbb"])
def test_a_section_of_a_known_shape_is_taken_when_it_is_there(body: bytes) -> None:
    one = began(3, OWN, BODY)
    # What follows in any stream: here it is as long as what may be missing.
    f = QEMUFile(Live(body + AFTER + bytes(len(BODY) - len(body)), 4))
    run_sync(KeptState(machine(), f).load(one))
    assert one.stock is not None
    assert (one.stock.data, one.stock.desc) == (body, OWN)
    assert run_sync(f.get_buffer(len(AFTER))) == AFTER


def plugs(count: int) -> tuple[dict[str, Any], bytes]:
    """A device that plugs CPUs, and its state."""
    row: dict[str, Any] = {"name": "devs", "size": 2, "type": "struct"}
    row["struct"] = {"vmsd_name": "CPU hotplug device state", "fields": [{"name": "x", "size": 2}]}
    state = {"vmsd_name": "CPU hotplug state", "fields": [{"name": "selector", "size": 4}, row]}
    sub = {"vmsd_name": "dev/cpuhp", "fields": [{"name": "hp", "type": "struct", "struct": state, "size": 6}]}
    one = {**CAPTURED, "subsections": [sub]}
    body = b"aa\x05\x09dev/cpuhp\0\0\0\1" + bytes(6)
    return with_places(one, count), with_place_bytes(body, one, count)


@pytest.mark.parametrize(("here", "there"), [(2, 1), (1, 2), (3, 9)])
def test_places_for_another_number_of_cpus_are_missed_at_the_footer(here: int, there: int) -> None:
    desc, mine = plugs(here)
    body = plugs(there)[1]
    assert len(body) - len(mine) == 2 * (there - here)
    one = began(1, desc, mine)
    f = QEMUFile(Live(body + AFTER + bytes(8), 64))
    run_sync(KeptState(machine(), f).load(one))
    assert f.read_total - f.available == len(mine)
    assert run_sync(f.get_buffer(len(AFTER))) != AFTER
