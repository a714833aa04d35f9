# SPDX-License-Identifier: MIT
"""Devices that a board makes by itself, and the record of a board that is without some of them.

The profile has two records of a PC: with all default devices and with none. A machine that lacks only some is the first
record with those left out, and what stands behind them moves up: numbers in /machine/unattached, links of buses, slots of
PCI functions, numbers of migration sections. Serial and parallel ports may be more than one: the recorded one, and others
like it. Registers that tell of ports, drives and floppies are those of the machine that has as many.

    kind        what the user says
    vga         -vga, -device of a display adapter
    net         -net, -nic
    serial ...  -serial, -parallel, -device of the same type
    hpet ...    -machine hpet=off, pit=off, i8042=off, vmport=off, smbus=off, sata=off

QEMU: pc_init1 in hw/i386/pc_piix.c, pc_q35_init in hw/i386/pc_q35.c, pc_basic_device_init in hw/i386/pc.c
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.qom.registry import Record
    from fakeqemu.system.board import Board

VGA, NET, SERIAL, PARALLEL, FLOPPY, CDROM = KINDS = ("vga", "net", "serial", "parallel", "floppy", "cdrom")
#: properties of the machine that switch devices off
SWITCHES = ("hpet", "pit", "i8042", "vmport", "smbus", "sata")
#: kind -> QOM types of the devices, names of their migration sections that have no PCI function's place in front
_PARTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    VGA: (("VGA",), ()),
    NET: (("e1000e", "e1000"), ("slirp",)),
    SERIAL: (("isa-serial",), ("serial",)),
    PARALLEL: (("isa-parallel",), ("parallel_isa",)),
    FLOPPY: (("floppy",), ()),
    CDROM: (("ide-cd",), ()),
    "hpet": (("hpet",), ("hpet",)),
    "pit": (("isa-pit", "isa-pcspk"), ("i8254", "pcspk")),
    "i8042": (("i8042", "vmport", "vmmouse", "port92"), ("ps2kbd", "ps2mouse", "pckbd", "vmmouse", "port92")),
    "vmport": (("vmport", "vmmouse"), ("vmmouse",)),
    "smbus": (("ICH9-SMB", "smbus-eeprom"), ("i2c_bus",)),
    "sata": (("ich9-ahci", "ide-cd"), ()),
}
#: of a q35 alone
_SOUTHBRIDGE = ("smbus", "sata")
#: sections that a drive or floppy is seen in: kind -> names, without place
_SEEN_IN = {CDROM: ("ich9_ahci", "ide"), FLOPPY: ("fdc", "mc146818rtc")}
#: (I/O address, interrupt) of ports by their number
_SERIAL_PLACES = ((0x3F8, 4), (0x2F8, 3), (0x3E8, 4), (0x2E8, 3))
_PARALLEL_PLACES = ((0x378, 7), (0x278, 7), (0x3BC, 7))
#: where a southbridge tells of its ports: section -> (offset in its body, bits of each serial port, of the parallel port)
_PORT_BITS = {
    "ICH9LPC": ((134, (1, 2), 4),),
    "piix4_pm": ((99, (), 0x80), (107, (0x08, 0x90), 0)),
}
#: what there is of the usual display adapter
_VGA_SECTION, _VGA_BLOCKS = "vga", ("vga.vram", "vga.rom")
#: where a device was that was recorded alone
_ALONE = "/machine/peripheral/dev0"
_SMBUS_SECTION = "ich9_smb"
_UNATTACHED = "/machine/unattached"
_DEVICE = _UNATTACHED + "/device["


def layout_of(board: Board) -> Layout | None:
    """How the recorded devices stand on this board; None where they stand as recorded."""
    gone = [*board.omitted, *_switched_off(board)]
    return Layout(board, gone, board.ports) if gone or board.ports or board.adapter else None


def made_adapter(board: Board) -> dict[str, Any]:
    """What is recorded of the display adapter that stands in VGA's place: its tree `qom` and its lines `qtree`."""
    made: dict[str, Any] = board.vm.profile.get("realize-made", f"{board.adapter}/{board.family}/cold", {})
    return made


def _switched_off(board: Board) -> list[str]:
    names = SWITCHES if board.family == "q35" else SWITCHES[: -len(_SOUTHBRIDGE)] if board.family == "pc" else ()
    return [name for name in names if board.object.option(name, None) in (False, "off")]


