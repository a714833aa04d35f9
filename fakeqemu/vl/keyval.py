# SPDX-License-Identifier: MIT
"""Dotted keys: `a.b=1,a.c.0=x,a.c.1=y` made a tree of strings, `{"a": {"b": "1", "c": ["x", "y"]}}`.

The values stay strings; the type that is read from them afterwards says what they mean (qapi visitor with `keyval`).
Used by -machine, -smp, -boot, -blockdev, -display, -compat, -incoming. Several options may be merged into one tree.

QEMU: util/keyval.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.vl.opts import is_help, take_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAX_FRAGMENT = 128


def parse(text: str, implied: str | None = None) -> tuple[dict[str, Any], bool]:
    """The tree of `text`, and whether `help` was among the words; raises QemuError.

    `implied` is the key of a first value that has none.
    """
    tree: dict[str, Any] = {}
    wants_help = False
    rest = text
    while rest:
        end = 0
        while end < len(rest) and rest[end] not in "=,":
            end += 1
        key, has_value = rest[:end], rest[end : end + 1] == "="
        if key and not has_value and is_help(key):
            wants_help = True
            rest = rest[end + 1 :]
        elif key and not has_value and implied is not None:
            _put(tree, implied, key)
            rest = rest[end + 1 :]
        else:
            fragments = _fragments(key)
            if not has_value:
                raise QemuError(f"Expected '=' after parameter '{key}'")
            value, rest = take_value(rest[end + 1 :])
            _insert(tree, key, fragments, value)
        implied = None
    _listify(tree, "")
    return tree, wants_help


def parse_without_help(text: str, implied: str | None = None) -> dict[str, Any]:
    """As `parse`, for an option that has no help to print; raises QemuError when it is asked for."""
    tree, wants_help = parse(text, implied)
    if wants_help:
        raise QemuError("Help is not available for this option")
    return tree


def merge(into: dict[str, Any], tree: dict[str, Any], prefix: str = "") -> None:
    """Add `tree` to `into`: later strings win, branches merge, lists grow; raises QemuError where kinds differ."""
    for key, value in tree.items():
        old = into.get(key)
        if old is None:
            into[key] = value
        elif type(old) is not type(value):
            raise QemuError(f"Parameter '{prefix}{key}' used inconsistently")
        elif isinstance(value, dict):
            merge(old, value, f"{prefix}{key}.")
        elif isinstance(value, list):
            old.extend(value)
        else:
            into[key] = value


def _fragments(key: str) -> list[str]:
    """The parts of a dotted key; each is a QAPI name, and any but the first may be an index."""
    result: list[str] = []
    at = 0
    while True:
        length = _index_length(key, at) if at else 0
        length = length or _name_length(key, at)
        end = at + length
        if not length or (end < len(key) and key[end] != "."):
            raise QemuError(f"Invalid parameter '{key}'")
        if length >= _MAX_FRAGMENT:
            what = " fragment" if at or end != len(key) else ""
            raise QemuError(f"Parameter{what} '{key[at:end]}' is too long")
        result.append(key[at:end])
        if end == len(key):
            return result
        at = end + 1


def _insert(tree: dict[str, Any], key: str, fragments: list[str], value: str) -> None:
    branch = tree
    done = 0
    for fragment in fragments[:-1]:
        done += len(fragment) + 1
        old = branch.get(fragment)
        if old is None:
            old = branch[fragment] = {}
        elif not isinstance(old, dict):
            raise QemuError(f"Parameters '{key[: done - 1]}.*' used inconsistently")
        branch = old
    if isinstance(branch.get(fragments[-1]), dict):
        raise QemuError(f"Parameters '{key}.*' used inconsistently")
    _put(branch, fragments[-1], value)


def _put(branch: dict[str, Any], name: str, value: str) -> None:
    branch[name] = value


def _listify(branch: dict[str, Any], prefix: str) -> Any:
    """Turn every branch whose keys are indexes into a list; raises QemuError for gaps and mixtures."""
    indexes = 0
    for key, value in branch.items():
        if key.isdigit():
            indexes += 1
        if isinstance(value, dict):
            branch[key] = _listify(value, f"{prefix}{key}.")
    if not indexes:
        return branch
    if indexes < len(branch):
        raise QemuError(f"Parameters '{prefix}*' used inconsistently")
    by_index = {int(key): value for key, value in branch.items()}
    highest = max(by_index)
    result = []
    for index in range(min(len(branch) + 1, highest + 1)):
        if index not in by_index:
            raise QemuError(f"Parameter '{prefix}{index}' missing")
        result.append(by_index[index])
    return result


def _index_length(key: str, at: int) -> int:
    """How long the number at `at` is when it is an index that fits an int, else 0."""
    end = at
    while end < len(key) and key[end] in "0123456789":
        end += 1
    if end == at or (end < len(key) and key[end] != ".") or int(key[at:end]) > 0x7FFFFFFF:
        return 0
    return end - at


def _name_length(key: str, at: int) -> int:
    """How long the QAPI name at `at` is: letters, digits, `-_`, beginning with a letter, or a vendor's `__rfqdn_name`."""
    end = at
    if key.startswith("__", at):
        end = at + 2
        while end < len(key) and key[end] != "_":
            if not (key[end].isascii() and (key[end].isalnum() or key[end] in "-.")):
                return 0
            end += 1
        if end == at + 2 or end == len(key):
            return 0
        end += 1
    if not (key[end : end + 1].isascii() and key[end : end + 1].isalpha()):
        return 0
    while end < len(key) and key[end].isascii() and (key[end].isalnum() or key[end] in "-_"):
        end += 1
    return end - at
