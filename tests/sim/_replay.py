# SPDX-License-Identifier: MIT
"""A recorded migration of real QEMUs, repeated on emulators of ours.

A transcript has, line by line, what was done with emulators and what they said: starts with their command lines,
commands and replies, events, what each printed, how it ended. A replay starts emulators of ours from the same command
lines and gives them the same commands. Time passes in it as follows:

    poll      a recorded reply of query-migrate or query-status says: wait until it would be that (status, set of fields,
              error-desc; run state). What was so since the last poll counts: a state may be short.
    command   given when the events that were sent before it have come, by their own timestamps
    the lab   cut or kill where the recording says so, or where it can be told from what follows

Compared are, per side, the replies to commands, the sequence of events, what was printed, the exit status, the lab's
remarks about files and memory, and without a guest that runs the counters at the end.

A boot image is replaced by a guest that dirties memory at a stated rate; it makes as many passes as it takes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fakeqemu.error import QemuError
from fakeqemu.host.clock import NS_PER_S
from fakeqemu.migration.stats import query_migrate
from fakeqemu.sim.world import SimStalled, SimWorld
from fakeqemu.testing.sim_machine import SimEmulator
from tests.sim._replay_lab import Lab

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "transcripts"
POLLS = ("query-migrate", "query-status")
FAILED = ("failing", "failed")
#: bytes a second that stand for a guest booting from its image, and how much of its memory it goes round in
BOOT_DIRTIES = {"guest.dirty-rate": "20M", "guest.working-set": "8M"}
#: simulated time after which what is waited for will not come
PATIENCE_NS = 120 * NS_PER_S

Line = dict[str, Any]


def transcripts(folder: Path = FOLDER) -> list[str]:
    """Names of all transcripts, as `VERSION/NAME`."""
    return sorted(f"{path.parent.name}/{path.stem}" for path in folder.glob("*/*.jsonl"))


def read(name: str, folder: Path = FOLDER) -> list[Line]:
    """The lines of a transcript, with its folders replaced by the simulation's."""
    text = (folder / f"{name}.jsonl").read_text()
    for variable, path in (("$TMP", "/tmp"), ("$SHM", "/dev/shm"), ("$HOME", "/home"), ("$ORACLE", "/oracle")):
        text = text.replace(variable, path)
    return [json.loads(line) for line in text.splitlines()]


def shape(value: Any) -> Any:
    """What is compared of a reply to query-migrate: which fields there are, and the texts that are no numbers."""
    if isinstance(value, dict):
        return tuple((key, shape(value[key])) for key in sorted(value))
    return value if isinstance(value, str) else None


