# SPDX-License-Identifier: MIT
"""The two emulators that are compared: a real QEMU, where `tests/conformance/_real.py` finds one, and ours."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fakeqemu.shim import write_shim
from tests.conformance._real import SUITES
from tests.conformance._real import real_qemu as find_real_qemu

PROFILE = "11.1"
_PATIENCE_S = 30.0


def real_qemu(profile: str = PROFILE) -> list[str] | None:
    """The command of a real QEMU of that release, None when there is none here."""
    return find_real_qemu(profile)


@contextmanager
def fake_qemu(profile: str = PROFILE) -> Iterator[list[str]]:
    """The command of our emulator as tools get it: a launcher named as QEMU."""
    folder = tempfile.mkdtemp(prefix="fakeqemu-shim-")
    try:
        yield [str(write_shim(Path(folder), f"profile={profile}"))]
    finally:
        shutil.rmtree(folder)


class Running:
    """A started emulator and the QMP connection to it."""

    def __init__(self, command: Sequence[str], arguments: Sequence[str], folder: str) -> None:
        path = f"{folder}/qmp-{time.monotonic_ns()}"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        listener.settimeout(_PATIENCE_S)
        # As libvirt does: the emulator gets a socket that listens already, so that nothing has to be polled.
        os.set_inheritable(listener.fileno(), True)
        monitor = [
            "-chardev",
            f"socket,id=mon,fd={listener.fileno()},server=on,wait=off",
            "-mon",
            "chardev=mon,mode=control",
        ]
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.settimeout(_PATIENCE_S)
        self.connection.connect(path)
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": "/nonexistent"}
        start_ns = time.perf_counter_ns()
        self.process = subprocess.Popen(
            [*command, *arguments, *monitor],
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        self.receive()
        #: from exec to the whole greeting
        self.start_ns = time.perf_counter_ns() - start_ns
        listener.close()
        self.ask(b'{"execute": "qmp_capabilities"}\n')
        #: from exec to the first reply: the machine is made by then
        self.first_reply_ns = time.perf_counter_ns() - start_ns

    def receive(self) -> bytes:
        """One message, line end included."""
        data = b""
        while not data.endswith(b"\r\n"):
            more = self.connection.recv(65536)
            if not more:
                raise RuntimeError("the emulator ended")
            data += more
        return data

    def ask(self, request: bytes) -> bytes:
        self.connection.sendall(request)
        return self.receive()

    def pss_kb(self) -> int:
        """Memory of the process, shared pages by their share."""
        for line in Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
        raise RuntimeError("no Pss line")

    def stop(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.wait()


@contextmanager
def running(command: Sequence[str], arguments: Sequence[str]) -> Iterator[Running]:
    with tempfile.TemporaryDirectory(prefix="fakeqemu-bench-") as folder:
        emulator = Running(command, arguments, folder)
        try:
            yield emulator
        finally:
            emulator.stop()


def need_real(what: str) -> list[str]:
    """The real QEMU, or a polite end of the program."""
    command = real_qemu()
    if command is None:
        how = f"tests/oracle/install-qemu {SUITES[PROFILE]} unpacks one"
        print(f"{what}: no real QEMU {PROFILE} here ({how}); nothing to compare with")
        sys.exit(0)
    return command


def median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]
