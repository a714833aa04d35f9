# SPDX-License-Identifier: MIT
"""`qmp-shell` of the package qemu.qmp, in a real terminal, takes us for QEMU."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from fakeqemu.testing.emulator import short_directory

BINARIES = Path(sys.executable).parent
PROMPT = r"\(QEMU\) "
TIMEOUT_S = 30


class Shell:
    """A qmp-shell on a terminal, and the emulator that it talks to."""

    def __init__(self, directory: Path, *options: str, machine: str = "none") -> None:
        self.path = directory / "shell.sock"
        self.emulator = pexpect.spawn(
            str(BINARIES / "fakeqemu-system-x86_64"),
            [
                "-machine",
                machine,
                "-m",
                "8",
                "-nodefaults",
                "-display",
                "none",
                "-qmp",
                f"unix:{self.path},server=on,wait=on",
            ],
            encoding="utf-8",
            timeout=TIMEOUT_S,
        )
        # with wait=on QEMU says so once it listens, and goes on when the shell has come
        self.emulator.expect("waiting for connection")
        self.terminal = pexpect.spawn(
            str(BINARIES / "qmp-shell"),
            [*options, str(self.path)],
            encoding="utf-8",
            timeout=TIMEOUT_S,
            env={"PATH": f"{BINARIES}:/usr/bin:/bin", "HOME": str(directory), "TERM": "dumb"},
        )
        self.terminal.expect(PROMPT)

    def ask(self, line: str) -> str:
        """Type a line; what the shell prints up to its next prompt."""
        self.terminal.sendline(line)
        self.terminal.expect(PROMPT)
        return str(self.terminal.before)

    def close(self) -> None:
        self.terminal.close(force=True)
        self.emulator.close(force=True)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return short_directory(tmp_path)


@pytest.fixture
def shell(directory: Path) -> Iterator[Shell]:
    shell = Shell(directory)
    yield shell
    shell.close()


def test_it_negotiates_and_names_the_version(shell: Shell) -> None:
    answer = shell.ask("query-version")
    assert re.search(r'"major": 11', answer)


def test_it_completes_a_command_name(shell: Shell) -> None:
    shell.terminal.send("query-stat\t\t")
    shell.terminal.expect("query-status")
    shell.terminal.send("\x15")  # forget the line


def test_status_and_migration(shell: Shell, directory: Path) -> None:
    assert '"status": "running"' in shell.ask("query-status")
    target = directory / "saved"
    assert '"return": {}' in shell.ask(f"migrate uri=file:{target}")
    answer = ""
    while '"completed"' not in answer:  # each question is a round trip: the migration goes on between them
        answer = shell.ask("query-migrate")
        assert '"failed"' not in answer
    assert target.read_bytes().startswith(b"QEVM")


def test_an_error_is_shown_and_the_shell_goes_on(shell: Shell) -> None:
    assert "Parameter 'bogus' is unexpected" in shell.ask("query-status bogus=1")
    assert '"running"' in shell.ask("query-status")


def test_human_monitor(directory: Path) -> None:
    shell = Shell(directory, "-H", machine="q35")  # the shell names CPU 0, so there has to be one
    try:
        assert "VM status: running" in shell.ask("info status")
        assert "unknown command" in shell.ask("nosuch")
    finally:
        shell.close()
