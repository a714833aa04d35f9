# SPDX-License-Identifier: MIT
"""What the object `migration` leaves out of a stream, by -global, fakeqemu and a real QEMU side by side.

send-configuration, send-section-footer and store-global-state say what a source sends; the first two also say what a
destination waits for. suppress-vmdesc, of the machine, leaves the description at the end away on both sides.
"""

from __future__ import annotations

import re
import socket
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path

import pytest

from tests.bench._real import fake_qemu
from tests.conformance._real import need_real_qemu
from tests.conformance.test_migration_fds import Monitor

pytestmark = pytest.mark.real_qemu

VERSIONS = ("11.1", "10.0", "7.2")
FOOTERS_OFF = ("-global", "migration.send-section-footer=off")
STATE_OFF = ("-global", "migration.store-global-state=off")
CONFIGURATION_OFF = ("-global", "migration.send-configuration=off")
UNDESCRIBED = ("-machine", "none,suppress-vmdesc=on")
SETTINGS = {
    "usual": (),
    "no-footers": FOOTERS_OFF,
    "no-state": STATE_OFF,
    "no-description": UNDESCRIBED,
    "no-configuration": (*CONFIGURATION_OFF, *UNDESCRIBED),
    "nothing": (*CONFIGURATION_OFF, *UNDESCRIBED, *FOOTERS_OFF, *STATE_OFF),
}
#: two clocks and something unused, behind the header of their section
CLOCKS = re.compile(rb"(\x05timer.{8}).{24}", re.DOTALL)


@cache
def sent_by(command: tuple[str, ...], setting: str, paused: bool = False) -> bytes:
    """The stream of an empty machine, without its clocks."""
    near, far = socket.socketpair()
    with near, far:
        with closing(Monitor(list(command), [*SETTINGS[setting]], [])) as monitor:
            if paused:
                monitor.ask("stop")
            monitor.ask("getfd", [near.fileno()], fdname="x")
            near.close()
            assert monitor.ask("migrate", uri="fd:x") == {}
            monitor.wait_end()
        with far.makefile("rb") as stream:
            return CLOCKS.sub(rb"\1", stream.read())


@pytest.mark.parametrize("version", VERSIONS)
def test_a_source_leaves_out_what_a_real_one_leaves_out(version: str) -> None:
    real = tuple(need_real_qemu(version))
    streams = {}
    with fake_qemu(version) as fake:
        for setting in SETTINGS:
            for paused in (False, True):
                theirs, ours = (sent_by(tuple(one), setting, paused) for one in (real, fake))
                assert ours == theirs, (setting, paused)
                streams[setting, paused] = ours
    assert len(set(streams.values())) == len(streams) - 2  # whether the guest ran is not to be seen without the state


def loaded(command: list[str], arguments: tuple[str, ...], path: Path) -> tuple[list[str], list[str], int | None]:
    """What becomes of a destination to which that stream comes: statuses, lines on stderr, exit status if it has ended."""
    with tempfile.TemporaryFile() as stderr:
        with closing(Monitor(command, [*arguments, "-incoming", "defer"], [], stderr)) as monitor:
            monitor.ask("migrate-incoming", uri=f"exec:cat {path}")
            monitor.wait_end()
        stderr.seek(0)
        lines = [line.partition(": ")[2] for line in stderr.read().decode().splitlines()]
        return monitor.statuses, lines, monitor.process.returncode


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("expected", ["usual", "no-footers", "no-state", "no-configuration"])
def test_a_destination_waits_for_what_a_real_one_waits_for(version: str, expected: str, tmp_path: Path) -> None:
    real = need_real_qemu(version)
    path = tmp_path / "stream"
    clocks = bytes(24)
    with fake_qemu(version) as fake:
        for setting in ("usual", expected, "no-footers" if expected == "usual" else "no-configuration"):
            stream = sent_by(tuple(real), setting)
            path.write_bytes(re.sub(rb"(\x05timer.{8})", lambda m: m[1] + clocks, stream, flags=re.DOTALL))
            theirs, ours = (loaded(one, SETTINGS[expected], path) for one in (real, fake))
            assert ours == theirs, setting


@pytest.mark.parametrize("version", VERSIONS)
def test_a_guest_that_never_ran_is_told_of_where_the_real_one_tells_of_it(version: str) -> None:
    command = tuple(need_real_qemu(version))
    with fake_qemu(version) as fake:
        theirs, ours = (sent_before_the_start(one) for one in (command, tuple(fake)))
    assert ours == theirs
    assert (b"globalstate" in theirs) is (version == "7.2")


def sent_before_the_start(command: tuple[str, ...]) -> bytes:
    near, far = socket.socketpair()
    with near, far, closing(Monitor([*command], ["-S", *STATE_OFF], [])) as monitor:
        monitor.ask("getfd", [near.fileno()], fdname="x")
        near.close()
        assert monitor.ask("migrate", uri="fd:x") == {}
        with far.makefile("rb") as stream:
            return CLOCKS.sub(rb"\1", stream.read())


@pytest.mark.parametrize("version", ["11.1", "10.0"])
def test_what_was_not_sent_cannot_be_described(version: str) -> None:
    """The real one dies of it; ours fails."""
    with closing(Monitor(need_real_qemu(version), [*CONFIGURATION_OFF], [])) as monitor:
        monitor.ask("migrate", uri="exec:cat > /dev/null")
        monitor.wait_end()
        assert monitor.process.wait(20) < 0
    with fake_qemu(version) as fake, closing(Monitor(fake, [*CONFIGURATION_OFF], [])) as monitor:
        monitor.ask("migrate", uri="exec:cat > /dev/null")
        monitor.wait_end()
        assert monitor.statuses[-1] == "failed"
        assert "send-configuration" in monitor.ask("query-migrate")["error-desc"]