class Layout:
    """Where each recorded device of /machine/unattached is now, if it is at all."""

    __slots__ = ("_board", "_gone", "_gone_slots", "_numbers", "_ports", "_slots")

    def __init__(self, board: Board, gone: list[str], ports: dict[str, list[tuple[int, str]]]) -> None:
        self._board = board
        self._gone = gone
        self._ports = ports
        devices = board.vm.profile.get("qom-tree", board.tree_variant())["machine"][1]["unattached"][1]
        recorded = sorted(
            (int(name[len("device[") : -1]), entry) for name, entry in devices.items() if name.startswith("device[")
        )
        types = {type_name: kind for kind in _PARTS for type_name in _PARTS[kind][0] if kind in gone or kind in ports}
        #: recorded number -> numbers now
        self._numbers: dict[int, list[int]] = {}
        #: devfn recorded -> now; those that are not there
        self._slots: dict[int, int] = {}
        self._gone_slots: list[int] = []
        free: list[int] = []
        at = 0
        for number, (kind_of_entry, below) in recorded:
            type_name = kind_of_entry[len("child<") : -1]
            kind = types.get(type_name)
            count = 1 if kind is None else len(ports.get(kind, ()))
            self._numbers[number] = list(range(at, at + count))
            at += count
            if "acpi-index" not in below:
                continue
            devfn = below["addr"][1]
            if not count:
                self._gone_slots.append(devfn)
            if type_name in _PARTS[VGA][0] + _PARTS[NET][0]:
                # These take the first slot that is free, one after the other.
                free.append(devfn)
                if count:
                    self._slots[devfn] = free.pop(0)

    # --- the tree -------------------------------------------------------------------------------------

    def tree(self, record: Record) -> Record:
        """The recorded tree with what there is."""
        return self._object("", record)

    def _object(self, path: str, record: Record) -> Record:
        result: Record = {}
        links: list[tuple[int, str]] = []
        for name, entry in record.items():
            if not isinstance(entry, list) or len(entry) < 2:
                result[name] = entry
                continue
            kind, value = entry
            below = f"{path}/{name}"
            if kind.startswith("child<"):
                if path != _UNATTACHED or not name.startswith("device["):
                    if not self._is_gone_console(value):
                        result[name] = [kind, self._object(below, value)]
                    continue
                type_name = kind[len("child<") : -1]
                adapter = self._board.adapter if type_name in _PARTS[VGA][0] else None
                for copy, number in enumerate(self._numbers[_number(below)]):
                    if adapter is not None:
                        made = _rebased(made_adapter(self._board)["qom"], f"{_DEVICE}{number}]")
                        result[f"device[{number}]"] = [f"child<{adapter}>", made]
                        continue
                    made = self._object(below, value)
                    port = self._port(type_name, copy)
                    result[f"device[{number}]"] = [kind, made if port is None else _as_port(made, type_name, port)]
            elif name.startswith("child[") and isinstance(value, str):
                links.append((int(name[len("child[") : -1]), name))
            elif isinstance(value, str) and value.startswith(_DEVICE):
                targets = self._targets(value)
                result[name] = [kind, targets[0] if targets else ""]
            elif name == "addr" and value in self._slots and "acpi-index" in record:
                result[name] = [kind, self._slots[value]]
            else:
                result[name] = entry
        at = 0
        for _, name in sorted(links):
            kind, value = record[name]
            for target in self._targets(value):
                result[f"child[{at}]"] = [kind, target]
                at += 1
        return result

    def _is_gone_console(self, record: Any) -> bool:
        device = record.get("device") if isinstance(record, dict) else None
        path = device[1] if device is not None and len(device) > 1 else None
        return isinstance(path, str) and path.startswith(_DEVICE) and not self._targets(path)

    def _targets(self, path: str) -> list[str]:
        """A recorded path as it is now: none or several of a device that has gone or been copied."""
        if not path.startswith(_DEVICE):
            return [path]
        rest = path.partition("]")[2]
        return [f"{_DEVICE}{number}]{rest}" for number in self._numbers[_number(path)]]

    def _port(self, type_name: str, copy: int) -> tuple[int, str] | None:
        for kind, ports in self._ports.items():
            if type_name in _PARTS[kind][0]:
                return ports[copy]
        return None

    def recorded_devfn(self, devfn: int) -> int:
        """Where a function of the board was recorded."""
        return next((recorded for recorded, now in self._slots.items() if now == devfn), devfn)

    # --- names with places ----------------------------------------------------------------------------

    def moved_name(self, name: str) -> str | None:
        """`0000:00:02.0/e1000e` where it is now, None where it is not there; any other name as it is."""
        place, slash, rest = name.partition("/")
        if not slash or not place.startswith("0000:00:"):
            return name
        devfn = _place_of(place)
        if devfn in self._gone_slots:
            return None
        devfn = self._slots.get(devfn, devfn)
        return f"0000:00:{devfn >> 3:02x}.{devfn & 7}/{rest}"

    # --- migration ------------------------------------------------------------------------------------

    def vmstate(self, record: dict[str, Any], bare: dict[str, Any] | None) -> dict[str, Any]:
        """The recorded sections of those devices that there are; `bare` is the record of the board without any."""
        replaced = self._seen_elsewhere(bare)
        described = {(one["name"], one["instance_id"]): one for one in record["vmdesc"]["devices"]}
        gone = [name for kind in self._gone for name in _PARTS[kind][1] if kind not in self._ports]
        copied = {_PARTS[kind][1][0]: len(ports) for kind, ports in self._ports.items()}
        numbers = sorted(one["section_id"] for one in record["sections"])
        sections: list[dict[str, Any]] = []
        behind: list[int] = []  # how far each stands behind the recorded one that it is made of
        devices: list[dict[str, Any]] = []
        moves: dict[int, int] = {}
        for one in record["sections"]:
            number, instance = one["section_id"], one.get("instance", 0)
            recorded_name = str(one["name"])
            name = None if recorded_name in gone else self.moved_name(recorded_name)
            count = 0 if name is None else copied.get(recorded_name, 1)
            own = recorded_name.rpartition("/")[2]
            if own == _VGA_SECTION and count and self._board.adapter:
                found = self._adapter_sections()
                for at, (section, told) in enumerate(found):
                    sections.append({**section, "section_id": number})
                    behind.append(at)
                    devices.append(told)
                moves[number] = len(found) - 1
                continue
            moves[number] = count - 1
            if own == _SMBUS_SECTION and not count:
                # The memories behind it have numbers, but nothing to send.
                moves[number] -= next((other for other in numbers if other > number), number + 1) - number - 1
            if not count:
                continue
            data = self._with_bits(own, replaced.get(own, one)["data"])
            desc = described.get((recorded_name, instance))
            for copy in range(instance, instance + count):
                sections.append({**one, "name": name, "instance": copy, "data": data})
                behind.append(copy - instance)
                if desc is not None:
                    devices.append({**desc, "name": name, "instance_id": copy})
        for one, copy in zip(sections, behind, strict=True):
            number = one["section_id"]
            one["section_id"] = number + copy + sum(by for before, by in moves.items() if before < number)
        return {**record, "sections": sections, "vmdesc": {**record["vmdesc"], "devices": devices}}

    def _adapter_sections(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Sections, and what describes them, of the adapter that is not the usual one."""
        board = self._board
        record = board.vm.profile.get("device-vmstate", str(board.adapter))[board.family]
        return [
            (
                {key: one[key] for key in ("name", "instance", "version", "data")},
                {**one["vmdesc"], "name": one["name"], "instance_id": one["instance"]},
            )
            for one in record["sections"]
        ]

    def _seen_elsewhere(self, bare: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
        """Sections in which drives and floppies are seen that are not here, from the board that has none."""
        names = [name for kind in self._gone for name in _SEEN_IN.get(kind, ())]
        sections = bare["sections"] if bare is not None and names else ()
        own_names = {str(one["name"]).rpartition("/")[2]: one for one in sections}
        return {name: own_names[name] for name in names if name in own_names}

    def _with_bits(self, name: str, data: str) -> str:
        """A body as it is with what there is: a southbridge's bits of its ports, a CPU's request of a timer."""
        if name == "cpu_common" and ("hpet" in self._gone or "pit" in self._gone):
            return _without_request(data)
        places = _PORT_BITS.get(name)
        if places is None or not (self._ports or SERIAL in self._gone or PARALLEL in self._gone):
            return data
        from binascii import a2b_base64, b2a_base64

        body = bytearray(a2b_base64(data))
        for offset, serial, parallel in places:
            for kind, bits in ((SERIAL, serial), (PARALLEL, (parallel,) * len(_PARALLEL_PLACES))):
                if kind not in self._ports and kind not in self._gone:
                    continue
                present = [number for number, _ in self._ports.get(kind, ())] + self._users_ports(kind)
                for bit in bits:
                    body[offset] &= ~bit
                for number in present:
                    body[offset] |= bits[number] if number < len(bits) else 0
        return b2a_base64(bytes(body), newline=False).decode()

    def _users_ports(self, kind: str) -> list[int]:
        """Numbers of the ports that users have made, by their I/O addresses."""
        addresses = [address for address, _ in (_SERIAL_PLACES if kind == SERIAL else _PARALLEL_PLACES)]
        qom = self._board.vm.qom
        devices = [*qom.peripheral.children.values(), *qom.peripheral_anon.children.values()]
        taken = [device.get("iobase") for device in devices if device.type_name in _PARTS[kind][0]]
        return [addresses.index(address) for address in taken if address in addresses]

    # --- what people and tools read -------------------------------------------------------------------

    def moved_path(self, path: str) -> str:
        """A recorded path where it is now; "" of what is not there."""
        targets = self._targets(path)
        return targets[0] if targets else ""

    def block_list(self, text: str) -> str:
        """The recorded `info ramblock`, with the blocks that there are, where they are."""
        kept = []
        for line in text.splitlines():
            name = line.split()[0] if line.split() else ""
            place, _, own = name.partition("/")
            if self._board.adapter and own in _VGA_BLOCKS:
                if own == _VGA_BLOCKS[0]:
                    kept += self._adapter_blocks(place)
                continue
            moved = self.moved_name(name)
            if moved is not None:
                kept.append(line.replace(name, moved, 1) if name else line)
        return "\n".join(kept)

    def _adapter_blocks(self, place: str) -> list[str]:
        if _place_of(place) in self._gone_slots:
            return []
        blocks = self._board.vm.profile.get("device-blocks", str(self._board.adapter), ())
        lines = []
        for recorded, size in blocks:
            _, slash, own = recorded.rpartition("/")
            lines.append(f"{place}/{own}" if slash else own)
            lines[-1] += f" 4 KiB {0:#018x} {size:#018x} {size:#018x} {0:#018x} rw"
        return lines


def _without_request(data: str) -> str:
    """The state of a CPU that no timer's line has troubled: where the two timers meet, the line falls once."""
    from binascii import a2b_base64, b2a_base64

    return b2a_base64(a2b_base64(data)[:-4] + bytes(4), newline=False).decode()


def _place_of(place: str) -> int:
    """`0000:00:02.0` as a function's number."""
    slot, _, function = place[len("0000:00:") :].partition(".")
    return int(slot, 16) << 3 | int(function)


def _rebased(record: Record, path: str) -> Record:
    """The record of a device that was made alone, as one of the board."""
    result: Record = {}
    for name, entry in record.items():
        value = entry[1] if len(entry) > 1 else None
        if entry[0].startswith("child<") and isinstance(value, dict):
            result[name] = [entry[0], _rebased(value, path)]
        elif isinstance(value, str) and value.startswith(_ALONE):
            result[name] = [entry[0], path + value[len(_ALONE) :]]
        else:
            result[name] = entry
    return result


def _number(path: str) -> int:
    return int(path[len(_DEVICE) :].partition("]")[0])


def _as_port(record: Record, type_name: str, port: tuple[int, str]) -> Record:
    """The record of a port as that of another number and character device."""
    number, label = port
    address, irq = (_SERIAL_PLACES if type_name == "isa-serial" else _PARALLEL_PLACES)[number]
    result = _with_values(record, {"index": number, "iobase": address, "irq": irq, "chardev": label})
    for name, entry in record.items():
        if entry[0] == "child<memory-region>":
            result[name] = [entry[0], _with_values(entry[1], {"addr": address})]
        elif entry[0].startswith("child<"):
            result[name] = [entry[0], _with_values(entry[1], {"chardev": label})]
    return result


def _with_values(record: Record, values: dict[str, Any]) -> Record:
    return {name: [entry[0], values[name]] if name in values else entry for name, entry in record.items()}
