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
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fakeqemu.error import QemuError
from fakeqemu.host.clock import NS_PER_MS, NS_PER_S
from fakeqemu.migration.stats import query_migrate
from fakeqemu.sim.network import PIPE_CAPACITY
from fakeqemu.sim.world import SimStalled, SimWorld
from fakeqemu.testing.sim_machine import SimEmulator
from tests.migration.streams import configuration, header
from tests.sim._replay_capabilities import answer_of_every_set
from tests.sim._replay_host import RealWorld
from tests.sim._replay_keys import make_keys
from tests.sim._replay_lab import Lab
from tests.sim._replay_side import (
    FOLDER,
    OTHER_COMMANDS,
    POLLS,
    Line,
    Side,
    brief,
    comparable,
    printed,
    read,
    sent,
    shape,
)

#: recordings about addresses, descriptors and programs: repeated on the operating system, in real time
ON_THE_HOST = (
    "channels-arg", "exec-cat", "exec-gzip", "exec-no-return-path-reader", "fd-pipe", "fd-set", "fd-socketpair",
    "incoming-arguments", "migrate-arguments", "migrate-caps-vs-uri", "misc-errors", "q35-background-snapshot",
)  # fmt: skip
FAILED = ("failing", "failed")
#: bytes a second that stand for a guest booting from its image, and how much of its memory it goes round in: as much as
#: each pass of the recordings found dirty again
BOOT_DIRTIES = {"guest.dirty-rate": "40M", "guest.working-set": "7M"}
#: more than any memory has
ALL_PAGES = 1 << 40
#: simulated time after which what is waited for will not come
PATIENCE_NS = 120 * NS_PER_S

DEVICE, FAILED_EVENT = ("MIGRATION", {"status": "device"}), ("MIGRATION", {"status": "failed"})
#: bytes that a connection holds to a destination that looks at each at once
SMALL_CAPACITY = 4096
#: exit status of a real QEMU that died: abort, segmentation fault
SIGNALS = (-6, -11)
#: the number of PART sections depends on the time that things took: 18 bytes each
SECTIONS_BYTES = 18 * 20

#: stands for the reply to a command that killed a real QEMU
CRASHED: Line = {}


