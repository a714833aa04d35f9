# SPDX-License-Identifier: MIT
"""Many migrations at once between simulated machines of one process: what one of them costs, by their number.

Each guest has 64 GiB and dirties them at 200 MB a second, so each migration takes minutes of its own time and some
passes; the cost must be linear: one of a thousand costs no more than half as much again as one of ten.

python -m tests.bench.bench_fleet [NUMBER ...]
"""

from __future__ import annotations

import gc
import sys
import time

from fakeqemu.sim.world import SimWorld
from fakeqemu.system.ramblock import RAMBlock
from fakeqemu.testing.sim_machine import SimMachine

ALLOWED_GROWTH = 1.5
NUMBERS = (10, 100, 1000)
GUEST_BYTES = 64 << 30
DIRTY_BYTES_PER_S = 200_000_000
_ROUNDS = 3
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


def main() -> int:
    numbers = [int(word) for word in sys.argv[1:]] or list(NUMBERS)
    cost_ms(1)  # loads what is loaded on first use
    costs = {}
    for number in numbers:
        rounds = 1 if number >= NUMBERS[-1] else _ROUNDS
        costs[number], own_s = min(cost_ms(number) for _ in range(rounds))
        print(f"{number:5} migrations at once: {costs[number]:.2f} ms each, {own_s:.0f} s of their own time")
    growth = costs[numbers[-1]] / costs[numbers[0]]
    print(f"cost of one of {numbers[-1]} against one of {numbers[0]}: ratio {growth:.2f} (at most {ALLOWED_GROWTH})")
    return int(growth > ALLOWED_GROWTH)


if __name__ == "__main__":
    sys.exit(main())
