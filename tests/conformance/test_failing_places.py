# SPDX-License-Identifier: MIT
"""Places in which a real QEMU can be made to fail, fakeqemu and a real one side by side: a file that may not grow at the
switchover, a cache that no host has the memory for, a switchover that is cancelled, sections of a forged stream.

What is compared: all statuses that events tell, how it ended and why, the run state, and what is said on stderr.
"""

from __future__ import annotations

import os
import resource
import socket
import tempfile
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.bench._real import fake_qemu
from tests.conformance._real import need_real_qemu
from tests.conformance.test_migration_fds import Monitor

pytestmark = pytest.mark.real_qemu

VERSIONS = ("11.1", "10.0", "7.2")
PAUSED: tuple[list[str], ...] = (["-S"], [])
#: how many more bytes a file may have at the switchover; END alone is smaller than the last of them
ROOM = (0, 5, 30)


#: a shell that goes on as the command it is given, which a file that is full does not kill
UNKILLED = ["/bin/sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"]


def lines_of(reader: int) -> list[str]:
    """What was said, without the name of who says it."""
    with os.fdopen(reader) as said:
        return [line.partition(": ")[2].rstrip() for line in said]


def run(command: list[str], arguments: list[str], story: Callable[[Monitor], Any]) -> Any:
    """What a story finds out, and what was said on stderr meanwhile."""
    reader, writer = os.pipe()
    with closing(Monitor([*UNKILLED, *command], arguments, [], writer)) as monitor:
        os.close(writer)
        found = story(monitor)
    return [found, lines_of(reader)]


def end_of(monitor: Monitor) -> list[Any]:
    """How a migration has ended; older releases give the guest back behind the event that tells of it."""
    info = monitor.ask("query-migrate")
    statuses = list(monitor.statuses)
    while (state := monitor.ask("query-status"))["status"] == "finish-migrate":
        pass
    return [statuses, info["status"], info.get("error-desc"), state]


def pause_before(monitor: Monitor, uri: str) -> None:
    """Migrate until the guest is stopped."""
    wanted = [{"capability": "pause-before-switchover", "state": True}]
    monitor.ask("migrate-set-capabilities", capabilities=wanted)
    assert monitor.ask("migrate", uri=uri) == {}
    while "pre-switchover" not in monitor.statuses:
        assert monitor._next() is not None


