# SPDX-License-Identifier: MIT
"""Readiness and turns: what the I/O edge needs of an event loop, in two forms.

`EpollPoller` is a loop of its own over bare epoll and starts in no time. `AsyncioPoller` puts the same registrations
into an asyncio loop that runs already, for machines that live in somebody's process.

A turn of the loop: due timers, call-backs asked for by `call_soon` in their order, call-backs of ready descriptors, what
these asked for, and at its end what `at_end_of_turn` collected (output written once for all that a turn said).

QEMU: util/main-loop.c
"""

from __future__ import annotations

import select as _select

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from fakeqemu.host.clock import Clock

    Callback = Callable[[], None]

_IN = _select.EPOLLIN
_OUT = _select.EPOLLOUT
#: below this many seconds a wait is made exact: epoll counts in whole milliseconds
_EXACT_BELOW_S = 0.1
#: a loop is idle when for so long nothing has happened
_QUIET_S = 0.1
# What an idle loop does: waits for the quiet, works piece by piece, or has no work until something happens.
_BUSY, _AT_WORK, _NO_WORK = range(3)


class Poller:
    """Calls back when a descriptor is ready, a timer is due, or in the next turn. At most one reader and one writer each."""

    __slots__ = ()

    def call_soon(self, callback: Callback) -> None:
        """Call `callback()` in the next turn, in the order of the requests."""
        raise NotImplementedError

    def at_end_of_turn(self, callback: Callback) -> None:
        """Call `callback()` when this turn ends, before any waiting."""
        raise NotImplementedError

    def add_reader(self, fd: int, callback: Callback) -> None:
        """Call `callback()` whenever `fd` can be read; raises PermissionError for a file that is always ready."""
        raise NotImplementedError

    def remove_reader(self, fd: int) -> None:
        """Forget the reader of `fd`; nothing happens when there is none."""
        raise NotImplementedError

    def add_writer(self, fd: int, callback: Callback) -> None:
        """Call `callback()` whenever `fd` can be written; raises PermissionError for a file that is always ready."""
        raise NotImplementedError

    def remove_writer(self, fd: int) -> None:
        """Forget the writer of `fd`; nothing happens when there is none."""
        raise NotImplementedError

    def drive(self, clock: Clock) -> None:
        """Fire the timers of `clock` from now on."""
        raise NotImplementedError

    def close(self) -> None:
        """Give back what the poller itself holds."""


