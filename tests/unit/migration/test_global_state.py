# SPDX-License-Identifier: MIT
"""The run state that travels: what it looks like in each release, and what is understood of it."""

from __future__ import annotations

import pytest

from fakeqemu.host.sync import run_sync
from fakeqemu.migration.global_state import GlobalState, description
from fakeqemu.migration.stream import vmstate
from fakeqemu.migration.stream.qemu_file import QEMUFile
from fakeqemu.migration.stream.vmstate import LoadError
from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.sim.host import SimHost
from fakeqemu.system.build import new_machine
from fakeqemu.system.machine import Machine

FOOTER = b"\x7e" * 300
VERSIONS = ("7.2", "10.0", "11.1")


def machine(version: str) -> Machine:
    return new_machine(SimHost(), VersionProfile.load(version), {})


def stored(state: GlobalState, vm: Machine) -> bytes:
    state.store()
    f = QEMUFile()
    vmstate.save_state(f, description(vm), state)
    return f.getvalue()


def loaded(vm: Machine, data: bytes) -> GlobalState:
    state = GlobalState(vm)
    run_sync(vmstate.load_state(QEMUFile.over(data + FOOTER), description(vm), state, 1))
    return state


def name_of(body: bytes) -> bytes:
    """Up to the NUL: what stands behind it nobody looks at."""
    return body[4:].partition(b"\0")[0]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_second_migration_holds_only_its_own_name(version: str) -> None:
    vm = machine(version)
    state = GlobalState(vm)
    vm.runstate.state = "prelaunch"
    assert name_of(stored(state, vm)) == b"prelaunch"
    vm.runstate.state = "paused"
    body = stored(state, vm)
    assert name_of(body) == b"paused"
    assert int.from_bytes(body[:4], "big") == len("paused") + 1
    assert len(body) == 104


@pytest.mark.parametrize(("version", "flags"), [("7.2", b"\0\0"), ("10.0", b"\1\0"), ("11.1", b"\1\0")])
def test_only_later_releases_say_whether_the_guest_was_suspended(version: str, flags: bytes) -> None:
    vm = machine(version)
    vm.runstate.state = "running"
    body = stored(GlobalState(vm), vm)
    assert body[36:38] == flags
    vm.runstate.state = "suspended"
    assert stored(GlobalState(vm), vm)[36:38] == (b"\0\0" if version == "7.2" else b"\1\1")


@pytest.mark.parametrize(("version", "shown"), [("7.2", 100), ("10.0", 31), ("11.1", 31)])
def test_a_name_without_an_end_is_cut(version: str, shown: int) -> None:
    vm = machine(version)
    with pytest.raises(LoadError) as caught:
        loaded(vm, b"\0\0\0\x08" + b"x" * 100)
    assert caught.value.old_lines[0] == "invalid parameter value: " + "x" * shown


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("sender", VERSIONS)
def test_each_release_understands_the_others(version: str, sender: str) -> None:
    source, vm = machine(sender), machine(version)
    for name in ("running", "paused", "suspended", "guest-panicked"):
        source.runstate.state = name
        state = loaded(vm, stored(GlobalState(source), source))
        assert (state.received, state.next_state) == (name, name)


def test_without_the_section_the_guest_runs() -> None:
    assert GlobalState(machine("11.1")).next_state == "running"
