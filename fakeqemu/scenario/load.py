# SPDX-License-Identifier: MIT
"""Reading a scenario file. What is wrong is said with the file, the line and the field."""

from __future__ import annotations

import json
import os
import re
import tomllib
from typing import Any

from pydantic import ValidationError

from fakeqemu.error import QemuError
from fakeqemu.scenario import library, positions
from fakeqemu.scenario.model import ScenarioModel

_LINE = re.compile(r"line (\d+)")


class _Broken(Exception):
    """The text is no TOML, JSON or YAML; `line` is where that was noticed."""

    def __init__(self, text: str, line: int) -> None:
        super().__init__(text)
        self.line = line


def load(path: str) -> ScenarioModel:
    """Read a file, or one of ours by its name; raises QemuError that names the file, the line and the field."""
    if not os.path.exists(path):
        path = library.path_of(path) or path
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError as err:
        raise QemuError(f"scenario '{path}': {err.strerror}") from None
    except UnicodeDecodeError:
        raise QemuError(f"scenario '{path}': this is no text in UTF-8") from None
    return parse(text, path)


def parse(text: str, path: str) -> ScenarioModel:
    """The same for a text; the ending of `path` tells the format (.json, .yaml, .yml, else TOML). Raises QemuError."""
    try:
        data, lines = _parse(text, path)
    except _Broken as err:
        raise QemuError(f"scenario '{path}': line {err.line}: {err}") from None
    try:
        return ScenarioModel.model_validate(data)
    except ValidationError as err:
        raise QemuError("\n".join(f"scenario '{path}': {line}" for line in _complaints(err, lines))) from None


def _parse(text: str, path: str) -> tuple[Any, positions.Lines]:
    if path.endswith((".yaml", ".yml")):
        return _parse_yaml(text, path)
    if path.endswith(".json"):
        try:
            return json.loads(text), positions.json_lines(text)
        except json.JSONDecodeError as err:
            raise _Broken(err.msg, err.lineno) from None
    try:
        return tomllib.loads(text), positions.toml_lines(text)
    except tomllib.TOMLDecodeError as err:
        found = _LINE.search(str(err))
        line = int(found.group(1)) if found else text.count("\n") + 1
        raise _Broken(re.sub(r" \(at .*\)$", "", str(err)), line) from None


def _parse_yaml(text: str, path: str) -> tuple[Any, positions.Lines]:
    try:
        import yaml  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise QemuError(
            f"scenario '{path}': YAML needs PyYAML, which is not installed; TOML and JSON need nothing"
        ) from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as err:
        mark = getattr(err, "problem_mark", None)
        raise _Broken(str(getattr(err, "problem", None) or err), mark.line + 1 if mark else 1) from None
    return ({}, {}) if node is None else (data, positions.yaml_lines(node))


def _complaints(error: ValidationError, lines: positions.Lines) -> list[str]:
    """A line for each thing that is wrong: `line 7: rules[0].fail: ...`, in the order of the file."""
    found: list[tuple[int, str]] = []
    for one in error.errors():
        place, path = "", ()  # type: tuple[str, positions.Path]
        for part in one["loc"]:
            if (
                isinstance(part, str)
                and (*path, part) not in lines
                and one["type"] not in ("missing", "extra_forbidden")
            ):
                break  # the name of a variant of the model, not of a field
            path = (*path, part)
            place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else part
        text = one["msg"].removeprefix("Value error, ")
        line = positions.find(lines, path)
        complaint = f"line {line}: {place or 'the file'}: {text[:1].lower()}{text[1:]}"
        if (line, complaint) not in found:
            found.append((line, complaint))
    return [complaint for _, complaint in sorted(found, key=lambda one: one[0])]
