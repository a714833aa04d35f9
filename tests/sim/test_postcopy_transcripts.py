# SPDX-License-Identifier: MIT
"""Recorded postcopies of real QEMUs, repeated on two machines of ours, as test_migration_transcripts does.

The lab's relay stands at $TMP/t and, for a resumed migration, at $TMP/rt; it breaks where the recorder's note says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sim import test_migration_transcripts as transcripts

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "postcopy_transcripts"
FILES = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.glob("*/*.jsonl"))
RESUMED_ADDRESS = "/tmp/rt"


class Lab(transcripts.Lab):
    """Relays a resumed migration, too: to where the destination listens by then."""

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self.target = transcripts.DESTINATION_ADDRESS
        self._host.listen({"type": "unix", "path": RESUMED_ADDRESS}, self._accepted)

    async def _relay(self, near: Any) -> None:
        far = await self._host.connect({"type": "unix", "path": self.target})
        self._channels += [near, far]
        back = self._host.start(self._pump(far, near), "back")
        await self._pump(near, far)
        await back.join()
        near.close()
        far.close()


class Replay(transcripts.Replay):
    """Commands whose effect depends on the time are given when all events recorded before them have come."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.lines = [json.loads(self._paths(line)) for line in path.read_text().splitlines()]
        self.lab: Lab = Lab(self.world)
        self._timed = False

    def _note(self, line: dict[str, Any], lines: Iterator[Any]) -> None:
        if line["msg"] == "the channel is cut":
            self.lab.cut()
        else:
            super()._note(line, lines)

    def _reply_to(self, who: str, lines: Iterator[Any]) -> Any:
        reply = super()._reply_to(who, lines)
        if self._timed:
            machine, expected = self.machines[who], self.expected_events[who]
            self.world.run_until(lambda: len(self._told(machine)) >= len(expected))
        return reply

    def _command(self, line: dict[str, Any], lines: Iterator[Any]) -> None:
        request = line["msg"]
        self._timed = request["execute"] == "migrate-start-postcopy"
        if request["execute"] == "migrate-recover":
            self.lab.target = self._paths(request["arguments"]["uri"]).partition(":")[2]
        super()._command(line, lines)


@pytest.mark.parametrize("name", FILES)
def test_two_machines_of_ours_do_what_was_recorded(name: str) -> None:
    Replay(FOLDER / name).run()
