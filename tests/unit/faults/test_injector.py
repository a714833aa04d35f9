# SPDX-License-Identifier: MIT
"""When rules act, what they raise, and how they are taken back."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from fakeqemu.error import QemuError, StreamError
from fakeqemu.faults.injector import Close, Corrupt, Delay, Fail, Injector, Rule, Stall
from fakeqemu.host.clock import NS_PER_MS
from fakeqemu.sim.world import SimWorld
from fakeqemu.testing.sim_machine import SimMachine


@pytest.fixture
def machine() -> Iterator[SimMachine]:
    one = SimMachine(SimWorld(seed=5))
    yield one
    one.close()


def failures(machine: SimMachine, point: str, times: int, **fields: object) -> list[int]:
    """Which of so many passes of a point failed."""
    failed = []
    for n in range(times):
        try:
            machine.vm.faults.check(point, **fields)
        except (OSError, QemuError, StreamError):
            failed.append(n)
    return failed


def test_a_rule_lets_pass_what_comes_before_and_stops_after_its_times(machine: SimMachine) -> None:
    Injector(machine.vm).add(Rule("vfio_save_block", after=2, times=3))
    assert failures(machine, "vfio_save_block", 8, device="a") == [2, 3, 4]


def test_a_rule_without_times_acts_always(machine: SimMachine) -> None:
    Injector(machine.vm).add(Rule("vfio_*", times=None))
    assert failures(machine, "vfio_save_block", 3, device="a") == [0, 1, 2]
    assert failures(machine, "vmstate_save", 3, id="timer") == []


def test_fields_are_matched_by_patterns(machine: SimMachine) -> None:
    Injector(machine.vm).add(Rule("vmstate_save", match={"id": "ti*"}, times=None))
    assert failures(machine, "vmstate_save", 1, id="timer") == [0]
    assert failures(machine, "vmstate_save", 1, id="ram") == []
    assert failures(machine, "vmstate_save", 1) == []


def test_the_same_seed_has_the_same_chance() -> None:
    stories = []
    for seed in (1, 1, 2):
        machine = SimMachine(SimWorld(seed))
        Injector(machine.vm).add(Rule("*", times=None, probability=0.3))
        stories.append(failures(machine, "vfio_save_block", 200, device="a"))
        machine.close()
    assert stories[0] == stories[1] != stories[2]
    assert 30 < len(stories[0]) < 90


def test_what_is_raised_is_what_the_code_there_expects(machine: SimMachine) -> None:
    injector = Injector(machine.vm)
    injector.add(Rule("*", Fail("ENOSPC"), times=None))
    with pytest.raises(OSError, match="No space left on device") as system:
        machine.vm.faults.check("vfio_save_block", device="a")
    assert system.value.errno == errno.ENOSPC
    text = "vfio: Failed to save device config space of a - Failed to save state: No space left on device"
    with pytest.raises(QemuError, match=f"^{text}$"):
        machine.vm.faults.check("vfio_save_device_config_state", device="a")
    with pytest.raises(StreamError) as stream:
        machine.vm.faults.check("vmstate_load", id="timer")
    assert (stream.value.errno, stream.value.desc) == (errno.ENOSPC, "Failed to load timer: No space left on device")
    assert [one.point for one in injector.injected][::2] == ["vfio_save_block", "vmstate_load"]


def test_a_text_of_the_rule_takes_the_place_of_the_points(machine: SimMachine) -> None:
    Injector(machine.vm).add(Rule("vmstate_save", Fail("EIO", "no more ink")))
    with pytest.raises(QemuError, match=r"^no more ink$"):
        machine.vm.faults.check("vmstate_save", id="timer")


def test_a_delay_takes_its_time_and_does_not_fail(machine: SimMachine) -> None:
    Injector(machine.vm).add(Rule("vmstate_load", Delay(70)))
    machine.world.run(machine.vm.faults.pass_through("vmstate_load", id="ram"))
    assert machine.host.clock.now_ns() == 70 * NS_PER_MS


def test_who_is_stalled_goes_on_when_released_and_when_the_rule_is_removed(machine: SimMachine) -> None:
    injector = Injector(machine.vm)
    rule = injector.add(Rule("vmstate_load", Stall(), times=2, name="wait"))
    for end in ("release", "remove"):
        task = machine.host.start(machine.vm.faults.pass_through("vmstate_load", id="ram"), "test")
        machine.world.run_until_idle()
        assert not task.done
        assert injector.stalled() == ["wait"]
        if end == "release":
            injector.release("wait")
        else:
            injector.remove(rule)
        machine.world.run_until(task)
        assert injector.stalled() == []


def test_what_happened_is_traced(machine: SimMachine) -> None:
    seen = []
    machine.vm.trace.watch(lambda event, fields: seen.append((event, fields["point"])), "fake_fault_injected")
    Injector(machine.vm).add(Rule("vfio_pci_reset"))
    failures(machine, "vfio_pci_reset", 2, device="a")
    assert seen == [("fake_fault_injected", "vfio_pci_reset")]


def test_numbers_are_compared(machine: SimMachine) -> None:
    injector = Injector(machine.vm)
    injector.add(Rule("multifd_recv_unfill", match={"id": "<=1", "packet_num": ">6"}, times=None))
    found = [n for n in range(12) if failures(machine, "multifd_recv_unfill", 1, id=n % 3, packet_num=n)]
    assert found == [7, 9, 10]


def test_a_rule_acts_only_where_it_makes_sense(machine: SimMachine) -> None:
    injector = Injector(machine.vm)
    injector.add(Rule("*", Corrupt(), times=None))
    injector.add(Rule("*", Close(), times=None))
    machine.vm.faults.check("vfio_pci_reset", device="a")
    machine.vm.faults.check("migration_fd_outgoing", fd=3)
    assert [(one.point, type(one.action)) for one in injector.injected] == [("vfio_pci_reset", Close)]
