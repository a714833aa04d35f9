# SPDX-License-Identifier: MIT
"""The same broken bytes, envelopes and arguments to a real QEMU and to a monitor of ours: every answer line is the same.

What is sent is drawn from a seed, so a difference repeats. No command runs: each carries an argument that it lacks.
"""

from __future__ import annotations

import copy
import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.monitor.qmp import MonitorQMP
from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.qapi.schema import schema_of
from fakeqemu.sim.host import SimHost
from fakeqemu.system.build import new_machine
from tests.conformance._real import need_real_qemu
from tests.conformance._wait import connect
from tests.unit.qapi.test_json_stream import FRAGMENTS

pytestmark = pytest.mark.real_qemu

PROFILES = ("7.2", "10.0", "11.1")
#: ends whatever is pending in lexer and parser
RESET = b"\xff\n"
BARRIER = b'{"execute": "qmp_capabilities", "id": "~barrier~"}\n'

VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 255, 256, -129, 128, 65535, 65536, 2**31, -(2**31) - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1,
    2**64, -(2**63), -(2**63) - 1, 1.0, 1.5, "x", "", [], {}, [1], ["x"], {"a": 1}, [None], [[]], "no-such",
]  # fmt: skip
STRANGERS = ["foo", "bar", "baz", "qux", "aa", "bb", "cc", "dd", "é", "123"]


class Real:
    """A real QEMU and one client that has negotiated."""

    def __init__(self, command: list[str], folder: Path) -> None:
        path = folder / "qmp"
        argv = [
            "-machine",
            "none",
            "-nodefaults",
            "-accel",
            "tcg",
            "-display",
            "none",
            "-qmp",
            f"unix:{path},server=on,wait=off",
        ]
        self.process = subprocess.Popen([*command, *argv], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.socket = connect(path, self.process)
        self.file = self.socket.makefile("rb")
        self.file.readline()
        self.ask(b'{"execute": "qmp_capabilities"}\n')

    def ask(self, data: bytes) -> list[str]:
        """What it answers, up to the barrier."""
        self.socket.sendall(data + RESET + BARRIER)
        lines = []
        while b"~barrier~" not in (line := self.file.readline()):
            assert line, "the real QEMU has ended"
            lines.append(line.decode())
        return lines

    def close(self) -> None:
        self.file.close()
        self.socket.close()
        self.process.kill()
        self.process.communicate()


class Ours:
    """A monitor with no socket."""

    def __init__(self, profile: str) -> None:
        vm = new_machine(SimHost(seed=1), VersionProfile.load(profile))
        vm.phase = "ready"
        self.written: list[bytes] = []
        self.monitor = MonitorQMP(vm, write=self.written.append, name="m")
        self.monitor.connected()
        self.ask(b'{"execute": "qmp_capabilities"}\n')

    def ask(self, data: bytes) -> list[str]:
        self.written.clear()
        self.monitor.receive_data(data + RESET + BARRIER)
        lines = b"".join(self.written).decode().splitlines(keepends=True)
        assert "~barrier~" in lines[-1]
        return lines[:-1]


@pytest.fixture(params=PROFILES)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Real, Ours, str]]:
    command = need_real_qemu(request.param)
    real = Real(command, tmp_path)
    yield real, Ours(request.param), request.param
    real.close()


def compare(real: Real, ours: Ours, messages: Iterator[bytes]) -> None:
    wrong = [(message, a, b) for message in messages if (a := real.ask(message)) != (b := ours.ask(message))]
    assert not wrong


def test_bytes_that_are_no_requests(pair: tuple[Real, Ours, str]) -> None:
    real, ours, profile = pair
    rng = random.Random(f"bytes {profile}")

    def messages() -> Iterator[bytes]:
        for _ in range(500):
            pieces = [rng.choice(FRAGMENTS) for _ in range(rng.randrange(1, 12))]
            yield b"".join(pieces) if rng.random() < 0.7 else rng.randbytes(rng.randrange(1, 15))

    compare(real, ours, messages())


def test_envelopes(pair: tuple[Real, Ours, str]) -> None:
    real, ours, profile = pair
    rng = random.Random(f"envelopes {profile}")
    names = ["execute", "exec-oob", "arguments", "id", "a", "zz", "timestamp", "é", ""]

    def messages() -> Iterator[bytes]:
        for _ in range(300):
            chosen = rng.sample(names, rng.randrange(5))
            message = {name: copy.deepcopy(rng.choice([*VALUES, "nosuch", "nosuch"])) for name in chosen}
            yield json.dumps(message, ensure_ascii=rng.random() < 0.5).encode() + b"\n"

    compare(real, ours, messages())


def test_arguments(pair: tuple[Real, Ours, str]) -> None:
    real, ours, profile = pair
    rng = random.Random(f"arguments {profile}")
    loaded = VersionProfile.load(profile)
    schema = schema_of(loaded)
    commands = [name for name in loaded.keys("commands") if name != "device_add"]

    def messages() -> Iterator[bytes]:
        for _ in range(600):
            command = rng.choice(commands)
            arguments = draw(rng, schema.arguments(command))
            arguments = {**(arguments if isinstance(arguments, dict) else {}), "~bogus": 1}
            for name in rng.sample(STRANGERS, rng.choice([0, 0, 0, 3, 6, 9])):
                arguments[name] = 1
            yield json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n"

    compare(real, ours, messages())


def draw(rng: random.Random, type_: Any, depth: int = 0) -> Any:
    """A value of a type, most of the time."""
    if rng.random() < 0.06:
        return copy.deepcopy(rng.choice(VALUES))
    kind = type_.kind
    if kind == "builtin":
        values: dict[str, list[Any]] = {
            "string": ["x"], "int": [1, 1, 1, 0, -1, 70000, 2**32, 2**63], "number": [1, 1.5], "boolean": [True],
            "null": [None], "value": VALUES,
        }  # fmt: skip
        return copy.deepcopy(rng.choice(values[type_.json_type]))
    if kind == "enum":
        return rng.choice(list(type_.values))
    if kind == "array":
        return [draw(rng, type_.element, depth + 1) for _ in range(rng.choice([0, 1, 1, 2]))] if depth < 7 else []
    if kind == "alternate":
        return draw(rng, rng.choice(list(type_.choices.values())), depth + 1) if depth < 7 else "x"
    result: dict[str, Any] = {}
    at = type_
    while at is not None:
        for member in at.members:
            if not (member.optional and (rng.random() < 0.6 or depth > 5)) and rng.random() > 0.05:
                result[member.name] = draw(rng, member.type, depth + 1)
        tag = result.get(at.tag) if at.tag is not None else None
        at = at.variant(tag) if isinstance(tag, str) else None
    items = list(result.items())
    rng.shuffle(items)
    return dict(items)
