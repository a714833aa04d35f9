# SPDX-License-Identifier: MIT
"""What the main channel is made of: header, configuration, sections with footers, commands.

    be32 magic "QEVM"   be32 version 3
    07 configuration
    { 01 START | 02 PART | 03 END | 04 FULL   id, [name, instance, version], body, 7e id
    | 08 command, length, payload }
    00 EOF
    06 be32 length, JSON                       what the FULL sections were made of

Bodies have no length: the one who owns a section knows where it ends, and the footer says whether that was right.

QEMU: migration/savevm.c
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.migration.stream.qemu_file import QEMUFile

QEMU_VM_FILE_MAGIC = 0x5145564D
QEMU_VM_FILE_VERSION_COMPAT = 2
QEMU_VM_FILE_VERSION = 3

QEMU_VM_EOF = 0x00
QEMU_VM_SECTION_START = 0x01
QEMU_VM_SECTION_PART = 0x02
QEMU_VM_SECTION_END = 0x03
QEMU_VM_SECTION_FULL = 0x04
QEMU_VM_SUBSECTION = 0x05
QEMU_VM_VMDESCRIPTION = 0x06
QEMU_VM_CONFIGURATION = 0x07
QEMU_VM_COMMAND = 0x08
QEMU_VM_SECTION_FOOTER = 0x7E

MIG_CMD_OPEN_RETURN_PATH = 1
MIG_CMD_PING = 2
MIG_CMD_POSTCOPY_ADVISE = 3
MIG_CMD_POSTCOPY_LISTEN = 4
MIG_CMD_POSTCOPY_RUN = 5
MIG_CMD_POSTCOPY_RAM_DISCARD = 6
MIG_CMD_PACKAGED = 7
MIG_CMD_ENABLE_COLO = 8
MIG_CMD_POSTCOPY_RESUME = 9
MIG_CMD_RECV_BITMAP = 10
MIG_CMD_SWITCHOVER_START = 11

#: name and payload length of each command; -1 for any length
COMMANDS: dict[int, tuple[str, int]] = {
    MIG_CMD_OPEN_RETURN_PATH: ("OPEN_RETURN_PATH", 0),
    MIG_CMD_PING: ("PING", 4),
    MIG_CMD_POSTCOPY_ADVISE: ("POSTCOPY_ADVISE", -1),
    MIG_CMD_POSTCOPY_LISTEN: ("POSTCOPY_LISTEN", 0),
    MIG_CMD_POSTCOPY_RUN: ("POSTCOPY_RUN", 0),
    MIG_CMD_POSTCOPY_RAM_DISCARD: ("POSTCOPY_RAM_DISCARD", -1),
    MIG_CMD_PACKAGED: ("PACKAGED", 4),
    MIG_CMD_ENABLE_COLO: ("ENABLE_COLO", 0),
    MIG_CMD_POSTCOPY_RESUME: ("POSTCOPY_RESUME", 0),
    MIG_CMD_RECV_BITMAP: ("RECV_BITMAP", -1),
    MIG_CMD_SWITCHOVER_START: ("SWITCHOVER_START", 0),
}

#: capabilities that the configuration section lists, in its order
CONFIGURATION_CAPABILITIES = ("x-ignore-shared", "mapped-ram")


def put_header(f: QEMUFile) -> None:
    f.put_be32(QEMU_VM_FILE_MAGIC)
    f.put_be32(QEMU_VM_FILE_VERSION)


def put_configuration(f: QEMUFile, machine_type: str, capabilities: list[str], uuid: bytes | None) -> None:
    """The configuration section; `capabilities` are those of CONFIGURATION_CAPABILITIES that are on."""
    name = machine_type.encode()
    f.put_byte(QEMU_VM_CONFIGURATION)
    f.put_be32(len(name))
    f.put_buffer(name)
    if capabilities:
        put_subsection_header(f, "configuration/capabilities", 1)
        f.put_be32(len(capabilities))
        for capability in capabilities:
            f.put_counted_string(capability)
    if uuid is not None:
        put_subsection_header(f, "configuration/uuid", 1)
        f.put_buffer(uuid)


def put_subsection_header(f: QEMUFile, name: str, version_id: int) -> None:
    f.put_byte(QEMU_VM_SUBSECTION)
    f.put_counted_string(name)
    f.put_be32(version_id)


def put_section_header(
    f: QEMUFile, kind: int, section_id: int, idstr: str, instance_id: int, version_id: int
) -> None:  # fmt: skip
    """Type byte and id; START and FULL also say whose section it is."""
    f.put_byte(kind)
    f.put_be32(section_id)
    if kind in (QEMU_VM_SECTION_START, QEMU_VM_SECTION_FULL):
        f.put_counted_string(idstr)
        f.put_be32(instance_id)
        f.put_be32(version_id)


def put_section_footer(f: QEMUFile, section_id: int) -> None:
    f.put_byte(QEMU_VM_SECTION_FOOTER)
    f.put_be32(section_id)


def has_footers(settings: dict[str, Any]) -> bool:
    """Whether sections end with a footer: what a side sends, and what it waits for."""
    return settings.get("send-section-footer") is not False


def put_command(f: QEMUFile, command: int, payload: bytes = b"") -> None:
    f.put_byte(QEMU_VM_COMMAND)
    f.put_be16(command)
    f.put_be16(len(payload))
    f.put_buffer(payload)


def put_vmdescription(f: QEMUFile, text: bytes) -> None:
    f.put_byte(QEMU_VM_VMDESCRIPTION)
    f.put_be32(len(text))
    f.put_buffer(text)


def signed32(number: int) -> int:
    """A number of 32 bits as QEMU prints many of them, whatever they are."""
    return number - (1 << 32) if number >> 31 else number


def signed64(number: int) -> int:
    """The same of one of 64 bits."""
    return number - (1 << 64) if number >> 63 else number
