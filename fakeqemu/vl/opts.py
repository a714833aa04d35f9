# SPDX-License-Identifier: MIT
"""QemuOpts: `key=value,key=value` of one option, checked against what the option's group takes.

A group knows its parameters, or accepts any. A first word without `=` is the value of the group's implied key; a later
one is a switch (`server` for server=on, `nowait` for wait=off: deprecated, with a warning). A comma in a value is
doubled. Groups of one kind merge: several `-name` fill one set of parameters; others are told apart by `id`.

QEMU: util/qemu-option.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.qapi.cutils import ERANGE, NumberError, parse_bool, parse_size, parse_uint64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fakeqemu.vl.location import Location

    Warn = Callable[[str, str], None]

ID_HINT = "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter."
SIZE_HINT = "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively."

_TYPE_WORDS = {"string": "str", "boolean": "bool (on/off)", "number": "num", "size": "size"}


class HelpWanted(Exception):
    """`help` stood among the parameters of a group that has a list of them."""


class SizeError(QemuError):
    """A size that is out of range."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"Value '{text}' is out of range for parameter '{name}'")
        self.name = name
        self.text = text

    def malformed(self) -> QemuError:
        """The same in the words for what is no size at all."""
        return QemuError(f"Parameter '{self.name}' expects a non-negative number below 2^64", hint=SIZE_HINT)


class Param:
    """A parameter of a group."""

    __slots__ = ("default", "help", "name", "type")

    def __init__(self, name: str, type_: str, help_: str | None = None, default: str | None = None) -> None:
        self.name = name
        #: "string", "boolean", "number" or "size"
        self.type = type_
        self.help = help_
        self.default = default


class OptsList:
    """A group: what it takes, and all sets of parameters given so far. No parameters means any."""

    __slots__ = ("implied", "items", "merge", "name", "params")

    def __init__(
        self, name: str, implied: str | None = None, merge: bool = False, params: list[Param] | None = None
    ) -> None:
        self.name = name
        self.implied = implied
        self.merge = merge
        self.params: dict[str, Param] = {}
        for param in params or ():
            self.params.setdefault(param.name, param)
        self.items: list[Opts] = []

    def find(self, id_: str | None) -> Opts | None:
        """The set with this id (or the first with none)."""
        for opts in self.items:
            if opts.id == id_:
                return opts
        return None

    def create(self, id_: str | None, place: Location, fail_if_exists: bool = True) -> Opts:
        """A new set, or the one that everything merges into; raises QemuError for a bad or taken id."""
        if self.merge:
            if id_ is not None:
                raise QemuError("Invalid parameter 'id'")
            found = self.find(None)
            if found is not None:
                return found
        elif id_ is not None:
            if not id_wellformed(id_):
                raise QemuError("Parameter 'id' expects an identifier", hint=ID_HINT)
            found = self.find(id_)
            if found is not None:
                if fail_if_exists:
                    raise QemuError(f"Duplicate ID '{id_}' for {self.name}")
                return found
        opts = Opts(self, id_, place)
        self.items.append(opts)
        return opts

    def name_one(self, opts: Opts) -> str:
        """The id of a set; one that has none gets `default`, or the group's name with the first free number from 2 on."""
        number = 2
        name = "default"
        while opts.id is None:
            if self.find(name) is None:
                opts.id = name
            name = f"{self.name}{number}"
            number += 1
        return opts.id

    def parse(self, text: str, place: Location, implied: bool, warn: Warn | None = None) -> Opts:
        """Read one option's argument; `implied` allows a first value without its key.

        Raises QemuError, and HelpWanted when `help` is among the words of a group that has a list. `warn(text, hint)`
        hears of switches in the short form; None keeps silent.
        """
        opts = self.create(_id_of(text), place)
        try:
            opts.do_parse(text, self.implied if implied else None, warn, help_allowed=bool(self.params))
        except (QemuError, HelpWanted):
            self.items.remove(opts)
            raise
        return opts

    def help_text(self) -> str:
        """What `help` prints: the parameters in the order of the alphabet."""
        if not self.params:
            return f"There are no options for {self.name}.\n"
        lines = []
        for name, param in self.params.items():
            line = f"  {name}=<{_TYPE_WORDS[param.type]}>"
            if param.help:
                line = f"{line:<24} - {param.help}"
            if param.default is not None:
                line += f" (default: {param.default})"
            lines.append(line)
        # The lines are sorted, not the names: `-` comes before `=`.
        return "\n".join([f"{self.name} options:", *sorted(lines)]) + "\n"


