# SPDX-License-Identifier: MIT
"""A recording's lines, and one emulator with what was recorded of it: what is compared, and how."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fakeqemu.migration.stats import query_migrate
from fakeqemu.testing.sim_machine import SimEmulator

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "transcripts"
POLLS = ("query-migrate", "query-status")
#: what was said on a host with vsock, and what is on one without; numbers of no descriptor, of which this process has more
OTHER_HOST = {
    "fd:77": "fd:877",
    "Failed to connect to '2:1': Connection reset by peer": "Failed to create socket: Address family not supported by protocol",
}

#: commands in the recordings that are about block and network devices and dumps, which are not emulated; what they cause
OTHER_COMMANDS = ("blockdev-add", "dump-guest-memory", "netdev_add", "pmemsave", "snapshot-save")
OTHER_EVENTS = ("JOB_STATUS_CHANGE",)

#: lines of real QEMUs that ours do not print: what a shutdown of a TCP connection says that its peer has reset
NOT_PRINTED = ("qemu-system-x86_64: Unable to shutdown socket: Transport endpoint is not connected",)

#: parts of recordings that are left out: emulators by name, and cases; with what they need that is not there.
EMULATORS_LEFT_OUT = {"ivshmem-peer": "ivshmem, and CPR", "onlymig": "ivshmem", "p9": "-fsdev"}
CASES_LEFT_OUT = {
    "dirty-bitmaps only on the source": "block devices",
    "virtio-net queues": "network devices",
}

Line = dict[str, Any]


def transcripts(folder: Path = FOLDER) -> list[str]:
    """Names of all transcripts, as `VERSION/NAME`."""
    return sorted(f"{path.parent.name}/{path.stem}" for path in folder.glob("*/*.jsonl"))


def read(name: str, folder: Path = FOLDER, home: str = "/tmp", keys: str = "") -> list[Line]:
    """The lines of a transcript, with its folders replaced: `home` is where sockets and files are, `keys` those of TLS."""
    text = (folder / f"{name}.jsonl").read_text()
    memory = "/dev/shm" if home == "/tmp" else home
    for variable, path in (
        ("$TMP/pki", f"{keys}/pki"),
        ("$TMP/psk", f"{keys}/psk"),
        ("$TMP", home),
        ("$SHM", memory),
        ("$HOME", "/home"),
        ("$ORACLE", "/oracle"),
    ):
        text = text.replace(variable, path)
    for there, here in OTHER_HOST.items():
        text = text.replace(there, here)
    if "nosuch.invalid" in text:
        text = text.replace("nosuch.invalid:1: Name or service not known", f"nosuch.invalid:1: {_unknown_name()}")
    return without_parts_left_out([json.loads(line) for line in text.splitlines()])


def _unknown_name() -> str:
    """What this host says of a name that nobody has: it may have no name server."""
    try:
        socket.getaddrinfo("nosuch.invalid", 1)
    except socket.gaierror as error:
        return str(error.strerror)
    raise AssertionError("somebody has the name nosuch.invalid")


def without_parts_left_out(lines: list[Line]) -> list[Line]:
    """What is left of a recording."""
    left: list[Line] = []
    leaves_out = False
    for line in lines:
        note = line["msg"] if line["kind"] == "note" else None
        if isinstance(note, dict) and "case" in note:
            leaves_out = note["case"] in CASES_LEFT_OUT
        who = note.partition(" ")[0] if isinstance(note, str) else line["who"]
        if not leaves_out and who not in EMULATORS_LEFT_OUT:
            left.append(line)
    return left


def shape(value: Any) -> Any:
    """What is compared of a reply to query-migrate: which fields there are, and the texts that are no numbers."""
    if isinstance(value, dict):
        return tuple((key, shape(value[key])) for key in sorted(value))
    if isinstance(value, list):
        return tuple(shape(each) for each in value)
    if isinstance(value, str) and not value.isdigit():  # a port is a number
        return re.sub(r"\bmultifd \d+", "multifd N", value)  # which of the channels was first is chance
    return None


@dataclass
class Side:
    """One emulator and what the recording says of it."""

    name: str
    emulator: SimEmulator
    #: whether a guest runs in it that dirties memory as it likes
    boots: bool
    #: what was recorded of it: when it was sent, in the recorder's time, name and data
    recorded: list[tuple[float, str, Any]]
    #: what a poll would have seen, one after the other, by command
    history: dict[str, list[Any]] = field(default_factory=lambda: {command: [] for command in POLLS})
    #: how much of that the recorded polls have seen
    seen: dict[str, int] = field(default_factory=lambda: dict.fromkeys(POLLS, 0))

    #: whether it loads a file as it starts: before or after the client comes
    loads_at_once: bool = False
    #: whether its start failed
    start_failed: bool = False
    #: whether a destination may take the connection now that it did not take at once; None: it may
    held: Callable[[], bool] | None = None

    def __post_init__(self) -> None:
        for pattern in ("migrate_*", "runstate_set"):
            self.emulator.vm.trace.watch(lambda _event, _fields: self.sample(), pattern)

    def listener(self) -> Any:
        """What a destination listens with."""
        incoming = self.emulator.vm.migration.incoming
        assert incoming is not None
        return incoming._listener

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

    def spoken_to(self) -> dict[str, int]:
        """What the polls after a command of now may see: pass the result to `heard`."""
        self.sample()
        return {command: len(history) for command, history in self.history.items()}

    def heard(self, before: dict[str, int], *, begins: bool) -> None:
        """The command was answered: what was before it is no more; what was when it came may be, unless it `begins` anew."""
        self.sample()
        for command, count in before.items():
            self.seen[command] = count if begins and len(self.history[command]) > count else count - 1

    def told(self) -> list[tuple[str, Any]]:
        return self._comparable([(name, data) for _, name, data in self.emulator.events])

    def expected(self, before: float = float("inf")) -> list[tuple[str, Any]]:
        return self._comparable(
            [(name, data) for t, name, data in self.recorded if t < before and name not in OTHER_EVENTS]
        )

    def _comparable(self, events: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
        """Not compared: passes of a guest that runs, how many and when; a destination that loads as it starts."""
        if self.loads_at_once:
            return []
        return [e for e in events if e[0] != "MIGRATION_PASS"] if self.boots else events


def sent(line: Line) -> float:
    """When an event was sent, by its own timestamp."""
    stamp = line["msg"]["timestamp"]
    return float(stamp["seconds"] + stamp["microseconds"] / 1_000_000)


def brief(value: Any) -> str:
    """A shape, readable."""
    return re.sub(r"\('([\w-]+)', None\),? ?", r"\1 ", str(value))


def printed(text: str) -> list[str]:
    """Lines of stderr; threads print in no order."""
    return sorted(line for line in text.splitlines() if line not in NOT_PRINTED)


def comparable(command: str, reply: Any) -> Any:
    """A reply without what is chance: numbers in texts meant for people, descriptors."""
    if command == "human-monitor-command" and isinstance(reply.get("return"), str):
        return re.sub(r"\d+(\.\d+)?", "N", reply["return"])
    if command in ("add-fd", "query-fdsets", "query-cpus-fast"):
        return re.sub(r"\d+", "N", json.dumps(reply, sort_keys=True))
    return reply
