# SPDX-License-Identifier: MIT
"""system_wakeup, with the texts of real QEMUs."""

from __future__ import annotations

import pytest

from fakeqemu.error import QemuError
from fakeqemu.sim.world import SimWorld
from fakeqemu.testing.sim_machine import SimMachine


@pytest.mark.parametrize(
    ("board", "text"),
    [
        ("none", "wake-up from suspend is not supported by this guest"),
        ("q35", "Unable to wake up: guest is not in suspended state"),
    ],
)
def test_a_guest_that_does_not_sleep_cannot_be_woken(board: str, text: str) -> None:
    machine = SimMachine(SimWorld(), board=board)
    with pytest.raises(QemuError) as raised:
        machine.execute("system_wakeup")
    assert raised.value.desc == text


def test_a_sleeping_guest_runs_on() -> None:
    machine = SimMachine(SimWorld(), board="q35")
    machine.execute("cont")
    machine.vm.guest.stopped()
    machine.vm.runstate.set("suspended")
    machine.execute("system_wakeup")
    assert machine.execute("query-status")["status"] == "running"
    assert machine.vm.guest.running
    assert machine.event_names() == ["RESUME", "WAKEUP"]
