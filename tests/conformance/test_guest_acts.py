# SPDX-License-Identifier: MIT
"""What a guest does of its own accord is told as by a real QEMU, whose guest is a ROM of a few instructions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fakeqemu.testing.emulator import Emulator, short_directory, start_process
from tests.interop._machines import OURS, REAL, RealQemu

pytestmark = pytest.mark.real_qemu

MACHINE = ("-machine", "q35", "-nodefaults", "-m", "64", "-S")

ROM_BYTES = 65536
RESET_VECTOR = 0xFFF0
JUMP_TO_BEGIN = b"\xea\x00\x00\x00\xf0"
HALT = b"\xfa\xf4\xeb\xfd"
PVPANIC, ACPI_CONTROL, RESET_CONTROL = 0x505, 0x604, 0xCF9


def _port(number: int) -> bytes:
    return b"\xba" + number.to_bytes(2, "little")  # mov dx, number


def _outb(number: int, value: int) -> bytes:
    return _port(number) + bytes((0xB0, value, 0xEE))


def _outw(number: int, value: int) -> bytes:
    return _port(number) + b"\xb8" + value.to_bytes(2, "little") + b"\xef"


def _outl(number: int, value: int) -> bytes:
    return _port(number) + b"\x66\xb8" + value.to_bytes(4, "little") + b"\x66\xef"


#: gives the south bridge's power management its ports: register 0x40 says where, 0x44 switches it on
POWER = _outl(0xCF8, 0x8000F840) + _outl(0xCFC, 0x601) + _outl(0xCF8, 0x8000F844) + _outb(0xCFC, 0x80)

INSTRUCTIONS = {
    "panic": _outb(PVPANIC, 1),
    "crash-dump": _outb(PVPANIC, 2),
    "shutdown": POWER + _outw(ACPI_CONTROL, 0x2000),
    "suspend": POWER + _outw(ACPI_CONTROL, 0x2400),
    "hibernate": POWER + _outw(ACPI_CONTROL, 0x2800),
    "reboot": _outb(RESET_CONTROL, 6),
}


def rom(act: str) -> bytes:
    """Does it once: a byte of the CMOS, which a reset leaves alone, keeps that it was done."""
    mark = _outb(0x70, 0x50) + _outb(0x71, 0x55)
    body = mark + INSTRUCTIONS[act]
    # out 0x70, 0x50; in al, 0x71; cmp al, 0x55; jne over the jump behind the body
    code = b"\xb0\x50\xe6\x70\xe4\x71\x3c\x55\x75\x03\xe9" + len(body).to_bytes(2, "little") + body + HALT
    image = bytearray(code.ljust(ROM_BYTES, b"\xff"))
    image[RESET_VECTOR : RESET_VECTOR + len(JUMP_TO_BEGIN)] = JUMP_TO_BEGIN
    return bytes(image)


async def start(kind: str, directory: Path, version: str, act: str, options: tuple[str, ...]) -> Emulator:
    if kind == REAL:
        image = directory / "guest.rom"
        image.write_bytes(rom(act))
        return await RealQemu.start(
            directory, kind, *MACHINE, *options, "-device", "pvpanic", "-bios", str(image), version=version
        )
    scenario = directory / "guest.toml"
    scenario.write_text(f'[[steps]]\ncommand = "cont"\ndelay-ms = 100\nguest = "{act}"\n')
    return await start_process(directory, kind, *MACHINE, *options, profile=version, fake={"scenario": str(scenario)})


async def told(
    kind: str, directory: Path, version: str, act: str, options: tuple[str, ...], last: str
) -> tuple[list[Any], dict[str, Any] | None]:
    """Events from `cont` to the last one, and the state after it where there is one."""
    vm = await start(kind, directory, version, act, options)
    try:
        await vm.execute("cont")
        await vm.wait_event(last)
        events = [(event["event"], event.get("data")) for event in vm.events]
        return events, None if last == "SHUTDOWN" else await vm.execute("query-status")
    finally:
        await vm.stop()


@pytest.mark.parametrize("version", ["11.1", "7.2"])
@pytest.mark.parametrize(
    ("act", "options", "last"),
    [
        ("panic", (), "SHUTDOWN"),
        ("panic", ("-no-shutdown",), "STOP"),
        ("panic", ("-action", "panic=pause"), "STOP"),
        ("panic", ("-action", "panic=none"), "GUEST_PANICKED"),
        ("crash-dump", (), "GUEST_CRASHLOADED"),
        ("shutdown", (), "SHUTDOWN"),
        ("shutdown", ("-no-shutdown",), "STOP"),
        ("suspend", (), "SUSPEND"),
        ("hibernate", (), "SHUTDOWN"),
        ("reboot", (), "RESET"),
        ("reboot", ("-no-reboot",), "SHUTDOWN"),
    ],
)
async def test_both_tell_the_same(tmp_path: Path, version: str, act: str, options: tuple[str, ...], last: str) -> None:
    directory = short_directory(tmp_path)
    assert await told(OURS, directory, version, act, options, last) == await told(
        REAL, directory, version, act, options, last
    )
