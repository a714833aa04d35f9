# SPDX-License-Identifier: MIT
"""Messages from the destination back to the source: be16 type, be16 length, data.

QEMU: migration/migration.c (rp_cmd_args, migrate_send_rp_*)
"""

from __future__ import annotations

from struct import Struct

MIG_RP_MSG_SHUT = 1
MIG_RP_MSG_PONG = 2
MIG_RP_MSG_REQ_PAGES_ID = 3
MIG_RP_MSG_REQ_PAGES = 4
MIG_RP_MSG_RECV_BITMAP = 5
MIG_RP_MSG_RESUME_ACK = 6
MIG_RP_MSG_SWITCHOVER_ACK = 7

#: name and length of each message; -1 for any length
MESSAGES: dict[int, tuple[str, int]] = {
    MIG_RP_MSG_SHUT: ("SHUT", 4),
    MIG_RP_MSG_PONG: ("PONG", 4),
    MIG_RP_MSG_REQ_PAGES_ID: ("REQ_PAGES_ID", -1),
    MIG_RP_MSG_REQ_PAGES: ("REQ_PAGES", 12),
    MIG_RP_MSG_RECV_BITMAP: ("RECV_BITMAP", -1),
    MIG_RP_MSG_RESUME_ACK: ("RESUME_ACK", 4),
    MIG_RP_MSG_SWITCHOVER_ACK: ("SWITCHOVER_ACK", 0),
}

#: what RESUME_ACK says
RESUME_ACK_VALUE = 1

#: the longest message that the source takes
MAX_LENGTH = 512

HEADER = Struct(">HH")
_BE32 = Struct(">I")


def message(kind: int, data: bytes = b"") -> bytes:
    """One message as it travels."""
    return HEADER.pack(kind, len(data)) + data


def shut(value: int) -> bytes:
    """The last message: 0 when all went well."""
    return message(MIG_RP_MSG_SHUT, _BE32.pack(value))


def pong(value: int) -> bytes:
    return message(MIG_RP_MSG_PONG, _BE32.pack(value))


def be32(data: bytes) -> int:
    """The value of a SHUT, PONG or RESUME_ACK."""
    value: int = _BE32.unpack(data)[0]
    return value
