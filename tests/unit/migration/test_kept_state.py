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


def machine_with(*names: str) -> Any:
    """One that knows these sections, and whose streams have footers and no description."""
    vm = machine(suppress=True)
    vm.migration = SimpleNamespace(settings={})
    vm.savevm = SimpleNamespace(find=lambda name, instance: (name in names and not instance) or None)
    return vm


NEXT = b"\x04\x00\x00\x00\x0a\x05other" + bytes(4) + b"\x00\x00\x00\x01"
ENDS = (NEXT, b"\x00\x06", b"\x08\x00\x05\x00\x00")


@pytest.mark.parametrize("size", [1, 5, 1 << 18])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("body", [BODY, AFTER + b"x" + AFTER, AFTER + b"\x04\x00\x00\x00\x0a\x02no" + bytes(9)])
def test_a_section_that_nothing_describes_ends_at_its_footer(body: bytes, end: bytes, size: int) -> None:
    one = began(1, CAPTURED, b"zz")
    one.load_version_id = 1
    f = QEMUFile(Live(body + AFTER + end, size))
    run_sync(KeptState(machine_with("other"), f).load(one))
    assert one.stock is not None
    assert one.stock.data == body
    assert run_sync(f.get_buffer(len(AFTER))) == AFTER


@pytest.mark.parametrize("at", range(len(NEXT) - 4))
def test_a_footer_that_stands_before_nothing_is_none(at: int) -> None:
    f = QEMUFile(Pieces(BODY + AFTER + NEXT[:at], 7))
    one = began(1, CAPTURED, b"zz")
    run_sync(KeptState(machine_with("other"), f).load(one))
    assert one.stock is not None
    assert one.stock.data == b"aa"  # as the machine would have it: the footer is missed behind it


def test_without_footers_nobody_looks_for_them() -> None:
    vm = machine_with("other")
    vm.migration.settings = {"send-section-footer": False}
    f = QEMUFile(Live(b"aa" + NEXT, 64))
    one = began(1, CAPTURED, b"zz")
    run_sync(KeptState(vm, f).load(one))
    assert one.stock is not None
    assert one.stock.data == b"aa"


NAME = len(b"aabbb\x05\x08")


@pytest.mark.parametrize(
    ("at", "value", "words"),
    [
        (NAME + 4, 0x5F, "VM subsection 'dev/_ore' in 'dev' does not exist"),
        (NAME + 11, 2, "dev/more: incoming version_id 2 is too new for local version_id 1"),
    ],
)
def test_a_subsection_that_is_another_one_is_refused_though_its_size_is_right(at: int, value: int, words: str) -> None:
    body = bytearray(BODY)
    body[at] = value
    for one in (began(3, OWN, BODY), began(1, CAPTURED, b"zz")):
        with pytest.raises(LoadError, match=words):
            run_sync(KeptState(machine(), QEMUFile.over(described(bytes(body), OWN))).load(one))


# --- virtio ---------------------------------------------------------------------------------------------

VIRTIO_DESC = {"name": "net", "instance_id": 0, "vmsd_name": "virtio-net", "version": 1}
FEATURES = b"\x05\x15virtio/64bit_features\0\0\0\1" + bytes(8)
RINGS = b"\x05\x11virtio/virtqueues\0\0\0\1" + bytes(16 * 1024)
MODERN = b"\x05\x17virtio_pci/modern_state\0\0\0\1" + bytes(16 + 28 * 1024)
VIRTIO_BODY = b"state of the device" + FEATURES + RINGS + b"\x05\x12virtio/extra_state\0\0\0\1" + MODERN


def virtio(size: int = len(VIRTIO_BODY)) -> dict[str, Any]:
    return {**VIRTIO_DESC, "fields": [{"name": "virtio", "type": "virtio", "size": size}]}


def test_a_virtio_device_is_cut_by_what_its_subsections_are() -> None:
    f = QEMUFile(Pieces(VIRTIO_BODY + AFTER, 1000))
    assert run_sync(vmdesc.consume(f, virtio())) == VIRTIO_BODY
    assert run_sync(f.get_buffer(len(AFTER))) == AFTER


CHAIN = "Failed to load element of type virtio for virtio"
IN_RINGS = "Loading VM subsection 'virtio/virtqueues' in 'virtio' failed: Failed to load virtqueue_state state: stream error: -5"
IN_MODERN = [
    "Loading VM subsection 'virtio_pci/modern_state' in 'virtio_pci' failed: "
    "Failed to load virtio_pci/modern_queue_state state: stream error: -5",
    "Loading VM subsection 'virtio/extra_state' in 'virtio' failed: "
    "Failed to load element of type virtqueue_extra_state for extra_state",
]


@pytest.mark.parametrize(
    ("size", "lines", "old"),
    [
        (10, [], []),
        (5000, [IN_RINGS], ["virtqueue_state:vring.used", "virtio/virtqueues:vq"]),
        (
            len(VIRTIO_BODY) - 1,
            IN_MODERN,
            ["virtio_pci/modern_queue_state:used", "virtio_pci/modern_state:vqs", "virtio/extra_state:extra_state"],
        ),
    ],
)
def test_what_a_virtio_device_misses_is_said_as_real_ones_say_it(size: int, lines: list[str], old: list[str]) -> None:
    with pytest.raises(LoadError) as caught:
        run_sync(vmdesc.consume(QEMUFile(Pieces(VIRTIO_BODY[:size], 1000)), virtio()))
    assert caught.value.desc == CHAIN
    assert caught.value.lines == lines
    assert caught.value.old_lines == [f"Failed to load {name}" for name in [*old, "virtio-net:virtio"]]


def test_a_virtio_device_is_not_longer_than_described() -> None:
    f = QEMUFile.over(b"xyz" + VIRTIO_BODY + AFTER)
    assert len(run_sync(vmdesc.consume(f, virtio()))) == len(VIRTIO_BODY)
