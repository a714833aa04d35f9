# SPDX-License-Identifier: MIT
"""What is loaded when the greeting goes out: nothing heavy, and no schema has been read."""

import os
import re
import subprocess
import sys

import pytest

HEAVY = (
    "aiohttp", "argparse", "asyncio", "collections.abc", "concurrent", "ctypes", "dataclasses", "datetime", "email", "enum",
    "functools", "hashlib", "importlib.metadata", "inspect", "json", "logging", "pathlib", "pydantic", "qemu", "random", "re",
    "selectors", "shutil", "socket", "ssl", "subprocess", "tempfile", "threading", "traceback", "typing", "urllib", "uuid",
)  # fmt: skip

BARE = ["-machine", "none", "-nodefaults"]
WITH_DEVICES = [
    "-machine", "q35", "-m", "256", "-smp", "2", "-nodefaults", "-device", "pcie-root-port,id=rp1,chassis=1",
    "-device", "virtio-balloon-pci,id=bal0", "-device", "qemu-xhci,id=usb", "-object", "iothread,id=io1",
]  # fmt: skip


def loaded_at_the_greeting(arguments: list[str], *requests: bytes) -> list[str]:
    """Names of modules that were imported before the greeting was written, as the interpreter itself reports them.

    With `requests`, those imported before the last of them was answered.
    """
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    start = f"import sys; sys.path[:] = {sys.path!r}; from fakeqemu.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", start, "-display", "none", "-qmp", "stdio", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdin is not None
    greeting = process.stdout.readline()
    for request in requests:
        process.stdin.write(request)
        process.stdin.flush()
        assert b"return" in process.stdout.readline()
    process.kill()
    report = process.stderr.read().decode()
    process.wait()
    process.stdout.close()
    assert greeting.startswith(b'{"QMP"'), report[-2000:]
    return [m[1] for m in re.finditer(r"^import time:\s*\d+ \|\s*\d+ \|\s*(\S+)$", report, re.MULTILINE)]


@pytest.mark.parametrize("arguments", [BARE, WITH_DEVICES], ids=["bare", "devices"])
def test_nothing_heavy_is_loaded(arguments: list[str]) -> None:
    loaded = loaded_at_the_greeting(arguments)
    assert "fakeqemu.cli" in loaded
    heavy = [name for name in loaded if any(name == h or name.startswith(h + ".") for h in HEAVY)]
    assert not heavy


def test_migration_procedures_load_on_first_use() -> None:
    loaded = loaded_at_the_greeting(BARE)
    late = ("fakeqemu.migration.outgoing", "fakeqemu.migration.incoming", "fakeqemu.hw.vfio", "fakeqemu.testing")
    assert not [name for name in loaded if name.startswith(late)]


def test_a_question_without_arguments_loads_what_answers_it_and_no_more() -> None:
    negotiation = b'{"execute": "qmp_capabilities"}'
    before = loaded_at_the_greeting(BARE, negotiation)
    after = loaded_at_the_greeting(BARE, negotiation, b'{"execute": "query-status"}')
    assert set(after) - set(before) <= {"fakeqemu.system.qmp_cmds", "fakeqemu.monitor.registry"}
