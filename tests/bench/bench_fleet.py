# SPDX-License-Identifier: MIT
"""Many migrations at once between simulated machines of one process: what one of them costs, by their number.

Each guest has 64 GiB and dirties them at 200 MB a second, so each migration takes a minute of its own time and some
passes; the cost must be linear, in time and in memory. What one of a thousand costs more than one of ten is what a
processor pays for memory that is not in its caches.

python -m tests.bench.bench_fleet [NUMBER ...]
"""

from __future__ import annotations

import gc
import sys
import time

from fakeqemu.sim.world import SimWorld
from fakeqemu.system.ramblock import RAMBlock
from fakeqemu.testing.sim_machine import SimMachine
from tests.bench._real import median

ALLOWED_GROWTH = 1.4
ALLOWED_KIB = 100
NUMBERS = (10, 100, 1000)
GUEST_BYTES = 64 << 30
DIRTY_BYTES_PER_S = 200_000_000
_ROUNDS = 3
#: so many migrations are measured for each number, so that what else the machine does hits all alike
_MEASURED = 400
_PAGE_KIB = 4
_COLLECTOR_THRESHOLDS = (100_000, 50, 100)


class Fleet:
    """Pairs of machines in one world; the guests of all sources run."""

    def __init__(self, number: int) -> None:
        self.world = SimWorld(seed=number)
        self.sources = [self._machine(f"source{one}") for one in range(number)]
        self.destinations = [self._machine(f"destination{one}") for one in range(number)]
        for source, destination in zip(self.sources, self.destinations, strict=True):
            source.execute("cont")
            ram = source.vm.ram_blocks[0]
            ram.guest_dirties(0, ram.pages)
            source.vm.guest.set_dirty_rate(DIRTY_BYTES_PER_S)
            destination.vm.runstate.set("inmigrate")

    def _machine(self, name: str) -> SimMachine:
        machine = SimMachine(self.world, name=name, fake={"ram": "model"})
        machine.vm.ram_blocks.append(RAMBlock("ram", GUEST_BYTES))
        machine.execute("migrate-set-parameters", max_bandwidth=1_250_000_000)
        return machine

    def close(self) -> None:
        for machine in (*self.sources, *self.destinations):
            machine.close()

    def migrate(self) -> None:
        """Start all, and let time pass until all are there; raises RuntimeError when one is not."""
        for number, (source, destination) in enumerate(zip(self.sources, self.destinations, strict=True)):
            destination.execute("migrate-incoming", uri=f"unix:/tmp/migration{number}")
            source.execute("migrate", uri=f"unix:/tmp/migration{number}")
        self.world.run_until_idle()
        for source, destination in zip(self.sources, self.destinations, strict=True):
            states = source.vm.migration.state, destination.vm.runstate.state
            if states != ("completed", "running"):
                raise RuntimeError(f"{source.host.log_lines} {destination.host.log_lines} {states}")


def cost_ms(number: int) -> tuple[float, float]:
    """CPU time of one migration of so many, and how long one takes in its own time (seconds)."""
    fleet = Fleet(number)
    gc.collect()
    # As a process does that holds many machines: they are not looked through again and again while they migrate.
    gc.freeze()
    gc.set_threshold(*_COLLECTOR_THRESHOLDS)
    start_ns = time.process_time_ns()
    fleet.migrate()
    spent_ns = time.process_time_ns() - start_ns
    gc.unfreeze()
    total_ms: int = fleet.sources[0].execute("query-migrate")["total-time"]
    fleet.close()
    return spent_ns / number / 1e6, total_ms / 1000


def resident_kib() -> int:
    """Memory of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * _PAGE_KIB


def kib_each(number: int) -> float:
    """What one migration adds to the process, both machines of it, when all of so many have ended."""
    gc.collect()
    before = resident_kib()
    fleet = Fleet(number)
    fleet.migrate()
    spent = resident_kib() - before
    fleet.close()
    return spent / number


def main() -> int:
    numbers = [int(word) for word in sys.argv[1:]] or list(NUMBERS)
    cost_ms(1)  # loads what is loaded on first use
    kib = kib_each(numbers[-1])  # first of all: nothing that was given back is used again
    costs: dict[int, list[float]] = {number: [] for number in numbers}
    own_s = 0.0
    for _ in range(_ROUNDS):
        for number in numbers:
            some = [cost_ms(number) for _ in range(max(1, _MEASURED // number))]
            costs[number].append(sum(spent for spent, _ in some) / len(some))
            own_s = some[0][1]
    for number, found in costs.items():
        print(f"{number:5} migrations at once: {median(found):.2f} ms each, {own_s:.0f} s of their own time")
    growth = median(costs[numbers[-1]]) / median(costs[numbers[0]])
    print(f"cost of one of {numbers[-1]} against one of {numbers[0]}: ratio {growth:.2f} (at most {ALLOWED_GROWTH})")
    print(f"memory of one of {numbers[-1]}, both machines: {kib:.0f} KiB (at most {ALLOWED_KIB})")
    return int(growth > ALLOWED_GROWTH or kib > ALLOWED_KIB)


if __name__ == "__main__":
    sys.exit(main())
