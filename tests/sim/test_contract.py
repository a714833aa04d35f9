# SPDX-License-Identifier: MIT
"""The simulated host against the contract of all hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fakeqemu.sim.host import SimHost
from fakeqemu.testing.contract import ChannelContract, ClockContract, HostContract

if TYPE_CHECKING:
    from collections.abc import Coroutine


class SimulatedWorld:
    """A SimHost and the simulation it lives in."""

    def __init__(self) -> None:
        self.host = SimHost(seed=7)

    def run(self, coro: Coroutine[Any, Any, Any]) -> Any:
        return self.host.world.run(coro)

    def unix_path(self, name: str) -> str:
        return f"/run/{name}"

    def socketpair(self) -> tuple[int, int]:
        return self.host.socketpair()

    def pipe(self) -> tuple[int, int]:
        return self.host.pipe()


class TestSim(ClockContract, ChannelContract, HostContract):
    @pytest.fixture
    def world(self) -> SimulatedWorld:
        return SimulatedWorld()
