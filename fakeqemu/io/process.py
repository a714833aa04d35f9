# SPDX-License-Identifier: MIT
"""The process that tools take for QEMU: its name, signals, daemon, pid file, privileges and end.

Signals are waited for by one thread of their own, which learns who sent them; the main loop hears of them through a
descriptor. Everything else of a start runs in this order:

    set_name ── daemonize (fork) ── write_pidfile ── sockets, devices ── setup_done ── run ── leave

`daemonize` returns in the child only. The parent waits for one byte: it comes from `setup_done`, and the parent exits
with 0; when the child ends before that, with 1. Errors of the child are on the parent's stderr, which it shares.

QEMU: os-posix.c, system/runstate.c
"""

from __future__ import annotations

import _thread
import gc
import os

from fakeqemu.error import QemuError
from fakeqemu.io.host import set_comm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from fakeqemu.io.host import ProcessHost

if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal  # the signal module brings in enum

#: what tools look for; the kernel keeps 15 letters
DEFAULT_COMM = "qemu-system-x86"
_ENDING_SIGNALS = (_signal.SIGINT, _signal.SIGHUP, _signal.SIGTERM)


class Process:
    """The process side of one emulator."""

    __slots__ = (
        "_chroot",
        "_is_daemon",
        "_on_end",
        "_parent_fd",
        "_pending",
        "_pidfile",
        "_signal_fd",
        "_user",
        "host",
        "on_bug",
        "on_signal",
    )

    def __init__(self, host: ProcessHost) -> None:
        self.host = host
        #: told of SIGTERM, SIGINT and SIGHUP
        self.on_signal: Callable[[], None] | None = None
        #: told of what a call-back raised: (error, where)
        self.on_bug: Callable[[BaseException, str], None] | None = None
        self._is_daemon = False
        self._parent_fd = -1
        self._pidfile = ""
        self._signal_fd = -1
        self._pending: list[_signal.struct_siginfo] = []
        self._chroot = ""
        self._user: tuple[int, int, str] | None = None
        self._on_end: list[Callable[[], None]] = []
        gc.disable()  # a start makes little garbage, and is short
        set_comm(DEFAULT_COMM, os.getpid())
        host.interruptible = self.watch_signals
        host.on_interrupt = self._interrupted
        # From here on nobody but our thread hears of them; they wait until it is there.
        _signal.pthread_sigmask(_signal.SIG_BLOCK, _ENDING_SIGNALS)

    # daemon
    def daemonize(self) -> None:
        """Go on in a child in a session of its own; the parent ends when `setup_done` says so, or when we end."""
        reader, writer = os.pipe()
        if os.fork():
            os.close(writer)
            leave_now(0 if os.read(reader, 1) == b"\0" else 1)
        os.close(reader)
        os.setsid()
        if os.fork():
            leave_now(0)
        os.umask(0o027)
        for number in (_signal.SIGTSTP, _signal.SIGTTOU, _signal.SIGTTIN):
            _signal.signal(number, _signal.SIG_IGN)
        self._is_daemon = True
        self._parent_fd = writer
        self.host.pid = os.getpid()

    def setup_done(self) -> None:
        """Everything is set up: change root and user, and let go of what a daemon does not keep. Raises QemuError."""
        if self._is_daemon:
            os.chdir("/")
        self._change_root()
        self._change_user()
        if self._is_daemon:
            null = os.open("/dev/null", os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(null, fd, True)
            if null > 2:
                os.close(null)
            os.write(self._parent_fd, b"\0")
            os.close(self._parent_fd)

    # pid file
    def write_pidfile(self, path: str) -> None:
        """Write our pid into `path`, locked while we live; raises QemuError in QEMU's words."""
        import fcntl

        while True:
            try:
                fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise pidfile_error(f"Could not create '{path}': {error.strerror}") from None
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                now = os.stat(path)
            except FileNotFoundError:
                os.close(fd)
                continue  # somebody removed it between our open and our lock
            except OSError as error:
                os.close(fd)
                raise pidfile_error(f"Cannot lock pid file: {error.strerror}") from None
            opened = os.fstat(fd)
            if (opened.st_dev, opened.st_ino) == (now.st_dev, now.st_ino):
                break
            os.close(fd)
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        self._pidfile = os.path.abspath(path)  # the descriptor stays open: it holds the lock

    # privileges
    def run_with_chroot(self, path: str) -> None:
        self._chroot = path

    def run_with_user(self, text: str) -> None:
        """`-run-with user=NAME` or `UID:GID`; raises QemuError for one that does not exist."""
        import pwd

        try:
            entry = pwd.getpwnam(text)
        except KeyError:
            uid, colon, gid = text.partition(":")
            if not (colon and uid.isdigit() and gid.isdigit()):
                raise QemuError(f'User "{text}" doesn\'t exist (and is not <uid>:<gid>)') from None
            self._user = (int(uid), int(gid), "")
        else:
            self._user = (entry.pw_uid, entry.pw_gid, entry.pw_name)

    def _change_root(self) -> None:
        if self._chroot:
            try:
                os.chroot(self._chroot)
            except OSError:
                raise QemuError("chroot failed") from None
            os.chdir("/")

    def _change_user(self) -> None:
        if self._user is None:
            return
        uid, gid, name = self._user
        try:
            os.setgid(gid)
        except OSError:
            raise QemuError(f"Failed to setgid({gid})") from None
        try:
            if name:
                os.initgroups(name, gid)
            else:
                os.setgroups([gid])
        except OSError:
            raise QemuError(
                f'Failed to initgroups("{name}", {gid})' if name else f"Failed to setgroups(1, [{gid}])"
            ) from None
        try:
            os.setuid(uid)
        except OSError:
            raise QemuError(f"Failed to setuid({uid})") from None

    # signals
    def watch_signals(self) -> int:
        """Start hearing of SIGTERM, SIGINT and SIGHUP: `on_signal` is called in the main loop.

        Returns the descriptor that says so. To be called after `daemonize`, as threads do not survive a fork.
        """
        if self._signal_fd < 0:
            self._signal_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self.host.poller.add_reader(self._signal_fd, self._signalled)
            before = _thread.stack_size(65536)
            _thread.start_new_thread(self._wait_for_signals, ())
            _thread.stack_size(before)
        return self._signal_fd

    def _wait_for_signals(self) -> None:
        while True:
            self._pending.append(_signal.sigwaitinfo(_ENDING_SIGNALS))
            os.eventfd_write(self._signal_fd, 1)

    def _signalled(self) -> None:
        os.eventfd_read(self._signal_fd)
        pending, self._pending = self._pending, []
        for info in pending:
            text = f"terminating on signal {info.si_signo}"
            if info.si_pid:
                text += f" from pid {info.si_pid} ({program_of(info.si_pid)})"
            self.host.log(text)
        if pending and self.on_signal is not None:
            self.on_signal()

    def _interrupted(self) -> None:
        """A signal while the start waits for a client: QEMU would wait on; we end."""
        self._signalled()
        self.leave(0)

    # the end
    def at_end(self, callback: Callable[[], None]) -> None:
        """Call `callback()` when the process ends in any way of ours."""
        self._on_end.append(callback)

    def run(self, until: Callable[[], bool]) -> None:
        """Turn the main loop until `until()`."""
        from fakeqemu.io.poller import EpollPoller

        poller = self.host.poller
        assert isinstance(poller, EpollPoller)
        # What a start made stays: from here on only what comes later is looked through.
        gc.freeze()
        gc.enable()
        on_bug = self.on_bug
        if on_bug is not None:
            poller.on_error = lambda error: on_bug(error, "the main loop")
        poller.run(until)

    def leave(self, status: int) -> NoReturn:
        """End: say what was said, do what `at_end` was given. No teardown of the interpreter, which takes longer.

        As with QEMU, sockets of character devices are unlinked (they do it), one of an incoming migration is not.
        """
        from fakeqemu.io.poller import EpollPoller

        try:
            if isinstance(self.host.poller, EpollPoller):
                self.host.poller.end_turn()
            for callback in reversed(self._on_end):
                callback()
        finally:
            self.give_up(status)

    def give_up(self, status: int) -> NoReturn:
        """End a start that came to nothing: as with QEMU the pid file goes, sockets that were bound stay."""
        for callback in tuple(self.host.at_exit):
            callback()
        if self._pidfile:
            try:
                os.unlink(self._pidfile)
            except OSError:
                pass
        leave_now(status)


def pidfile_error(text: str) -> QemuError:
    return QemuError(f"cannot create PID file: {text}")


def leave_now(status: int) -> NoReturn:
    """Flush and end."""
    from sys import stderr, stdout

    for stream in (stdout, stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass
    os._exit(status)


def program_of(pid: int) -> str:
    """The first word of a process' command line, as QEMU names who sent a signal."""
    try:
        fd = os.open(f"/proc/{pid}/cmdline", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return "<unknown process>"
    try:
        word = os.read(fd, 4096).partition(b"\0")[0]
    except OSError:
        word = b""
    os.close(fd)
    return os.fsdecode(word) or "<unknown process>"
