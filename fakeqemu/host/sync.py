# SPDX-License-Identifier: MIT
"""Coroutines without an event loop of their own: futures, tasks, locks and events that a Host hands out.

A coroutine of the core awaits nothing but these. What resumes it is the Host's `call_soon`, so the same code runs on
bare epoll, on an asyncio loop, on the simulated host and, by `run_sync`, in a unit test with no host at all.

    Future  ◄── awaited by ──  Task  ── result ──►  join()
       │ set_result()            ▲
       └── call_soon(step) ──────┘

Cancelling throws `Cancelled` into the coroutine at the place where it waits; a task that is to end others joins them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from types import TracebackType
    from typing import Any, Protocol

    class Scheduler(Protocol):
        """What a future or task needs of a Host."""

        def call_soon(self, callback: Callable[[], None], /) -> None: ...


class Cancelled(BaseException):
    """Thrown into a coroutine whose task is cancelled."""


class Future:
    """A result that comes later; any number of tasks may await it."""

    __slots__ = ("_callbacks", "_error", "_scheduler", "_value", "done")

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._callbacks: list[Callable[[], None]] = []
        self._value: Any = None
        self._error: BaseException | None = None
        self.done = False

    def set_result(self, value: Any = None) -> None:
        """Deliver `value`; those who wait go on in a later turn. A second delivery is ignored."""
        if not self.done:
            self._value = value
            self._finish()

    def set_exception(self, error: BaseException) -> None:
        if not self.done:
            self._error = error
            self._finish()

    def _finish(self) -> None:
        self.done = True
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            self._scheduler.call_soon(callback)

    def add_done_callback(self, callback: Callable[[], None]) -> None:
        """Call `callback()` in a later turn, once the result is there."""
        if self.done:
            self._scheduler.call_soon(callback)
        else:
            self._callbacks.append(callback)

    def remove_done_callback(self, callback: Callable[[], None]) -> None:
        if callback in self._callbacks:
            self._callbacks.remove(callback)

    def result(self) -> Any:
        """The value; raises what was set as the exception. Only when `done`."""
        assert self.done
        if self._error is not None:
            raise self._error
        return self._value

    def __await__(self) -> Generator[Future, None, Any]:
        if not self.done:
            yield self
        return self.result()


class Task:
    """A coroutine on its way. It runs at once up to its first wait, then whenever what it waits for is there.

    An exception that nobody joins is handed to the Host's `task_failed` when the task ends.
    """

    __slots__ = ("_cancel_wanted", "_coro", "_host", "_joined", "_outcome", "_stepping", "_waiting", "_wakeup", "name")

    def __init__(self, host: Any, coro: Coroutine[Any, Any, Any], name: str) -> None:
        self._host = host
        self._coro = coro
        self._outcome = Future(host)
        self._waiting: Future | None = None
        self._wakeup = self._wake
        self._cancel_wanted = False
        self._stepping = False
        self._joined = False
        self.name = name

    @property
    def done(self) -> bool:
        return self._outcome.done

    def _wake(self) -> None:
        # A turn may have been asked for by a future that was given up since, for a cancellation: then this one is not done.
        if self._waiting is not None and self._waiting.done:
            self._step()

    def _step(self) -> None:
        if self._outcome.done or self._stepping:
            return
        self._waiting = None
        self._stepping = True
        try:
            if self._cancel_wanted:
                self._cancel_wanted = False
                waits = self._coro.throw(Cancelled())
            else:
                waits = self._coro.send(None)
        except StopIteration as stop:
            self._end(stop.value, None)
        except Cancelled as error:
            self._end(None, error)
        except Exception as error:
            self._end(None, error)
        else:
            self._waiting = waits
            waits.add_done_callback(self._wakeup)
            if self._cancel_wanted:  # asked for while this very step ran
                self._host.call_soon(self._interrupt)
        finally:
            self._stepping = False

    def _interrupt(self) -> None:
        if self._cancel_wanted and not self._outcome.done:
            if self._waiting is not None:
                self._waiting.remove_done_callback(self._wakeup)
            self._step()

    def _end(self, value: Any, error: BaseException | None) -> None:
        self._host.task_ended(self)
        if error is None:
            self._outcome.set_result(value)
            return
        self._outcome.set_exception(error)
        if not self._joined and not isinstance(error, Cancelled):
            self._host.call_soon(self._report_unjoined)

    def _report_unjoined(self) -> None:
        if not self._joined:
            error = self.error()
            assert error is not None
            self._host.task_failed(self, error)

    def cancel(self) -> None:
        """Throw `Cancelled` into the coroutine where it waits, in a later turn. Nothing happens to one that has ended."""
        if not self._outcome.done and not self._cancel_wanted:
            self._cancel_wanted = True
            if not self._stepping:
                self._host.call_soon(self._interrupt)

    def error(self) -> BaseException | None:
        """What the coroutine raised, once it has ended."""
        return self._outcome._error

    def result(self) -> Any:
        """The coroutine's result, or raises what it raised. Only when `done`; counts as joining."""
        self._joined = True
        return self._outcome.result()

    async def join(self) -> Any:
        """Wait for the end; returns the coroutine's result or raises what it raised."""
        self._joined = True
        return await self._outcome

    def claim(self) -> None:
        """Count as joined: the outcome is somebody's business, and is reported to nobody else."""
        self._joined = True

    async def wait(self) -> None:
        """Wait for the end, good or bad; `Cancelled` raised here is always the caller's own."""
        self.claim()
        if not self._outcome.done:
            ended = Future(self._host)
            self._outcome.add_done_callback(ended.set_result)
            await ended

    def add_done_callback(self, callback: Callable[[], None]) -> None:
        self._outcome.add_done_callback(callback)


