# SPDX-License-Identifier: MIT
"""Machines with VFIO devices on the simulated host, for tests that time and order them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from fakeqemu.host.clock import NS_PER_MS
from fakeqemu.hw.vfio import fsm
from fakeqemu.hw.vfio.hostmodel import HostFunction, HostModel
from fakeqemu.hw.vfio.migration import VFIOMigration
from fakeqemu.hw.vfio.vendor import Arcs, MigrationFeatures
from fakeqemu.migration.stream.qemu_file import QEMUFile
from fakeqemu.sim.world import SimWorld
from fakeqemu.testing.sim_machine import SimMachine

ALL_FLAGS = fsm.FLAG_STOP_COPY | fsm.FLAG_P2P | fsm.FLAG_PRE_COPY


class VFIOMachine(SimMachine):
    """A q35 whose host has only the VFIO functions of the test."""

    def __init__(self, world: SimWorld, *, profile: str = "next", name: str = "", compat: dict[str, str] | None = None):
        fake = {f"compat.{key}": value for key, value in (compat or {}).items()}
        super().__init__(world, board="q35", profile=profile, name=name, fake=fake)
        self.vm.hardware = HostModel([])
        self._ports = 0

    def add_vf(
        self,
        *,
        ms: float = 50,
        flags: int = ALL_FLAGS,
        depth: int = 2,
        arcs: Arcs | None = None,
        features: MigrationFeatures | None = None,
        **properties: str,
    ) -> VFIOMigration:
        """One more device, all of whose arcs take `ms`, on the root bus (depth 2) or behind a port (3)."""
        index = len(self.vm.hardware.functions) + 1
        arcs = arcs or Arcs(int(ms * NS_PER_MS))
        function = HostFunction(
            f"0000:3b:{index // 8:02x}.{index % 8}",
            group=40 + index,
            migration=features or MigrationFeatures(flags, dma_logging=True, arcs=arcs, stop_copy_bytes=1000),
        )
        self.vm.hardware.functions[function.name] = function
        if depth == 3:
            self._ports += 1
            self.device_add("pcie-root-port", id=f"rp{self._ports}", chassis=str(self._ports))
            properties["bus"] = f"rp{self._ports}"
        if self.vm.compat.vfio_migration_v2:
            properties.setdefault("migration_events", "on")
        device = self.device_add("vfio-pci", id=f"vf{index}", host=function.name, **properties)
        migration: VFIOMigration = device.vbasedev.migration
        return migration

    def migrations(self) -> list[VFIOMigration]:
        return [device.migration for device in self.vm.vfio.devices if device.migration is not None]

    def add_ordinary_handler(self, ms: float, depth: int = 2, *, prepare_ms: float = 0) -> None:
        """A device of that depth whose handlers take a while."""

        async def main(running: bool, state: str) -> None:
            await self._ordinary("main", ms, depth)

        async def prepare(running: bool, state: str) -> None:
            await self._ordinary("prepare", prepare_ms, depth)

        self.vm.runstate.add_change_handler(main, prepare if prepare_ms else None, (depth, 0))

    async def _ordinary(self, phase: str, ms: float, depth: int) -> None:
        self.vm.trace("ordinary_begin", phase=phase, depth=depth)
        await self.host.clock.sleep(int(ms * NS_PER_MS))
        self.vm.trace("ordinary_end", phase=phase, depth=depth)

    def timed_ms(self, coro: Any) -> float:
        """Run a coroutine; how many simulated ms it took."""
        start = self.host.clock.now_ns()
        self.world.run(coro)
        return (self.host.clock.now_ns() - start) / NS_PER_MS

    def begin_precopy(self) -> bytes:
        """What the setup of a migration does to the devices; the bytes it writes."""
        f = QEMUFile()
        for migration in self.migrations():
            self.world.run(migration.handlers.save_setup(f))
        return f.getvalue()

    def save_devices(self) -> list[bytes]:
        """The END section body of each device; the guest is stopped."""
        bodies = []
        for migration in self.migrations():
            f = QEMUFile()
            self.world.run(migration.handlers.save_live_complete_precopy(f))
            bodies.append(f.getvalue())
        return bodies

    def load_devices(self, bodies: Sequence[bytes]) -> None:
        """What a destination does with them."""
        for migration, body in zip(self.migrations(), bodies, strict=True):
            self.world.run(migration.handlers.load_setup(QEMUFile()))
            self.world.run(migration.handlers.load_state(QEMUFile.over(body), 1))

    def device_events(self, device_id: str | None = None) -> list[str]:
        """States that VFIO_MIGRATION told, of one device or of all."""
        return [
            data["device-state"]
            for _, name, data in self.events
            if name == "VFIO_MIGRATION" and device_id in (None, data["device-id"])
        ]


@pytest.fixture
def world() -> SimWorld:
    return SimWorld(seed=1)


@pytest.fixture
def make_machine(world: SimWorld) -> Iterator[Any]:
    """A function that makes a `VFIOMachine`, in the test's world or in one of its own; none may meet a bug of ours."""
    machines: list[VFIOMachine] = []

    def make(*, seed: int | None = None, **options: Any) -> VFIOMachine:
        machine = VFIOMachine(world if seed is None else SimWorld(seed), **options)
        machines.append(machine)
        return machine

    yield make
    for machine in machines:
        machine.close()
