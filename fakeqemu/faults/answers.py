# SPDX-License-Identifier: MIT
"""Answers that are not what the command would say: late, none, an error, or any value.

    request ── dispatcher ── Answers ── the command's function

A command whose answer is late holds up all that come behind it, as a main loop does that is stuck; those out of band go
round it. A command without emulation can be given an answer here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fakeqemu.error import GENERIC_ERROR, QemuError
from fakeqemu.host.clock import NS_PER_MS
from fakeqemu.trace import matches

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from fakeqemu.host.sync import Event
    from fakeqemu.monitor.dispatch import Command, Dispatcher
    from fakeqemu.system.machine import Machine

#: no value was given
NOTHING: Any = object()


@dataclass(slots=True)
class Answer:
    """What becomes of a command; first it waits, then it fails, returns `value`, or does what it always does."""

    command: str
    delay_ms: float = 0
    #: nothing is answered until `Answers.release(name)`
    stall: bool = False
    error: str | None = None
    cls: str = GENERIC_ERROR
    value: Any = NOTHING
    #: how often it is answered as ever before
    after: int = 0
    #: how often this happens; None: always
    times: int | None = 1
    name: str = ""
    passed: int = 0
    acted: int = 0

    def is_next(self, command: str) -> bool:
        """Whether this is for the command that is asked now; counts."""
        if not matches(self.command, command) or (self.times is not None and self.acted >= self.times):
            return False
        self.passed += 1
        if self.passed <= self.after:
            return False
        self.acted += 1
        return True


class Answers:
    """What is plugged into one machine's dispatcher. Making one plugs it in."""

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self.answers: list[Answer] = []
        self._stalls: dict[str, Event] = {}
        vm.faults.answer = self._answer

    def add(self, answer: Answer) -> Answer:
        self.answers.append(answer)
        return answer

    def release(self, name: str = "") -> None:
        """Let commands go on that are held by the answer of this name."""
        stall = self._stalls.pop(name, None)
        if stall is not None:
            stall.set()

    def clear(self) -> None:
        """All commands answer as ever; those that are held go on."""
        self.answers.clear()
        for name in list(self._stalls):
            self.release(name)

    def _answer(self, command: Command, arguments: dict[str, Any]) -> Any:
        """In place of `command.call(arguments)`."""
        answer = next((one for one in self.answers if one.is_next(command.name)), None)
        if answer is None:
            return command.call(arguments)
        self._vm.trace("fake_answer_changed", command=command.name)
        if answer.delay_ms or answer.stall:
            return self._later(answer, command, arguments)
        return self._now(answer, command, arguments)

    @staticmethod
    def _now(answer: Answer, command: Command, arguments: dict[str, Any]) -> Any:
        if answer.error is not None:
            raise QemuError(answer.error, answer.cls)
        return command.call(arguments) if answer.value is NOTHING else answer.value

    async def _later(self, answer: Answer, command: Command, arguments: dict[str, Any]) -> Any:
        dispatcher: Dispatcher = self._vm.dispatcher
        monitor = dispatcher.current
        await self._vm.host.clock.sleep(int(answer.delay_ms * NS_PER_MS))
        if answer.stall:
            await self._stalls.setdefault(answer.name, self._vm.host.event()).wait()
        before, dispatcher.current = dispatcher.current, monitor
        try:
            result: Any | Coroutine[Any, Any, Any] = self._now(answer, command, arguments)
        finally:
            dispatcher.current = before
        return await result if hasattr(result, "__await__") else result
