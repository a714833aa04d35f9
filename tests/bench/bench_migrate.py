# SPDX-License-Identifier: MIT
"""A whole migration of an idle guest as the tool sees it: from `migrate` until both ends have said `completed`.

128 MiB, nothing ever written to it, over a UNIX socket, every page on the wire; both emulators have been left alone for a
second. A real QEMU on both ends against ours on both ends.

python -m tests.bench.bench_migrate [ROUNDS]
"""

from __future__ import annotations

import select
import sys
import tempfile
import time

from tests.bench._real import PROFILE, Running, fake_qemu, median, need_real, running

ALLOWED_RATIO = 1.0
MACHINES = {
    "none": ("-nodefaults", "-display", "none", "-machine", "none,accel=tcg", "-m", "128"),
    "q35": ("-nodefaults", "-display", "none", "-machine", "q35,accel=tcg", "-m", "128", "-S"),
}
_IDLE_S = 1.0
_PATIENCE_S = 30.0
_EVENTS = b'{"execute": "migrate-set-capabilities", "arguments": {"capabilities": [{"capability": "events", "state": true}]}}\n'


def migrate_ms(command: list[str], machine: tuple[str, ...]) -> float:
    """One migration between two new emulators."""
    with (
        tempfile.TemporaryDirectory(prefix="fakeqemu-bench-") as folder,
        running(command, (*machine, "-incoming", f"unix:{folder}/mig")) as destination,
        running(command, machine) as source,
    ):
        for emulator in (source, destination):
            emulator.ask(_EVENTS)
        left_alone(source, destination)
        start_ns = time.perf_counter_ns()
        source.connection.sendall(b'{"execute": "migrate", "arguments": {"uri": "unix:%s/mig"}}\n' % folder.encode())
        wait_completed(source, destination)
        return (time.perf_counter_ns() - start_ns) / 1e6


def left_alone(*emulators: Running) -> None:
    """See them idle for a second: none has anything to say. Raises RuntimeError when one does."""
    connections = [emulator.connection for emulator in emulators]
    spoken = select.select(connections, (), (), _IDLE_S)[0]
    if spoken:
        raise RuntimeError(f"an idle emulator said {spoken[0].recv(65536)!r}")


def wait_completed(*emulators: Running) -> None:
    """Hear both ends say so; raises RuntimeError when one says anything else."""
    heard = {emulator.connection: b"" for emulator in emulators}
    while heard:
        ready = select.select(list(heard), (), (), _PATIENCE_S)[0]
        if not ready:
            raise RuntimeError(f"no end of the migration: {list(heard.values())}")
        for connection in ready:
            heard[connection] += connection.recv(65536)
            if b'"failed"' in heard[connection] or b'"error"' in heard[connection]:
                raise RuntimeError(heard[connection].decode())
            if b'"completed"' in heard[connection]:
                del heard[connection]


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    real = need_real("migration")
    worst = 0.0
    with fake_qemu() as fake:
        for name, machine in MACHINES.items():
            # By turns: what else the host does hits both.
            pairs = [(migrate_ms(fake, machine), migrate_ms(real, machine)) for _ in range(rounds)]
            ours, theirs = (median(values) for values in zip(*pairs, strict=True))
            worst = max(worst, ours / theirs)
            print(
                f"migration of an idle 128 MiB guest, -machine {name}: ours {ours:.1f} ms, QEMU {PROFILE} {theirs:.1f} ms, "
                f"ratio {ours / theirs:.2f} (at most {ALLOWED_RATIO})"
            )
    return int(worst > ALLOWED_RATIO)


if __name__ == "__main__":
    sys.exit(main())
