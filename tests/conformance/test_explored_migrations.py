# SPDX-License-Identifier: MIT
"""Conversations around a migration that runs, held with fakeqemu and with a real QEMU: the same replies, events and stderr.

Each was found by conversations that a program had made. A step is a request, or an event to wait for; of what comes,
timestamps and times are left out.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.bench._real import fake_qemu
from tests.conformance._real import need_real_qemu

pytestmark = pytest.mark.real_qemu

VERSIONS = ("11.1", "10.0", "7.2")
NONE = ("-machine", "none", "-nodefaults")
Q35 = ("-machine", "q35", "-accel", "tcg", "-m", "16", "-nodefaults", "-S")
#: so much memory that a migration of 2000 bytes a second takes longer than a test
LARGE = ("-machine", "q35", "-accel", "tcg", "-m", "2048", "-nodefaults")
TIMES = ("total-time", "setup-time", "downtime", "expected-downtime", "remaining", "mbps", "pages-per-second")


class Emulator:
    """An emulator with its monitor on its standard streams."""

    def __init__(
        self, command: list[str], arguments: tuple[str, ...], folder: Path, capabilities: dict[str, Any]
    ) -> None:
        self.folder = folder
        self.said: list[Any] = []
        self._stderr = (folder / f"stderr{os.urandom(4).hex()}").open("w+b")
        self.process = subprocess.Popen(
            [*command, "-display", "none", "-qmp", "stdio", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            cwd=folder,
        )
        if self._line() is not None:
            self.ask("qmp_capabilities", **capabilities)
        self.said.clear()

    def _line(self) -> dict[str, Any] | None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            return None
        message: dict[str, Any] = json.loads(line)
        message.pop("timestamp", None)
        self.said.append(_stable(message))
        return message

    def ask(self, execute: str, **arguments: Any) -> Any:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"execute": execute, "arguments": arguments}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return None  # it has ended: its status and its words tell
        while (message := self._line()) is not None and "event" in message:
            pass
        return message

    def wait_for(self, status: str) -> None:
        wanted = {"event": "MIGRATION", "data": {"status": status}}
        if wanted not in self.said:
            while (message := self._line()) is not None and message != wanted:
                pass

    def end(self) -> tuple[Any, ...]:
        """Everything said after the last request, exit status, what is on stderr."""
        assert self.process.stdin is not None
        while self._line() is not None:
            pass
        status = self.process.wait(60)
        self._stderr.seek(0)
        text = re.sub(r"^.*qemu-system-x86_64: ", "", self._stderr.read().decode(), flags=re.MULTILINE)
        return (*self.said, status, text)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self._stderr.close()


def _stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: 0 if name in TIMES else _stable(below) for name, below in value.items()}
    if isinstance(value, list):
        return [_stable(below) for below in value]
    return value


@contextmanager
def emulator(command: list[str], arguments: tuple[str, ...], folder: Path, **capabilities: Any) -> Iterator[Emulator]:
    folder.mkdir(exist_ok=True)
    started = Emulator(command, arguments, folder, capabilities)
    try:
        yield started
    finally:
        started.close()


def both(version: str, tmp_path: Path) -> Iterator[tuple[list[str], Path]]:
    """The command of either emulator, with a folder of its own."""
    real = need_real_qemu(version)
    with fake_qemu(version) as fake:
        yield real, tmp_path / "r"
        yield fake, tmp_path / "f"


def capabilities(*names: str) -> dict[str, Any]:
    return {"capabilities": [{"capability": name, "state": True} for name in names]}


def human(line: str) -> dict[str, str]:
    return {"command-line": line}


@contextmanager
def no_answer() -> Iterator[int]:
    """A port at which nobody accepts, and whose queue is full: who connects waits."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
            waiting.append(client)
        yield listener.getsockname()[1]
        for client in waiting:
            client.close()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("when", ["setup", "active", "pre-switchover", "completed"])
def test_quit_is_answered_when_the_migration_was_given_up(version: str, when: str, tmp_path: Path) -> None:
    found = []
    with no_answer() as port:
        for command, folder in both(version, tmp_path):
            large = LARGE if when == "active" else NONE
            with emulator(command, large, folder) as source:
                wanted = ("events", "pause-before-switchover") if when == "pre-switchover" else ("events",)
                source.ask("migrate-set-capabilities", **capabilities(*wanted))
                source.ask("migrate-set-parameters", **{"max-bandwidth": 2000 if when == "active" else 0})
                uri = f"tcp:127.0.0.1:{port}" if when == "setup" else "exec:cat >/dev/null"
                source.ask("migrate", uri=uri)
                source.wait_for(when)
                source.said.clear()
                source.ask("quit")
                *said, status, text = source.end()
                # Whether a write was going on at that moment is chance, and so is what is printed of it.
                found.append((said, status, "" if when == "active" else text))
    assert found[1] == found[0]