class EpollPoller(Poller):
    """A loop over bare epoll. `run(until)` turns it."""

    __slots__ = (
        "_clocks", "_end_of_turn", "_epoll", "_fd", "_ready", "_registered", "_rest", "idle_work", "on_error"
    )  # fmt: skip

    def __init__(self) -> None:
        #: hears of what a call-back raised; the loop then goes on
        self.on_error: Callable[[Exception], None] | None = None
        self._epoll = _select.epoll()
        self._fd = self._epoll.fileno()
        self._ready: list[Callback] = []
        self._end_of_turn: list[Callback] = []
        # descriptor -> [reader, writer]
        self._registered: dict[int, list[Callback | None]] = {}
        self._clocks: list[Clock] = []
        #: called when nothing else has happened for a while, again and again as long as it returns True, and not before
        #: something has happened when it returned False. Whatever happens waits for one call at most.
        self.idle_work: Callable[[], bool] | None = None
        self._rest = _BUSY

    def call_soon(self, callback: Callback) -> None:
        self._ready.append(callback)

    def at_end_of_turn(self, callback: Callback) -> None:
        self._end_of_turn.append(callback)

    def add_reader(self, fd: int, callback: Callback) -> None:
        self._set(fd, 0, callback)

    def remove_reader(self, fd: int) -> None:
        self._set(fd, 0, None)

    def add_writer(self, fd: int, callback: Callback) -> None:
        self._set(fd, 1, callback)

    def remove_writer(self, fd: int) -> None:
        self._set(fd, 1, None)

    def _set(self, fd: int, index: int, callback: Callback | None) -> None:
        pair = self._registered.get(fd)
        if pair is None:
            if callback is not None:
                self._epoll.register(fd, (_IN, _OUT)[index])
                self._registered[fd] = [None, callback] if index else [callback, None]
            return
        before = pair[index]
        pair[index] = callback
        if (before is None) == (callback is None):
            return
        events = (_IN if pair[0] is not None else 0) | (_OUT if pair[1] is not None else 0)
        if events:
            self._epoll.modify(fd, events)
        else:
            del self._registered[fd]
            self._epoll.unregister(fd)

    def drive(self, clock: Clock) -> None:
        self._clocks.append(clock)

    def run(self, until: Callable[[], bool]) -> None:
        """Turn until `until()`, which is asked after each turn. What was said in the last turn is written out."""
        while not until():
            self.turn()

    def turn(self, wait: bool = True) -> None:
        """One turn; with `wait` it begins by sleeping until something is there to be done."""
        timeout = -1.0 if wait else 0.0
        if self._ready or self._end_of_turn:
            timeout = 0.0
        elif wait:
            for clock in self._clocks:
                due_ns = clock.next_due_in_real_ns()
                if due_ns is not None and (timeout < 0 or due_ns < timeout * 1e9):
                    timeout = due_ns / 1e9
        resting = self.idle_work is not None and self._rest != _NO_WORK and (timeout < 0 or timeout > _QUIET_S)
        if resting:
            timeout = 0.0 if self._rest == _AT_WORK else _QUIET_S
        if 0 < timeout < _EXACT_BELOW_S and self._fd < 1024:  # select() takes no higher descriptor
            if not _select.select((self._fd,), (), (), timeout)[0]:
                timeout = -2.0
            else:
                timeout = 0.0
        events = self._epoll.poll(timeout) if timeout != -2.0 else ()
        if events or (timeout == 0.0 and not resting):
            self._rest = _BUSY
        elif resting:
            self._work()
        for clock in self._clocks:
            clock.run_due()
        ready = self._ready
        if ready:
            self._ready = []
            for callback in ready:
                self._call(callback)
        for fd, event in events:
            pair = self._registered.get(fd)
            if pair is None:
                continue  # forgotten by a call-back of this very turn
            if event & ~_OUT and pair[0] is not None:
                self._call(pair[0])
            if event & ~_IN and pair[1] is not None:
                self._call(pair[1])
        # Who waited for a descriptor uses it before it is looked at again.
        if events and self._ready:
            ready, self._ready = self._ready, []
            for callback in ready:
                self._call(callback)
        self.end_turn()

    def _work(self) -> None:
        assert self.idle_work is not None
        self._rest = _NO_WORK
        try:
            if self.idle_work():
                self._rest = _AT_WORK
        except Exception as error:
            self.idle_work = None
            if self.on_error is None:
                raise
            self.on_error(error)

    def end_turn(self) -> None:
        """Call what was to be called at the end of the turn; a process that is about to exit does so once more."""
        if self._end_of_turn:
            last, self._end_of_turn = self._end_of_turn, []
            for callback in last:
                self._call(callback)

    def _call(self, callback: Callback) -> None:
        try:
            callback()
        except Exception as error:
            if self.on_error is None:
                raise
            self.on_error(error)

    def close(self) -> None:
        self._epoll.close()


class AsyncioPoller(Poller):
    """The same over an asyncio loop, which somebody else runs."""

    __slots__ = ("_clock", "_handle", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._clock: Clock | None = None
        self._handle: asyncio.TimerHandle | None = None

    def call_soon(self, callback: Callback) -> None:
        self.loop.call_soon(callback)

    def at_end_of_turn(self, callback: Callback) -> None:
        self.loop.call_soon(callback)

    def add_reader(self, fd: int, callback: Callback) -> None:
        self.loop.add_reader(fd, callback)

    def remove_reader(self, fd: int) -> None:
        self.loop.remove_reader(fd)

    def add_writer(self, fd: int, callback: Callback) -> None:
        self.loop.add_writer(fd, callback)

    def remove_writer(self, fd: int) -> None:
        self.loop.remove_writer(fd)

    def drive(self, clock: Clock) -> None:
        assert self._clock is None, "one clock a poller"
        self._clock = clock
        clock.woken = self._rearm
        self._rearm()

    def _rearm(self) -> None:
        """Set the loop's timer to the clock's earliest."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self._clock is not None:
            due_ns = self._clock.next_due_in_real_ns()
            if due_ns is not None:
                self._handle = self.loop.call_later(due_ns / 1e9, self._fire)

    def _fire(self) -> None:
        self._handle = None
        if self._clock is not None:
            self._clock.run_due()
            self._rearm()

    def close(self) -> None:
        if self._clock is not None:
            self._clock.woken = None
            self._clock = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
