# SPDX-License-Identifier: MIT
"""Machines that have not run, saved by fakeqemu and by a real QEMU: block list, sections, bodies and description are the same.

What the clock of the moment decides is not compared: `timer`, and the date in the battery's memory.
"""

from __future__ import annotations

import socket
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.bench._real import fake_qemu
from tests.conformance._real import need_real_qemu
from tests.conformance.test_migration_fds import Monitor
from tests.migration import streams
from tests.migration.split import Split
from tests.migration.streams import block_name

pytestmark = pytest.mark.real_qemu

VERSIONS = ("7.2", "10.0", "11.1")
#: command lines; every machine is paused
LINES = (
    "-M none",
    "-M none -m 16",
    "-M q35 -m 64",
    "-M pc -m 512",
    "-M pc -m 4G -smp 3,maxcpus=6",
    "-M q35 -m 5G -smp 4",
    "-M pc -m 3500M -boot order=nd",
    "-M q35,max-ram-below-4g=1G -m 2G -boot once=d,order=c",
    "-M q35 -m 64 -smp 6,sockets=2,cores=3",
    "-M microvm -m 64",
    "-M pc-q35-7.0 -m 64 -smp 2 -cpu max",
    "-M pc-i440fx-6.0 -m 64 -cpu Skylake-Server -device VGA",
    "-M q35 -m 64 -cpu 486",
    "-M q35 -m 64 -device VGA -device virtio-net-pci -device e1000 -device bochs-display",
    "-M q35 -m 64 -device e1000e,mac=52:54:00:aa:bb:cc -device vmxnet3 -device rtl8139 -device ne2k_pci",
    "-M pc -m 16 -device VGA -device secondary-vga -device virtio-rng-pci",
    "-M q35,memory-backend=ram0 -m 16 -object memory-backend-ram,id=ram0,size=16M -device VGA -device i82550",
    "-M pc -m 64 -device virtio-balloon-pci -device cirrus-vga -device rtl8139,romsize=1048576",
)
#: bytes of a body that are the time of day, or the moment at which the guest's clocks were looked at
TIMES = {"mc146818rtc": (*range(11), 0x0C, 0x32, *range(0xD1, 0xF9)), "timer": tuple(range(24))}
RAM_START = b"\x03ram" + bytes(4) + bytes((0, 0, 0, 4))
SHARED = "x-ignore-shared"


class Saved:
    """A machine's stream; `plugged`: devices that come once it is there."""

    def __init__(
        self, command: list[str], line: str, *capabilities: str, plugged: tuple[dict[str, Any], ...] = ()
    ) -> None:
        near, far = socket.socketpair()
        with near, far, closing(Monitor(command, ["-S", *line.split()], [])) as monitor:
            states = [{"capability": name, "state": True} for name in capabilities]
            monitor.ask("migrate-set-capabilities", capabilities=states)
            for device in plugged:
                assert monitor.ask("device_add", **device) == {}
            monitor.ask("getfd", [near.fileno()], fdname="x")
            near.close()
            assert monitor.ask("migrate", uri="fd:x") == {}
            with far.makefile("rb") as stream:
                self.data = stream.read()
        self.blocks = block_list(self.data, addresses=SHARED in capabilities)
        self.split = Split(self.data)

    @property
    def sections(self) -> list[tuple[str, int, int]]:
        return [(*key, self.split.numbers[key]) for key in self.split.bodies]

    @property
    def bodies(self) -> dict[tuple[str, int], bytes]:
        return {key: timeless(key[0], body) for key, body in self.split.bodies.items()}


def timeless(name: str, body: bytes) -> bytes:
    return bytes(0 if at in TIMES.get(name, ()) else byte for at, byte in enumerate(body))


def block_list(data: bytes, *, addresses: bool) -> list[tuple[Any, ...]]:
    """Names and lengths of all blocks, and where the guest sees them."""
    at = data.find(RAM_START) + len(RAM_START)
    left, at = int.from_bytes(data[at : at + 8], "big") & ~0xFFF, at + 8
    blocks = []
    while left > 0:
        size = data[at]
        name, at = data[at + 1 : at + 1 + size].decode(), at + 1 + size
        assert data[at - size - 1 : at] == block_name(name)
        words = 2 if addresses else 1
        numbers = [int.from_bytes(data[at + 8 * n : at + 8 * n + 8], "big") for n in range(words)]
        at += 8 * words
        left -= numbers[0]
        blocks.append((name, *numbers))
    return blocks


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_saved_machine_is_the_real_one_byte_by_byte(version: str, line: str) -> None:
    real = Saved(need_real_qemu(version), line)
    with fake_qemu(version) as command:
        ours = Saved(command, line)
    assert ours.blocks == real.blocks
    assert ours.sections == real.sections
    for key, body in real.bodies.items():
        assert ours.bodies[key] == body, key
    assert ours.split.description == real.split.description


