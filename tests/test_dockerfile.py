# SPDX-License-Identifier: MIT
"""The image: linted, and its steps tried in a bare virtual environment, since no container engine is asked for here."""

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: instructions with continuation lines joined: [("FROM", "python:3.13-slim AS build"), ...]
INSTRUCTIONS = [
    tuple(line.split(None, 1))
    for line in re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text()).splitlines()
    if line and not line.startswith("#")
]


def values(keyword: str) -> list[str]:
    return [rest for word, rest in INSTRUCTIONS if word == keyword]


def test_the_linter_is_content() -> None:
    linter = Path(sys.executable).parent / "hadolint"
    if not linter.exists():
        pytest.skip("hadolint is not packaged for this machine")
    result = subprocess.run([str(linter), str(ROOT / "Dockerfile")], check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_it_runs_the_emulator_as_somebody_without_rights() -> None:
    words = [word for word, _ in INSTRUCTIONS]
    assert words.index("USER") < words.index("ENTRYPOINT")
    assert values("USER") == ["10001:10001"]
    assert json.loads(values("ENTRYPOINT")[0]) == ["fakeqemu-system-x86_64"]
    assert values("HEALTHCHECK")


def test_what_it_copies_is_there_and_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    for value in values("COPY"):
        if value.startswith("--from"):
            continue
        for name in value.split()[:-1]:
            assert (ROOT / name).exists(), name
            assert not any(fnmatch.fnmatch(name.removeprefix("./"), pattern) for pattern in ignored), name


def test_its_steps_work_in_a_bare_environment(tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    for value in values("COPY"):
        if value.startswith("--from"):
            continue
        for name in value.split()[:-1]:
            origin = ROOT / name
            if origin.is_dir():
                shutil.copytree(origin, source / origin.name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(origin, source)
    environment_path = tmp_path / "image"
    step = next(run for run in values("RUN") if "pip install" in run)
    step = step.replace("/opt/fakeqemu", str(environment_path)).replace("python -m venv", f"{sys.executable} -m venv")
    subprocess.run(["sh", "-euc", step], check=True, cwd=source, capture_output=True, timeout=300)

    home = tmp_path / "home"
    home.mkdir()
    binaries = environment_path / "bin"
    health = f"unix:{home}/health.sock"
    environment = {"PATH": f"{binaries}:/usr/bin:/bin", "HOME": str(home), "FAKEQEMU_HEALTH_QMP": health}
    command = [binaries / json.loads(values("ENTRYPOINT")[0])[0], *json.loads(values("CMD")[0])]
    arguments = [
        str(a).replace("/var/lib/fakeqemu", str(home)).replace("tcp:0.0.0.0:4444", "tcp:127.0.0.1:0") for a in command
    ]
    # the pid file is written when all sockets listen, and -daemonize returns then
    pidfile = home / "pid"
    subprocess.run(
        [*arguments, "-daemonize", "-pidfile", str(pidfile)], check=True, cwd=home, env=environment, timeout=60
    )
    try:
        probe = re.search(r"CMD (\[.*\])", values("HEALTHCHECK")[0])
        assert probe is not None
        asked = subprocess.run(
            json.loads(probe[1]), check=False, cwd=home, env=environment, capture_output=True, text=True
        )
        assert asked.returncode == 0, asked.stderr
        assert asked.stdout.strip() == "running"
    finally:
        os.kill(int(pidfile.read_text()), 9)