@pytest.mark.parametrize("version", ["10.0"])
def test_what_is_cancelled_while_it_connects_is_cancelled_at_once(version: str, tmp_path: Path) -> None:
    found = []
    with no_answer() as port:
        for command, folder in both(version, tmp_path):
            with emulator(command, NONE, folder) as source:
                source.ask("migrate-set-capabilities", **capabilities("events"))
                source.ask("migrate", uri=f"tcp:127.0.0.1:{port}")
                source.ask("migrate_cancel")
                source.ask("query-migrate")
                found.append(source.said)
    assert found[1] == found[0]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("machine", ["q35", "pc"])
def test_a_guest_that_has_not_run_has_as_many_pages_of_firmware(version: str, machine: str, tmp_path: Path) -> None:
    found = []
    for command, folder in both(version, tmp_path):
        with emulator(command, ("-machine", machine, *Q35[2:]), folder) as source:
            source.ask("migrate-set-capabilities", **capabilities("events"))
            source.ask("migrate", uri="exec:cat >/dev/null")
            source.wait_for("completed")
            ram = source.ask("query-migrate")["return"]["ram"]
            found.append({name: ram[name] for name in ("normal", "duplicate", "total", "normal-bytes")})
    if machine == "q35":
        assert found[1] == found[0]
    else:  # the tables for its guest are shorter by a page or two
        assert abs(found[1]["normal"] - found[0]["normal"]) <= 2


@pytest.mark.parametrize("version", VERSIONS)
def test_a_program_that_reads_too_little_breaks_the_pages_of_firmware(version: str, tmp_path: Path) -> None:
    found = []
    for command, folder in both(version, tmp_path):
        with emulator(command, Q35, folder) as source:
            source.ask("migrate-set-capabilities", **capabilities("events"))
            source.ask("migrate", uri="exec:head -c 100 >/dev/null")
            source.wait_for("failed")
            source.ask("query-migrate")
            found.append([one for one in source.said if "event" not in one or one["event"] == "MIGRATION"])
    replies = [[one for one in said if "return" in one] for said in found]
    events = [[one for one in said if "event" in one] for said in found]
    assert replies[1] == replies[0]
    assert events[1] == events[0]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_low_limit_lets_as_much_through_a_window(version: str, tmp_path: Path) -> None:
    rates = []
    for command, folder in both(version, tmp_path):
        with emulator(command, LARGE, folder) as source:
            source.ask("migrate-set-parameters", **{"max-bandwidth": 20000})
            source.ask("migrate", uri="exec:cat >/dev/null")
            rate, sent = 0, 0
            while sent < (900 if version == "7.2" else 12000):  # some windows; the first may be a part of one
                ram = source.ask("query-migrate")["return"].get("ram", {})
                rate, sent = max(rate, ram.get("pages-per-second", 0)), ram.get("duplicate", 0)
            rates.append(rate)
    assert 0.8 < rates[1] / rates[0] < 1.25


TRANSPORTS = ["rdma:127.0.0.1:1", "exec:cat >/dev/null", "fd:nosuch"]


@pytest.mark.in_turn("version")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("uri", TRANSPORTS)
@pytest.mark.parametrize("wanted", ["postcopy-ram", "xbzrle", "multifd", "postcopy-ram postcopy-preempt"])
def test_what_capabilities_cannot_travel_over(version: str, uri: str, wanted: str, tmp_path: Path) -> None:
    if (uri, wanted) in [("exec:cat >/dev/null", "postcopy-ram"), ("exec:cat >/dev/null", "xbzrle")]:
        pytest.skip("that works")
    found = []
    for command, folder in both(version, tmp_path):
        with emulator(command, (*NONE, "-incoming", "defer"), folder) as destination:
            destination.ask("migrate-set-capabilities", **capabilities(*wanted.split()))
            destination.ask("migrate-incoming", uri="rdma:127.0.0.1:1")
            destination.ask("query-migrate")
            destination.ask("quit")
            answers = destination.end()
        with emulator(command, NONE, folder) as source:
            source.ask("migrate-set-capabilities", **capabilities("events", *wanted.split()))
            source.ask("migrate", uri=uri)
            source.ask("query-migrate")
            source.ask("quit")
            found.append((answers, source.end()))
    assert found[1] == found[0]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("uri", ["bogus", "unix:", "tcp:x", "exec:true"])
def test_an_address_that_is_typed_is_looked_at_first(version: str, uri: str, tmp_path: Path) -> None:
    found = []
    for command, folder in both(version, tmp_path):
        with emulator(command, NONE, folder) as source:
            source.ask("human-monitor-command", **human(f"migrate_incoming {uri}"))
            found.append(source.said)
    assert found[1] == found[0]


