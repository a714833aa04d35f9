# SPDX-License-Identifier: MIT
"""The table of commands, the marks on functions and the schemas of all profiles agree."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import fakeqemu
from fakeqemu.monitor import registry
from fakeqemu.qapi.profile import VersionProfile, known_profiles
from fakeqemu.qapi.schema import schema_of

COMMANDS = [(module, command) for module, commands in registry.MODULES.items() for command in commands]
PROFILES = {name: VersionProfile.load(name) for name in known_profiles()}


def members(command: str) -> dict[str, bool]:
    """Parameter -> whether each profile that has the command has it as a mandatory member."""
    result: dict[str, bool] = {}
    for profile in PROFILES.values():
        if not profile.has("commands", command):
            continue
        type_ = schema_of(profile).arguments(command)
        found = {registry.parameter_name(member.name): not member.optional for member in type_.members}
        if type_.tag is not None:
            for case in type_.cases:
                variant = type_.variant(case)
                assert variant is not None
                found.update({registry.parameter_name(member.name): False for member in variant.members})
        if not result:
            result = found
        else:
            result = {name: result.get(name, False) and found.get(name, False) for name in {**result, **found}}
    return result


@pytest.mark.parametrize(("module", "command"), COMMANDS)
def test_a_command_takes_what_some_schema_lists(module: str, command: str) -> None:
    function = registry.find(command)
    assert function is not None
    assert function.__module__ == module
    assert any(profile.has("commands", command) for profile in PROFILES.values()), f"no QEMU has {command}"
    parameters = list(inspect.signature(function).parameters.values())
    if command in registry.UNCHECKED or command in registry.WHOLE:
        assert len(parameters) == 2
        return
    wanted = members(command)
    assert {p.name for p in parameters[1:]} == wanted.keys()
    for parameter in parameters[1:]:
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        if not wanted[parameter.name]:
            assert parameter.default is not inspect.Parameter.empty, f"{parameter.name} may be absent"


def test_no_command_is_listed_twice() -> None:
    names = [command for _, command in COMMANDS]
    assert len(names) == len({*names})


def test_lists_are_sorted() -> None:
    for module, commands in registry.MODULES.items():
        assert list(commands) == sorted(commands), module


def test_every_marked_function_is_listed() -> None:
    listed = {(module, registry.function_name(command)) for module, command in COMMANDS}
    package = Path(fakeqemu.__file__).parent
    for path in package.rglob("*.py"):
        module = ".".join(path.relative_to(package.parent).with_suffix("").parts)
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                if any(isinstance(d, ast.Name) and d.id == "qmp_command" for d in node.decorator_list):
                    assert (module, node.name) in listed


def test_no_two_commands_of_a_profile_have_the_same_function() -> None:
    for profile in PROFILES.values():
        names = [registry.function_name(command) for command in profile.keys("commands")]
        assert len(names) == len({*names})


def test_what_is_emulated() -> None:
    assert registry.emulated(["query-version", "blockdev-add"]) == {"query-version": True, "blockdev-add": False}
