# SPDX-License-Identifier: MIT
"""What pages cost on their way: encoded, sent, received, decoded and put into memory on the far side.

Real pages (noise, in a memory file): the rate of a whole migration of ours, against two processes of which one sends the
same number of bytes with bare `sendmsg` calls and the other takes them with `recv`. Zero pages: the time of a whole
migration of ours, against a real QEMU's.

python -m tests.bench.bench_codec [ROUNDS]
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import time
from pathlib import Path

from tests.bench._real import PROFILE, fake_qemu, median, need_real, running
from tests.bench.bench_migrate import wait_completed

LEAST_RATE = 0.25
ALLOWED_RATIO = 1.0
MIB = 1 << 20
REAL_MIB = 256
ZERO_MIB = 4096
_PAGE = 4096
_BATCH_PAGES = 32
_SET_UP = (
    b'{"execute": "migrate-set-capabilities", "arguments": {"capabilities": [{"capability": "events", "state": true}]}}\n',
    b'{"execute": "migrate-set-parameters", "arguments": {"max-bandwidth": 0}}\n',
)
_IDLE_S = 1.0


def migrate_s(command: list[str], mib: int, content: Path | None) -> float:
    """A migration of that much memory, with what `content` holds, from `migrate` until both have completed."""
    folder_of_memory = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
    with (
        tempfile.TemporaryDirectory(prefix="fakeqemu-bench-") as folder,
        tempfile.TemporaryDirectory(prefix="fakeqemu-bench-", dir=folder_of_memory) as memory,
    ):
        machines = []
        for name in ("src", "dst"):
            ram = Path(memory, name)
            ram.write_bytes(content.read_bytes() if content is not None and name == "src" else b"")
            machine = ["-nodefaults", "-display", "none", "-machine", "none,accel=tcg", "-m", str(mib)]
            if content is not None:
                machine[-3] += ",memory-backend=ram0"
                machine += ["-object", f"memory-backend-file,id=ram0,size={mib}M,mem-path={ram},share=on"]
            machines.append(machine)
        with (
            running(command, (*machines[1], "-incoming", f"unix:{folder}/mig")) as destination,
            running(command, machines[0]) as source,
        ):
            for emulator in (source, destination):
                for request in _SET_UP:
                    emulator.ask(request)
            time.sleep(_IDLE_S)
            start_ns = time.perf_counter_ns()
            request = b'{"execute": "migrate", "arguments": {"uri": "unix:%s/mig"}}\n' % folder.encode()
            source.connection.sendall(request)
            wait_completed(source, destination)
            seconds = (time.perf_counter_ns() - start_ns) / 1e9
        if content is not None and Path(memory, "dst").read_bytes() != content.read_bytes():
            raise RuntimeError("other bytes have arrived")
        return seconds


def bare_s(mib: int) -> float:
    """As many bytes, from one process to another, and nothing else done."""
    sender, receiver = socket.socketpair()
    page = os.urandom(_PAGE)
    head = bytes(8)
    batch = [head, page] * _BATCH_PAGES
    start_ns = time.perf_counter_ns()
    child = os.fork()
    if not child:
        sender.close()
        while receiver.recv(1 << 18):
            pass
        os._exit(0)
    receiver.close()
    for _ in range(mib * MIB // (_PAGE * _BATCH_PAGES)):
        left = sum(map(len, batch)) - sender.sendmsg(batch)
        if left:
            sender.sendall(b"".join(batch)[-left:])
    sender.close()
    os.waitpid(child, 0)
    return (time.perf_counter_ns() - start_ns) / 1e9


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    real = need_real("codecs")
    with fake_qemu() as fake, tempfile.NamedTemporaryFile(prefix="fakeqemu-bench-") as noise:
        noise.write(os.urandom(MIB) * REAL_MIB)
        noise.flush()
        pairs = [(migrate_s(fake, REAL_MIB, Path(noise.name)), bare_s(REAL_MIB)) for _ in range(rounds)]
        ours, bare = (median(values) for values in zip(*pairs, strict=True))
        rate = bare / ours
        print(
            f"{REAL_MIB} MiB of real pages: ours {REAL_MIB / ours:.0f} MiB/s, bare sendmsg and recv {REAL_MIB / bare:.0f} MiB/s, "
            f"ratio {rate:.2f} (at least {LEAST_RATE})"
        )
        pairs = [(migrate_s(fake, ZERO_MIB, None), migrate_s(real, ZERO_MIB, None)) for _ in range(rounds)]
        ours, theirs = (median(values) for values in zip(*pairs, strict=True))
        print(
            f"{ZERO_MIB * MIB // _PAGE} zero pages: ours {ours * 1000:.0f} ms, QEMU {PROFILE} {theirs * 1000:.0f} ms, "
            f"ratio {ours / theirs:.2f} (at most {ALLOWED_RATIO})"
        )
    return int(rate < LEAST_RATE or ours > theirs * ALLOWED_RATIO)


if __name__ == "__main__":
    sys.exit(main())
