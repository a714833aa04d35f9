# SPDX-License-Identifier: MIT
"""A machine with a board, on a simulated host."""

from __future__ import annotations

import pytest

from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.sim.host import SimHost
from fakeqemu.system.board import create_board
from fakeqemu.system.build import new_machine
from fakeqemu.system.machine import Machine


def ready(board: str, profile: str = "11.1") -> Machine:
    vm = new_machine(SimHost(), VersionProfile.load(profile))
    create_board(vm, board, nodefaults=True).init()
    vm.phase = "ready"
    return vm


@pytest.fixture
def q35() -> Machine:
    return ready("q35")


@pytest.fixture
def none() -> Machine:
    return ready("none")
