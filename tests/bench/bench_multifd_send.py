# SPDX-License-Identifier: MIT
"""Choosing the channel of a multifd packet: the number of channels read once for each call, or wherever it is needed.

Prints both ways' time and their reads, for packets that pass s busy channels over and for barriers over N channels. The
reads are a law (1 against 2 + s, and 1 against 2 (N + 1)); the time is there to be looked at.

python -m tests.bench.bench_multifd_send [CALLS]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from fakeqemu.migration.multifd import Scheduler
from tests.bench._real import median

CHANNELS = (2, 16, 255)
ROUNDS = 5


def cost(n: int, calls: int, call: Callable[[Scheduler], object], *, latched: bool) -> tuple[float, float]:
    """Nanoseconds and reads of one call."""
    times = []
    for _ in range(ROUNDS):
        scheduler = Scheduler(n, latched=latched)
        start_ns = time.perf_counter_ns()
        for _ in range(calls):
            call(scheduler)
        times.append((time.perf_counter_ns() - start_ns) / calls)
    return median(times), scheduler.count_reads / calls


def after(busy: int) -> Callable[[Scheduler], object]:
    """A packet that passes so many busy channels over."""

    def send(scheduler: Scheduler) -> int:
        first = scheduler.next % scheduler.channels
        taken = (first + busy) % scheduler.channels
        return scheduler.pick(taken.__eq__)

    return send


def main() -> int:
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    print("places in the code that read the number for a packet: 1 latched, 3 per call; what is executed:")
    wrong = 0
    for n in CHANNELS:
        for busy in dict.fromkeys((0, 1, n // 2, n - 1)):
            few = max(calls // (busy + 1), 100)
            latched_ns, latched = cost(n, few, after(busy), latched=True)
            per_call_ns, per_call = cost(n, few, after(busy), latched=False)
            wrong += (latched, per_call) != (1, 2 + busy)
            print(
                f"send, {n} channels, {busy} busy: latched {latched_ns:.0f} ns and {latched:.0f} read, per call "
                f"{per_call_ns:.0f} ns and {per_call:.0f} reads, ratio {latched_ns / per_call_ns:.2f}"
            )
        few = max(calls // n, 100)
        latched_ns, latched = cost(n, few, Scheduler.everyone, latched=True)
        per_call_ns, per_call = cost(n, few, Scheduler.everyone, latched=False)
        wrong += (latched, per_call) != (1, 2 * (n + 1))
        print(
            f"sync, {n} channels: latched {latched_ns:.0f} ns and {latched:.0f} read, per call {per_call_ns:.0f} ns "
            f"and {per_call:.0f} reads, ratio {latched_ns / per_call_ns:.2f}"
        )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
