# SPDX-License-Identifier: MIT
"""Machines for unit tests: on a simulated host, or on one that has files."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.sim.host import SimHost
from fakeqemu.system.board import create_board
from fakeqemu.system.build import new_machine
from fakeqemu.system.machine import Machine


class FileHost(SimHost):
    """A simulated host whose descriptors are those of the operating system."""

    real_fds = True

    def close_fd(self, fd: int) -> None:
        os.close(fd)

    def dup_fd(self, fd: int) -> int:
        return os.dup(fd)


class Events:
    """What a machine emitted: names, and data by name."""

    def __init__(self, vm: Machine) -> None:
        self.all: list[tuple[str, object]] = []
        vm.events.add_sink(lambda event: self.all.append((event["event"], event.get("data"))))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.all]


MakeMachine = Callable[..., Machine]


@pytest.fixture
def make_machine() -> MakeMachine:
    """make_machine(board=None, profile="11.1", memory=64 MiB, smp=None, files=False) -> a machine that is ready."""

    def make(
        board: str | None = None,
        *,
        profile: str = "11.1",
        memory: int | None = None,
        smp: dict[str, str] | None = None,
        files: bool = False,
    ) -> Machine:
        vm = new_machine(FileHost() if files else SimHost(), VersionProfile.load(profile))
        if board is not None:
            made = create_board(vm, board, nodefaults=True)
            if memory is not None:
                made.set_memory({"size": memory})
            if smp is not None:
                made.set_smp(smp)
            made.init()
            vm.phase = "ready"
        return vm

    return make


@pytest.fixture
def events() -> type[Events]:
    return Events
