# SPDX-License-Identifier: MIT
"""Streams that no QEMU sends: damaged, incomplete, hostile. The same ones go to us and to real QEMUs.

For a destination of `-machine none`, with RAM of the given size in a block called "ram".
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fakeqemu.migration.stream.qemu_file import QEMUFile
from fakeqemu.migration.stream.ram_page import block_name as block_name
from fakeqemu.migration.stream.section import put_header

MIB = 1 << 20


def be(size: int, value: int) -> bytes:
    return value.to_bytes(size, "big")


def header(version: int = 3) -> bytes:
    f = QEMUFile()
    put_header(f)
    return f.getvalue()[:4] + be(4, version)


def configuration(name: str = "none", *subsections: bytes) -> bytes:
    return b"\x07" + be(4, len(name)) + name.encode() + b"".join(subsections)


def subsection(name: str, data: bytes, version: int = 1) -> bytes:
    return b"\x05" + block_name(name) + be(4, version) + data


def capabilities(*names: str) -> bytes:
    return subsection("configuration/capabilities", be(4, len(names)) + b"".join(block_name(n) for n in names))


def uuid(data: bytes) -> bytes:
    return subsection("configuration/uuid", data)


def start(kind: int, number: int, name: str, version: int, instance: int = 0) -> bytes:
    return bytes((kind,)) + be(4, number) + block_name(name) + be(4, instance) + be(4, version)


def footer(number: int) -> bytes:
    return b"\x7e" + be(4, number)


def full(number: int, name: str, version: int, body: bytes, instance: int = 0) -> bytes:
    return start(4, number, name, version, instance) + body + footer(number)


def part(number: int, body: bytes, kind: int = 2) -> bytes:
    return bytes((kind,)) + be(4, number) + body + footer(number)


def command(number: int, payload: bytes = b"") -> bytes:
    return b"\x08" + be(2, number) + be(2, len(payload)) + payload


def globalstate(name: str, size: int | None = None) -> bytes:
    text = name.encode()
    body = be(4, len(text) + 1 if size is None else size) + text.ljust(32, b"\0") + b"\x01\0" + bytes(66)
    return full(3, "globalstate", 1, body)


HEAD = header() + configuration()
EOF = b"\x00"
END = globalstate("running") + EOF
TIMER = bytes(24)
EOS = be(8, 0x10)


def ram_start(size: int = MIB, name: str = "ram", version: int = 4) -> bytes:
    body = be(8, size | 4) + block_name(name) + be(8, size) + EOS
    return start(1, 1, "ram", version) + body + footer(1)


def ram_part(*records: bytes) -> bytes:
    return part(1, b"".join(records) + EOS)


def zero(offset: int, fill: int = 0, name: str = "ram") -> bytes:
    return be(8, offset | 2) + block_name(name) + bytes((fill,))


def page(offset: int, name: str = "ram", content: bytes = b"x" * 4096) -> bytes:
    return be(8, offset | 8) + block_name(name) + content


@dataclass(frozen=True)
class Case:
    """One stream, and what the destination is like."""

    name: str
    data: bytes
    mib: int = 0
    capabilities: tuple[str, ...] = ()
    uuid: str = ""
    machine: str = "none"
    #: QEMU aborts or hangs on it: only we are asked
    deadly: bool = field(default=False)


A_UUID = bytes(range(16))
A_UUID_TEXT = "00010203-0405-0607-0809-0a0b0c0d0e0f"
OTHER_UUID = "12345678-9abc-def0-1234-56789abcdef0"

CASES: tuple[Case, ...] = (
    Case("header, configuration, EOF", HEAD + EOF),
    Case("running", HEAD + END),
    *(
        Case(f"run state {name}", HEAD + globalstate(name) + EOF)
        for name in (
            "paused", "prelaunch", "inmigrate", "finish-migrate", "postmigrate", "suspended", "shutdown", "guest-panicked",
            "io-error", "internal-error", "watchdog", "colo", "bogus",
        )
    ),
    Case("run state debug", HEAD + globalstate("debug") + EOF, deadly=True),
    Case("run state save-vm", HEAD + globalstate("save-vm") + EOF, deadly=True),
    Case("globalstate of a wrong size", HEAD + globalstate("", 200) + EOF),
    Case("another machine type", header() + configuration("pc-q35-11.1") + END),
    Case("wrong magic", b"QEVN" + HEAD[4:] + END),
    Case("version 2", header(2) + configuration() + END),
    Case("version 4", header(4) + configuration() + END),
    Case("no configuration", header() + END),
    Case("a cut machine type", header() + b"\x07" + be(4, 16) + b"none"),
    Case("unknown section", HEAD + full(9, "bogus", 1, b"abcd") + END),
    Case("unknown instance", HEAD + full(9, "timer", 2, TIMER, instance=7) + END),
    Case("version too new", HEAD + full(9, "timer", 3, TIMER) + END),
    Case("an old version with a longer body", HEAD + full(9, "timer", 1, TIMER) + END),
    Case("wrong footer id", HEAD + start(4, 9, "timer", 2) + TIMER + footer(8) + END),
    Case("no footer", HEAD + start(4, 9, "timer", 2) + TIMER + END),
    Case("part of an unknown id", HEAD + part(77, EOS) + END),
    Case("unknown section type", HEAD + b"\x55" + END),
    Case("unknown command", HEAD + command(99) + END),
    Case("command 0", HEAD + command(0) + END),
    Case("OPEN_RETURN_PATH with a payload", HEAD + command(1, b"x") + END),
    Case("OPEN_RETURN_PATH twice", HEAD + command(1) + command(1) + END),
    Case("PING without return path", HEAD + command(2, be(4, 1)) + END),
    Case("PING of a wrong length", HEAD + command(1) + command(2, b"xyz") + END),
    Case("advise without postcopy", HEAD + command(3, be(8, 4096) * 2) + END),
    Case("PACKAGED of a wrong length", HEAD + command(7, b"xy") + END),
    Case("RECV_BITMAP of an unknown block", HEAD + command(10, block_name("nosuch")) + END),
    Case("POSTCOPY_RESUME without recovery", HEAD + command(9) + END),
    Case("ENABLE_COLO", HEAD + command(8) + END),
    Case("cut in a section", HEAD + globalstate("running")[:60]),
    Case("cut after a section", HEAD + full(9, "timer", 2, TIMER)),
    Case("cut in a section's header", HEAD + start(4, 9, "timer", 2)[:9]),
    Case("cut in a section's number", HEAD + start(4, 9, "timer", 2)[:3]),
    Case("cut in a section's version", HEAD + start(4, 9, "timer", 2)[:-2]),
    Case("cut in a part's number", HEAD + ram_start() + b"\x02\0\0", mib=1),
    Case("cut in a command", HEAD + b"\x08\0"),
    Case("cut in a command's payload", HEAD + command(1) + command(2, be(4, 1))[:-2]),
    Case("cut in the RAM's block list", HEAD + ram_start()[:30], mib=1),
    Case("cut in the name of a run state", HEAD + globalstate("running")[:30]),
    Case("cut header", HEAD[:6]),
    Case("empty", b""),
    Case("unknown RAM block", HEAD + ram_start() + END),
    Case("RAM block of another size", HEAD + ram_start() + END, mib=8),
    Case("RAM version 3", HEAD + ram_start(version=3) + END, mib=1),
    Case("RAM version 5", HEAD + ram_start(version=5) + END, mib=1),
    Case("page beyond the block", HEAD + ram_start() + ram_part(page(MIB)) + END, mib=1),
    Case("page of an unknown block", HEAD + ram_start() + ram_part(page(0, "foo")) + END, mib=1),
    Case("CONTINUE first", HEAD + ram_start() + ram_part(be(8, 0x28), b"x" * 4096) + END, mib=1),
    Case("zero page that is not zero", HEAD + ram_start() + ram_part(zero(0, 238)) + END, mib=1),
    Case("RAM flag 0x100", HEAD + ram_start() + ram_part(be(8, 0x100)) + END, mib=1),
    Case("RAM flag 0x400", HEAD + ram_start() + ram_part(be(8, 0x400)) + END, mib=1),
    Case("MULTIFD_FLUSH without multifd", HEAD + ram_start() + ram_part(be(8, 0x200)) + END, mib=1),
    Case(
        "xbzrle of a wrong kind",
        HEAD + ram_start() + ram_part(be(8, 0x40) + block_name("ram") + b"\x02\0\x01x") + END,
        mib=1,
    ),
    Case(
        "xbzrle too long",
        HEAD + ram_start() + ram_part(be(8, 0x40) + block_name("ram") + b"\x01\xff\xff" + b"x" * 9) + END,
        mib=1,
    ),
    Case(
        "xbzrle without the capability",
        HEAD + ram_start() + ram_part(be(8, 0x40) + block_name("ram") + b"\x01\0\x03\0\x01\x0c") + END,
        mib=1,
    ),
    Case("pages cut short", HEAD + ram_start() + b"\x02" + be(4, 1) + page(0)[:100], mib=1),
    Case("capability that is off here", header() + configuration("none", capabilities("x-ignore-shared")) + END),
    Case("capability that is on here", HEAD + END, capabilities=("x-ignore-shared",)),
    Case("unknown capability", header() + configuration("none", capabilities("bogus")) + END),
    Case("mapped-ram over a socket", header() + configuration("none", capabilities("mapped-ram")) + END),
    Case("uuid, none here", header() + configuration("none", uuid(A_UUID)) + END),
    Case("another uuid", header() + configuration("none", uuid(A_UUID)) + END, uuid=OTHER_UUID),
    Case(
        "page bits 12", header() + configuration("none", subsection("configuration/target-page-bits", be(4, 12))) + END
    ),
    Case(
        "page bits 14", header() + configuration("none", subsection("configuration/target-page-bits", be(4, 14))) + END
    ),
    Case("unknown subsection", header() + configuration("none", subsection("configuration/bogus", b"x")) + END),
    Case("junk after EOF", HEAD + END + b"junk"),
    Case("a description that is no JSON", HEAD + END + b"\x06" + be(4, 3) + b"xyz"),
    Case("a cut description", HEAD + END + b"\x06" + be(4, 300) + b"xyz"),
)  # fmt: skip
