# SPDX-License-Identifier: MIT
"""Damaged streams sent to a real QEMU and to us: the same end, the same words.

Compared are query-migrate, query-status, the events, and stderr. A destination that keeps living (exit-on-error=false)
is asked; 7.2 has no such thing, and its exit status stands in, with what it sent back to the source before it went.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.testing.emulator import Emulator, short_directory
from tests.conformance._real import need_real_qemu
from tests.interop._machines import OURS, REAL, start, stderr_of
from tests.migration import damage
from tests.migration.streams import CASES, Case

pytestmark = pytest.mark.real_qemu

#: what may differ: a timing, not a word
ENDS = ("completed", "failed")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return short_directory(tmp_path)


async def outcome(kind: str, case: Case, version: str, directory: Path) -> dict[str, Any]:
    """What becomes of the stream at a destination of that kind."""
    argv = ["-nodefaults", "-machine", "none", "-incoming", "defer"]
    if case.mib:
        argv += ["-m", str(case.mib)]
    if case.uuid:
        argv += ["-uuid", case.uuid]
    vm = await start(kind, directory, kind, *argv, version=version)
    try:
        return await _outcome(vm, case, directory / kind)
    finally:
        await vm.stop()


async def _outcome(vm: Emulator, case: Case, path: Path) -> dict[str, Any]:
    states = [{"capability": name, "state": True} for name in ("events", *case.capabilities)]
    await vm.execute("migrate-set-capabilities", {"capabilities": states})
    await vm.execute("migrate-incoming", {"uri": f"unix:{path}", "exit-on-error": False})
    with socket.socket(socket.AF_UNIX) as source:
        source.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(source, str(path))
        await loop.sock_sendall(source, case.data)
        source.shutdown(socket.SHUT_WR)
        await vm.wait_status(*ENDS)
    info = await vm.execute("query-migrate")
    for address in info.get("socket-address", ()):
        address["path"] = "PATH"
    status = await vm.execute("query-status")
    program = stderr_of(vm).replace(str(path), "PATH").splitlines()
    return {
        "query-migrate": info,
        "query-status": status,
        "events": [(event["event"], event.get("data")) for event in vm.events],
        "stderr": [line.partition(": ")[2] for line in program],
    }


@pytest.mark.parametrize("version", ["11.1", "10.0"])
@pytest.mark.parametrize("case", [c for c in CASES if not c.deadly], ids=lambda case: case.name)
async def test_a_damaged_stream_ends_as_at_a_real_qemu(case: Case, version: str, directory: Path) -> None:
    real = await outcome(REAL, case, version, directory)
    ours = await outcome(OURS, case, version, directory)
    assert ours == real


@pytest.mark.parametrize("case", [c for c in CASES if not c.deadly], ids=lambda case: case.name)
def test_a_damaged_stream_ends_the_process_as_at_a_real_one(case: Case) -> None:
    real = damage.real_outcome(need_real_qemu("7.2"), case, exits=True)
    ours = damage.real_outcome([sys.executable, "-m", "fakeqemu", "-fake", "profile=7.2"], case, exits=True)
    if real == {"end": damage.HUNG}:  # ours never does
        assert ours["exit"] == 1
    else:
        assert ours == real


#: what a socket takes as no stream at all, a file or a program's output is read
READ = (
    "header, configuration, EOF",
    "running",
    "wrong magic",
    "version 4",
    "empty",
    "cut header",
    "cut after a section",
)


@pytest.mark.parametrize("scheme", ["file:", "exec:cat "])
@pytest.mark.parametrize("version", ["11.1", "10.0"])
@pytest.mark.parametrize("case", [c for c in CASES if c.name in READ], ids=lambda case: case.name)
async def test_a_damaged_file_ends_as_at_a_real_qemu(case: Case, version: str, scheme: str, directory: Path) -> None:
    path = directory / "saved"
    path.write_bytes(case.data)
    ends = []
    for kind in (REAL, OURS):
        vm = await start(
            kind, directory, kind, "-nodefaults", "-machine", "none", "-incoming", "defer", version=version
        )
        try:
            await vm.execute("migrate-set-capabilities", {"capabilities": [{"capability": "events", "state": True}]})
            await vm.execute("migrate-incoming", {"uri": f"{scheme}{path}", "exit-on-error": False})
            if scheme != "file:" and not case.data:  # the end of a pipe is no beginning of a stream: it is waited for
                ends.append([(await vm.execute("query-migrate"))["status"]])
                continue
            await vm.wait_status(*ENDS)
            told = damage.told(await vm.execute("query-migrate"))
            ends.append([told, (await vm.execute("query-status"))["status"], stderr_of(vm).partition(": ")[2]])
        finally:
            await vm.stop()
    assert ends[1] == ends[0]