@pytest.mark.parametrize("version", ["11.1", "10.0"])
@pytest.mark.parametrize("uri", ["exec:sleep 10", "unix:in"])
def test_multifd_may_be_set_late_where_there_are_no_connections(version: str, uri: str, tmp_path: Path) -> None:
    found = []
    for command, folder in both(version, tmp_path):
        with emulator(command, (*NONE, "-incoming", uri), folder) as destination:
            destination.ask("migrate-set-capabilities", **capabilities("multifd"))
            found.append(destination.said)
    assert found[1] == found[0]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("uri", ["tcp::1", "tcp:*:1", "unix:" + 120 * "x"])
def test_addresses_that_lead_nowhere(version: str, uri: str, tmp_path: Path) -> None:
    found = []
    for command, folder in both(version, tmp_path):
        with emulator(command, NONE, folder) as source:
            source.ask("migrate-set-capabilities", **capabilities("events"))
            source.ask("migrate", uri=uri)
            source.wait_for("failed")
            source.ask("query-migrate")
            source.ask("quit")
            said = source.end()
        found.append(said[-5:])
    assert found[1] == found[0]


@pytest.mark.parametrize("version", ["11.1", "10.0"])
def test_a_path_may_be_empty(version: str, tmp_path: Path) -> None:
    found = []
    nowhere = [{"channel-type": "main", "addr": {"transport": "socket", "type": "unix", "path": ""}}]
    for command, folder in both(version, tmp_path):
        with emulator(command, NONE, folder) as source:
            source.ask("migrate-set-capabilities", **capabilities("events"))
            source.ask("migrate", channels=nowhere)
            source.wait_for("failed")
            text = source.ask("query-migrate")["return"]["error-desc"]
        with emulator(command, (*NONE, "-incoming", "defer"), folder) as destination:
            destination.ask("migrate-incoming", channels=nowhere)
            (where,) = destination.ask("query-migrate")["return"]["socket-address"]
            destination.ask("quit")
            destination.end()
        found.append((text, where["type"], Path(where["path"]).name[:12], Path(where["path"]).exists()))
    assert found[1] == found[0]


@pytest.mark.parametrize("version", VERSIONS)
def test_one_that_has_taken_a_guest_in_tells_of_the_migration_it_began(version: str, tmp_path: Path) -> None:
    found = []
    for command, folder in both(version, tmp_path):
        with emulator(command, (*NONE, "-incoming", "unix:in"), folder) as destination:
            destination.ask("migrate-set-capabilities", **capabilities("events"))
            with emulator(command, NONE, folder) as source:
                source.ask("migrate", uri="unix:in")
                destination.wait_for("completed")
            destination.ask("migrate", uri="fd:nosuch")
            destination.ask("query-migrate")
            found.append([one for one in destination.said if "event" not in one])
    assert found[1] == found[0]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_paused_postcopy_says_why(version: str, tmp_path: Path) -> None:
    found = []
    for command, folder in both(version, tmp_path):
        with (
            emulator(command, (*LARGE, "-incoming", "unix:in"), folder) as destination,
            emulator(command, LARGE, folder) as source,
        ):
            for side in (destination, source):
                side.ask("migrate-set-capabilities", **capabilities("events", "postcopy-ram"))
            source.ask("migrate-set-parameters", **{"max-bandwidth": 2000, "max-postcopy-bandwidth": 2000})
            source.ask("migrate", uri="unix:in")
            source.wait_for("active")
            source.ask("migrate-start-postcopy")
            destination.wait_for("postcopy-active")
            source.wait_for("postcopy-active")
            source.ask("migrate-pause")
            source.wait_for("postcopy-paused")
            info = source.ask("query-migrate")["return"]
            text = source.ask("human-monitor-command", **human("info migrate"))["return"]
            status = [line for line in text.splitlines() if "tatus:" in line]
            found.append((sorted(info), info.get("error-desc"), status))
    assert found[1] == found[0]


GLOBALS = [
    "multifd-channels=0", "x-downtime-limit=9999999", "announce-step=0", "multifd-compression=bogus", "xbzrle-cache-size=5",
    "max-cpu-throttle=5", "x-zero-copy-send=on", "x-postcopy-preempt=on", "x-throttle-trigger-threshold=0", "x-events=on",
]  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("value", GLOBALS)
def test_globals_of_the_migration_have_to_go_together(version: str, value: str, tmp_path: Path) -> None:
    found = []
    for command, folder in both(version, tmp_path):
        with emulator(command, (*NONE, "-global", f"migration.{value}"), folder) as started:
            started.ask("quit")
            found.append(started.end()[-2:])
    assert found[1] == found[0]