class Opts:
    """One set of parameters, in the order written; the last value of a key counts."""

    __slots__ = ("group", "id", "location", "values")

    def __init__(self, group: OptsList, id_: str | None, place: Location) -> None:
        self.group = group
        self.id = id_
        self.location = place
        self.values: list[tuple[str, str]] = []

    def get(self, name: str, default: str | None = None) -> str | None:
        for key, value in reversed(self.values):
            if key == name:
                return value
        param = self.group.params.get(name)
        return param.default if param is not None and param.default is not None else default

    def get_bool(self, name: str, default: bool = False) -> bool:
        value = self.get(name)
        return default if value is None else bool(parse_bool(value))

    def get_number(self, name: str, default: int) -> int:
        """A number as the caller's signed 64 bits."""
        value = self.get(name)
        if value is None:
            return default
        number = parse_uint64(value)
        return number - (1 << 64) if number >> 63 else number

    def get_size(self, name: str, default: int) -> int:
        value = self.get(name)
        return default if value is None else parse_size(value)

    def has(self, name: str) -> bool:
        return any(key == name for key, _ in self.values)

    def set(self, name: str, value: str) -> None:
        """Add a value; raises QemuError where the group refuses it."""
        check_value(self.group, name, value)
        self.values.append((name, value))

    def unset(self, name: str) -> str | None:
        """Take a key away with all its values; returns the last of them."""
        value = self.get(name)
        self.values = [item for item in self.values if item[0] != name]
        return value

    def as_dict(self) -> dict[str, str]:
        """Keys and last values, `id` first where there is one."""
        result = {} if self.id is None else {"id": self.id}
        result.update(self.values)
        return result

    def do_parse(self, text: str, implied: str | None, warn: Warn | None = None, help_allowed: bool = False) -> None:
        """Add what `text` says; QemuError at the first parameter that the group refuses."""
        rest = text
        while rest:
            name, value, prefix, rest = next_pair(rest, implied)
            if help_allowed and is_help(name) and prefix != "no":
                raise HelpWanted
            if prefix is not None and warn is not None and not (is_help(name) and not prefix):
                instead = f"{name}={value}"
                if name == "delay":
                    instead = f"nodelay={'on' if prefix else 'off'}"
                warn(f"short-form boolean option '{prefix}{name}' deprecated", f"Please use {instead} instead")
            implied = None
            if name == "id":
                continue
            self.set(name, value)


def check_value(group: OptsList, name: str, value: str) -> None:
    """Raise QemuError unless the group takes such a parameter with such a value."""
    param = group.params.get(name)
    if param is None:
        if group.params:
            raise QemuError(f"Invalid parameter '{name}'")
        return
    if param.type == "boolean":
        if parse_bool(value) is None:
            raise QemuError(f"Parameter '{name}' expects 'on' or 'off'")
    elif param.type == "number":
        try:
            parse_uint64(value)
        except NumberError as err:
            if err.errno == ERANGE:
                raise QemuError(f"Value '{value}' is out of range for parameter '{name}'") from None
            raise QemuError(f"Parameter '{name}' expects a number") from None
    elif param.type == "size":
        try:
            parse_size(value)
        except NumberError as err:
            out_of_range = SizeError(name, value)
            raise (out_of_range if err.errno == ERANGE else out_of_range.malformed()) from None


def next_pair(text: str, implied: str | None) -> tuple[str, str, str | None, str]:
    """The first parameter: name, value, how a switch was written ("" or "no"; None for no switch), and what follows."""
    end = 0
    while end < len(text) and text[end] not in "=,":
        end += 1
    if text[end : end + 1] == "=":
        value, rest = take_value(text[end + 1 :])
        return text[:end], value, None, rest
    if implied is not None:
        value, rest = take_value(text)
        return implied, value, None, rest
    name, rest = text[:end], text[end + 1 :]
    if name.startswith("no"):
        return name[2:], "off", "no", rest
    return name, "on", "", rest


def take_value(text: str) -> tuple[str, str]:
    """A value up to the next single comma (doubled ones count as one of its letters), and what follows."""
    value = ""
    while True:
        at = text.find(",")
        if at < 0:
            return value + text, ""
        if text[at + 1 : at + 2] != ",":
            return value + text[:at], text[at + 1 :]
        value += text[: at + 1]
        text = text[at + 2 :]


def is_help(text: str) -> bool:
    return text in ("help", "?")


def id_wellformed(text: str) -> bool:
    """Letters, digits and `-._`, beginning with a letter."""
    return bool(text) and text.isascii() and text[0].isalpha() and all(c.isalnum() or c in "-._" for c in text)


def _id_of(text: str) -> str | None:
    rest = text
    while rest:
        name, value, _, rest = next_pair(rest, None)
        if name == "id":
            return value
    return None
