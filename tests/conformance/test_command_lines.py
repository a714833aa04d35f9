# SPDX-License-Identifier: MIT
"""Good and bad command lines, given to ours and to the real 11.1: same exit status, same stderr, same files left.

A line that starts an emulator is ended by `quit` over QMP as soon as the monitor has greeted. Standard output is compared
where the start ends by itself (help texts).
"""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.shim import write_shim
from tests.conformance._real import need_real_qemu
from tests.conformance._wait import LOOK_AGAIN_S, PATIENCE_S, ends_within

#: another release may be compared by hand; the list was written for 11.1
VERSION = os.environ.get("FAKEQEMU_CONFORMANCE_VERSION", "11.1")
#: a peer that is tried again and again may have been tried before the end, or not
_CHANCE = re.compile(r".*Unable to connect character device a: .*\n")
BEFORE = ("-S", "-display", "none", "-qmp", "unix:q,server=on,wait=off")


def cases() -> list[dict[str, Any]]:
    found = []
    for text in (Path(__file__).parent / "command_lines.txt").read_text().splitlines():
        if text and not text.startswith("#"):
            found.append(json.loads(text) if text.startswith("{") else {"line": text})
    return found


@pytest.fixture(scope="module")
def emulators(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The commands of both, under the same program name."""
    real = need_real_qemu(VERSION)
    return {"real": real, "fake": [str(write_shim(tmp_path_factory.mktemp("shim"), f"profile={VERSION}"))]}


class Run:
    """One start of one emulator, and what came of it."""

    def __init__(self, command: list[str], case: dict[str, Any], folder: Path) -> None:
        self.folder = folder
        for name, content in case.get("files", {}).items():
            (folder / name).write_text(content)
        line: str = case["line"].replace("$DIR", str(folder))
        fds = [os.open(os.devnull, os.O_RDWR) for _ in range(case.get("fds", 0))]
        for index, fd in enumerate(fds):
            line = line.replace(f"$FD{index}", str(fd))
        self.serves = not line.startswith("!")
        arguments = [*BEFORE, *shlex.split(line)] if self.serves else shlex.split(line[1:])
        with (folder.parent / "out").open("w+b") as out, (folder.parent / "err").open("w+b") as err:
            process = subprocess.Popen(
                [*command, *arguments], cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err, pass_fds=fds
            )
            for fd in fds:
                os.close(fd)
            self.greeted = self._converse(process)
            self.status = process.wait(PATIENCE_S)
            out.seek(0)
            err.seek(0)
            self.stdout = self._plain(out.read(), fds)
            self.stderr = self._plain(err.read(), fds)
        self.left = sorted(path.name for path in folder.iterdir())

    def _plain(self, data: bytes, fds: list[int]) -> str:
        text = data.decode().replace(str(self.folder), "$DIR")
        for index, fd in enumerate(fds):
            text = re.sub(rf"\b{fd}\b", f"$FD{index}", text)
        return _CHANCE.sub("", text)

    def _converse(self, process: subprocess.Popen[bytes]) -> bool:
        """Wait until the process has ended or its monitor greets; then end it. A daemon lives on in another process."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            ended = process.poll() is not None
            if ended and (process.returncode or not self.serves):
                return False
            with socket.socket(socket.AF_UNIX) as monitor:
                monitor.settimeout(PATIENCE_S)
                try:
                    monitor.connect(str(self.folder / "q"))
                    if self._quit(monitor):
                        return True
                except OSError:
                    if ended:
                        return False
            if not ended:
                ends_within(process, LOOK_AGAIN_S)
        process.kill()
        raise AssertionError(f"{process.args!r} neither served nor ended")

    def _quit(self, monitor: socket.socket) -> bool:
        pid = struct.unpack("3i", monitor.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        server = os.pidfd_open(pid)
        try:
            if not monitor.recv(4096).startswith(b'{"QMP"'):
                return False
            monitor.sendall(b'{"execute": "qmp_capabilities"} {"execute": "quit"}')
            while monitor.recv(4096):
                pass
            # Files go after the connection: wait for the end of the process itself.
            assert _readable(server, PATIENCE_S), "the emulator did not end"
        finally:
            os.close(server)
        return True


def _readable(fd: int, seconds: float) -> bool:
    import select

    return bool(select.select([fd], [], [], seconds)[0])


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    made = {name: tmp_path / name / "d" for name in ("real", "fake")}
    for folder in made.values():
        folder.mkdir(parents=True)
        for path in (folder.parent, folder):
            path.chmod(0o755)
    return made


@pytest.mark.real_qemu
@pytest.mark.parametrize("case", cases(), ids=lambda case: case["line"])
def test_same_as_the_real_one(case: dict[str, Any], emulators: dict[str, list[str]], folders: dict[str, Path]) -> None:
    if case.get("root") and os.geteuid() != 0:
        pytest.skip("needs root")
    real = Run(emulators["real"], case, folders["real"])
    fake = Run(emulators["fake"], case, folders["fake"])
    assert (fake.status, fake.stderr, fake.left) == (real.status, real.stderr, real.left)
    if not real.serves and "-version" not in case["line"]:
        assert fake.stdout == real.stdout
    if real.status == 0:
        assert fake.greeted == real.greeted


def test_there_are_enough_of_them() -> None:
    assert len(cases()) >= 60
