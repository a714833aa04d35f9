# SPDX-License-Identifier: MIT
"""Each way of installing works from an empty folder, with nothing of the checkout at hand."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMAND_LINE = ["-machine", "none", "-nodefaults", "-display", "none", "-qmp", "stdio"]


def run(*command: object, cwd: Path, **options: object) -> str:
    result = subprocess.run(
        [str(part) for part in command],
        check=False,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        **options,  # type: ignore[call-overload]
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return str(result.stdout)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    return next(out.glob("*.whl"))


@pytest.fixture
def new_environment(tmp_path: Path) -> Path:
    """The `bin` of a virtual environment with nothing in it but pip."""
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    return tmp_path / "venv" / "bin"


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def answers_its_schema(*command: object, cwd: Path, env: dict[str, str]) -> None:
    """Ask an emulator on its stdin. (`quit` comes last, and once all is read: QEMU does not wait for slow readers.)"""
    words = [str(part) for part in command] + COMMAND_LINE
    with subprocess.Popen(
        words, cwd=cwd, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as emulator:
        assert emulator.stdin is not None
        assert emulator.stdout is not None
        emulator.stdout.readline()
        replies = []
        for execute in ("qmp_capabilities", "query-qmp-schema"):
            print(json.dumps({"execute": execute}), file=emulator.stdin, flush=True)
            replies.append(json.loads(emulator.stdout.readline())["return"])
        print('{"execute": "quit"}', file=emulator.stdin, flush=True)
    assert emulator.returncode == 0
    assert {"migrate", "MIGRATION"} <= {entity["name"] for entity in replies[1]}


def test_wheel(wheel: Path, new_environment: Path, empty: Path) -> None:
    run(new_environment / "pip", "install", "--no-deps", wheel, cwd=empty)
    answers_its_schema(new_environment / "fakeqemu-system-x86_64", cwd=empty, env={})


def test_install_into_a_folder(wheel: Path, tmp_path: Path, empty: Path) -> None:
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--target", tmp_path / "folder", wheel, cwd=empty)
    answers_its_schema(sys.executable, "-m", "fakeqemu", cwd=empty, env={"PYTHONPATH": str(tmp_path / "folder")})


def test_editable(new_environment: Path, empty: Path) -> None:
    run(new_environment / "pip", "install", "--no-deps", "--editable", ROOT, cwd=empty)
    answers_its_schema(new_environment / "fakeqemu-system-x86_64", cwd=empty, env={})


def test_a_project_elsewhere_uses_the_fixtures(wheel: Path, new_environment: Path, empty: Path) -> None:
    run(new_environment / "pip", "install", f"{wheel}[testing]", cwd=empty)
    (empty / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n")
    (empty / "test_theirs.py").write_text(
        """
async def test_one(fakeqemu):
    for in_process in (False, True):
        vm = await fakeqemu("-machine", "q35", "-nodefaults", "-S", in_process=in_process)
        assert (await vm.execute("query-status"))["status"] == "prelaunch"


async def test_two(fakeqemu_pair):
    pair = await fakeqemu_pair("-machine", "none", "-m", "8")
    result = await pair.migrate()
    assert result["status"] == "completed"


async def test_that_fails(fakeqemu):
    vm = await fakeqemu("-machine", "none")
    await vm.execute("query-name")
    raise AssertionError("on purpose")
"""
    )
    result = subprocess.run(
        [new_environment / "python", "-m", "pytest", "-p", "no:cacheprovider", "."],
        check=False,
        cwd=empty,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "2 passed" in result.stdout, result.stdout + result.stderr
    assert "1 failed" in result.stdout
    assert '"query-name"' in result.stdout.partition("conversation of")[2], (
        "the report of a failed test shows the conversation"
    )
