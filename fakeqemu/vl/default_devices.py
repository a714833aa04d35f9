# SPDX-License-Identifier: MIT
"""Default devices: what a machine gets that nobody has asked for, and what takes the place of it.

A default device is not made where the user has taken its matter in hand: by an option (-vga, -net, -nic, -serial, -parallel),
by -nodefaults, or by -device or -global of a type that does the same. Serial and parallel ports are made for each option.

QEMU: default_list and qemu_disable_default_devices in system/vl.c
"""

from __future__ import annotations

from fakeqemu.error import NotEmulated
from fakeqemu.vl.machine_opts import adapter_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.system.board import Board
    from fakeqemu.vl.cmdline import CommandLine

#: kind -> types of which one displaces it
_DISPLACED_BY: dict[str, tuple[str, ...]] = {
    "serial": ("isa-serial",),
    "parallel": ("isa-parallel",),
    "floppy": ("isa-fdc", "floppy"),
    "cdrom": ("ide-cd", "ide-hd", "scsi-cd", "scsi-hd"),
    "vga": (
        "VGA", "isa-vga", "cirrus-vga", "isa-cirrus-vga", "vmware-svga", "qxl-vga", "virtio-vga", "virtio-vga-gl",
        "virtio-vga-rutabaga", "ati-vga", "vhost-user-vga",
    ),
}  # fmt: skip
#: boards that have default devices in their records
_FAMILIES = ("pc", "q35")
#: how many ports a board has at most
_MOST_PORTS = {"serial": 4, "parallel": 3}
_USUAL_PORTS = {"serial": [(0, "serial0")], "parallel": [(0, "parallel0")]}


def displaced(line: CommandLine, kind: str) -> bool:
    """Whether a device of the user takes the place of this default one."""
    drivers = _DISPLACED_BY.get(kind, ())
    for group in ("device", "global"):
        given = line.groups.given(group)
        if given is not None and any(opts.get("driver") in drivers for opts in given.items):
            return True
    return any(options.get("driver") in drivers for options, _ in line.devices)


def omit(line: CommandLine, board: Board) -> None:
    """Tell the board which default devices it is without; raises NotEmulated. Ports are told of by `take_ports`."""
    if board.family not in _FAMILIES:
        return
    omitted = []
    if line.vga is not None:
        type_name = adapter_type(line.vga)
        if not type_name:
            omitted.append("vga")
        elif type_name != "VGA":
            if not line.profile.has("realize-made", f"{type_name}/{board.family}/cold"):
                raise NotEmulated(f"-vga {line.vga}: not emulated")
            board.adapter = type_name
    elif line.nodefaults or displaced(line, "vga"):
        omitted.append("vga")
    if line.nodefaults or not line.default_net:
        omitted.append("net")
    omitted += [kind for kind in ("floppy", "cdrom") if line.nodefaults or displaced(line, kind)]
    board.omitted = omitted


def take_ports(board: Board, ports: dict[str, list[tuple[int, str]]]) -> None:
    """Tell the board its serial and parallel ports: number and label of the character device of each."""
    if board.family not in _FAMILIES:
        return
    for kind, most in _MOST_PORTS.items():
        there = [port for port in ports[kind] if port[0] < most]
        if not there:
            board.omitted.append(kind)
        elif there != _USUAL_PORTS[kind]:
            board.ports[kind] = there
    # A board without any of them has a record of its own.
    board.nodefaults = len(board.omitted) == 6
    if board.nodefaults:
        board.omitted = []
