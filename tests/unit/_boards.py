# SPDX-License-Identifier: MIT
"""Machines with a board and no monitor, for tests of devices."""

from __future__ import annotations

from typing import Any

from fakeqemu.error import QemuError
from fakeqemu.hw.core.qdev import DeviceState
from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.sim.host import SimHost
from fakeqemu.system.board import create_board
from fakeqemu.system.build import new_machine
from fakeqemu.system.machine import Machine
from fakeqemu.vl.qdev_monitor import device_add


def board(
    profile: str = "11.1",
    name: str = "q35",
    *,
    nodefaults: bool = True,
    ready: bool = False,
    smp: dict[str, str] | None = None,
) -> Machine:
    """A machine whose devices of the board are there; `ready`: what comes now is hotplugged."""
    vm = new_machine(SimHost(1), VersionProfile.load(profile))
    made = create_board(vm, name, nodefaults=nodefaults)
    if smp is not None:
        made.set_smp(smp)
    made.init()
    vm.phase = "ready" if ready else "initialized"
    return vm


def plug(vm: Machine, driver: str, *, json: Any = True, **properties: Any) -> DeviceState:
    """Make a device as `-device` does, or `device_add` once the machine is ready."""
    device = device_add(vm, {"driver": driver, **properties}, from_json=json, hotplug=vm.phase == "ready")
    assert isinstance(device, DeviceState)
    return device


def refusal(vm: Machine, driver: str, *, json: Any = True, **properties: Any) -> str:
    """The text of the error that plugging ends with."""
    try:
        device = plug(vm, driver, json=json, **properties)
    except QemuError as err:
        return err.desc
    raise AssertionError(f"{device} came to life")
