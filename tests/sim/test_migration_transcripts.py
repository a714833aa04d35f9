# SPDX-License-Identifier: MIT
"""Recorded migrations of real QEMUs, repeated on two machines of ours.

A transcript (tests/golden/transcripts) has commands, replies, events and polls of both sides in the order in which they
were seen. A recorded poll means "wait until this reply": status, set of fields, error-desc, run state. Compared are the
replies to commands, the sequence of events on each side, what each printed, its exit status, and at the end the counters.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.error import QemuError
from fakeqemu.host.clock import NS_PER_MS
from fakeqemu.migration.stats import query_migrate
from fakeqemu.sim.world import SimStalled, SimWorld
from fakeqemu.system.ramblock import RAMBlock
from fakeqemu.testing.sim_machine import SimMachine

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "transcripts"
FILES = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.glob("*/*.jsonl"))
RAM_BYTES = 8 << 20
POLLS = ("query-migrate", "query-status")
LAB_ADDRESS, DESTINATION_ADDRESS = "/tmp/t", "/tmp/d"


class Lab:
    """Takes the source's connection, makes one to the destination, and can cut both."""

    def __init__(self, world: SimWorld) -> None:
        self._world = world
        self._host = world.host("lab")
        self._channels: list[Any] = []
        self._host.listen({"type": "unix", "path": LAB_ADDRESS}, self._accepted)

    def _accepted(self, near: Any) -> None:
        self._host.start(self._relay(near), "relay")

    async def _relay(self, near: Any) -> None:
        far = await self._host.connect({"type": "unix", "path": DESTINATION_ADDRESS})
        self._channels += [near, far]
        back = self._host.start(self._pump(far, near), "back")
        await self._pump(near, far)
        await back.join()
        near.close()

    async def _pump(self, source: Any, sink: Any) -> None:
        try:
            while data := await source.read(65536):
                await sink.write(data)
            sink.shutdown("write")
        except OSError:
            source.shutdown()

    def cut(self) -> None:
        """Let something go over the connection, then break it."""
        if self._channels:
            self._world.run_for(150 * NS_PER_MS)
        for channel in self._channels:
            channel.shutdown()
        self._channels.clear()


