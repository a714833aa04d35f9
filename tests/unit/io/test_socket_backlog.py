# SPDX-License-Identifier: MIT
"""Connecting to a UNIX socket whose backlog is full waits, and holds nothing else up."""

from __future__ import annotations

import socket
from pathlib import Path

from fakeqemu.io.host import ProcessHost
from fakeqemu.io.poller import EpollPoller
from fakeqemu.testing.emulator import short_directory


def test_a_full_backlog_is_waited_for_without_blocking(tmp_path: Path) -> None:
    path = str(short_directory(tmp_path) / "s")
    host = ProcessHost()
    assert isinstance(host.poller, EpollPoller)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(path)
        listener.listen(0)
        first.connect(path)  # fills it
        task = host.start(host.connect({"type": "unix", "path": path}), "client")
        assert not task.done  # a call that blocks would not have come back
        listener.accept()[0].close()
        host.poller.run(lambda: task.done)
        task.result().close()