@pytest.mark.parametrize("room", ROOM)
@pytest.mark.parametrize("arguments", PAUSED, ids=["paused", "running"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_file_that_is_full_at_the_switchover(version: str, arguments: list[str], room: int, tmp_path: Path) -> None:
    real = need_real_qemu(version)
    path = tmp_path / "file"

    def fill(monitor: Monitor) -> Any:
        path.write_bytes(b"")
        if version == "7.2":
            with path.open("r+b") as file:
                monitor.ask("getfd", [file.fileno()], fdname="x")
        pause_before(monitor, "fd:x" if version == "7.2" else f"file:{path}")
        limit = path.stat().st_size + room
        resource.prlimit(monitor.process.pid, resource.RLIMIT_FSIZE, (limit, limit))
        monitor.ask("migrate-continue", state="pre-switchover")
        monitor.wait_end()
        return end_of(monitor)

    with fake_qemu(version) as fake:
        theirs = run(real, arguments, fill)
        assert theirs[0][1] == "failed"
        assert run(fake, arguments, fill) == theirs


@pytest.mark.parametrize("arguments", PAUSED, ids=["paused", "running"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_switchover_that_is_cancelled(version: str, arguments: list[str]) -> None:
    real = need_real_qemu(version)

    def cancel(monitor: Monitor) -> Any:
        pause_before(monitor, "exec:cat >/dev/null")
        monitor.ask("migrate_cancel")
        while monitor.statuses[-1] != "cancelled":
            assert monitor._next() is not None
        if version == "7.2":  # the switchover is let go before it is told that it is cancelled
            monitor.statuses = [status for status in monitor.statuses if status != "device"]
        return end_of(monitor)

    with fake_qemu(version) as fake:
        assert run(fake, arguments, cancel) == run(real, arguments, cancel)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_cache_that_no_host_has_the_memory_for(version: str) -> None:
    real = need_real_qemu(version)

    def migrate(monitor: Monitor) -> Any:
        monitor.ask("migrate-set-capabilities", capabilities=[{"capability": "xbzrle", "state": True}])
        answer = monitor.ask("migrate-set-parameters", xbzrle_cache_size=1 << 62)
        monitor.ask("migrate", uri="exec:cat >/dev/null")
        monitor.wait_end()
        return [answer, *end_of(monitor)]

    with fake_qemu(version) as fake:
        theirs = run(real, [], migrate)
        assert theirs[0][2] == "failed"
        assert run(fake, [], migrate) == theirs


# --- forged streams ---------------------------------------------------------------------------------------


@cache
def stream_of(command: tuple[str, ...]) -> bytes:
    """The stream of an empty machine."""
    near, far = socket.socketpair()
    with near, far:
        with closing(Monitor(list(command), [], [])) as monitor:
            monitor.ask("getfd", [near.fileno()], fdname="x")
            near.close()
            assert monitor.ask("migrate", uri="fd:x") == {}
            monitor.wait_end()
        with far.makefile("rb") as stream:
            return stream.read()


def put(stream: bytes, before: bytes, after: bytes) -> bytes:
    assert stream.count(before) >= 1
    return stream.replace(before, after, 1)


#: one for a place of the load: what is changed in the stream of an empty machine, in which the RAM has section 1 or 2
FORGED: dict[str, Callable[[bytes], bytes]] = {
    "magic": lambda stream: b"QEVN" + stream[4:],
    "version": lambda stream: stream[:4] + b"\0\0\0\4" + stream[8:],
    "old version": lambda stream: stream[:4] + b"\0\0\0\2" + stream[8:],
    "no configuration": lambda stream: stream[:8] + b"\6" + stream[9:],
    "machine type": lambda stream: put(stream, b"none", b"nine"),
    "section type": lambda stream: stream[:17] + b"\x55" + stream[18:],
    "section name": lambda stream: put(stream, b"\x03ram", b"\x03rom"),
    "section version": lambda stream: put(stream, b"\x03ram\0\0\0\0\0\0\0\4", b"\x03ram\0\0\0\0\0\0\0\5"),
    "old section version": lambda stream: put(stream, b"\x03ram\0\0\0\0\0\0\0\4", b"\x03ram\0\0\0\0\0\0\0\3"),
    "footer": lambda stream: put(stream, b"\x7e", b"\x7d"),
    "footer's section": lambda stream: put(stream, b"\x7e\0\0\0", b"\x7e\0\0\1"),
    "unknown section goes on": lambda stream: put(stream, b"\x03\0\0\0", b"\x03\0\0\1"),
    "device version": lambda stream: put(stream, b"\x05timer\0\0\0\0\0\0\0\2", b"\x05timer\0\0\0\0\0\0\0\3"),
    "old device version": lambda stream: put(stream, b"\x05timer\0\0\0\0\0\0\0\2", b"\x05timer\0\0\0\0\0\0\0\0"),
    "run state": lambda stream: put(stream, b"running\0", b"ronning\0"),
    "command": lambda stream: stream[:17] + b"\x08\0\x55\0\3" + stream[17:],
    "command's length": lambda stream: stream[:17] + b"\x08\0\2\0\3" + stream[17:],
    "ping without an ear": lambda stream: stream[:17] + b"\x08\0\2\0\4\0\0\0\1" + stream[17:],
    "subsection": lambda stream: stream[:17] + b"\x05\x13configuration/other\0\0\0\1" + stream[17:],
    "capability": lambda stream: (
        stream[:17] + b"\x05\x1aconfiguration/capabilities\0\0\0\1\0\0\0\1\x05other" + stream[17:]
    ),
    "capability that is off here": lambda stream: (
        stream[:17] + b"\x05\x1aconfiguration/capabilities\0\0\0\1\0\0\0\1\x0fx-ignore-shared" + stream[17:]
    ),
    "subsection's version": lambda stream: stream[:17] + b"\x05\x12configuration/uuid\0\0\0\2" + stream[17:],
}


def loaded(command: list[str], stream: bytes) -> Any:
    def load(monitor: Monitor) -> Any:
        monitor.ask("migrate-incoming", uri=f"exec:cat {path}")
        monitor.wait_end()
        return monitor.statuses

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stream"
        path.write_bytes(stream)
        return run(command, ["-incoming", "defer"], load)


@pytest.mark.in_turn("version")
@pytest.mark.parametrize("place", FORGED)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_stream_that_is_wrong_in_one_place(version: str, place: str) -> None:
    real = need_real_qemu(version)
    stream = stream_of(tuple(real))
    with fake_qemu(version) as fake:
        theirs = loaded(real, FORGED[place](stream))
        assert theirs[0][-1] == "failed"
        assert loaded(fake, FORGED[place](stream)) == theirs
