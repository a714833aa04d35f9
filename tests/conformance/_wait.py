# SPDX-License-Identifier: MIT
"""Waiting for emulators that are processes: for their sockets, for their end."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import time
from pathlib import Path

#: how long anything may take before a test gives up
PATIENCE_S = 30.0
#: nothing tells that a socket of another process has begun to listen: how long to wait for its end before trying again
LOOK_AGAIN_S = 0.005


def ends_within(process: subprocess.Popen[bytes] | subprocess.Popen[str], seconds: float) -> bool:
    """Wait for the end of a process, `seconds` at most; says whether it has ended."""
    if process.poll() is not None:
        return True
    descriptor = os.pidfd_open(process.pid)
    try:
        select.select([descriptor], [], [], seconds)
    finally:
        os.close(descriptor)
    return process.poll() is not None


def connect(path: Path, process: subprocess.Popen[bytes] | subprocess.Popen[str] | None = None) -> socket.socket:
    """A connection to the UNIX socket at `path` as soon as somebody listens there.

    AssertionError when `process` ends before that, or nobody does for long. Without a process the socket has to be there.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE_S)
        try:
            connection.connect(str(path))
            return connection
        except OSError:
            connection.close()
            if process is None:
                raise
            # a daemon goes on after the process that was started has ended well
            assert not ends_within(process, LOOK_AGAIN_S) or process.returncode == 0, "the emulator has ended"
            assert time.monotonic() < deadline, f"nobody listens at {path}"
