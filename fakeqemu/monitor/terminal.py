# SPDX-License-Identifier: MIT
"""MonitorHMP: the human monitor on a character device: a banner, a prompt, lines in, text out.

Editing is that of a plain terminal: erase a letter, drop the line. Escape sequences (arrow keys) are skipped.

QEMU: monitor/hmp.c, util/readline.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.monitor.hmp import run_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Any

    from fakeqemu.system.machine import Machine

PROMPT = "(qemu) "
_ERASE = ("\x08", "\x7f")
_INTERRUPT = "\x03"
_ESCAPE = "\x1b"


class MonitorHMP:
    """The human monitor of one character device."""

    __slots__ = ("_busy", "_close_fd", "_escape", "_line", "_vm", "_waiting", "_write", "name")

    def __init__(
        self,
        vm: Machine,
        *,
        write: Callable[[bytes], None],
        pause_reading: Callable[[], None] | None = None,
        resume_reading: Callable[[], None] | None = None,
        name: str = "",
        close_fd: Callable[[int], None] | None = None,
    ) -> None:
        del pause_reading, resume_reading  # lines are short: what comes while a command runs is kept
        self._close_fd = close_fd
        self._vm = vm
        self._write = write
        self._line = ""
        self._escape = False
        self._busy = False
        self._waiting: list[str] = []
        self.name = name

    def connected(self) -> None:
        """Somebody is there: say who we are."""
        major, minor, micro = self._vm.profile.version
        self._print(f"QEMU {major}.{minor}.{micro} monitor - type 'help' for more information\r\n{PROMPT}")

    def disconnected(self) -> None:
        self._line = ""
        self._escape = False
        self._waiting.clear()

    def receive_data(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Keys that somebody typed."""
        for fd in fds:
            if self._close_fd is not None:
                self._close_fd(fd)
        for char in data.decode("utf-8", "replace"):
            self._key(char)

    def _key(self, char: str) -> None:
        if self._escape:
            self._escape = not (char.isalpha() or char == "~")
        elif char == _ESCAPE:
            self._escape = True
        elif char in "\r\n":
            line, self._line = self._line, ""
            self._print("\r\n")
            self._waiting.append(line)
            self._run_next()
        elif char in _ERASE:
            if self._line:
                self._line = self._line[:-1]
                self._print("\x08 \x08")
        elif char == _INTERRUPT:
            self._line = ""
        elif char >= " ":
            self._line += char
            self._print(char)

    def _run_next(self) -> None:
        while self._waiting and not self._busy:
            line = self._waiting.pop(0)
            try:
                answer = run_line(self._vm, line)
            except QemuError as error:
                self._print(f"Error: {error.desc}\r\n{PROMPT}")
                continue
            if isinstance(answer, str):
                self._print(answer + PROMPT)
            else:
                self._busy = True
                self._vm.host.start(self._finish(answer), "monitor")

    async def _finish(self, answer: Coroutine[Any, Any, str]) -> None:
        try:
            text = await answer
        except QemuError as error:
            text = f"Error: {error.desc}\r\n"
        self._print(text + PROMPT)
        self._busy = False
        self._run_next()

    def _print(self, text: str) -> None:
        self._write(text.encode("utf-8", "replace"))
