# SPDX-License-Identifier: MIT
"""Two machines, the guest of one of which writes to its memory all the time."""

from __future__ import annotations

from typing import Any

from fakeqemu.host.clock import NS_PER_MS, NS_PER_S
from fakeqemu.sim.world import SimWorld
from fakeqemu.system.ramblock import RAMBlock
from fakeqemu.testing.sim_machine import SimMachine

MIB = 1 << 20
#: as the recorded migrations of a guest of 32 MiB that writes to 7 MiB again and again
SLOW: dict[str, Any] = {"max-bandwidth": 12 * MIB, "downtime-limit": 100}
AUTO = ("auto-converge", "events")


class Pair:
    """Two machines, the guest of one of which writes all the time."""

    def __init__(
        self,
        profile: str = "11.1",
        *,
        size: int = 32 * MIB,
        working_set: int = 7 * MIB,
        rate: int = 1 << 30,
        **fake: str,
    ) -> None:
        self.world = SimWorld(seed=1)
        self.source, self.destination = (
            SimMachine(self.world, name=name, profile=profile, fake=fake) for name in ("source", "destination")
        )
        for side in (self.source, self.destination):
            side.vm.ram_blocks.append(RAMBlock("ram", size))
        self.source.vm.guest.set_dirty_rate(rate, working_set)
        self.source.execute("cont")
        self.world.run_for(3 * NS_PER_S)
        self.destination.vm.runstate.set("inmigrate")

    def begin(self, capabilities: tuple[str, ...] = AUTO, **parameters: Any) -> None:
        wanted = [{"capability": name, "state": True} for name in capabilities]
        for side in (self.source, self.destination):
            side.execute("migrate-set-capabilities", capabilities=wanted)
        self.set(**parameters)
        self.destination.execute("migrate-incoming", uri="unix:/tmp/migration")
        self.source.execute("migrate", uri="unix:/tmp/migration")
        self.world.run_until(lambda: self.status != "setup")

    def set(self, **parameters: Any) -> None:
        self.source.execute("migrate-set-parameters", **{name.replace("_", "-"): v for name, v in parameters.items()})

    @property
    def status(self) -> str:
        return self.source.vm.migration.state

    @property
    def info(self) -> dict[str, Any]:
        info: dict[str, Any] = self.source.execute("query-migrate")
        return info

    @property
    def percentage(self) -> int | None:
        return self.info.get("cpu-throttle-percentage")

    def percentages(self, seconds: int) -> list[int | None]:
        """The throttle's percentages in the order in which they are seen."""
        found = [self.percentage]
        for _ in range(seconds * 20):
            self.world.run_for(50 * NS_PER_MS)
            if self.status != "active":
                break
            if (now := self.percentage) != found[-1]:
                found.append(now)
        return found
