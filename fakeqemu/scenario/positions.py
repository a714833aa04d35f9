# SPDX-License-Identifier: MIT
"""In which line of a file a value stands: for errors that people can act on.

Parsers of the standard library give values and forget where they were. These scanners go through the text a second
time, after it was found to be right, and give the line of each key: a dict of paths such as ("rules", 0, "where").
"""

from __future__ import annotations

import re
from json.decoder import scanstring  # type: ignore[attr-defined]  # there since json is
from typing import Any

Path = tuple[str | int, ...]
Lines = dict[Path, int]

_SPACE = re.compile(r"\s*")
_KEY = r'(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|\'[^\']*\')'
_DOTTED = re.compile(rf"[ \t]*({_KEY}(?:[ \t]*\.[ \t]*{_KEY})*)[ \t]*")
_PART = re.compile(_KEY)
_STRINGS = re.compile(r'"""(?:[^\\]|\\.)*?"""|\'\'\'.*?\'\'\'|"(?:[^"\\]|\\.)*"|\'[^\']*\'|#[^\n]*', re.DOTALL)


def find(lines: Lines, path: Path) -> int:
    """The line of the value, or of the nearest thing around it; 1 when there is none."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return 1


# --- JSON -----------------------------------------------------------------------------------------------


def json_lines(text: str) -> Lines:
    """Lines of all keys and elements of valid JSON."""
    lines: Lines = {}
    _json_value(text, 0, (), lines)
    return lines


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _json_value(text: str, at: int, path: Path, lines: Lines) -> int:
    """Go through the value at `at`; returns where it ends."""
    at = _skip(text, at)
    lines.setdefault(path, _line(text, at))
    if text[at] in "{[":
        return _json_container(text, at, path, lines)
    if text[at] == '"':
        return int(scanstring(text, at + 1)[1])
    while at < len(text) and text[at] not in ",]} \t\r\n":
        at += 1
    return at


def _json_container(text: str, at: int, path: Path, lines: Lines) -> int:
    is_object = text[at] == "{"
    index = 0
    at = _skip(text, at + 1)
    while text[at] not in "}]":
        if text[at] == ",":
            at = _skip(text, at + 1)
        key: str | int = index
        if is_object:
            start = at
            key, at = scanstring(text, at + 1)
            lines[(*path, key)] = _line(text, start)
            at = _skip(text, at) + 1  # the colon
        at = _skip(text, _json_value(text, at, (*path, key), lines))
        index += 1
    return at + 1


# --- TOML -----------------------------------------------------------------------------------------------


def toml_lines(text: str) -> Lines:
    """Lines of all tables and keys of valid TOML; what stands within a value in brackets has the value's line."""
    lines: Lines = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    at = 0
    while at < len(text):
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        line = text[at:end].strip()
        if not line or line.startswith("#"):
            at = end + 1
        elif line.startswith("["):
            table = _toml_table(line, counts)
            for depth in range(1, len(table) + 1):
                lines.setdefault(table[:depth], _line(text, at))
            at = end + 1
        else:
            found = _DOTTED.match(text, at)
            assert found is not None, "valid TOML was promised"
            keys = _toml_keys(found.group(1))
            for depth in range(1, len(keys) + 1):
                lines.setdefault((*table, *keys[:depth]), _line(text, at))
            at = _toml_value_end(text, found.end() + 1)
    return lines


def _toml_keys(dotted: str) -> Path:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))


def _toml_table(line: str, counts: dict[Path, int]) -> Path:
    """The path that a header opens: arrays of tables are counted."""
    of_array = line.startswith("[[")
    found = _DOTTED.match(line, 2 if of_array else 1)
    assert found is not None, "valid TOML was promised"
    path: Path = ()
    keys = _toml_keys(found.group(1))
    for depth, key in enumerate(keys):
        path = (*path, key)
        if of_array and depth == len(keys) - 1:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, counts[path])
    return path


def _toml_value_end(text: str, at: int) -> int:
    """Where the line after a value begins: brackets may hold many lines."""
    depth = 0
    while at < len(text):
        found = _STRINGS.match(text, at)
        if found:
            at = found.end()
            continue
        depth += (text[at] in "[{") - (text[at] in "]}")
        if text[at] == "\n" and depth <= 0:
            return at + 1
        at += 1
    return at


# --- YAML -----------------------------------------------------------------------------------------------


def yaml_lines(node: Any) -> Lines:
    """Lines of all keys and elements of what PyYAML composed."""
    lines: Lines = {}
    _yaml_node(node, (), lines)
    return lines


def _yaml_node(node: Any, path: Path, lines: Lines) -> None:
    lines.setdefault(path, node.start_mark.line + 1)
    if node.id == "mapping":
        for key, value in node.value:
            inner = (*path, key.value)
            lines[inner] = key.start_mark.line + 1
            _yaml_node(value, inner, lines)
    elif node.id == "sequence":
        for index, value in enumerate(node.value):
            _yaml_node(value, (*path, index), lines)
