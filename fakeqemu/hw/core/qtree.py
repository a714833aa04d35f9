# SPDX-License-Identifier: MIT
"""`info qtree`: the tree of buses and devices, with the values of their properties.

Which lines a device has and in which order, the profile recorded (of the board, or of the device realized alone); what
has changed since is put in: values that were set, places, regions, names.

    bus: main-system-bus
      type System
      dev: q35-pcihost, id ""
        MCFG = -1 (0xffffffffffffffff)
        bus: pcie.0
          ...

QEMU: qbus_print and qdev_print in system/qdev-monitor.c
"""

from __future__ import annotations

from fakeqemu.hw.core import properties
from fakeqemu.hw.core.outcome import RECORDED_ID
from fakeqemu.hw.core.qdev import BusState, DeviceState
from fakeqemu.hw.core.tree import bus_name, main_system_bus
from fakeqemu.hw.pci import config_space as cs
from fakeqemu.hw.pci.device import PCIDevice
from fakeqemu.hw.pci.ids import class_name
from fakeqemu.system.board_tree import UNATTACHED_DEVICE, moved_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.system.machine import Machine


_PORTS = ("isa-serial", "isa-parallel")


class Stanza:
    """What is recorded of one device: its own lines, and the stanzas of the devices on its buses, in order."""

    __slots__ = ("below", "lines", "type_name")

    def __init__(self, type_name: str) -> None:
        self.type_name = type_name
        self.lines: list[str] = []
        self.below: list[Stanza] = []


def parse(text: str) -> list[Stanza]:
    """The stanzas of a recorded text, those that stand on no other device's bus; lines without their indent."""
    top: list[Stanza] = []
    path: list[tuple[int, Stanza]] = []
    for line in text.replace("\r", "").splitlines():
        body = line.lstrip(" ")
        depth = len(line) - len(body)
        if body.startswith("dev: "):
            while path and path[-1][0] >= depth:
                path.pop()
            stanza = Stanza(body[len("dev: ") : body.index(", id ")])
            (path[-1][1].below if path else top).append(stanza)
            path.append((depth, stanza))
        elif body.startswith("bus: ") or not body:
            continue
        elif path and depth == path[-1][0] + 2:
            path[-1][1].lines.append(body)
    return top


def info_qtree(vm: Machine, flags: list[str]) -> str:
    """The text of `info qtree`, without properties if `-b` is among the flags; empty before there is a board."""
    top = main_system_bus(vm)
    if top is None:
        return ""
    printer = _Printer(vm, brief="-b" in flags)
    printer.bus(top, 0)
    return "".join(printer.out)


class _Printer:
    """One printing: finds the recorded lines of every device, and writes them as they are now."""

    __slots__ = ("_board", "_brief", "out")

    def __init__(self, vm: Machine, *, brief: bool) -> None:
        self._brief = brief
        self.out: list[str] = []
        self._board: list[Stanza] = []
        if vm.board is not None:
            self._board = parse(vm.profile.get("hmp", f"{vm.board.tree_variant()}/info qtree", ""))

    def _line(self, depth: int, text: str) -> None:
        self.out.append(f"{'  ' * depth}{text}\n")

    def bus(self, bus: BusState, depth: int, recorded: list[Stanza] | None = None) -> None:
        """A bus and all below; `recorded` are the stanzas that a record has of it."""
        self._line(depth, f"bus: {bus_name(bus)}")
        self._line(depth + 1, f"type {bus.type_name}")
        left = list(self._board if recorded is None else recorded)
        for device in bus.kids:
            self.device(device, depth + 1, _take_stanza(device, left))

    def device(self, device: DeviceState, depth: int, stanza: Stanza | None) -> None:
        self._line(depth, f'dev: {device.type_name}, id "{device.id or ""}"')
        if not self._brief:
            for line in stanza.lines if stanza is not None else _bare_lines(device):
                for text in _current(device, line):
                    self._line(depth + 1, text)
            if isinstance(device, PCIDevice):
                for text in _pci_lines(device):
                    self._line(depth + 1, text)
        for bus in device.child_buses:
            self.bus(bus, depth + 1, stanza.below if stanza is not None else [])


