# SPDX-License-Identifier: MIT
"""-readconfig: options in a file, as groups and `key = "value"` lines.

    [chardev "mon0"]
      backend = "socket"

QEMU: util/qemu-config.c, qemu_parse_config_group in system/vl.c
"""

from __future__ import annotations

import os

from fakeqemu.error import QemuError
from fakeqemu.vl import keyval
from fakeqemu.vl.location import Location
from fakeqemu.vl.opts import Opts

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
    """Take the options of a file; raises QemuError at the line that is wrong."""
    try:
        lines = read_lines(path)
    except IsADirectoryError as err:
        raise QemuError(f"Cannot read config file: {err.strerror}") from None
    except OSError as err:
        raise QemuError(f"Could not open '{path}': {err.strerror}") from None
    _Reader(line, path).read(lines)


class _Reader:
    """Reads one file into a command line."""

    __slots__ = ("_group", "_line", "_path", "_target", "_tree")

    def __init__(self, line: CommandLine, path: str) -> None:
        self._line = line
        self._path = path
        self._group: str | None = None
        self._target: Opts | None = None
        self._tree: dict[str, Any] = {}

    def read(self, lines: list[str]) -> None:
        reporter = self._line.reporter
        before = reporter.at
        for number, text in enumerate(lines, 1):
            reporter.at = Location(file=self._path, line=number)
            stripped = text.strip()
            if not stripped or stripped.startswith("#"):
                continue
            if stripped.startswith("["):
                self._finish_tree()
                self._begin_group(stripped)
            else:
                self._assignment(stripped)
        self._finish_tree()
        reporter.at = before

    def _begin_group(self, text: str) -> None:
        name, quote, rest = text[1:].partition('"')
        id_: str | None = None
        if quote:
            id_, quote, after = rest.partition('"')
            if not quote or after.strip() != "]":
                raise QemuError("parse error")
        elif name.endswith("]"):
            name = name[:-1]
        else:
            raise QemuError("parse error")
        self._group = name.strip()
        self._tree = {}
        self._target = None
        if self._group in _MACHINE_GROUPS:
            return
        if self._group == "object":
            self._tree = {} if id_ is None else {"id": id_}
            return
        if not self._line.groups.exists(self._group):
            raise QemuError(f"There is no option group '{self._group}'")
        group = self._line.groups[self._group]
        self._target = group.create(id_, self._line.reporter.at)

    def _assignment(self, text: str) -> None:
        name, equals, value = text.partition("=")
        name, value = name.strip(), value.strip()
        if not equals or len(value) < 2 or not value.startswith('"') or not value.endswith('"'):
            raise QemuError("parse error")
        if self._group is None:
            raise QemuError("no group defined")
        if self._target is not None:
            self._target.set(name, value[1:-1])
        else:
            self._tree[name] = value[1:-1]

    def _finish_tree(self) -> None:
        if self._group in _MACHINE_GROUPS and self._tree:
            text = ",".join(f"{name}={value.replace(',', ',,')}" for name, value in self._tree.items())
            tree = keyval.parse_without_help(text)
            part = _MACHINE_GROUPS[self._group]
            keyval.merge(self._line.machine, {part: tree} if part else tree)
        elif self._group == "object" and self._tree:
            from fakeqemu.qapi.schema import schema_of
            from fakeqemu.vl.text_visitor import KeyvalVisitor

            type_ = schema_of(self._line.profile).arguments("object-add")
            self._line.objects.append(KeyvalVisitor().visit_arguments(type_, dict(self._tree)))
        self._tree = {}