class Replay:
    """One transcript on two machines."""

    def __init__(self, path: Path) -> None:
        self.profile = path.parent.name
        self.lines = [json.loads(line) for line in path.read_text().splitlines()]
        self.cuts = path.stem.startswith("cut-")
        self.world = SimWorld(seed=1)
        self.lab = Lab(self.world)
        self.machines: dict[str, SimMachine] = {}
        self.expected_events: dict[str, list[Any]] = {}
        self.normal_pages = self._normal_pages()

    def _normal_pages(self) -> int:
        """How many pages of the source's RAM held something, by the counters at the end."""
        for line in reversed(self.lines):
            reply = line["msg"].get("return") if line["kind"] == "<" else None
            if isinstance(reply, dict) and reply.get("status") in ("completed", "active") and "ram" in reply:
                ram, total = reply["ram"], RAM_BYTES // 4096
                # Pages that did not travel held something too.
                return int(ram["normal"]) if reply["status"] == "completed" and ram["total"] else total
        return RAM_BYTES // 4096

    def run(self) -> None:
        lines = iter(self.lines)
        for line in lines:
            getattr(self, "_" + {">": "command", "<": "stray"}.get(line["kind"], line["kind"]))(line, lines)
        self.world.run_until_idle()
        for who, expected in self.expected_events.items():
            machine = self.machines[who]
            assert machine.vm.bugs == 0, machine.host.log_lines
            assert self._told(machine) == expected, who

    # --- lines ----------------------------------------------------------------------------------------

    def _note(self, line: dict[str, Any], _: Iterator[Any]) -> None:
        note = line["msg"]
        if not isinstance(note, dict):
            return
        if "file size" in note:
            (content,) = self.world.files.contents.values()
            assert len(content) == note["file size"]
        for text, equal in note.items():
            if text.startswith("guest RAM equal"):
                blocks = [machine.vm.ram_blocks[0] for machine in self.machines.values()]
                assert (blocks[0].read_pages(0, blocks[0].pages) == blocks[1].read_pages(0, blocks[1].pages)) == equal

    def _start(self, line: dict[str, Any], _: Iterator[Any]) -> None:
        who, argv = line["who"], line["msg"]["argv"]
        size = int(argv[argv.index("-m") + 1]) << 20
        machine = self.machines[who] = SimMachine(self.world, name=who, profile=self.profile)
        block = RAMBlock("ram0", size, share=True, named_file=True)
        machine.vm.ram_blocks.append(block)
        if "-uuid" in argv:
            machine.vm.uuid = bytes.fromhex(argv[argv.index("-uuid") + 1].replace("-", ""))
        if "-incoming" in argv:
            machine.vm.runstate.set("inmigrate")
            address = argv[argv.index("-incoming") + 1]
            if address != "defer":
                machine.execute("migrate-incoming", uri=self._paths(address))
                machine.events.clear()  # nobody was connected yet
        else:
            block.write_pages(0, b"".join(bytes((1 + n % 255,)) * 4096 for n in range(self.normal_pages)))
            machine.execute("cont")
            machine.events.clear()
        self.expected_events[who] = []

    def _command(self, line: dict[str, Any], lines: Iterator[Any]) -> None:
        who, request = line["who"], line["msg"]
        expected = self._reply_to(who, lines)
        if request["execute"] == "qmp_capabilities":
            return
        machine = self.machines[who]
        if request["execute"] in POLLS:
            self._wait(machine, request["execute"], expected["return"])
            return
        try:
            got = {"return": machine.send(json.loads(self._paths(json.dumps(request))))}
        except QemuError as err:
            got = {"error": {"class": err.cls, "desc": err.desc}}
        assert got == expected, request

    def _reply_to(self, who: str, lines: Iterator[Any]) -> Any:
        for line in lines:
            if line["kind"] == "<" and line["who"] == who:
                return line["msg"]
            assert line["kind"] == "event", line
            self._event(line, lines)
        raise AssertionError("a command without a reply")

    def _event(self, line: dict[str, Any], _: Iterator[Any]) -> None:
        event = line["msg"]
        if self.cuts and event.get("data", {}).get("status") in ("failing", "failed"):
            self.lab.cut()
        self.expected_events[line["who"]].append((event["event"], event.get("data", {})))

    def _exit(self, line: dict[str, Any], _: Iterator[Any]) -> None:
        self.world.run_until_idle()
        assert self.machines[line["who"]].vm.exit_status == line["msg"]["rc"]

    def _stderr(self, line: dict[str, Any], _: Iterator[Any]) -> None:
        self.world.run_until_idle()
        expected = [text.partition(": ")[2] for text in line["msg"].splitlines()]
        assert sorted(self.machines[line["who"]].host.log_lines) == sorted(expected)

    # --- comparing ------------------------------------------------------------------------------------

    @staticmethod
    def _paths(text: str) -> str:
        return text.replace("$TMP/", "/tmp/")

    def _wait(self, machine: SimMachine, command: str, expected: dict[str, Any]) -> None:
        """Let time pass until a poll would have this reply."""

        def seen() -> Any:
            if command == "query-status":
                return machine.vm.runstate.state
            reply = query_migrate(machine.vm.migration)
            return reply.get("status"), sorted(reply), sorted(reply.get("ram", ())), reply.get("error-desc")

        if command == "query-status":
            wanted: Any = expected["status"]
        else:
            status, error = expected.get("status"), expected.get("error-desc")
            wanted = (status, sorted(expected), sorted(expected.get("ram", ())), error)
        if self.cuts and command == "query-migrate" and expected.get("error-desc"):
            self.lab.cut()
        try:
            self.world.run_until(lambda: seen() == wanted)
        except SimStalled:
            if command == "query-migrate" and self._passed(machine, wanted):
                return
            raise AssertionError(f"{machine.host.name}: {command} never said {wanted}, but now {seen()}") from None
        if command == "query-migrate" and expected.get("status") == "completed" and "ram" in expected:
            self._compare_counters(machine, expected["ram"])

    @staticmethod
    def _passed(machine: SimMachine, wanted: Any) -> bool:
        """Whether a destination was `active`, though only between two events: a file is loaded in one go."""
        return (
            wanted == ("active", ["status"], [], None)
            and machine.vm.migration.incoming is not None
            and {"status": "active"} in [data for _, _, data in machine.events]
        )

    def _compare_counters(self, machine: SimMachine, expected: dict[str, Any]) -> None:
        got = query_migrate(machine.vm.migration)["ram"]
        for name in ("total", "duplicate", "normal", "normal-bytes", "page-size", "remaining", "dirty-sync-count"):
            assert got[name] == expected[name], name
        # The number of PART sections depends on the time that the real ones took: 18 bytes each.
        assert abs(got["transferred"] - expected["transferred"]) <= 18 * 20

    @staticmethod
    def _told(machine: SimMachine) -> list[Any]:
        return [(name, data) for _, name, data in machine.events]


@pytest.mark.parametrize("name", FILES)
def test_two_machines_of_ours_do_what_was_recorded(name: str) -> None:
    Replay(FOLDER / name).run()
