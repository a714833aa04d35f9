# SPDX-License-Identifier: MIT
"""What a source says of messages on its return path that are wrong: the same in all words, beside real QEMUs."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from struct import pack
from typing import Any

import pytest

from fakeqemu.migration.stream import return_path as rp
from fakeqemu.testing.emulator import short_directory
from tests.interop._machines import OURS, REAL, start, stderr_of

pytestmark = pytest.mark.real_qemu

RELEASES = ("11.1", "10.0", "7.2")
LIST_OF_BLOCKS = b"\x03ram" + pack(">Q", 1 << 20)
PAGE = pack(">QI", 0x1000, 0x1000)


@dataclass(frozen=True)
class Case:
    """Bytes that come back on a connection that carries a migration without postcopy."""

    name: str
    data: bytes
    #: the other side ends behind them
    ends: bool = False


def named(data: bytes, name: bytes) -> bytes:
    return data + bytes((len(name),)) + name


CASES = [
    Case("no-such-message", rp.message(0x99, b"1234")),
    Case("message-0", rp.message(0)),
    Case("short-shut", rp.message(rp.MIG_RP_MSG_SHUT, b"12")),
    Case("long-pong", rp.message(rp.MIG_RP_MSG_PONG, b"12345678")),
    Case("long-recv-bitmap", rp.message(rp.MIG_RP_MSG_RECV_BITMAP, bytes(600))),
    Case("long-ack", rp.message(rp.MIG_RP_MSG_RESUME_ACK, bytes(8))),
    Case("cut-header", rp.message(rp.MIG_RP_MSG_PONG)[:3], ends=True),
    Case("cut-message", rp.message(rp.MIG_RP_MSG_PONG, b"1234")[:6], ends=True),
    Case("sibling", rp.shut(7)),
    Case("ack-of-nothing", rp.message(rp.MIG_RP_MSG_RESUME_ACK, pack(">I", 5))),
    Case("request-of-no-block", rp.message(rp.MIG_RP_MSG_REQ_PAGES, PAGE)),
    Case("request-of-a-strange-block", rp.message(rp.MIG_RP_MSG_REQ_PAGES_ID, named(PAGE, b"other"))),
    Case("request-too-short", rp.message(rp.MIG_RP_MSG_REQ_PAGES_ID, b"123")),
    Case("request-with-half-a-name", rp.message(rp.MIG_RP_MSG_REQ_PAGES_ID, PAGE + b"\x05ram")),
    Case("request-misaligned", rp.message(rp.MIG_RP_MSG_REQ_PAGES_ID, named(pack(">QI", 0x1010, 0x1000), b"ram"))),
    Case("request-of-half-a-page", rp.message(rp.MIG_RP_MSG_REQ_PAGES_ID, named(pack(">QI", 0x1000, 0x80), b"ram"))),
    Case("request-behind-the-end", rp.message(rp.MIG_RP_MSG_REQ_PAGES_ID, named(pack(">QI", 0xFF000, 0x2000), b"ram"))),
    Case("bitmap-without-a-name", rp.message(rp.MIG_RP_MSG_RECV_BITMAP)),
    Case("bitmap-of-a-strange-block", rp.message(rp.MIG_RP_MSG_RECV_BITMAP, b"\x05other")),
    Case("bitmap-not-asked-for", rp.message(rp.MIG_RP_MSG_RECV_BITMAP, b"\x03ram")),
]


class Peer:
    """Takes one connection, answers its beginning with `case`'s bytes, and reads what else comes."""

    def __init__(self, path: Path, case: Case) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._case = case
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        channel, _ = self._listener.accept()
        with channel:
            data = b""
            while LIST_OF_BLOCKS not in data:  # a real one dies of requests that come before it knows its own memory
                data += channel.recv(1 << 16)
            channel.sendall(self._case.data)
            if self._case.ends:
                channel.shutdown(socket.SHUT_WR)
            while channel.recv(1 << 16):
                pass

    def close(self) -> None:
        self._listener.close()
        self._thread.join()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return short_directory(tmp_path)


#: 7.2 closes the connection behind the back of who still writes, or has written everything
RACE = ("Unable to write to socket: Bad file descriptor", "failed to save SaveStateEntry with id(name): 2(ram): -5")


def at_that_time(text: str) -> str:
    """How far the migration had come when the message was there is chance."""
    return re.sub("incorrect state (setup|active|device)$", "incorrect state", text)


async def outcome(kind: str, case: Case, version: str, directory: Path) -> dict[str, Any]:
    argv = ["-nodefaults", "-machine", "none,memory-backend=ram", "-m", "1"]
    argv += ["-object", "memory-backend-ram,id=ram,size=1M"]
    vm = await start(kind, directory, kind, *argv, version=version)
    path = directory / f"{kind}-m"
    peer = Peer(path, case)
    try:
        states = [{"capability": name, "state": True} for name in ("events", "return-path")]
        await vm.execute("migrate-set-capabilities", {"capabilities": states})
        await vm.execute("migrate", {"uri": f"unix:{path}"})
        await vm.wait_status("failed")
        info = await vm.execute("query-migrate")
        lines = [at_that_time(line.partition(": ")[2]) for line in stderr_of(vm).splitlines()]
        return {
            "status": info["status"],
            "error": at_that_time(info.get("error-desc", "")) if version != "7.2" else None,
            "guest": (await vm.execute("query-status"))["status"],
            "stderr": [line for line in lines if version != "7.2" or line not in RACE],
        }
    finally:
        await vm.stop()
        peer.close()


@pytest.mark.parametrize("version", RELEASES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_wrong_message_is_refused_in_the_words_of_a_real_one(case: Case, version: str, directory: Path) -> None:
    real, ours = await asyncio.gather(*(outcome(kind, case, version, directory) for kind in (REAL, OURS)))
    assert ours == real
