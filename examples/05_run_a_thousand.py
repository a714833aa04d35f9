# SPDX-License-Identifier: MIT
"""Migrate a thousand guests at once, in one process and in simulated time: minutes of theirs, seconds of ours."""

import time

from fakeqemu.sim.world import SimWorld
from fakeqemu.system.ramblock import RAMBlock
from fakeqemu.testing.sim_machine import SimMachine

NUMBER = 1000
GIB = 1 << 30


def machine(world: SimWorld, name: str) -> SimMachine:
    """A machine with 16 GiB whose pages are counted, not carried (`ram=model`)."""
    one = SimMachine(world, name=name, fake={"ram": "model"})
    one.vm.ram_blocks.append(RAMBlock("ram", 16 * GIB))
    one.execute("migrate-set-parameters", max_bandwidth=GIB)
    return one


def main() -> None:
    begin = time.perf_counter()
    world = SimWorld(seed=1)
    chance = world.host("chance").random("dirty rates")
    pairs = []
    for number in range(NUMBER):
        source, destination = machine(world, f"source{number}"), machine(world, f"destination{number}")
        ram = source.vm.ram_blocks[0]
        ram.guest_dirties(0, ram.pages)  # all of the memory is in use
        source.execute("cont")
        source.vm.guest.set_dirty_rate(chance.randrange(GIB // 2))
        destination.vm.runstate.set("inmigrate")
        destination.execute("migrate-incoming", uri=f"unix:/tmp/migrate{number}")
        pairs.append((source, destination))

    for number, (source, _) in enumerate(pairs):
        source.execute("migrate", uri=f"unix:/tmp/migrate{number}")
    world.run_until_idle()

    results = [source.execute("query-migrate") for source, _ in pairs]
    assert all(result["status"] == "completed" for result in results)
    assert all(destination.execute("query-status")["status"] == "running" for _, destination in pairs)
    slowest = max(result["total-time"] for result in results)
    passes = sorted({result["ram"]["dirty-sync-count"] for result in results})
    print(f"{NUMBER} guests of 16 GiB have moved, the last after {slowest / 1000:.1f} s of its own time")
    print(f"passes over the memory: {passes[0]} to {passes[-1]}, as fast as each guest dirtied it")
    print(f"downtimes: {min(r['downtime'] for r in results)} to {max(r['downtime'] for r in results)} ms")
    print(f"all of it took {time.perf_counter() - begin:.1f} s here")
    for pair in pairs:
        for one in pair:
            one.close()


main()