class Replay:
    """One transcript on emulators of ours."""

    def __init__(self, name: str, *, folder: Path = FOLDER) -> None:
        self.profile, _, self.name = name.partition("/")
        real = self.name in ON_THE_HOST
        self.world: Any = RealWorld() if real else SimWorld(seed=1)
        shared_memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
        self.home = tempfile.mkdtemp(prefix="replay", dir=shared_memory) if real else "/tmp"
        self._keys = tempfile.mkdtemp(prefix="replay") if self.name.startswith("tls-") else ""
        if self._keys:
            make_keys(Path(self._keys))
        self.lines = read(name, folder, self.home, self._keys)
        self.text = json.dumps(self.lines)
        self.lab = Lab(self.world, self.name, self.home)
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
        self._parameter: str | None = ""
        #: the file of the last migration to one
        self.saved_to = ""
        #: who printed what, and what was recorded of that
        self._said: list[tuple[str, str]] = []
        self._stderr_lines: dict[str, list[str]] = {}
        self._position = 0
        self._now = 0.0
        self._late = min((line["t"] - sent(line) for line in self.lines if line["kind"] == "event"), default=0.0)

    # --- the story -------------------------------------------------------------------------------------

    def run(self) -> None:
        try:
            for line in self._lines():
                self._handlers[line["kind"]](line)
            for side in self.sides.values():
                self._finish(side)
            self._compare_stderr()
        finally:
            if self.home != "/tmp":
                for side in self.sides.values():
                    side.emulator.kill()
                self.world.close()
                shutil.rmtree(self.home)
            if self._keys:
                shutil.rmtree(self._keys)

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
                if side.held is not None and side.held():
                    side.held = None
                    side.listener().resume()
            return goal()

        self.world.run_until(look, PATIENCE_NS)

    def _start(self, line: Line) -> None:
        who, argv = line["who"], line["msg"]["argv"][1:]
        if who in self.sides:
            self._finish(self.sides.pop(who))
        self.lab.remove(f"{self.home}/{who}.ram")
        boots, argv = self._without_image(argv)
        fake = BOOT_DIRTIES if boots else {}
        emulator = SimEmulator(self.world, argv, name=who, profile=self.profile, fake=fake)
        side = self.sides[who] = Side(who, emulator, "q35" in argv, self._events_of(who))
        side.loads_at_once = "-incoming file:" in " ".join(argv)
        if emulator.exit_status is None:
            emulator.connect(_monitor_path(argv))
            self._fill(side, argv)

    def _events_of(self, who: str) -> list[tuple[float, str, Any]]:
        """The events of the emulator that starts here."""
        events = []
        is_ready = False  # what comes before the first reply depends on how fast the start was
        for line in self.lines[self._position :]:
            if line["who"] == who and line["kind"] == "start":
                break
            is_ready = is_ready or (line["who"] == who and line["kind"] == "<")
            if line["who"] == who and line["kind"] == "event" and is_ready:
                event = line["msg"]
                events.append((sent(line) + self._late, event["event"], event.get("data", {})))
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
        """What the lab wrote into the file that is the source's memory, or the guest into it."""
        blocks = side.emulator.vm.ram_blocks
        if "-incoming" in argv or not blocks:
            return
        pages = min(self._normal_pages(side.name), blocks[0].pages)
        blocks[0].write_pages(0, b"".join(bytes((1 + n % 255,)) * 4096 for n in range(pages)))

    def _normal_pages(self, who: str) -> int:
        """How many pages held something: by the counters of the next migration that completes, or one that is under way.

        Where a migration broke off before it came to its end, there was more than a socket holds.
        """
        pages, breaks_off, was_sent = 0, False, False
        for line in self.lines[self._position :]:
            reply = line["msg"].get("return") if line["kind"] == "<" and line["who"] == who else None
            status = (
                line["msg"].get("data", {}).get("status") if line["kind"] == "event" and line["who"] == who else None
            )
            if line["who"] == who and line["kind"] == "start":
                break
            was_sent = was_sent or status == "device"
            breaks_off = (
                breaks_off or (status in FAILED and not was_sent) or "guest RAM equal on both sides" in line["msg"]
            )
            if isinstance(reply, dict) and reply.get("ram", {}).get("total"):
                if reply["status"] == "completed":
                    return int(reply["ram"]["normal"])
                if reply["ram"]["normal"]:
                    pages = ALL_PAGES
        return ALL_PAGES if breaks_off else pages

    def _put_back(self, request: Line) -> None:
        """While it went through one parameter after the other, the recorder put each back without writing it down."""
        arguments = request.get("arguments", {})
        now = next(iter(arguments), "") if request.get("execute") == "migrate-set-parameters" else ""
        before, self._parameter = self._parameter, now if self._parameter is not None else None
        if before and now != before:
            default = self._default(before)
            if default is not None:
                (side,) = self.sides.values()
                side.emulator.send({"execute": "migrate-set-parameters", "arguments": {before: default}})
            if not now:
                self._parameter = None  # all were gone through

    def _default(self, parameter: str) -> Any:
        replies = (line["msg"].get("return") for line in self.lines if line["kind"] == "<")
        return next((reply[parameter] for reply in replies if isinstance(reply, dict) and parameter in reply), None)

    # --- commands --------------------------------------------------------------------------------------

    def _command(self, line: Line) -> None:
        who, request = line["who"], line["msg"]
        side = self.sides[who]
        command = request.get("execute") or request["exec-oob"]
        if side.emulator.exit_status is not None and command == "qmp_capabilities":
            return  # its start failed after the client had connected
        expected = self._reply_to(who)
        if command == "qmp_capabilities" or command in OTHER_COMMANDS:
            return
        if command in POLLS and "return" in expected:
            self._poll(side, command, expected["return"])
            return
        self._await_events(line["t"])
        if command == "migrate-pause":
            self.world.run_ready()  # what was sent has arrived
            self.lab.has_cut = True
        before = side.spoken_to()
        got = self.send(side, request)
        side.heard(before, begins=command in ("migrate", "migrate-incoming"))
        if command == "migrate-incoming" and "return" in got:
            self._incoming(side, request)
        if expected is CRASHED:  # ours says something instead
            assert "error" in got, request
            self.sides.pop(who).emulator.kill()
        else:
            assert comparable(command, got) == comparable(command, expected), f"{request}: {got}, not {expected}"

    def send(self, side: Side, request: Line) -> Line:
        """Give a command; its reply."""
        if self.name == "params-values":
            self._put_back(request)
        if request.get("execute") == "migrate":
            saved = re.search(r"(?:file:|> )([^ ,]+)", str(request["arguments"].get("uri")))
            self.saved_to = saved.group(1) if saved else ""
        fds = self.lab.descriptors(side, request)
        try:
            return {"return": side.emulator.send(self.lab.translate(request), fds)}
        except QemuError as error:
            return {"error": {"class": error.cls, "desc": error.desc}}

    def _incoming(self, side: Side, request: Line) -> None:
        """A destination listens: somebody comes."""
        if self.name == "incoming-exit-on-error":
            self.lab.bring(header() + configuration("nope"), request["arguments"]["uri"].partition(":")[2])
        # The relay was slower than a destination that ended before it heard of the migration.
        self.lab.is_slow = not any(data.get("status") == "active" for _, _, data in side.recorded)
        self._hold(side)

    def _hold(self, side: Side) -> None:
        """A destination that got to a connection late, when the source had sent all it had to, does so here, too; one that
        failed before the source had sent all has no room for it.
        """
        active = [t for t, _, data in side.recorded if t > self._now and data.get("status") == "active"]
        source = self.sides.get("src")
        if not active or source is None or source is side or self.home != "/tmp":
            return
        before = source.expected(active[0])
        self.world.network.capacity = PIPE_CAPACITY
        if DEVICE in source.expected() and FAILED_EVENT in source.expected():
            if DEVICE in before:
                side.held = lambda: len(source.told()) >= len(before)
                side.listener().pause()
            else:  # it was fast, and ended while the source had more to say
                self.world.network.capacity = SMALL_CAPACITY

    def _reply_to(self, who: str) -> Any:
        for line in self._lines():
            if line["kind"] == "<" and line["who"] == who:
                return line["msg"]
            if "the emulator died; rc" in line["msg"] or any(text.endswith("kills it, rc") for text in line["msg"]):
                return CRASHED
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
        """Something goes wrong from here on: it is the lab's doing where it cut the connection or killed somebody."""
        source = self.sides.get("src")
        if self.lab.cuts and source is not None and DEVICE in source.expected() and DEVICE not in source.told():
            # It went on to the switchover: all pages were sent before.
            unwatch = source.emulator.vm.trace.watch(
                lambda _event, _fields: self.lab.cut(), "migration_bitmap_sync_end"
            )
            self.until(lambda: self.lab.has_cut)
            unwatch()
        self.lab.cut_if_due()
        for line in self.lines[self._position :]:
            side = self.sides.get(line["who"])
            if line["kind"] == "exit" and line["msg"]["rc"] == -9 and side and side.emulator.exit_status is None:
                self.world.run_for(150 * NS_PER_MS)
                side.emulator.kill()

    def _note(self, line: Line) -> None:
        note = line["msg"]
        if isinstance(note, str):
            self._remark(note)
            return
        if "lab error" in note:  # the real ones hung; ours do not
            for side in self.sides.values():
                assert side.told()[: len(side.expected())] == side.expected()
                side.emulator.kill()
            self.sides.clear()
            return
        self._await_events(self._now)
        for text, value in note.items():
            if text == "file size":
                self._compare_file_size(value)
            elif text.startswith("guest RAM equal"):
                assert self._memory_equal() == value
            elif text in ("source stderr", "destination stderr"):
                who = "src" if text == "source stderr" else "dst"
                said = "".join(self.sides[who].emulator.said)
                assert printed(said) == printed(value), f"{who} printed {said}"
            elif text in ("destination rc", "rc"):
                if value is not None:
                    self.until(lambda: self.sides["dst"].emulator.exit_status is not None)
                assert self.sides["dst"].emulator.exit_status == value
            elif text == "stderr" and value:
                assert printed("".join(self.sides["dst"].emulator.said)) == printed(value)
            elif text.startswith("-incoming"):
                self._compare_failed_start(value)
            elif text == "reads back":
                (parameter,) = set(note) - {text}
                assert self._parameters()[parameter] == value, note
            elif self.name.startswith("caps-pairs"):
                assert answer_of_every_set(self, text, value) == value

    def _compare_file_size(self, value: int) -> None:
        if "gzip" in self.name:
            return  # how well a page is packed depends on what stands in it, which is not recorded
        difference = abs(self.lab.file_size(self.saved_to) - value)
        assert difference <= (SECTIONS_BYTES if self.home != "/tmp" else 0)

    def _compare_failed_start(self, outcome: str) -> None:
        """`WHO exited STATUS: STDERR`, or `WHO closed its monitor; stderr: STDERR`."""
        who, _, text = outcome.partition(" ")
        emulator = self.sides[who].emulator
        said = "".join(emulator.said)
        self.sides[who].start_failed = True
        assert emulator.exit_status == 1
        assert said == text.partition(": ")[2], said

    def _parameters(self) -> Line:
        (side,) = self.sides.values()
        result: Line = side.emulator.execute("query-migrate-parameters")
        return result

    def _remark(self, text: str) -> None:
        if "closed its monitor" in text:
            self._compare_failed_start(text)
        elif text == "the channel is cut":
            self.world.run_ready()  # what was sent has arrived
            self.lab.cut()
        elif text.endswith("is killed"):
            self._kill({"the source": "src", "the destination": "dst"}[text.removesuffix(" is killed")])

    def _kill(self, who: str) -> None:
        self._await_events(self._now)
        self.world.run_ready()  # what was sent has arrived
        self.sides[who].emulator.kill()

    def _memory_equal(self) -> bool:
        blocks = [side.emulator.vm.ram_blocks[0] for side in self.sides.values()]
        return len({bytes(block.read_pages(0, block.pages)) for block in blocks}) == 1

    def _exit(self, line: Line) -> None:
        side = self.sides.get(line["who"])
        if side is None:
            return  # it died before
        if line["msg"]["rc"] == -9:
            side.emulator.kill()
        if line["msg"]["rc"] in SIGNALS:  # the real one died of something that ours answers
            self.sides.pop(side.name).emulator.kill()
            return
        try:
            self.until(lambda: side.emulator.exit_status is not None)
        except SimStalled:
            raise AssertionError(f"{side.name} does not end") from None
        assert side.emulator.exit_status == line["msg"]["rc"], side.emulator.said

    def _stderr(self, line: Line) -> None:
        if "GLib:" not in line["msg"] and "Unexpected error in" not in line["msg"]:  # the last words of one that died
            self._stderr_lines.setdefault(line["who"], []).append(line["msg"])

    def _compare_stderr(self) -> None:
        """The recorder wrote down at the end what each of its emulators had printed, if anything."""
        if '"source stderr"' in self.text:
            return  # compared case by case
        for who, texts in self._stderr_lines.items():
            said = [text for name, text in self._said if name == who]
            assert [printed(text) for text in said] == [printed(text) for text in texts], f"{who} printed {said}"

    def _stray(self, line: Line) -> None:
        raise AssertionError(f"a reply to no command: {line}")

    def _finish(self, side: Side) -> None:
        """No more is recorded of it."""
        self._await_events_of(side)
        assert side.told() == side.expected(), f"{side.name} told {side.told()}, not {side.expected()}"
        assert side.emulator.vm.bugs == 0, side.emulator.said
        if side.emulator.said and not side.start_failed:
            self._said.append((side.name, "".join(side.emulator.said)))
        side.emulator.kill()

    def _bytes(self, ram: dict[str, Any]) -> int:
        """What was sent, but for packed pages: how well they are packed depends on what stands in them."""
        is_packed = '"zlib"' in self.text or '"zstd"' in self.text
        if ram["multifd-bytes"] and ram["postcopy-bytes"]:  # how much went over which channel is a matter of time
            return int(ram["transferred"]) - int(ram["multifd-bytes"]) - int(ram["postcopy-bytes"])
        # 7.2 puts packets behind each PART.
        leaves_out = is_packed or self.profile == "7.2"
        return int(ram["transferred"]) - (int(ram["multifd-bytes"]) if leaves_out else 0)

    def _compare_counters(self, side: Side, expected: dict[str, Any]) -> None:
        # What was under way when a connection broke is chance, and is sent again.
        board = side.emulator.vm.board
        if board is None or board.name != "none" or self.lab.has_cut:
            return
        got = query_migrate(side.emulator.vm.migration)["ram"]
        for name in ("total", "duplicate", "normal", "normal-bytes", "page-size", "remaining", "dirty-sync-count"):
            assert got[name] == expected[name], f"{name}: {got[name]}, not {expected[name]}"
        there, here = self._bytes(expected), self._bytes(got)
        assert abs(here - there) <= SECTIONS_BYTES, f"transferred: {here}, not {there}"


def _monitor_path(argv: list[str]) -> str:
    return argv[argv.index("-qmp") + 1].removeprefix("unix:").partition(",")[0]
