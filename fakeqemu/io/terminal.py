# SPDX-License-Identifier: MIT
"""The terminal on stdin, made raw while a character device uses it and put back in order however the process ends.

QEMU: chardev/char-stdio.c
"""

from __future__ import annotations

import termios

from fakeqemu.host.channel import Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.io.host import ProcessHost

_INPUT_OFF = (
    termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP
    | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
)  # fmt: skip
_LOCAL_OFF = termios.ECHO | termios.ECHONL | termios.ICANON | termios.IEXTEN


class StdioTerminal(Terminal):
    """Descriptor 0."""

    __slots__ = ("_before", "_host")

    def __init__(self, host: ProcessHost) -> None:
        self._host = host
        self._before = termios.tcgetattr(0)

    def make_raw(self, signals: bool) -> None:
        iflag, oflag, cflag, lflag, ispeed, ospeed, cc = termios.tcgetattr(0)
        lflag &= ~(_LOCAL_OFF if signals else _LOCAL_OFF | termios.ISIG)
        cflag = cflag & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        cc[termios.VMIN], cc[termios.VTIME] = 1, 0
        raw = [iflag & ~_INPUT_OFF, oflag | termios.OPOST, cflag, lflag, ispeed, ospeed, cc]
        termios.tcsetattr(0, termios.TCSANOW, raw)
        self._host.at_exit.append(self.restore)

    def restore(self) -> None:
        termios.tcsetattr(0, termios.TCSANOW, self._before)
        if self.restore in self._host.at_exit:
            self._host.at_exit.remove(self.restore)
