# SPDX-License-Identifier: MIT
"""Guests that have suspended themselves, or are stopped, are the same on the far side. As seen on 11.1.2, 10.0.13, 7.2.22."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.error import QemuError
from fakeqemu.scenario.guest_acts import ACTS
from fakeqemu.sim.world import SimWorld
from fakeqemu.testing.sim_machine import SimMachine

NEW = ["10.0", "11.1"]


class Pair:
    """Two machines of a board that can wake its guest, which has suspended itself."""

    def __init__(self, profile: str, *, capabilities: tuple[str, ...] = ("return-path",)) -> None:
        self.world = SimWorld(seed=1)
        self.source, self.destination = (
            SimMachine(self.world, name=name, profile=profile, board="q35") for name in ("source", "destination")
        )
        self.source.execute("cont")
        self.world.run(ACTS["suspend"](self.source.vm))
        self.destination.vm.runstate.set("inmigrate")
        wanted = [{"capability": name, "state": True} for name in ("events", *capabilities)]
        for side in (self.source, self.destination):
            side.execute("migrate-set-capabilities", capabilities=wanted)
            side.events.clear()

    def migrate(self) -> None:
        self.destination.execute("migrate-incoming", uri="unix:/tmp/m")
        self.source.execute("migrate", uri="unix:/tmp/m")
        self.world.run_until_idle()

    @staticmethod
    def state(side: SimMachine) -> str:
        status: str = side.execute("query-status")["status"]
        return status

    @staticmethod
    def told(side: SimMachine) -> list[Any]:
        """Events since the last call; a status of a migration as that word."""
        found = [data["status"] if name == "MIGRATION" else name for _, name, data in side.events]
        side.events.clear()
        return found


@pytest.mark.parametrize("profile", NEW)
def test_it_is_suspended_there_too_and_can_be_woken(profile: str) -> None:
    pair = Pair(profile)
    pair.migrate()
    told = pair.told(pair.source)
    assert [word for word in told if word != "MIGRATION_PASS"] == ["setup", "active", "STOP", "device", "completed"]
    assert pair.state(pair.source) == "postmigrate"
    assert pair.told(pair.destination) == ["setup", "active", "RESUME", "completed"]
    assert pair.state(pair.destination) == "suspended"
    pair.destination.execute("system_wakeup")
    assert pair.state(pair.destination) == "running"
    assert pair.told(pair.destination) == ["WAKEUP"]


@pytest.mark.parametrize("profile", NEW)
def test_one_that_is_stopped_as_well_is_paused_there_and_suspended_when_it_goes_on(profile: str) -> None:
    pair = Pair(profile)
    pair.source.execute("stop")
    assert pair.state(pair.source) == "paused"
    assert pair.told(pair.source) == ["STOP"]
    pair.migrate()
    assert "STOP" not in pair.told(pair.source)
    assert pair.told(pair.destination) == ["setup", "active", "completed"]
    assert pair.state(pair.destination) == "paused"
    pair.destination.execute("cont")
    assert pair.told(pair.destination) == ["RESUME"]
    assert pair.state(pair.destination) == "suspended"


@pytest.mark.parametrize("profile", NEW)
def test_a_destination_that_does_not_start_leaves_it_paused(profile: str) -> None:
    pair = Pair(profile)
    pair.destination.vm.runstate.autostart = False
    pair.migrate()
    assert pair.state(pair.destination) == "paused"
    pair.destination.execute("cont")
    assert pair.state(pair.destination) == "suspended"


@pytest.mark.parametrize("profile", NEW)
def test_it_is_suspended_again_when_the_migration_is_cancelled(profile: str) -> None:
    pair = Pair(profile, capabilities=("return-path", "pause-before-switchover"))
    pair.migrate()
    assert pair.source.vm.migration.state == "pre-switchover"
    pair.source.execute("migrate_cancel")
    pair.world.run_until_idle()
    assert pair.state(pair.source) == "suspended"
    assert "RESUME" in pair.told(pair.source)


@pytest.mark.parametrize("profile", NEW)
def test_one_that_has_left_does_not_go_on(profile: str) -> None:
    pair = Pair(profile)
    pair.migrate()
    # The real one aborts.
    with pytest.raises(QemuError, match="invalid runstate transition: 'postmigrate' -> 'suspended'"):
        pair.source.execute("cont")


def test_an_old_release_wakes_it() -> None:
    pair = Pair("7.2")
    pair.source.execute("stop")
    assert pair.state(pair.source) == "suspended"
    assert pair.told(pair.source) == []
    pair.migrate()
    told = [word for word in pair.told(pair.source) if word != "MIGRATION_PASS"]
    assert told == ["setup", "active", "STOP", "WAKEUP", "completed"]
    assert pair.told(pair.destination) == ["setup", "active", "RESUME", "completed"]
    assert pair.state(pair.destination) == "running"
    pair.source.execute("cont")
    assert pair.state(pair.source) == "running"


@pytest.mark.parametrize("profile", ["7.2", *NEW])
def test_cont_does_not_wake_it(profile: str) -> None:
    pair = Pair(profile)
    pair.source.execute("cont")
    assert pair.state(pair.source) == "suspended"
    assert pair.told(pair.source) == []
