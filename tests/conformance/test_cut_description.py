# SPDX-License-Identifier: MIT
"""A connection that ends behind the last section, before the description of it all: fakeqemu and a real QEMU side by side.

Nobody needs the description, so the destination runs; the source has failed to send it, so it runs on. Without a return path
neither hears of the other.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.bench._real import fake_qemu
from tests.conformance._real import need_real_qemu
from tests.conformance.test_migration_fds import Monitor

pytestmark = pytest.mark.real_qemu

BOARD = ["-M", "q35", "-m", "16"]
#: the pipe holds less than the description has: what the source sends last does not go unnoticed
PIPE_SIZE = 4096
#: what a description begins with, behind the end of the sections
BEGINNINGS = (b'{"configuration": {', b'{"page_size": ')


def cut(command: list[str], path: Path) -> list[Any]:
    """What a source says whose reader goes away; what came before the description is in the file."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    with closing(Monitor(command, BOARD, [])) as monitor:
        monitor.ask("getfd", [writer], fdname="x")
        os.close(writer)
        reply = monitor.ask("migrate", uri="fd:x")
        with os.fdopen(reader, "rb", buffering=0) as pipe:
            data = b""
            while not any(beginning in data for beginning in BEGINNINGS):
                chunk = pipe.read(1024)
                assert chunk
                data += chunk
        monitor.wait_end()
        path.write_bytes(data[: max(data.find(beginning) for beginning in BEGINNINGS) - 5])
        info = monitor.ask("query-migrate")
        return [reply, monitor.statuses, info.get("error-desc"), monitor.ask("query-status")]


def load(command: list[str], path: Path) -> list[Any]:
    with closing(Monitor(command, [*BOARD, "-incoming", "defer"], [])) as monitor:
        reply = monitor.ask("migrate-incoming", uri=f"exec:cat {path}")
        monitor.wait_end()
        return [reply, monitor.statuses, monitor.ask("query-status")]


@pytest.mark.parametrize("version", ["11.1", "10.0", "7.2"])
def test_both_sides_run_when_only_the_description_is_lost(version: str, tmp_path: Path) -> None:
    real = need_real_qemu(version)
    path = tmp_path / "stream"
    with fake_qemu(version) as fake:
        theirs = cut(real, path)
        ours = cut(fake, path)
        assert ours == theirs
        assert theirs[1][-1] == "failed"
        assert theirs[-1]["running"]
        # What was cut last is ours, whose devices are known without a description.
        ours, theirs = load(fake, path), load(real, path)
        assert ours == theirs
        assert theirs[1][-1] == "completed"
        assert theirs[-1]["running"]
