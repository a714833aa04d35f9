# SPDX-License-Identifier: MIT
"""A real QEMU as the capture meets it: started often, asked thousands of things, and allowed to die.

Not a general QMP client (that is `qemu.qmp`): it blocks, sends integers no client should send, keeps many
requests under way at once, and takes a crash or a hang of the emulator for an answer.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

PROGRAM = "qemu-system-x86_64"
ACCEL = ["-accel", "tcg"]
START_LIMIT_S = 60.0
ANSWER_LIMIT_S = 30.0

#: what SO_PEERCRED gives: process, user, group
_UCRED = struct.Struct("3i")


class Died(Exception):
    """The emulator ended or stopped to answer; the text is what it left on stderr.

    `status` is how it ended, negative for a signal; None when it hung.
    """

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class Emulator:
    """A command that starts a QEMU, run in a folder of its own with an environment of its own."""

    def __init__(self, command: list[str]) -> None:
        self.command = command
        self.folder = tempfile.mkdtemp(prefix="fakeqemu-capture-")
        self.environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        self._count = 0
        self._folders: list[str] | None = None

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Emulator:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def fresh_name(self, stem: str) -> str:
        """A path in the emulator's folder that nothing has used yet."""
        self._count += 1
        return os.path.join(self.folder, f"{stem}{self._count}")

    def run(self, args: list[str], limit_s: float = 20.0) -> dict[str, Any]:
        """Run to the end: stdout, stderr and status, scrubbed; status None when it had to be killed."""
        process = subprocess.Popen(
            self.command + args,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env=self.environment,
        )
        status: int | None
        try:
            out, err = process.communicate(timeout=limit_s)
            status = process.returncode
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            status = None
        return {
            "stdout": self.scrub_text(out.decode(errors="replace")),
            "stderr": self.scrub_text(err.decode(errors="replace")),
            "status": status,
        }

    def scrub_text(self, text: str) -> str:
        """Take out what is of this run or this host."""
        text = text.replace(self.folder, "$DIR")
        text = re.sub(r"\$DIR/qmp\d+", "$DIR/qmp", text)
        # The program calls itself by the path it was started with, in some texts by the last part of it.
        text = re.sub(r"(?:/[\w.+-]+)+/qemu-system-\w+", PROGRAM, text)
        text = re.sub(r"thread_id=\d+", "thread_id=0", text)
        text = re.sub(r"#(block|net)\d+", r"#\g<1>000", text)
        # Addresses of the heap, libraries and stack of the emulator.
        text = re.sub(r"0x(?:0000)?(?:7[0-9a-f]|5[4-9a-f])[0-9a-f]{10}\b", "0x0000HOSTPTR", text)
        for folder in self._data_folders():
            text = text.replace(folder, "/usr/share/qemu")
        return text

    def _data_folders(self) -> list[str]:
        """Where a QEMU that is not installed in the usual place finds its firmware: longest first."""
        if self._folders is None:
            process = subprocess.run(
                [*self.command, "-L", "help"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                cwd=self.folder,
                env=self.environment,
                timeout=20,
                check=False,
            )
            lines = [line.rstrip("/") for line in process.stdout.decode().splitlines() if line.startswith("/")]
            self._folders = sorted((x for x in lines if not x.startswith("/usr/share")), key=len, reverse=True)
        return self._folders

    def scrub(self, value: Any) -> Any:
        """`scrub_text` for every text in a JSON value, and the numbers that are of this run."""
        text = self.scrub_text(json.dumps(value))
        return json.loads(re.sub(r'("thread-id": (?:\["int", )?)\d+', r"\g<1>0", text))


class CaptureVm:
    """One process of the emulator and one QMP connection to it; started again after it died."""

    def __init__(
        self,
        emulator: Emulator,
        args: list[str],
        answer_limit_s: float = ANSWER_LIMIT_S,
        start_limit_s: float = START_LIMIT_S,
    ) -> None:
        self.emulator = emulator
        self.args = args
        self.answer_limit_s = answer_limit_s
        self.start_limit_s = start_limit_s
        self.deaths = 0
        self.events: list[dict[str, Any]] = []
        self.greeting: dict[str, Any] = {}
        self._buffer = b""
        self._socket = socket.socket(socket.AF_UNIX)
        self._start()

    def __enter__(self) -> CaptureVm:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    # --- asking ---------------------------------------------------------------------------------------

    @property
    def program_pid(self) -> int:
        """The process that answers, which a script may have started."""
        peer = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        pid: int = _UCRED.unpack(peer)[0]
        return pid

    def __call__(self, name: str, **arguments: Any) -> Any:
        """What a command returns, or {"error": {...}}; a death is the error class `x-crashed`, then a new start."""
        wire = {key.replace("_", "-"): value for key, value in arguments.items()}
        return self.ask(name, wire)

    def ask(self, name: str, arguments: dict[str, Any]) -> Any:
        """As calling, for arguments with names of any kind."""
        try:
            message = self.message(name, arguments)
        except Died as err:
            self.restart()
            return {"error": {"class": "x-crashed", "desc": str(err)}}
        return message["return"] if "return" in message else {"error": message["error"]}

    def message(self, name: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
        """The whole reply to one command; raises Died."""
        self.send(name, arguments)
        return self.reply()

    def line(self, name: str, arguments: dict[str, Any] | None = None) -> bytes:
        """The reply to one command as bytes, without its line end; raises Died."""
        self.send(name, arguments)
        return self._reply_line()[0]

    def hmp(self, line: str) -> str:
        """What the human monitor prints for a line, scrubbed."""
        text = self("human-monitor-command", command_line=line)
        return self.emulator.scrub_text(text) if isinstance(text, str) else f"!{text['error']['desc']}"

    def pipelined(self, requests: Iterable[tuple[str, dict[str, Any]]], window: int = 8) -> Iterator[Any]:
        """The replies (as from `ask`) to many commands in order, several under way; a death ends it with Died."""
        waiting = 0
        for name, arguments in requests:
            self.send(name, arguments)
            waiting += 1
            if waiting == window:
                yield self._value()
                waiting -= 1
        while waiting:
            yield self._value()
            waiting -= 1

    def send(self, name: str, arguments: dict[str, Any] | None = None) -> None:
        request: dict[str, Any] = {"execute": name}
        if arguments:
            request["arguments"] = arguments
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except OSError:
            raise self._ended() from None

    def reply(self) -> dict[str, Any]:
        return self._reply_line()[1]

    def _value(self) -> Any:
        message = self.reply()
        return message["return"] if "return" in message else {"error": message["error"]}

    def wait_event(self, name: str, limit_s: float) -> dict[str, Any] | None:
        """The next event of that name, or None when it did not come in time."""
        end = time.monotonic() + limit_s
        while True:
            for event in self.events:
                if event["event"] == name:
                    self.events.remove(event)
                    return event
            if time.monotonic() > end:
                return None
            message = self._read_line(end)
            if message is None:
                return None
            parsed = json.loads(message)
            if "event" in parsed:
                self.events.append(parsed)

    def _reply_line(self) -> tuple[bytes, dict[str, Any]]:
        end = time.monotonic() + self.answer_limit_s
        while True:
            line = self._read_line(end)
            if line is None:
                raise Died(self.last_words())
            message = json.loads(line)
            if "event" not in message:
                return line, message
            self.events.append(message)

    def _read_line(self, end: float) -> bytes | None:
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._socket], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                return None
            try:
                data = self._socket.recv(1 << 20)
            except OSError:
                data = b""
            if not data:
                raise self._ended()
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line.rstrip(b"\r")

    # --- process --------------------------------------------------------------------------------------

    def _start(self) -> None:
        path = self.emulator.fresh_name("qmp")
        self.stderr_path = self.emulator.fresh_name("stderr")
        self._buffer = b""
        self.events = []
        with open(self.stderr_path, "wb") as err:
            self.process = subprocess.Popen(
                [*self.emulator.command, *self.args, "-display", "none", "-qmp", f"unix:{path},server=on,wait=off"],
                stdin=subprocess.DEVNULL,
                stdout=err,
                stderr=err,
                cwd=self.emulator.folder,
                env=self.emulator.environment,
                start_new_session=True,
            )
        end = time.monotonic() + self.start_limit_s
        while True:
            self._socket = socket.socket(socket.AF_UNIX)
            try:
                self._socket.connect(path)
                break
            except OSError:
                self._socket.close()
                status = self.process.poll()
                if time.monotonic() > end or status is not None:
                    self.stop()
                    raise Died(self.last_words(), status) from None
                time.sleep(0.005)
        try:
            greeting = self._read_line(end)
            if greeting is None:
                raise Died(self.last_words())
            self.greeting = json.loads(greeting)
            self.message("qmp_capabilities")
        except Died:
            self.stop()
            raise

    def restart(self) -> None:
        self.stop()
        self.deaths += 1
        self._start()

    def stop(self) -> None:
        """End the process (and what a wrapper script started with it)."""
        self._socket.close()
        if self.process.poll() is None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()

    def _ended(self) -> Died:
        """The connection is gone, so the process is ending: what to raise."""
        try:
            status = self.process.wait(self.answer_limit_s)
        except subprocess.TimeoutExpired:
            return Died(self.last_words())
        return Died(self.last_words(), status)

    def last_words(self) -> str:
        """What the emulator wrote on stderr, scrubbed."""
        with open(self.stderr_path, "rb") as err:
            return self.emulator.scrub_text(err.read().decode(errors="replace"))
