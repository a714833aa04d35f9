# SPDX-License-Identifier: MIT
"""What may stand in a scenario file. Field names are written with `-` for `_`."""

from __future__ import annotations

import errno
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from fakeqemu.faults.catalogue import POINTS, Point
from fakeqemu.faults.link import LinkFault
from fakeqemu.faults.rule import Action, Close, Corrupt, Delay, Fail, Kill, Rule, Stall, comparison
from fakeqemu.qapi.cutils import NumberError, parse_size
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


class PhaseModel(_Model):
    """What the guest does from a time on; what is left out stays as it was."""

    at_ms: Milliseconds
    dirty_rate: Size | None = None
    working_set: Size | None = None


class GuestModel(_Model):
    """What the guest does with its memory."""

    dirty_rate: Size | None = None
    working_set: Size | None = None
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


class ScenarioModel(_Model):
    """The whole file."""

    name: str = ""
    description: str = ""
    guest: GuestModel = GuestModel()
    rules: list[RuleModel] = []
    links: list[LinkModel] = []

    @field_validator("rules")
    @classmethod
    def _names_differ(cls, rules: list[RuleModel]) -> list[RuleModel]:
        names = [rule.name for rule in rules if rule.name]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two rules are named '{name}'")
        return rules


def _points(where: str) -> list[Point]:
    return [point for name, point in POINTS.items() if matches(where, name)]