@pytest.mark.parametrize("version", VERSIONS)
def test_devices_that_come_later_are_numbered_behind_the_machine(version: str) -> None:
    line, plugged = "-M pc -m 64 -device VGA", ({"driver": "rtl8139"}, {"driver": "pcnet"})
    real = Saved(need_real_qemu(version), line, plugged=plugged)
    with fake_qemu(version) as command:
        ours = Saved(command, line, plugged=plugged)
    assert ours.blocks == real.blocks
    assert ours.sections == real.sections


@pytest.mark.parametrize("board", ["q35", "pc"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_cpu_that_comes_later_has_its_sections_behind_the_machine(version: str, board: str) -> None:
    line, cpu = f"-M {board} -m 64 -smp 2,maxcpus=4", {"socket-id": 0, "core-id": 2, "thread-id": 0}
    plugged = ({"driver": "qemu64-x86_64-cpu", **cpu},)
    real = Saved(need_real_qemu(version), line, plugged=plugged)
    with fake_qemu(version) as command:
        ours = Saved(command, line, plugged=plugged)
    assert ours.sections == real.sections
    for key, body in real.bodies.items():
        if key[0] in ("cpu_common", "cpu", "apic", "mc146818rtc"):
            assert ours.bodies[key] == body, key


@pytest.mark.parametrize("version", VERSIONS)
def test_the_largest_block_is_the_first_one_also_where_it_is_not_the_guests_memory(version: str) -> None:
    line = "-M pc -m 32 -device VGA,vgamem_mb=64 -device bochs-display,vgamem=33554432"
    real = Saved(need_real_qemu(version), line)
    with fake_qemu(version) as command:
        ours = Saved(command, line)
    assert ours.blocks == real.blocks
    assert [block[0].rpartition("/")[2] for block in real.blocks[:3]] == ["vga.vram", "pc.ram", "bochs-display-vram"]


@pytest.mark.parametrize("line", ["-M pc-i440fx-4.2 -m 64", "-M pc-q35-2.6 -m 64", "-M pc-q35-5.0 -m 64 -smp 3"])
def test_machine_types_of_long_ago(line: str) -> None:
    real = Saved(need_real_qemu("7.2"), line)
    with fake_qemu("7.2") as command:
        ours = Saved(command, line)
    assert ours.sections == real.sections
    for key, body in real.bodies.items():
        assert ours.bodies[key] == body, key
    assert ours.split.description == real.split.description


@pytest.mark.parametrize("line", ["-M q35 -m 64 -device VGA", "-M microvm -m 64", "-M none -m 16"])
@pytest.mark.parametrize("version", VERSIONS)
def test_addresses_of_blocks_are_the_real_ones(version: str, line: str) -> None:
    real = Saved(need_real_qemu(version), line, SHARED)
    with fake_qemu(version) as command:
        ours = Saved(command, line, SHARED)
    assert ours.blocks == real.blocks


def stream_with_address(address: int) -> bytes:
    """RAM whose pages stay where they are, at that address."""
    be = streams.be
    block = be(8, streams.MIB | 4) + block_name("ram") + be(8, streams.MIB) + be(8, address) + streams.EOS
    return b"".join(
        (
            streams.header(),
            streams.configuration("none", streams.capabilities(SHARED)),
            streams.start(1, 1, "ram", 4) + block + streams.footer(1),
            streams.part(1, streams.EOS, 3),
            streams.END,
        )
    )


@pytest.mark.parametrize("share", ["on", "off"])
@pytest.mark.parametrize("version", VERSIONS)
def test_memory_that_stays_has_to_be_at_the_same_address(version: str, share: str, tmp_path: Path) -> None:
    memory = f"memory-backend-file,id=ram,size=1M,share={share},mem-path={tmp_path / 'ram'}"
    machine = ["-machine", "memory-backend=ram", "-m", "1M", "-object", memory, "-incoming", "defer"]
    path = tmp_path / "stream"
    with fake_qemu(version) as fake:
        for address in (0, 1 << 12, (1 << 64) - 4096):
            path.write_bytes(stream_with_address(address))
            ends = [loaded(command, machine, path) for command in (need_real_qemu(version), fake)]
            assert ends[0] == ends[1], address
            assert ("Mismatched GPAs" in "".join(ends[0][1])) is (share == "on" and address != 0)


def loaded(command: list[str], machine: list[str], path: Path) -> tuple[list[str], list[str]]:
    """Statuses and lines on stderr of a destination to which that stream comes."""
    with tempfile.TemporaryFile() as stderr:
        with closing(Monitor(command, machine, [], stderr)) as monitor:
            monitor.ask("migrate-set-capabilities", capabilities=[{"capability": SHARED, "state": True}])
            monitor.ask("migrate-incoming", uri=f"exec:cat {path}")
            monitor.wait_end()
        stderr.seek(0)
        return monitor.statuses, [line.partition(": ")[2] for line in stderr.read().decode().splitlines()]
