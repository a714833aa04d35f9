# SPDX-License-Identifier: MIT
"""`-incoming` with what is no address, or one where nobody can listen: fakeqemu and a real QEMU end with the same words."""

from __future__ import annotations

import subprocess

import pytest

from tests.bench._real import fake_qemu
from tests.conformance._real import need_real_qemu

pytestmark = pytest.mark.real_qemu

QUIT = '{"execute": "qmp_capabilities"}\n{"execute": "quit"}\n'
ADDRESSES = [
    "", "bogus", "bogus:x", "defer,x", "main", "main,addr.transport=bogus", "exec:true",
    "tcp:1", "tcp:h:1,bogus=on", "tcp:nosuch.invalid:5", "tcp:127.0.0.1:99999", "unix:", "unix:/nosuch/folder/x",
    "fd:", "fd:nosuch", "fd:99", "fd:1x", "fd:99999999999", "vsock:x:1",
    "file:/nosuch/x", "file:/x,offset=q", "{x", "[]",
    '{"channel-type":"main"}',
    '{"channel-type":"main","addr":{"transport":"socket","type":"unix","path":"/nosuch/x"}}',
    '{"channel-type":"data","addr":{"transport":"file","filename":"/x","offset":0}}',
    '{"channel-type":"main","addr":{"transport":"file","filename":"/nosuch","offset":0}}',
    "channel-type=main,addr.transport=file,addr.filename=/nosuch/y,addr.offset=0x0",
]  # fmt: skip


def outcome(command: list[str], address: str) -> tuple[int, str]:
    """Exit status and what was printed, behind the program's name; an emulator that starts is told to quit."""
    result = subprocess.run(
        [*command, "-M", "none", "-accel", "tcg", "-display", "none", "-qmp", "stdio", "-incoming", address],
        check=False, input=QUIT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return result.returncode, result.stderr.partition(": ")[2]


@pytest.mark.parametrize("version", ["11.1", "10.0", "7.2"])
def test_what_incoming_does_not_take(version: str) -> None:
    real = need_real_qemu(version)
    different = []
    with fake_qemu(version) as fake:
        for address in ADDRESSES:
            theirs, ours = outcome(real, address), outcome(fake, address)
            if ours != theirs:
                different.append(f"{address!r}\n  real {theirs}\n  fake {ours}")
    assert not different, "\n".join(different)
