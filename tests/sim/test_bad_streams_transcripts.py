# SPDX-License-Identifier: MIT
"""Malformed streams whose end at real QEMUs was recorded, sent to a machine of ours.

A recording (tests/golden/transcripts/*/bad-streams.jsonl) has a line a stream: its name, its first 96 bytes, the
destination's command line and capabilities, and all that came of it. What was cut off a longer stream is put together here;
what was kept has to be its beginning.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.migration import damage
from tests.migration import streams as s
from tests.migration.streams import Case
from tests.sim._destination import Destination

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "transcripts"
VERSIONS = ("10.0", "11.1")
PROGRAM = "qemu-system-x86_64: "
#: QEMU aborts on these; we refuse the run state
DEADLY = {"globalstate debug": "debug", "globalstate save-vm": "save-vm"}


def recorded(version: str) -> list[dict[str, Any]]:
    lines = (FOLDER / version / "bad-streams.jsonl").read_text().splitlines()
    messages = [json.loads(line)["msg"] for line in lines]
    return [message for message in messages if isinstance(message, dict)]


def state(name: str, size: int | None = None) -> bytes:
    """The run state, as the recorder sent it: a name in a hundred bytes."""
    text = name.encode()
    return s.full(3, "globalstate", 1, s.be(4, len(text) + 1 if size is None else size) + text.ljust(100, b"\0"))


END = state("running") + s.EOF
GLOBALSTATE = s.start(4, 3, "globalstate", 1)


def xbzrle(encoding: int, size: int, data: bytes) -> bytes:
    return s.be(8, 0x40) + s.block_name("ram") + bytes((encoding,)) + s.be(2, size) + data


def with_ram(*records: bytes) -> bytes:
    return s.HEAD + s.ram_start() + s.ram_part(*records) + END


#: what cannot be told from what was kept
LONGER = {
    "globalstate size field 200": s.HEAD + state("", 200) + s.EOF,
    "truncated after a section": s.HEAD + state("running"),
    "junk after EOF": s.HEAD + END + b"junk",
    "vmdesc that is not JSON": s.HEAD + END + b"\x06" + s.be(4, 3) + b"xyz",
    "vmdesc cut short": s.HEAD + END + b"\x06" + s.be(4, 300) + b"xyz",
    "page beyond the block": with_ram(s.page(s.MIB)),
    "page of an unknown block": with_ram(s.page(0, "foo")),
    "CONTINUE first": with_ram(s.be(8, 0x28), b"x" * 4096),
    "fill page that is not zero": with_ram(s.zero(0, 0xEE)),
    "RAM flag 0x100 (old compression)": with_ram(s.be(8, 0x100) + s.block_name("ram") + bytes(4096)),
    "xbzrle kind 2": with_ram(xbzrle(2, 1, b"\0")),
    "xbzrle too long": with_ram(xbzrle(1, 0xFFFF, bytes(0xFFFF))),
    "xbzrle without the capability": with_ram(s.page(0), xbzrle(1, 3, b"\0\1y")),
}


def rest_of(name: str, kept: bytes) -> bytes:
    """The stream of that name that begins with `kept`."""
    if name in LONGER:
        return LONGER[name]
    if name == "MULTIFD_FLUSH without multifd":
        return kept[: kept.rindex(b"\x04")] + END
    if name == "ignore-shared address differs":
        listed = s.header() + s.configuration("none", s.capabilities("x-ignore-shared"))
        block = s.be(8, s.MIB | 4) + s.block_name("ram") + s.be(8, s.MIB) + s.be(8, 0x1234000) + s.EOS
        return listed + s.start(1, 1, "ram", 4) + block + s.footer(1) + END
    at = kept.rindex(GLOBALSTATE[:16])  # the last section, and the only one that is cut
    body = kept[at + len(GLOBALSTATE) :].ljust(104, b"\0")
    if len(body[4:].rstrip(b"\0")) < 3:  # not even the name was kept
        return kept[:at] + END
    name_sent = body[4:].rstrip(b"\0")
    full = b"running" if b"running".startswith(name_sent) else name_sent
    return kept[:at] + state(full.decode(), int.from_bytes(body[:4], "big")) + s.EOF


def case_of(message: dict[str, Any]) -> Case:
    sent, arguments = message.get("sent", ""), message["args"]
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    if message["stream"] in DEADLY:
        data = s.HEAD + state(DEADLY[message["stream"]]) + s.EOF
    else:
        kept = bytes.fromhex(sent.removesuffix("..."))
        data = rest_of(message["stream"], kept) if sent.endswith("...") else kept
        assert data.startswith(kept), message["stream"]
    return Case(
        message["stream"], data, mib=int(options.get("-m", 0)), capabilities=tuple(message["caps"]),
        uuid=options.get("-uuid", ""),
    )  # fmt: skip


def told(events: list[tuple[int, str, dict[str, Any]]]) -> list[str]:
    """Events in the recorder's short form, from the connection on."""
    names = [f"{name}:{data['status']}" if name == "MIGRATION" else name for _, name, data in events]
    return [name for name in names if name != "MIGRATION:setup"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", [message["stream"] for message in recorded("11.1")])
def test_a_malformed_stream_ends_as_recorded(version: str, name: str) -> None:
    message = next(one for one in recorded(version) if one["stream"] == name)
    destination = Destination(case_of(message), version)
    destination.send(case_of(message).data)
    assert destination.leftovers() == []
    outcome = destination.outcome
    stderr = "\n".join(PROGRAM + line for line in outcome["stderr"]).strip().splitlines()
    if name in DEADLY:
        assert outcome["query-migrate"]["status"] == "failed"
        assert stderr == message["stderr"].splitlines()
        return
    info = destination.machine.execute("query-migrate")
    assert info.keys() == message["query-migrate"].keys()
    assert outcome["query-migrate"] == damage.told(message["query-migrate"])
    assert outcome["query-status"] == message["query-status"]
    assert told(destination.machine.events) == message["events"]
    assert stderr == message["stderr"].splitlines()


def test_both_releases_were_sent_the_same_streams() -> None:
    names = [[message["stream"] for message in recorded(version)] for version in VERSIONS]
    assert names[0] == names[1]
    assert len(names[0]) > 70
