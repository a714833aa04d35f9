# SPDX-License-Identifier: MIT
"""Where in the command line we are, and errors that say so.

An error of the start is printed as `PROGRAM: LOCATION: TEXT`. The location is the option being looked at, or the one that
asked for the thing being made: a group of parameters remembers where it was written.

    qemu-system-x86_64: -m 64X: Parameter 'size' expects a non-negative number below 2^64
    qemu-system-x86_64:my.cfg:3: Invalid parameter 'foo'
    qemu-system-x86_64: unsupported machine type: "bogus"

QEMU: util/error-report.c
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from fakeqemu.error import QemuError


class Location:
    """A place to blame: words of the command line, a line of a file, or nothing."""

    __slots__ = ("file", "line", "words")

    def __init__(self, words: tuple[str, ...] = (), file: str = "", line: int = 0) -> None:
        self.words = words
        self.file = file
        self.line = line

    def text(self) -> str:
        """What stands between the program's name and the message."""
        if self.words:
            return " " + " ".join(self.words) + ": "
        if self.file:
            return f"{self.file}:{self.line}: " if self.line else f"{self.file}: "
        return " "


NOWHERE = Location()


class StartEnded(Exception):
    """The start is over, with this exit status: help was printed, or an error was reported."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Reporter:
    """Prints errors with the place they belong to; `at` is that place."""

    __slots__ = ("_stderr", "_stdout", "_wall_ns", "at", "guest_name", "program", "with_guest_name", "with_timestamp")

    def __init__(
        self, program: str, stderr: Callable[[str], None], stdout: Callable[[str], None], wall_ns: Callable[[], int]
    ) -> None:
        self.program = program
        self._stderr = stderr
        self._stdout = stdout
        self._wall_ns = wall_ns
        self.at = NOWHERE
        #: -msg timestamp=on
        self.with_timestamp = False
        #: -msg guest-name=on, of use only together with -name
        self.with_guest_name = False
        self.guest_name: str | None = None

    def report(self, text: str, hint: str = "", kind: str = "") -> None:
        """One message at the current place; `kind` is "" for an error, else "warning: " or "info: "."""
        line = f"{self.prefix()}{self.at.text()}{kind}{text}\n"
        if hint:
            line += hint if hint.endswith("\n") else hint + "\n"
        self._stderr(line)

    def warn(self, text: str, hint: str = "") -> None:
        self.report(text, hint, "warning: ")

    def error(self, error: QemuError) -> None:
        """Print a refusal, with its hint; one that has no place of its own without."""
        if getattr(error, "placeless", False):
            self.at = NOWHERE
        self.report(error.desc, error.hint)

    def fail(self, text: str, hint: str = "") -> StartEnded:
        """Print an error; what is returned is to be raised."""
        self.report(text, hint)
        return StartEnded(1)

    def print(self, text: str) -> None:
        """Text for stdout, line ends included."""
        self._stdout(text)

    def print_plain(self, text: str) -> None:
        """A line for stderr without program and place."""
        self._stderr(text + "\n")

    def prefix(self) -> str:
        """What every message begins with: time and guest's name as `-msg` asks, then the program."""
        start = ""
        if self.with_timestamp:
            start = iso8601(self._wall_ns()) + " "
        if self.with_guest_name and self.guest_name:
            start += self.guest_name + " "
        return f"{start}{self.program}:"

    def within(self, place: Location) -> _Within:
        """`with reporter.within(opts.location):` errors inside belong to that place."""
        return _Within(self, place)


class _Within:
    """Sets the place and puts the old one back, unless an error is on its way out: that belongs here."""

    __slots__ = ("_place", "_reporter", "_saved")

    def __init__(self, reporter: Reporter, place: Location) -> None:
        self._reporter = reporter
        self._place = place
        self._saved = reporter.at

    def __enter__(self) -> None:
        self._reporter.at = self._place

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if kind is None:
            self._reporter.at = self._saved


def iso8601(wall_ns: int) -> str:
    """As GLib writes a time with microseconds, in UTC."""
    from time import gmtime

    seconds, rest = divmod(wall_ns, 1_000_000_000)
    t = gmtime(seconds)
    return f"{t.tm_year:04}-{t.tm_mon:02}-{t.tm_mday:02}T{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02}.{rest // 1000:06}Z"
