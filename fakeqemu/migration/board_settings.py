# SPDX-License-Identifier: MIT
"""What memory, CPUs and boot order change in the state of a board's devices, which was recorded with one CPU and 128 MiB.

    mc146818rtc   bytes by which firmware learns them, in the battery's memory:

                  15, 16          KiB of base memory              34, 35       64 KiB above 16 MiB, below 4 GiB
                  17, 18, 30, 31  KiB above 1 MiB                 5b, 5c, 5d   64 KiB above 4 GiB
                  38, 3d          boot devices, a digit each      5f           CPUs but the first
    I440FX        the end of the last row of memory, in 8 MiB
    apic          a further CPU has its own number and is not the one that boots; it waits to be started, which a subsection says
    cpu_common    a further CPU is halted

QEMU: hw/i386/pc.c (pc_cmos_init), pc_piix.c, pc_q35.c, microvm.c; hw/pci-host/i440fx.c, hw/intc/apic_common.c
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.system.machine import Machine

    Section = dict[str, Any]
    #: bytes of memory below and above 4 GiB, number of CPUs, order of boot, whether a floppy's signature is looked for
    Settings = tuple[int, int, int, str, bool]

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
_UNIT = 64 * KIB
_MOST = 0xFFFF
#: numbers that devices to boot from have there
_BOOT_DEVICES = {"a": 1, "b": 1, "c": 2, "d": 3, "n": 4}
_I440FX, _ROW_END = "0000:00:00.0/I440FX", 4 + 0x57
_ROW_UNIT = 8 * MIB
_BOOTSTRAP = 0x100
_WAITING = b"\x05\x09apic_sipi" + bytes((0, 0, 0, 1)) + bytes((0, 0, 0, 0)) + bytes((0, 0, 0, 1))
_WAITING_DESC = {
    "vmsd_name": "apic_sipi",
    "version": 1,
    "fields": [
        {"name": "sipi_vector", "type": "int32", "size": 4},
        {"name": "wait_for_sipi", "type": "int32", "size": 4},
    ],
}


def settings_of(vm: Machine) -> Settings | None:
    """What the state of this machine's devices depends on; None without a board that has any."""
    board = vm.board
    if board is None or board.family == "none":
        return None
    option = board.object.option
    boot = board.object.read_boot()
    below = min(board.ram_size, _below_4g(board.family, board.ram_size, int(option("max-ram-below-4g", 0))))
    cpus = len(board.cpus) if board.family != "microvm" else 1  # there the battery does not know
    return (
        below,
        board.ram_size - below,
        cpus,
        boot.get("once") or boot.get("order", ""),
        bool(option("fd-bootchk", True)),
    )


def _below_4g(family: str, size: int, limit: int) -> int:
    """How much memory of a machine of that size stands below 4 GiB at most; `limit` 0: nobody said."""
    if family == "q35":
        return min(limit or 4 * GIB, 2 * GIB if size >= 0xB000_0000 else 0xB000_0000)
    if family == "microvm":
        return min(limit or 4 * GIB, 3 * GIB)
    most = limit or 0xE000_0000
    return min(most, 3 * GIB) if size >= most else most


def adapted(settings: Settings | None, body: bytes, desc: Section) -> tuple[bytes, Section]:
    """A device's body and description, as recorded, for a machine with these settings."""
    name, further = desc["name"], desc["instance_id"] != 0
    if settings is None:
        return body, desc
    if name == "mc146818rtc":
        return _cmos(settings, body), desc
    if name == _I440FX:
        end = min((settings[0] + settings[1]) // _ROW_UNIT, 0xFF)
        return body[:_ROW_END] + bytes((end,)) + body[_ROW_END + 1 :], desc
    if name == "cpu_common" and further:
        return (1).to_bytes(4, "big") + body[4:], desc
    if name == "apic" and further:
        base = int.from_bytes(body[:4], "big") & ~_BOOTSTRAP
        head = base.to_bytes(4, "big") + bytes((desc["instance_id"] & 0xFF,))
        return head + body[len(head) :] + _WAITING, {**desc, "subsections": [_WAITING_DESC]}
    return body, desc


def _cmos(settings: Settings, body: bytes) -> bytes:
    below, above, cpus, order, checked = settings
    cmos = bytearray(body)
    extended = min(max(below - MIB, 0) // KIB, _MOST)
    middle = min(max(below - 16 * MIB, 0) // _UNIT, _MOST)
    base = min(below // KIB, 640)
    cmos[0x15:0x17] = base.to_bytes(2, "little")
    cmos[0x17:0x19] = cmos[0x30:0x32] = extended.to_bytes(2, "little")
    cmos[0x34:0x36] = middle.to_bytes(2, "little")
    cmos[0x5B:0x5E] = (above // _UNIT & 0xFFFFFF).to_bytes(3, "little")
    cmos[0x5F] = cpus - 1 if 0 < cpus <= 0xFF else 0
    first, second, third = [_BOOT_DEVICES.get(letter, 0) for letter in order.ljust(3)[:3]]
    if cmos[0x3D]:  # a machine whose firmware looks there
        cmos[0x3D] = second << 4 | first
        cmos[0x38] = third << 4 | (not checked)
    return bytes(cmos)
