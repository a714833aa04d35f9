# SPDX-License-Identifier: MIT
"""A serial round trip of query-status, by a client that does as little as it can.

python -m tests.bench.bench_roundtrip [REQUESTS]
"""

from __future__ import annotations

import sys
import time

from tests.bench._real import PROFILE, fake_qemu, median, need_real, running
from tests.bench.bench_start import BARE

ALLOWED_RATIO = 1.0
_REQUEST = b'{"execute": "query-status", "id": "libvirt-42"}\n'


def round_trip_us(command: list[str], requests: int) -> float:
    """The median of rounds of 100 requests, for one request."""
    with running(command, BARE) as emulator:
        for _ in range(100):
            emulator.ask(_REQUEST)
        rounds = []
        for _ in range(max(1, requests // 100)):
            start_ns = time.perf_counter_ns()
            for _ in range(100):
                emulator.ask(_REQUEST)
            rounds.append((time.perf_counter_ns() - start_ns) / 100 / 1000)
        return median(rounds)


def main() -> int:
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    real = need_real("round trip")
    with fake_qemu() as fake:
        ours, theirs = round_trip_us(fake, requests), round_trip_us(real, requests)
    print(
        f"round trip of query-status: ours {ours:.0f} us, QEMU {PROFILE} {theirs:.0f} us, "
        f"ratio {ours / theirs:.2f} (at most {ALLOWED_RATIO})"
    )
    return int(ours > theirs * ALLOWED_RATIO)


if __name__ == "__main__":
    sys.exit(main())