def _take_stanza(device: DeviceState, left: list[Stanza]) -> Stanza | None:
    """The device's recorded stanza: its own if a user made it, else the next of its type on the recorded bus."""
    own: str = getattr(device, "stanza", "")
    if own:
        return parse(own)[0]
    if device.options or device.id is not None:
        return None
    for at, stanza in enumerate(left):
        if stanza.type_name == device.type_name:
            # All ports of a kind look like the one that was recorded.
            return stanza if device.type_name in _PORTS else left.pop(at)
    board = device.vm.board
    if board is not None and device.type_name == board.adapter:
        from fakeqemu.system.default_devices import made_adapter

        return parse(made_adapter(board)["qtree"])[0]
    return None


def _current(device: DeviceState, line: str) -> list[str]:
    """A recorded line as it is now; none for those that are made anew."""
    name, equals, value = line.partition(" = ")
    if equals:
        return [f"{name} = {_value(device, name, value)}"]
    if isinstance(device, PCIDevice) and line.startswith(("class ", "bar ")):
        return []
    if line.startswith("addr ") and device.port:
        return [_usb_line(line, device.port)]
    if line.startswith("port ") and device.is_a("virtio-serial-port"):
        return [f"port {device.get('nr')}," + line.partition(",")[2]]
    return [line]


def _usb_line(line: str, port: str) -> str:
    """The line about a USB device, on its port: behind a hub nothing is faster than that."""
    parts = line.split(", ")
    for at, part in enumerate(parts):
        if part.startswith("port "):
            parts[at] = f"port {port}"
        elif part == "speed 480" and "." in port:
            parts[at] = "speed 12"
    return ", ".join(parts)


def _value(device: DeviceState, name: str, recorded: str) -> str:
    """The value of a property as it is printed: the recorded one unless somebody set another."""
    moved = isinstance(device, PCIDevice) if name == "addr" else _is_port(device)
    # Sizes of the board follow the memory that it has here.
    if name in device._values or moved or recorded.endswith("B)"):
        prop = device.find_property(name)
        if prop is not None:
            entry = properties.described(device.vm.profile, device.type_name).get(name)
            return properties.to_qtree(properties.kind_of(entry, prop.type), device.read(prop))
    if recorded[1:].startswith(UNATTACHED_DEVICE):
        return f'"{_here(device, recorded[1:-1])}"'
    recorded_path = f"/machine/peripheral/{RECORDED_ID}"
    if recorded_path in recorded:
        top: DeviceState = device
        while isinstance(top.parent, DeviceState):
            top = top.parent
        return recorded.replace(recorded_path, top.path)
    return recorded


def _is_port(device: DeviceState) -> bool:
    """Whether this is a serial or parallel port of the board, of which there may be several."""
    return device.type_name in _PORTS and not getattr(device, "stanza", "")


def _here(device: DeviceState, path: str) -> str:
    """A recorded path of a device of the board, which may have another number here."""
    board = device.vm.board
    if board is None:
        return path
    layout = board.layout()
    return moved_path(path if layout is None else layout.moved_path(path), board.smp.cpus - 1)


def _bare_lines(device: DeviceState) -> list[str]:
    """Lines for a device that no record has: the properties that its type lists, with their values."""
    known = properties.described(device.vm.profile, device.type_name)
    lines = []
    for name, entry in known.items():
        value = device._values.get(name, entry.get("default-value"))
        if value is None and entry["type"] != "str":
            continue
        lines.append(
            f"{name} = {properties.to_qtree(properties.kind_of(entry, entry['type']), '' if value is None else value)}"
        )
    return lines


def _pci_lines(device: PCIDevice) -> list[str]:
    """Class, place, ids and regions of a PCI function, from its configuration space."""
    config = device.config
    name = class_name(config.class_code)
    described = name if name is not None else f"Class {config.class_code:04x}"
    lines = [
        f"class {described}, addr {device.describe_place()}, "
        f"pci id {config.word(cs.PCI_VENDOR_ID):04x}:{config.word(cs.PCI_DEVICE_ID):04x} "
        f"(sub {config.word(cs.PCI_SUBSYSTEM_VENDOR_ID):04x}:{config.word(cs.PCI_SUBSYSTEM_ID):04x})"
    ]
    for bar in sorted(config.bars.values(), key=lambda bar: bar.number):
        first = config.bar_address(bar) & 0xFFFFFFFFFFFFFFFF
        last = first + bar.size - 1 & 0xFFFFFFFFFFFFFFFF
        lines.append(f"bar {bar.number}: {'i/o' if bar.is_io else 'mem'} at 0x{first:x} [0x{last:x}]")
    return lines
