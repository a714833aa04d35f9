# SPDX-License-Identifier: MIT
"""Memory (PSS) of an idle emulator that has negotiated: bare, and with 20 devices.

python -m tests.bench.bench_memory
"""

from __future__ import annotations

import sys

from tests.bench._real import PROFILE, fake_qemu, need_real, running
from tests.bench.bench_start import BARE, libvirt_arguments

ALLOWED_RATIO = 0.8


def pss_mb(command: list[str], arguments: tuple[str, ...]) -> float:
    with running(command, arguments) as emulator:
        emulator.ask(b'{"execute": "query-status"}\n')
        return emulator.pss_kb() / 1024


def main() -> int:
    real = need_real("memory")
    worst = 0.0
    with fake_qemu() as fake:
        for what, arguments in (("bare", BARE), ("20 devices", libvirt_arguments())):
            ours, theirs = pss_mb(fake, arguments), pss_mb(real, arguments)
            worst = max(worst, ours / theirs)
            print(
                f"PSS idle, {what:10}: ours {ours:5.1f} MB, QEMU {PROFILE} {theirs:5.1f} MB, "
                f"ratio {ours / theirs:.2f} (at most {ALLOWED_RATIO})"
            )
    return int(worst > ALLOWED_RATIO)


if __name__ == "__main__":
    sys.exit(main())
