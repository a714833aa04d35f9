# SPDX-License-Identifier: MIT
"""Making things go wrong, on purpose and repeatably.

A machine has fault points (`vm.faults`) wherever QEMU has an error path. This package plugs something in there:

    injector = Injector(vm)
    injector.add(Rule("vfio_migration_set_state", match={"to": "stop-copy"}, action=Fail("EIO")))
    injector.add_link(LinkFault("migration-*", direction="write", reset_at=100_000))

What is raised at a point is what the code there would meet in life, so it goes the way of a real failure: there is no
other branch for tests. Chance comes from the host, hence a run repeats from its seed.

Whoever is stalled goes on with `injector.release(name)`: from a test that has the machine, `vm.faults.injector`; from
outside, a step of the scenario that waits for a command or an event.

Reading order: `rule` (what can happen), `point`, `points_*` and `catalogue` (where), `injector` (who does it), `link`
(a channel that misbehaves), `answers` (QMP commands). From files: `fakeqemu.scenario`.
"""
