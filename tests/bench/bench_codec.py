# SPDX-License-Identifier: MIT
"""What pages cost on their way: encoded, sent, received, decoded and put into memory on the far side.

Real pages (noise, in memory files that are there before): the rate of a whole migration of ours, on the main channel and
on multifd channels, against two processes of which one sends the same bytes with bare `sendmsg` calls and the other takes
them with `recv` and forgets them. Zero pages: the time of a whole migration of ours, against a real QEMU's.

python -m tests.bench.bench_codec [ROUNDS]
"""

from __future__ import annotations

import mmap
import os
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench._real import PROFILE, fake_qemu, median, need_real, running
from tests.bench.bench_migrate import left_alone, wait_completed

LEAST_RATE = 0.25
ALLOWED_RATIO = 1.0
MIB = 1 << 20
REAL_MIB = 512
ZERO_MIB = 4096
CHANNELS = 2
_PAGE = 4096
_BATCH_PAGES = 32
_EVENTS = '{"capability": "events", "state": true}'
_MULTIFD = '{"capability": "multifd", "state": true}'


def _set_up(channels: int) -> tuple[bytes, ...]:
    capabilities = f"{_EVENTS}, {_MULTIFD}" if channels else _EVENTS
    more = f', "multifd-channels": {channels}' if channels else ""
    return tuple(
        line.encode()
        for line in (
            f'{{"execute": "migrate-set-capabilities", "arguments": {{"capabilities": [{capabilities}]}}}}\n',
            f'{{"execute": "migrate-set-parameters", "arguments": {{"max-bandwidth": 0{more}}}}}\n',
        )
    )


def migrate_s(command: list[str], mib: int, content: Path | None, channels: int = 0) -> float:
    """A migration of that much memory, with what `content` holds, from `migrate` until both have completed."""
    with (
        tempfile.TemporaryDirectory(prefix="fakeqemu-bench-") as folder,
        tempfile.TemporaryDirectory(prefix="fakeqemu-bench-", dir=_folder_of_memory()) as memory,
    ):
        machines = []
        for name in ("src", "dst"):
            machine = ["-nodefaults", "-display", "none", "-machine", "none,accel=tcg", "-m", str(mib)]
            if content is not None:
                ram = Path(memory, name)
                if name == "src":
                    os.link(content, ram)
                else:
                    ram.write_bytes(bytes(mib * MIB))
                machine[-3] += ",memory-backend=ram0"
                machine += ["-object", f"memory-backend-file,id=ram0,size={mib}M,mem-path={ram},share=on"]
            machines.append(machine)
        with (
            running(command, (*machines[1], "-incoming", "defer")) as destination,
            running(command, machines[0]) as source,
        ):
            for emulator in (source, destination):
                for request in _set_up(channels):
                    emulator.ask(request)
            listen = b'{"execute": "migrate-incoming", "arguments": {"uri": "unix:%s/mig"}}\n' % folder.encode()
            destination.connection.sendall(listen)
            while b'"return"' not in destination.receive():
                pass
            left_alone(source, destination)
            start_ns = time.perf_counter_ns()
            request = b'{"execute": "migrate", "arguments": {"uri": "unix:%s/mig"}}\n' % folder.encode()
            source.connection.sendall(request)
            wait_completed(source, destination)
            seconds = (time.perf_counter_ns() - start_ns) / 1e9
        if content is not None and Path(memory, "dst").read_bytes() != content.read_bytes():
            raise RuntimeError("other bytes have arrived")
        return seconds


def _folder_of_memory() -> Path | None:
    return Path("/dev/shm") if Path("/dev/shm").is_dir() else None


def bare_s(content: Path) -> float:
    """The same bytes, from one process to another, and nothing else done."""
    sender, receiver = socket.socketpair()
    with content.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as pages:
        view = memoryview(pages)
        head = bytes(8)
        records: list[list[bytes | memoryview]] = []
        for batch in range(0, len(pages), _BATCH_PAGES * _PAGE):
            record: list[bytes | memoryview] = []
            for at in range(batch, batch + _BATCH_PAGES * _PAGE, _PAGE):
                record += (head, view[at : at + _PAGE])
            records.append(record)
        start_ns = time.perf_counter_ns()
        child = os.fork()
        if not child:
            sender.close()
            while receiver.recv(1 << 18):
                pass
            os._exit(0)
        receiver.close()
        for record in records:
            left = _BATCH_PAGES * (_PAGE + len(head)) - sender.sendmsg(record)
            if left:
                sender.sendall(b"".join(record)[-left:])
        sender.close()
        os.waitpid(child, 0)
        seconds = (time.perf_counter_ns() - start_ns) / 1e9
        record = records[0]
        del view, record, records
        return seconds


def _real_pages(command: list[str], rounds: int, content: Path) -> float:
    """The lowest rate of ours, as a share of the bare one; printed."""
    times: list[Sequence[float]] = [
        # By turns: what else the host does hits all of them.
        (migrate_s(command, REAL_MIB, content), migrate_s(command, REAL_MIB, content, CHANNELS), bare_s(content))
        for _ in range(rounds)
    ]
    main, multifd, bare = (median(values) for values in zip(*times, strict=True))
    for what, seconds in (("the main channel", main), (f"{CHANNELS} multifd channels", multifd)):
        print(
            f"{REAL_MIB} MiB of real pages on {what}: ours {REAL_MIB / seconds:.0f} MiB/s, "
            f"bare sendmsg and recv {REAL_MIB / bare:.0f} MiB/s, ratio {bare / seconds:.2f} (at least {LEAST_RATE})"
        )
    return bare / max(main, multifd)


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    real = need_real("codecs")
    with fake_qemu() as fake, tempfile.NamedTemporaryFile(prefix="fakeqemu-bench-", dir=_folder_of_memory()) as noise:
        noise.write(os.urandom(MIB) * REAL_MIB)
        noise.flush()
        rate = _real_pages(fake, rounds, Path(noise.name))
        pairs = [(migrate_s(fake, ZERO_MIB, None), migrate_s(real, ZERO_MIB, None)) for _ in range(rounds)]
        ours, theirs = (median(values) for values in zip(*pairs, strict=True))
        print(
            f"{ZERO_MIB * MIB // _PAGE} zero pages: ours {ours * 1000:.0f} ms, QEMU {PROFILE} {theirs * 1000:.0f} ms, "
            f"ratio {ours / theirs:.2f} (at most {ALLOWED_RATIO})"
        )
    return int(rate < LEAST_RATE or ours > theirs * ALLOWED_RATIO)


if __name__ == "__main__":
    sys.exit(main())
