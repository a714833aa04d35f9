# SPDX-License-Identifier: MIT
"""Questions about machines and objects, asked of fakeqemu and of a real QEMU in the same order: the same answers.

The files `questions_*.txt` hold one command a line, its arguments as JSON behind it; `$DIR` is an empty folder.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.bench._real import fake_qemu, real_qemu

pytestmark = pytest.mark.real_qemu

HERE = Path(__file__).parent
#: differ from run to run
CHANGING = ("thread-id", "tm_sec", "tm_min", "tm_hour")


def questions(name: str, directory: Path) -> list[dict[str, Any]]:
    asked = []
    for line in (HERE / f"questions_{name}.txt").read_text().splitlines():
        command, _, arguments = line.replace("$DIR", str(directory)).partition(" ")
        asked.append({"execute": command, **({"arguments": json.loads(arguments)} if arguments else {})})
    return asked


def answers(emulator: list[str], arguments: list[str], asked: list[dict[str, Any]]) -> list[Any]:
    """What the emulator answers over a monitor on its standard streams, without events."""
    requests = [{"execute": "qmp_capabilities"}, *asked]
    found: list[Any] = []
    with subprocess.Popen(
        [*emulator, "-display", "none", "-accel", "tcg", "-qmp", "stdio", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n".join(json.dumps(request) for request in requests) + "\n")
        process.stdin.flush()
        for line in process.stdout:
            message = json.loads(line)
            if "event" in message or "QMP" in message:
                continue
            found.append(stable(message))
            if len(found) == len(requests):
                process.stdin.write('{"execute": "quit"}\n')
                process.stdin.flush()
                break
        process.communicate(timeout=60)
    return found[1:]


def stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: 0 if name in CHANGING else stable(below) for name, below in value.items()}
    if isinstance(value, list):
        found = [stable(below) for below in value]
        # The order of an object's devices comes from a hash table, and where names collide from the table's history.
        devices = any(isinstance(below, dict) and below.get("name") == "device[0]" for below in value)
        return sorted(found, key=str) if devices else found
    return value


@pytest.mark.parametrize("version", ["11.1", "10.0", "7.2"])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("machine", "-M q35 -nodefaults -S -m 64"),
        ("machine", "-M pc -nodefaults -S -m 5G"),
        ("cpus", "-M pc -nodefaults -S -m 5G -smp 3,maxcpus=4"),
        ("cpus", "-M q35 -nodefaults -S -m 1G,slots=2,maxmem=4G -smp 4,sockets=2,dies=2,maxcpus=8"),
        ("cpus", "-M microvm -nodefaults -S -smp 2"),
        ("objects", "-M none"),
        ("run_state", "-M q35 -nodefaults -S"),
        ("run_state", "-M q35 -nodefaults -S -no-shutdown -no-reboot"),
    ],
)
def test_answers_are_those_of_a_real_qemu(version: str, name: str, arguments: str, tmp_path: Path) -> None:
    real = real_qemu(version)
    if real is None:
        pytest.skip(f"no real QEMU {version}")
    found = []
    with fake_qemu(version) as fake:
        for who, emulator in (("real", real), ("fake", fake)):
            directory = tmp_path / "d"
            directory.mkdir()
            found.append(answers(emulator, arguments.split(), questions(name, directory)))
            directory.rename(tmp_path / who)
    asked = questions(name, tmp_path / "d")
    different = [
        f"{json.dumps(question)}\n  real {json.dumps(ours)[:300]}\n  fake {json.dumps(theirs)[:300]}"
        for question, ours, theirs in zip(asked, *found, strict=False)
        if ours != theirs
    ]
    assert not different, "\n".join(different)
    assert len(found[0]) == len(found[1]) > len(asked) // 2


def test_memory_files_are_left_as_a_real_qemu_leaves_them(tmp_path: Path) -> None:
    real = real_qemu("11.1")
    if real is None:
        pytest.skip("no real QEMU 11.1")
    left = {}
    with fake_qemu("11.1") as fake:
        for who, emulator in (("real", real), ("fake", fake)):
            directory = tmp_path / who
            directory.mkdir()
            answers(emulator, ["-M", "none"], questions("objects", directory))
            left[who] = sorted((path.name, path.stat().st_size, path.stat().st_mode) for path in directory.iterdir())
    assert left["fake"] == left["real"]
