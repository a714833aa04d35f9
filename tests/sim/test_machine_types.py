# SPDX-License-Identifier: MIT
"""Machine types of old releases have a migration leave out what those do not understand."""

from __future__ import annotations

import pytest

from fakeqemu.migration.multifd import flushes_each_section
from fakeqemu.sim.world import SimWorld
from fakeqemu.testing.sim_machine import SimMachine


@pytest.mark.parametrize(
    ("machine", "sent", "each_section", "detection"),
    [
        ("pc-q35-8.0", False, True, "legacy"),
        ("pc-q35-8.1", False, False, "legacy"),
        ("pc-q35-9.2", False, False, "multifd"),
        ("pc-q35-10.0", True, False, "multifd"),
    ],
)
def test_a_stream_is_as_the_release_of_the_machine_type_wrote_it(
    machine: str, sent: bool, each_section: bool, detection: str
) -> None:  # fmt: skip
    world = SimWorld(seed=1)
    source, destination = (SimMachine(world, profile="11.1", board=machine) for _ in range(2))
    assert flushes_each_section(source.vm) == each_section
    assert source.vm.migration.options.get("zero-page-detection") == detection
    seen: list[str] = []
    source.vm.trace.watch(lambda name, _: seen.append(name), "savevm_send_switchover_start")
    destination.vm.runstate.set("inmigrate")
    destination.execute("migrate-incoming", uri="unix:/tmp/d")
    source.execute("migrate", uri="unix:/tmp/d")
    world.run_until_idle()
    assert source.execute("query-migrate")["status"] == "completed"
    assert bool(seen) == sent