@dataclass
class Side:
    """One emulator and what the recording says of it."""

    name: str
    emulator: SimEmulator
    boots: bool
    #: what was recorded of it: when it was sent, in the recorder's time, name and data
    recorded: list[tuple[float, str, Any]]
    #: what a poll would have seen, one after the other, by command
    history: dict[str, list[Any]] = field(default_factory=lambda: {command: [] for command in POLLS})
    #: how much of that the recorded polls have seen
    seen: dict[str, int] = field(default_factory=lambda: dict.fromkeys(POLLS, 0))

    def __post_init__(self) -> None:
        for pattern in ("migrate_*", "runstate_set"):
            self.emulator.vm.trace.watch(lambda _event, _fields: self.sample(), pattern)

    def sample(self) -> None:
        if self.emulator.exit_status is None:
            vm = self.emulator.vm
            self._note("query-migrate", shape(query_migrate(vm.migration)))
            self._note("query-status", vm.runstate.state)

    def _note(self, command: str, value: Any) -> None:
        history = self.history[command]
        if not history or history[-1] != value:
            history.append(value)

    def saw(self, command: str, wanted: Any) -> bool:
        """Whether it was so since the last poll that saw something."""
        self.sample()
        history = self.history[command]
        for index in range(max(0, self.seen[command]), len(history)):
            if history[index] == wanted:
                self.seen[command] = index
                return True
        return False

    def told(self) -> list[tuple[str, Any]]:
        return self._comparable([(name, data) for _, name, data in self.emulator.events])

    def expected(self, before: float = float("inf")) -> list[tuple[str, Any]]:
        return self._comparable([(name, data) for t, name, data in self.recorded if t < before])

    def _comparable(self, events: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
        """How many passes a guest takes that runs is not compared."""
        return [e for e in events if e[0] != "MIGRATION_PASS"] if self.boots else events


class Replay:
    """One transcript on emulators of ours."""

    def __init__(self, name: str, *, folder: Path = FOLDER) -> None:
        self.profile, _, self.name = name.partition("/")
        self.lines = read(name, folder)
        self.world = SimWorld(seed=1)
        self.lab = Lab(self.world, self.name)
        self.sides: dict[str, Side] = {}
        self._handlers: dict[str, Callable[[Line], None]] = {
            "start": self._start,
            ">": self._command,
            "<": self._stray,
            "event": self._event,
            "note": self._note,
            "exit": self._exit,
            "stderr": self._stderr,
        }
        self._position = 0
        self._now = 0.0
        self._late = min((line["t"] - _sent(line) for line in self.lines if line["kind"] == "event"), default=0.0)

    # --- the story -------------------------------------------------------------------------------------

    def run(self) -> None:
        for line in self._lines():
            self._handlers[line["kind"]](line)
        for side in self.sides.values():
            self._finish(side)

    def _lines(self) -> Iterator[Line]:
        while self._position < len(self.lines):
            self._now = self.lines[self._position]["t"]
            self._position += 1
            yield self.lines[self._position - 1]

    def until(self, goal: Callable[[], bool]) -> None:
        """Let time pass until `goal()`; raises SimStalled. Everybody is looked at in every turn."""

        def look() -> bool:
            for side in self.sides.values():
                side.sample()
            return goal()

        self.world.run_until(look, PATIENCE_NS)

    def _start(self, line: Line) -> None:
        who, argv = line["who"], line["msg"]["argv"][1:]
        if who in self.sides:
            self._finish(self.sides.pop(who))
        boots, argv = self._without_image(argv)
        fake = BOOT_DIRTIES if boots else {}
        emulator = SimEmulator(self.world, argv, name=who, profile=self.profile, fake=fake)
        self.sides[who] = Side(who, emulator, boots, self._events_of(who))
        if emulator.exit_status is None:
            emulator.connect(_monitor_path(argv))
            self._fill(self.sides[who], argv)

    def _events_of(self, who: str) -> list[tuple[float, str, Any]]:
        """The events of the emulator that starts here."""
        events = []
        for line in self.lines[self._position :]:
            if line["who"] == who and line["kind"] == "start":
                break
            if line["who"] == who and line["kind"] == "event":
                event = line["msg"]
                events.append((_sent(line) + self._late, event["event"], event.get("data", {})))
        return events

    @staticmethod
    def _without_image(argv: list[str]) -> tuple[bool, list[str]]:
        """The command line without its boot image; whether it had one."""
        if "-drive" not in argv:
            return False, argv
        argv = list(argv)
        for option, value in (("-drive", "boot.img"), ("-device", "drive=d0")):
            index = next(i for i, word in enumerate(argv) if word == option and value in argv[i + 1])
            del argv[index : index + 2]
        return True, argv

    def _fill(self, side: Side, argv: list[str]) -> None:
        """What the lab wrote into the file that is the source's memory."""
        blocks = side.emulator.vm.ram_blocks
        if "-incoming" in argv or not blocks or "mem-path" not in " ".join(argv):
            return
        pages = min(self._normal_pages(side.name), blocks[0].pages)
        blocks[0].write_pages(0, b"".join(bytes((1 + n % 255,)) * 4096 for n in range(pages)))

    def _normal_pages(self, who: str) -> int:
        """How many pages held something, by the counters of the next migration that completes."""
        total = 1 << 40
        for line in self.lines[self._position :]:
            if line["who"] == who and line["kind"] == "start":
                break
            reply = line["msg"].get("return") if line["kind"] == "<" and line["who"] == who else None
            if isinstance(reply, dict) and reply.get("status") == "completed" and reply.get("ram", {}).get("total"):
                return int(reply["ram"]["normal"])
        return total

    # --- commands --------------------------------------------------------------------------------------

    def _command(self, line: Line) -> None:
        who, request = line["who"], line["msg"]
        side = self.sides[who]
        expected = self._reply_to(who)
        command = request.get("execute") or request["exec-oob"]
        if command == "qmp_capabilities":
            return
        if command in POLLS and "return" in expected:
            self._poll(side, command, expected["return"])
            return
        self._await_events(line["t"])
        fds = self.lab.descriptors(side, request)
        try:
            got = {"return": side.emulator.send(self.lab.translate(request), fds)}
        except QemuError as error:
            got = {"error": {"class": error.cls, "desc": error.desc}}
        for each in self.sides.values():
            each.sample()
        assert comparable(command, got) == comparable(command, expected), request

    def _reply_to(self, who: str) -> Any:
        for line in self._lines():
            if line["kind"] == "<" and line["who"] == who:
                return line["msg"]
            assert line["kind"] == "event", line
            self._event(line)
        raise AssertionError("a command without a reply")

    def _await_events(self, before: float) -> None:
        for side in self.sides.values():
            self._await_events_of(side, before)

    def _await_events_of(self, side: Side, before: float = float("inf")) -> None:
        """Wait for what was sent before that moment; an emulator that ended says no more."""
        wanted = side.expected(before)
        try:
            self.until(lambda: len(side.told()) >= len(wanted) or side.emulator.exit_status is not None)
        except SimStalled:
            raise AssertionError(f"{side.name}: after {side.told()} should come {wanted}") from None

    def _poll(self, side: Side, command: str, expected: dict[str, Any]) -> None:
        wanted: Any = expected["status"] if command == "query-status" else shape(expected)
        if command == "query-migrate" and (expected.get("status") in FAILED or expected.get("error-desc")):
            self._misfortune()
        try:
            self.until(lambda: side.saw(command, wanted))
        except SimStalled:
            after = side.history[command][max(0, side.seen[command]) :]
            raise AssertionError(f"{side.name}: {command} never said {brief(wanted)} after {brief(after)}") from None
        self.lab.learn(expected, query_migrate(side.emulator.vm.migration))
        if command == "query-migrate" and expected.get("status") == "completed" and "ram" in expected:
            self._compare_counters(side, expected["ram"])

    # --- what else was seen ----------------------------------------------------------------------------

    def _event(self, line: Line) -> None:
        event = line["msg"]
        if event.get("data", {}).get("status") in FAILED:
            self._misfortune()

    def _misfortune(self) -> None:
        """Something goes wrong from here on: it is the lab's doing where it cut the connection."""
        self.lab.cut_if_due()

    def _note(self, line: Line) -> None:
        note = line["msg"]
        if isinstance(note, str):
            self._remark(note)
            return
        for text, value in note.items():
            if text == "file size":
                self._await_events(self._now)
                (content,) = (data for path, data in self.world.files.contents.items() if path.startswith("/tmp"))
                if "gzip" not in self.name:
                    assert len(content) == value
            elif text.startswith("guest RAM equal"):
                self._await_events(self._now)
                assert self._memory_equal() == value

    def _remark(self, text: str) -> None:
        if text == "the channel is cut":
            self.lab.cut()
        elif text.endswith("is killed"):
            self._kill({"the source": "src", "the destination": "dst"}[text.removesuffix(" is killed")])

    def _kill(self, who: str) -> None:
        self._await_events(self._now)
        self.sides[who].emulator.kill()

    def _memory_equal(self) -> bool:
        blocks = [side.emulator.vm.ram_blocks[0] for side in self.sides.values()]
        return len({bytes(block.read_pages(0, block.pages)) for block in blocks}) == 1

    def _exit(self, line: Line) -> None:
        side = self.sides[line["who"]]
        if line["msg"]["rc"] == -9:
            side.emulator.kill()
        try:
            self.until(lambda: side.emulator.exit_status is not None)
        except SimStalled:
            raise AssertionError(f"{side.name} does not end") from None
        assert side.emulator.exit_status == line["msg"]["rc"], side.emulator.said

    def _stderr(self, line: Line) -> None:
        side = self.sides[line["who"]]
        self._await_events_of(side, self._now)
        try:
            self.until(lambda: len("".join(side.emulator.said).splitlines()) >= len(line["msg"].splitlines()))
        except SimStalled:
            pass
        assert printed("".join(side.emulator.said)) == printed(line["msg"])

    def _stray(self, line: Line) -> None:
        raise AssertionError(f"a reply to no command: {line}")

    def _finish(self, side: Side) -> None:
        """No more is recorded of it."""
        self._await_events_of(side)
        assert side.told() == side.expected(), side.name
        assert side.emulator.vm.bugs == 0, side.emulator.said
        side.emulator.kill()

    def _compare_counters(self, side: Side, expected: dict[str, Any]) -> None:
        # What was under way when a connection broke is chance, and is sent again.
        board = side.emulator.vm.board
        if board is None or board.name != "none" or self.lab.has_cut:
            return
        got = query_migrate(side.emulator.vm.migration)["ram"]
        for name in ("total", "duplicate", "normal", "normal-bytes", "page-size", "remaining", "dirty-sync-count"):
            assert got[name] == expected[name], f"{name}: {got[name]}, not {expected[name]}"
        # The number of PART sections depends on the time that the real ones took: 18 bytes each.
        assert abs(got["transferred"] - expected["transferred"]) <= 18 * 20


def _monitor_path(argv: list[str]) -> str:
    return argv[argv.index("-qmp") + 1].removeprefix("unix:").partition(",")[0]


def _sent(line: Line) -> float:
    """When an event was sent, by its own timestamp."""
    stamp = line["msg"]["timestamp"]
    return float(stamp["seconds"] + stamp["microseconds"] / 1_000_000)


def brief(value: Any) -> str:
    """A shape, readable."""
    return re.sub(r"\('([\w-]+)', None\),? ?", r"\1 ", str(value))


def printed(text: str) -> list[str]:
    """Lines of stderr; threads print in no order."""
    return sorted(text.splitlines())


def comparable(command: str, reply: Any) -> Any:
    """A reply without what is chance: numbers in texts meant for people, descriptors."""
    if command == "human-monitor-command" and isinstance(reply.get("return"), str):
        return re.sub(r"\d+(\.\d+)?", "N", reply["return"])
    if command in ("add-fd", "query-fdsets"):
        return re.sub(r"\d+", "N", json.dumps(reply, sort_keys=True))
    return reply
