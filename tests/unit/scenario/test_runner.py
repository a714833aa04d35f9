# SPDX-License-Identifier: MIT
"""What a scenario does to a machine, and the schemas that editors read."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from fakeqemu.error import QemuError, StreamError
from fakeqemu.host.clock import NS_PER_MS
from fakeqemu.scenario import schema_export
from fakeqemu.scenario.load import parse
from fakeqemu.scenario.runner import Runner
from fakeqemu.sim.world import SimWorld
from fakeqemu.system.ramblock import ZERO, PageRuns, RAMBlock
from fakeqemu.testing.sim_machine import SimMachine

MIB = 1 << 20

WHOLE = """
name = "everything"

[guest]
dirty-rate = "1M"
working-set = "4M"

[[guest.phases]]
at-ms = 1000
dirty-rate = "2M"

[[guest.phases]]
at-ms = 3000
dirty-rate = 0

[[rules]]
where = "vmstate_load"
match = { id = "timer" }
after = 1
times = "always"
fail = "ENOSPC"

[[links]]
channel = "migration-*"
latency-ms = 2
reset-at = 100000
"""


@pytest.fixture
def machine() -> Iterator[SimMachine]:
    one = SimMachine(SimWorld(seed=5))
    one.vm.ram_blocks.append(RAMBlock("ram", 8 * MIB))
    yield one
    one.close()


def test_rules_and_links_are_built_as_written(machine: SimMachine) -> None:
    runner = Runner(machine.vm, parse(WHOLE, "a.toml"))
    (link,) = runner.injector.links
    assert (link.channel, link.latency_ms, link.reset_at, link.stall_at) == ("migration-*", 2, 100000, None)
    machine.vm.faults.check("vmstate_load", id="timer")
    for _ in range(3):
        with pytest.raises(StreamError) as failed:
            machine.vm.faults.check("vmstate_load", id="timer")
        assert failed.value.errno == errno.ENOSPC
    machine.vm.faults.check("vmstate_load", id="ram")
    runner.stop()
    machine.vm.faults.check("vmstate_load", id="timer")


def test_the_guest_dirties_as_its_phases_say(machine: SimMachine) -> None:
    block = machine.vm.ram_blocks[0]
    Runner(machine.vm, parse(WHOLE, "a.toml"))
    machine.execute("cont")
    pages = []
    for ms in (1000, 1000, 1000, 5000):
        block.dirty = PageRuns()
        machine.world.run_for(ms * NS_PER_MS)
        machine.vm.guest.sync()
        pages.append(block.dirty.count)
    assert pages == [256, 512, 512, 0]
    assert machine.host.clock.next_deadline_ns() is None
    assert [kind for _, _, kind in block.runs(1024, 1024)] == [ZERO], "nothing is written beyond the working set"


def test_an_empty_file_does_nothing(machine: SimMachine) -> None:
    runner = Runner(machine.vm, parse("", "a.toml"))
    assert (runner.injector.rules, runner.injector.links) == ([], [])
    assert machine.vm.guest.dirty_bytes_per_s == 0


def test_json_and_yaml_mean_the_same_as_toml() -> None:
    want = parse('[[rules]]\nwhere = "vmstate_load"\ndelay-ms = 5\n', "a.toml")
    assert parse('{"rules": [{"where": "vmstate_load", "delay-ms": 5}]}', "a.json") == want
    if find_spec("yaml"):
        assert parse("rules:\n- where: vmstate_load\n  delay-ms: 5\n", "a.yaml") == want
    else:
        with pytest.raises(QemuError, match="YAML needs PyYAML"):
            parse("rules: []", "a.yaml")


@pytest.mark.parametrize("name", schema_export.MODELS)
def test_committed_schemas_are_those_of_the_models(name: str) -> None:
    committed = Path(schema_export.folder(), f"{name}.schema.json").read_text()
    assert committed == schema_export.schema_text(name), "run: python -m fakeqemu.scenario.schema_export"