class TaskGroup:
    """Tasks that end together: leaving the block joins all of them; the first failure cancels the others and is raised.

    async with TaskGroup(host) as group:
        group.start(self._send(0), "mig/src/send_0")
    """

    __slots__ = ("_first_error", "_host", "_tasks")

    def __init__(self, host: Any) -> None:
        self._host = host
        self._tasks: list[Task] = []
        self._first_error: BaseException | None = None

    def start(self, coro: Coroutine[Any, Any, Any], name: str) -> Task:
        task: Task = self._host.start(self._guarded(coro), name)
        self._tasks.append(task)
        return task

    async def _guarded(self, coro: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await coro
        except Cancelled:
            raise
        except Exception as error:
            if self._first_error is None:
                self._first_error = error
            self.cancel()
            return None

    def cancel(self) -> None:
        """Cancel all tasks that have not ended."""
        for task in self._tasks:
            task.cancel()

    async def __aenter__(self) -> TaskGroup:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is not None:
            self.cancel()
        cancelled: Cancelled | None = None
        for task in self._tasks:  # the list may still grow
            while not task.done:
                try:
                    await task.wait()
                except Cancelled as request:  # they go first, then we
                    cancelled = request
                    self.cancel()
            task.claim()
        if cancelled is not None:
            raise cancelled
        if error is None and self._first_error is not None:
            raise self._first_error
        return False


class Event:
    """A flag that tasks can wait for."""

    __slots__ = ("_scheduler", "_waiters", "is_set")

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._waiters: list[Future] = []
        self.is_set = False

    def set(self) -> None:
        self.is_set = True
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.set_result()

    def clear(self) -> None:
        self.is_set = False

    async def wait(self) -> None:
        if not self.is_set:
            waiter = Future(self._scheduler)
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)


class Lock:
    """Mutual exclusion, first come first served. `async with lock:`; `try_acquire()` for code that cannot wait."""

    __slots__ = ("_scheduler", "_waiters", "locked")

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._waiters: list[Future] = []
        self.locked = False

    def try_acquire(self) -> bool:
        if self.locked:
            return False
        self.locked = True
        return True

    async def acquire(self) -> None:
        if not self.locked:
            self.locked = True
            return
        turn = Future(self._scheduler)
        self._waiters.append(turn)
        try:
            await turn  # release() hands the lock over: it stays locked
        except Cancelled:
            if turn in self._waiters:
                self._waiters.remove(turn)
            elif turn.done:
                self.release()
            raise

    def release(self) -> None:
        assert self.locked
        if self._waiters:
            self._waiters.pop(0).set_result()
        else:
            self.locked = False

    async def __aenter__(self) -> Lock:
        await self.acquire()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release()


class WouldWait(Exception):
    """`run_sync` was given a coroutine that has to wait."""


def run_sync(coro: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never waits and return its result; raises WouldWait (after closing it) when it does."""
    try:
        coro.send(None)
    except StopIteration as stop:
        return stop.value
    coro.close()
    raise WouldWait("the coroutine has to wait")
