# SPDX-License-Identifier: MIT
"""-readconfig: options in a file, as groups and `key = "value"` lines.

    [chardev "mon0"]
      backend = "socket"

QEMU: util/qemu-config.c, qemu_parse_config_group in system/vl.c
"""

from __future__ import annotations

import os

from fakeqemu.error import QemuError
from fakeqemu.qapi.qdict import ordered
from fakeqemu.vl import keyval
from fakeqemu.vl.location import Location

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.vl.cmdline import CommandLine

#: group -> where its tree goes in -machine's ("" for the top)
_MACHINE_GROUPS = {"machine": "", "smp-opts": "smp", "boot-opts": "boot"}


def read_lines(path: str) -> list[str]:
    """The lines of a file; raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = b""
        while chunk := os.read(fd, 1 << 16):
            data += chunk
    finally:
        os.close(fd)
    return data.decode("utf-8", "surrogateescape").split("\n")


def read_config(line: CommandLine, path: str) -> None:
    """Take the options of a file; raises QemuError."""
    try:
        lines = read_lines(path)
    except IsADirectoryError as err:
        raise QemuError(f"Cannot read config file: {err.strerror}") from None
    except OSError as err:
        raise QemuError(f"Could not open '{path}': {err.strerror}") from None
    if lines and not lines[-1]:
        lines.pop()
    at = line.reporter.at
    section: _Section | None = None
    for number, text in enumerate(lines, 1):
        stripped = text.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if stripped.startswith("["):
            if section is not None:
                section.finish(line, Location(file=path, line=number))
            section = _Section(stripped)
        elif section is None:
            _blame(line, Location(file=path, line=number))
            raise QemuError("no group defined")
        else:
            section.assign(stripped)
    if section is not None:
        section.finish(line, Location(file=path, line=len(lines)))
    line.reporter.at = at


def _blame(line: CommandLine, place: Location) -> None:
    """Errors to come belong to a line of the file, in releases that say so."""
    if line.profile.compat.readconfig_error_names_line:
        line.reporter.at = place


class _Section:
    """One `[group "id"]` and what is assigned in it; judged when it is over."""

    __slots__ = ("group", "id", "values")

    def __init__(self, header: str) -> None:
        """Raises QemuError unless the line is `[group]` or `[group "id"]`."""
        name, quote, rest = header[1:].partition('"')
        self.id: str | None = None
        self.values: dict[str, str] = {}
        if quote:
            self.id, quote, after = rest.partition('"')
            well_formed = bool(quote) and after.strip() == "]"
        else:
            name, bracket, _ = name.partition("]")
            well_formed = bool(bracket)
        if not well_formed or not name.strip():
            raise QemuError("parse error")
        self.group = name.strip()

    def assign(self, text: str) -> None:
        """`key = "value"`; a key alone has the empty value. Raises QemuError."""
        name, equals, value = text.partition("=")
        name, value = name.strip(), value.strip()
        if equals and not (value.startswith('"') and value.count('"') > 1):
            value = '""' if value == '"' else ""
            if not value:
                raise QemuError("parse error")
        self.values[name] = value[1:].partition('"')[0] if equals else ""

    def finish(self, line: CommandLine, place: Location) -> None:
        """Hand the section to what it configures; raises QemuError."""
        if self.group in _MACHINE_GROUPS:
            with line.reporter.within(place):
                text = ",".join(f"{name}={value.replace(',', ',,')}" for name, value in self.values.items())
                tree = keyval.parse_without_help(text)
                part = _MACHINE_GROUPS[self.group]
                keyval.merge(line.machine, {part: tree} if part else tree)
        elif self.group == "object":
            with line.reporter.within(place):
                line.objects.append(self._object(line))
        elif not line.groups.exists(self.group):
            _blame(line, place)
            raise QemuError(f"There is no option group '{self.group}'")
        else:
            _blame(line, place)
            opts = line.groups[self.group].create(self.id, line.reporter.at)
            for name in ordered(self.values):
                opts.set(name, self.values[name])

    def _object(self, line: CommandLine) -> dict[str, Any]:
        from fakeqemu.qapi.schema import schema_of
        from fakeqemu.vl.text_visitor import KeyvalVisitor

        tree = dict(self.values)
        if self.id is not None:
            tree["id"] = self.id
        return KeyvalVisitor().visit_arguments(schema_of(line.profile).arguments("object-add"), tree)
