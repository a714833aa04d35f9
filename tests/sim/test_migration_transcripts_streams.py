# SPDX-License-Identifier: MIT
"""Malformed streams as they were recorded (bad-streams), each brought to a destination of ours.

The recording keeps the first 96 bytes of a stream. What followed is a whole section with the state of the machine and the
end, but for those whose name says what it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from fakeqemu.sim.world import SimWorld
from fakeqemu.testing.sim_machine import SimEmulator
from tests.migration.streams import CASES, EOS, MIB, be, footer, full
from tests.sim._replay_lab import Lab
from tests.sim._replay_side import FOLDER, printed

RUNNING = be(4, 8) + b"running".ljust(100, b"\0")
GLOBALSTATE = full(3, "globalstate", 1, RUNNING)
HEADER = GLOBALSTATE[: -len(RUNNING) - 5]
#: what came after the state of the machine, where it was not the end of the stream
TAILS = {
    "truncated after a section": b"",
    "junk after EOF": b"\0junk",
    "vmdesc that is not JSON": b"\0\x06" + be(4, 3) + b"xyz",
    "vmdesc cut short": b"\0\x06" + be(4, 300) + b"xyz",
}
#: what came after the part that is known, up to the state of the machine
MIDDLES = {
    "RAM flag 0x100 (old compression)": bytes(4096),
    "xbzrle kind 2": footer(1),
    "xbzrle too long": bytes(1 << 16) + EOS + footer(1),
    "ignore-shared address differs": b"am" + be(8, MIB) + be(8, 0x123000) + EOS + footer(1),
}


def recorded(version: str) -> Iterator[dict[str, Any]]:
    for line in (FOLDER / version / "bad-streams.jsonl").read_text().replace("$TMP", "/tmp").splitlines():
        note = json.loads(line)["msg"]
        if isinstance(note, dict) and "sent" in note:  # those without killed QEMU
            yield note


def whole(note: dict[str, Any]) -> bytes:
    """The stream of a recording, completed."""
    text = note["sent"]
    if not text.endswith("..."):
        return bytes.fromhex(text)
    begin, name = bytes.fromhex(text.removesuffix("...")), note["stream"]
    begin += MIDDLES.get(name, b"")
    if name == "xbzrle without the capability":  # a page of the letter x
        begin += b"x" * (4096 - len(begin) + len(begin.rstrip(b"x"))) + EOS + footer(1)
        return begin + GLOBALSTATE + b"\0"
    at = begin.find(HEADER)
    if at < 0:  # perhaps its own beginning is the last that is known
        at = next((n for n in range(len(begin) - len(HEADER), len(begin) + 1) if HEADER.startswith(begin[n:])), at)
    if at < len(begin) or name in MIDDLES:
        return begin + GLOBALSTATE[len(begin) - at :] + TAILS.get(name, b"\0")
    (data,) = {case.data for case in CASES if without_suspended(case.data).startswith(begin)}
    return data


def without_suspended(stream: bytes) -> bytes:
    """As by a source that does not say whether its guest was suspended."""
    at = stream.find(HEADER)
    flag = at + len(HEADER) + 4 + 32
    return stream if at < 0 else stream[:flag] + b"\0" + stream[flag + 1 :]


class Destination:
    def __init__(self, version: str, note: dict[str, Any]) -> None:
        self.world = SimWorld(seed=1)
        self.lab = Lab(self.world, "bad-streams", "/tmp")
        argv = ["-nodefaults", "-display", "none", "-qmp", "unix:/tmp/qmp,server=on,wait=off", "-machine", "none"]
        self.emulator = SimEmulator(self.world, [*argv, *note["args"], "-incoming", "defer"], profile=version)
        self.emulator.connect("/tmp/qmp")
        states = [{"capability": name, "state": True} for name in ("events", *note["caps"])]
        self.emulator.execute("migrate-set-capabilities", capabilities=states)
        self.emulator.execute("migrate-incoming", uri="unix:/tmp/s", exit_on_error=False)
        self.emulator.events.clear()

    def outcome(self, stream: bytes) -> dict[str, Any]:
        """What the recording says of a stream."""
        self.lab.bring(stream, "/tmp/s")
        self.world.run_until_idle()
        events = [":".join((name, data["status"])) if data else name for _, name, data in self.emulator.events]
        return {
            "query-migrate": self.emulator.execute("query-migrate"),
            "query-status": self.emulator.execute("query-status")["status"],
            "events": events,
            "stderr": printed("".join(self.emulator.said).rstrip()),
        }


@pytest.mark.parametrize(
    ("version", "note"),
    [pytest.param(v, note, id=f"{v} {note['stream']}") for v in ("10.0", "11.1") for note in recorded(v)],
)
def test_a_malformed_stream_ends_as_recorded(version: str, note: dict[str, Any]) -> None:
    destination = Destination(version, note)
    expected = {key: note[key] for key in ("query-migrate", "query-status", "events")} | {
        "stderr": printed(note["stderr"])
    }
    assert destination.outcome(whole(note)) == expected
    assert destination.emulator.vm.bugs == 0
