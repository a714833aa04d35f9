# SPDX-License-Identifier: MIT
"""What may stand in a scenario file. Field names are written with `-` for `_`."""

from __future__ import annotations

import errno
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from fakeqemu.error import GENERIC_ERROR
from fakeqemu.faults.answers import NOTHING, Answer
from fakeqemu.faults.catalogue import POINTS
from fakeqemu.faults.link import LinkFault
from fakeqemu.faults.point import Point
from fakeqemu.faults.rule import Action, Close, Corrupt, Delay, Fail, Kill, Rule, Stall, comparison
from fakeqemu.qapi.cutils import NumberError, parse_size
from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.trace import matches


def _size(value: Any) -> Any:
    """Bytes from `64M`; what is no text is judged as a number."""
    if not isinstance(value, str):
        return value
    try:
        return parse_size(value)
    except NumberError:
        raise ValueError("a size is written as a number of bytes or with a suffix, such as 64M") from None


def _errno(text: str) -> str:
    if not isinstance(getattr(errno, text, None), int):
        raise ValueError("an error is written as the name of an errno, such as EIO")
    return text


def _kebab(name: str) -> str:
    return name.replace("_", "-")


_SIZE_TYPES: Any = {"type": ["integer", "string"]}
Size = Annotated[int, Field(ge=0, json_schema_extra=_SIZE_TYPES), BeforeValidator(_size)]
SomeBytes = Annotated[int, Field(gt=0, json_schema_extra=_SIZE_TYPES), BeforeValidator(_size)]
Errno = Annotated[str, AfterValidator(_errno)]
Milliseconds = Annotated[float, Field(ge=0)]
Position = Annotated[int, Field(ge=0)]
#: what a rule does, by the name of its field
_ACTIONS = ("fail", "delay_ms", "stall", "corrupt", "close", "kill")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=_kebab, populate_by_name=True, strict=True)


class _MemoryModel(_Model):
    dirty_rate: Size | None = None
    working_set: Size | None = None
    #: what it looks at, which counts while memory is still to come (postcopy)
    touch_rate: Size | None = None
    #: per cent of that, looked at by threads of the emulator
    other_faults: Annotated[int, Field(ge=0, le=100)] | None = None


class PhaseModel(_MemoryModel):
    """What the guest does from a time on; what is left out stays as it was."""

    at_ms: Milliseconds


class GuestModel(_MemoryModel):
    """What the guest does with its memory."""

    phases: list[PhaseModel] = []

    @field_validator("phases")
    @classmethod
    def _in_order(cls, phases: list[PhaseModel]) -> list[PhaseModel]:
        if any(later.at_ms <= earlier.at_ms for earlier, later in pairwise(phases)):
            raise ValueError("phases stand in the order of their times")
        return phases


class RuleModel(_Model):
    """What is to happen at a fault point; one of fail, delay-ms, stall, corrupt, close, kill."""

    where: str
    match: dict[str, str | int] = {}
    after: Annotated[int, Field(ge=0)] = 0
    times: Annotated[int, Field(ge=1)] | Literal["always"] = 1
    probability: Annotated[float, Field(gt=0, le=1)] = 1.0
    name: str = ""
    fail: Errno | None = None
    #: with `fail`: in place of the point's own words
    text: str | None = None
    delay_ms: Milliseconds | None = None
    stall: Literal[True] | None = None
    #: which of the bytes that come next arrives changed
    corrupt: Position | None = None
    close: Literal[True] | None = None
    kill: Literal[True] | None = None

    @field_validator("where")
    @classmethod
    def _known(cls, where: str) -> str:
        if not _points(where):
            raise ValueError(f"there is no fault point '{where}' (see: fakeqemu faults)")
        return where

    @field_validator("match")
    @classmethod
    def _fields(cls, match: dict[str, str | int], info: Any) -> dict[str, str | int]:
        known = list(dict.fromkeys(name for point in _points(info.data.get("where", "")) for name in point.fields))
        for name in match:
            if "where" in info.data and name not in known:
                raise ValueError(f"'{info.data['where']}' has no field '{name}', only: {', '.join(known) or 'none'}")
            try:
                comparison(str(match[name]))
            except ValueError:
                raise ValueError(f"'{match[name]}' compares with no number") from None
        return match

    @model_validator(mode="after")
    def _one_action(self) -> RuleModel:
        actions = [name for name in _ACTIONS if getattr(self, name) is not None]
        if len(actions) != 1:
            raise ValueError(f"a rule has exactly one of {', '.join(map(_kebab, _ACTIONS))}")
        if self.text is not None and self.fail is None:
            raise ValueError("text goes with fail")
        points = _points(self.where)
        if not any(point.can(self._action()) for point in points):
            can = ", ".join(points[0].actions())
            raise ValueError(f"{_NOT_THERE[actions[0]]} at '{self.where}', a rule can do there: {can}")
        return self

    def build(self) -> Rule:
        times = None if self.times == "always" else self.times
        match = {name: str(value) for name, value in self.match.items()}
        return Rule(self.where, self._action(), match, self.after, times, self.probability, self.name)

    def _action(self) -> Action:
        if self.fail is not None:
            return Fail(self.fail, self.text)
        if self.delay_ms is not None:
            return Delay(self.delay_ms)
        if self.corrupt is not None:
            return Corrupt(self.corrupt)
        return Stall() if self.stall else Close() if self.close else Kill()


