# SPDX-License-Identifier: MIT
"""The launcher that `fakeqemu shim` writes, and the tool around it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fakeqemu import tool
from fakeqemu.shim import launcher, main, write_shim
from fakeqemu.tool_commands import main as commands

WIPED = {"LC_ALL": "C", "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}


def version(path: Path, environment: dict[str, str] = WIPED, *arguments: str) -> str:
    """First line of what the launcher says of itself, asked with a wiped environment from an empty folder."""
    ended = subprocess.run(
        [path, *arguments, "--version"],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.stderr == ""
    return ended.stdout.splitlines()[0]


def test_it_needs_nothing_from_the_environment(tmp_path: Path) -> None:
    path = write_shim(tmp_path / "bin", "profile=10.0")
    assert path.name == "qemu-system-x86_64"
    assert version(path).startswith("QEMU emulator version 10.0.13 ")


def test_names_with_blanks_and_quotes_are_no_trouble(tmp_path: Path) -> None:
    path = write_shim(tmp_path / "a folder with 'quotes' and \"more\" $HOME `x`", 'profile=7.2,seed=it\'s "me" \\ $x')
    assert version(path).startswith("QEMU emulator version 7.2.22 ")


@pytest.mark.parametrize("folder", ["with a blank", "x" * 120, "plain"])
def test_an_interpreter_that_no_first_line_can_name_is_started_by_a_shell(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    interpreter = tmp_path / folder / "python"
    interpreter.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    interpreter.chmod(0o755)
    package_parent = str(Path(tool.__file__).parents[1])
    path = tmp_path / "qemu-system-x86_64"
    path.write_text(launcher(str(interpreter), package_parent, "profile=11.1"))
    path.chmod(0o755)
    assert version(path).startswith("QEMU emulator version 11.1.2 ")


def test_environment_and_option_win_over_what_is_written_in_it(tmp_path: Path) -> None:
    path = write_shim(tmp_path, "profile=11.1")
    assert version(path, {**WIPED, "FAKEQEMU": "profile=10.0"}).startswith("QEMU emulator version 10.0.13 ")
    assert version(path, WIPED, "-fake", "profile=7.2").startswith("QEMU emulator version 7.2.22 ")


def test_the_emulator_goes_by_the_name_of_the_launcher(tmp_path: Path) -> None:
    path = write_shim(tmp_path, "profile=11.1", name="my-qemu")
    ended = subprocess.run([path, "-nosuch"], env=WIPED, capture_output=True, text=True, timeout=60, check=False)
    assert ended.stderr == "my-qemu: -nosuch: invalid option\n"
    assert ended.returncode == 1


@pytest.mark.parametrize("words", [["--fake", "nosuch=1"], ["--fake", "profile=nosuch"], ["--fake", "ram=lots"]])
def test_settings_are_checked_when_it_is_written(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "bin"), *words]) == 1
    assert capsys.readouterr().err.startswith("fakeqemu shim: ")
    assert not (tmp_path / "bin").exists()


def test_the_tool_lists_its_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["fakeqemu", "--help"])
    assert tool.main() == 0
    told = capsys.readouterr().out
    assert all(f"\n  {name} " in told for name in tool.COMMANDS)
    monkeypatch.setattr(sys, "argv", ["fakeqemu", "nosuch"])
    assert tool.main() == 2
    assert "there is no command 'nosuch'" in capsys.readouterr().err


def test_every_command_of_the_tool_is_there() -> None:
    from importlib import import_module

    for where, _what in tool.COMMANDS.values():
        module, _, function = where.partition(":")
        assert callable(getattr(import_module(module), function))


def test_commands_tells_what_is_emulated(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands(["11.1"]) == 0
    told = capsys.readouterr().out
    assert "\nemulated  query-chardev\n" in told
    assert "\nno        dump-guest-memory\n" in told
    assert commands(["nosuch"]) == 1
