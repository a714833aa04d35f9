# SPDX-License-Identifier: MIT
"""Machines with some of their default devices: trees, PCI functions and saved state, here and in a real QEMU.

The monitor of these tests starts machines without default devices; `ALL` takes that back.
"""

from __future__ import annotations

import subprocess
from contextlib import closing
from typing import Any

import pytest

from tests.bench._real import fake_qemu
from tests.conformance._real import need_real_qemu
from tests.conformance.test_migration_fds import Monitor
from tests.conformance.test_saved_machines import VERSIONS, Saved

pytestmark = pytest.mark.real_qemu

ALL = "-with-defaults"
MATRIX = (
    ALL,
    f"{ALL} -vga none",
    f"{ALL} -vga none -net none",
    f"{ALL} -nic none -serial none -parallel none",
    f"{ALL} -serial null -serial null",
    f"{ALL} -parallel none -device VGA",
    f"{ALL} -chardev null,id=a -device isa-serial,chardev=a",
    f"{ALL} -vga none -nic none -serial none -parallel none",
    f"{ALL} -global VGA.vgamem_mb=32",
    f"{ALL} -vga virtio -net none",
    f"{ALL} -vga cirrus -serial null -device VGA",
    "-vga std",
    "-vga cirrus",
    "-vga virtio -serial null",
    "-vga none -net none",
    "-serial null",
    "-serial none -serial null -serial none -serial null -parallel none -parallel null",
    "-serial null -serial null -serial null -serial null -serial null -parallel null -parallel null -parallel null",
)
SWITCHED = ("hpet=off", "pit=off", "i8042=off", "vmport=off", "smbus=off", "sata=off,hpet=off")
LINES = (
    *(f"-M {board} -m 64 {rest}" for board in ("q35", "pc") for rest in MATRIX),
    *(f"-M {board},{switch} -m 64 {ALL}" for board in ("q35", "pc") for switch in SWITCHED),
    f"-M q35,i8042=off -m 5G -smp 3 {ALL} -vga none -serial null -serial null",
    f"-M pc -m 512 -smp 2,maxcpus=4 {ALL} -net none -device e1000",
    f"-M none {ALL} -vga none -serial none",
    "-M microvm -m 64 -vga none -net none",
)


@pytest.fixture(autouse=True)
def defaults_if_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a line take -nodefaults back."""
    start = subprocess.Popen

    def popen(command: list[str], **options: Any) -> Any:
        if ALL in command:
            command = [word for word in command if word not in (ALL, "-nodefaults")]
        return start(command, **options)

    monkeypatch.setattr(subprocess, "Popen", popen)


def looked_at(command: list[str], line: str) -> dict[str, Any]:
    with closing(Monitor(command, ["-S", *line.split()], [])) as monitor:
        unattached = monitor.ask("qom-list", path="/machine/unattached")
        return {
            "pci": monitor.ask("query-pci"),
            "qtree": monitor.ask("human-monitor-command", command_line="info qtree"),
            "unattached": sorted(
                (entry["name"], entry["type"]) for entry in unattached if not entry["name"].startswith("non-qdev-gpio")
            )
            if isinstance(unattached, list)
            else unattached,
        }


@pytest.mark.in_turn("version")
@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_machine_has_the_default_devices_that_were_left(version: str, line: str) -> None:
    real = need_real_qemu(version)
    with fake_qemu(version) as command:
        ours, theirs = looked_at(command, line), looked_at(real, line)
        for what, answer in theirs.items():
            assert ours[what] == answer
        saved, expected = Saved(command, line), Saved(real, line)
    assert saved.blocks == expected.blocks
    assert saved.sections == expected.sections
    for key, body in expected.bodies.items():
        assert saved.bodies[key] == body, key
    assert saved.split.description == expected.split.description


@pytest.mark.parametrize("option", ["-vga bogus", "-vga std,retrace=never"])
@pytest.mark.parametrize("version", VERSIONS)
def test_adapters_that_there_are_not_are_refused_in_the_real_words(version: str, option: str) -> None:
    ends = []
    with fake_qemu(version) as fake:
        for command in (need_real_qemu(version), fake):
            line = [*command, "-accel", "tcg", "-display", "none", "-M", "q35", "-S", *option.split()]
            result = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
            ends.append((result.returncode, result.stderr.partition(": ")[2]))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("version", ["10.0", "11.1"])
def test_an_adapter_whose_module_is_not_installed(version: str) -> None:
    test_adapters_that_there_are_not_are_refused_in_the_real_words(version, "-vga qxl")