_NOT_THERE = {
    "delay_ms": "nothing can wait", "stall": "nothing can wait", "corrupt": "no bytes follow",
    "close": "there is no connection",
}  # fmt: skip


class LinkModel(_Model):
    """How migration channels misbehave; positions are bytes from the channel's beginning, in that direction."""

    #: for a step that releases what is stalled
    name: str = ""
    channel: str = "*"
    direction: Literal["read", "write", "both"] = "both"
    latency_ms: Milliseconds = 0
    bandwidth: SomeBytes | None = None
    slice: SomeBytes | None = None
    stall_at: Position | None = None
    reset_at: Position | None = None
    close_at: Position | None = None
    corrupt_at: Position | None = None

    @model_validator(mode="after")
    def _does_something(self) -> LinkModel:
        if not self.model_fields_set - {"name", "channel", "direction"}:
            raise ValueError("a link has at least one fault, such as latency-ms or reset-at")
        return self

    def build(self) -> LinkFault:
        return LinkFault(**self.model_dump())


class AnswerModel(_Model):
    """What becomes of a QMP command, for the times named; the command has its usual effect unless it fails or returns."""

    command: str
    name: str = ""
    after: Annotated[int, Field(ge=0)] = 0
    times: Annotated[int, Field(ge=1)] | Literal["always"] = 1
    delay_ms: Milliseconds = 0
    stall: Literal[True] | None = None
    error: str | None = None
    error_class: str = GENERIC_ERROR
    #: in place of what the command returns
    value: Any = Field(default=None, alias="return")

    @model_validator(mode="after")
    def _does_something(self) -> AnswerModel:
        if not self.model_fields_set & {"delay_ms", "stall", "error", "value"}:
            raise ValueError("an answer has at least one of delay-ms, stall, error, return")
        if self.error is not None and "value" in self.model_fields_set:
            raise ValueError("a command fails with error or returns, not both")
        return self

    def build(self) -> Answer:
        value = self.value if "value" in self.model_fields_set else NOTHING
        times = None if self.times == "always" else self.times
        return Answer(
            self.command,
            self.delay_ms,
            bool(self.stall),
            self.error,
            self.error_class,
            value,
            self.after,
            times,
            self.name,
        )


_WHEN = ("at_ms", "on", "event", "command")
_DEEDS = ("release", "guest", "dirty_rate", "working_set", "touch_rate", "other_faults", "close", "kill")


class StepModel(_MemoryModel):
    """Something that happens at a time, or when something else does: one of at-ms, on, event, command says when."""

    name: str = ""
    at_ms: Milliseconds | None = None
    #: a trace event, of QEMU's names or ours (fake_...)
    on: str | None = None
    #: a QMP event
    event: str | None = None
    #: a QMP command that somebody sends
    command: str | None = None
    #: fields of the trace event, or members of the QMP event's data
    match: dict[str, str | int] = {}
    after: Annotated[int, Field(ge=0)] = 0
    times: Annotated[int, Field(ge=1)] | Literal["always"] = 1
    #: so long behind it
    delay_ms: Milliseconds = 0
    #: the name of a rule, link or answer whose stall ends
    release: str | None = None
    #: all migration channels that are open end, as if the other side had closed them
    close: Literal[True] | None = None
    #: what the guest does
    guest: Literal["panic", "crash-dump", "shutdown", "reboot", "suspend", "hibernate", "wake-up"] | None = None
    kill: Literal[True] | None = None

    @field_validator("on")
    @classmethod
    def _traced(cls, on: str | None) -> str | None:
        if on is not None and not on.startswith("fake_") and not any(matches(on, name) for name in _trace_events()):
            raise ValueError(f"there is no trace event '{on}'")
        return on

    @model_validator(mode="after")
    def _when_and_what(self) -> StepModel:
        if sum(getattr(self, name) is not None for name in _WHEN) != 1:
            raise ValueError(f"a step has exactly one of {', '.join(map(_kebab, _WHEN))}")
        if all(getattr(self, name) is None for name in _DEEDS):
            raise ValueError(f"a step does something, such as {', '.join(map(_kebab, _DEEDS))}")
        if self.match and self.on is None and self.event is None:
            raise ValueError("match goes with on and event")
        return self


class ScenarioModel(_Model):
    """The whole file."""

    name: str = ""
    description: str = ""
    guest: GuestModel = GuestModel()
    rules: list[RuleModel] = []
    links: list[LinkModel] = []
    answers: list[AnswerModel] = []
    steps: list[StepModel] = []

    @field_validator("rules")
    @classmethod
    def _names_differ(cls, rules: list[RuleModel]) -> list[RuleModel]:
        names = [rule.name for rule in rules if rule.name]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two rules are named '{name}'")
        return rules

    @field_validator("steps")
    @classmethod
    def _released_are_there(cls, steps: list[StepModel], info: Any) -> list[StepModel]:
        names = [one.name for kind in ("rules", "links", "answers") for one in info.data.get(kind, []) if one.name]
        for step in steps:
            if step.release is not None and step.release not in names:
                raise ValueError(f"nothing is named '{step.release}' that could be released")
        return steps


@cache
def _trace_events() -> list[str]:
    return VersionProfile.load("next").keys("trace-events")


def _points(where: str) -> list[Point]:
    return [point for name, point in POINTS.items() if matches(where, name)]
