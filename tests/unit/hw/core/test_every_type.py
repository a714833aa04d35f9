# SPDX-License-Identifier: MIT
"""Every type that a QEMU lists, made with nothing but an id: it comes to life, or is refused, as the real one did it."""

from __future__ import annotations

from collections import Counter

import pytest

from fakeqemu.error import NotEmulated, QemuError
from fakeqemu.hw.core.inventory import error_text
from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.system.machine import Machine
from tests.unit._boards import board, plug

OK, CRASH, NOT_EMULATED = "ok", "crash", "not emulated"


def outcome_here(vm: Machine, name: str, *, json: bool) -> str:
    try:
        plug(vm, name, json=json, id="dev0")
    except NotEmulated:
        return NOT_EMULATED
    except QemuError as err:
        return err.desc
    return OK


@pytest.mark.parametrize("moment", ["cold", "hot"])
@pytest.mark.parametrize("machine", ["q35", "pc"])
@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
def test_it_does_what_was_recorded(profile: str, machine: str, moment: str) -> None:
    known = VersionProfile.load(profile)
    counted: Counter[str] = Counter()
    differing = []
    vm = board(profile, machine, ready=moment == "hot")
    for name in known.keys("realize"):
        record = known.get("realize", name)[machine][moment]
        expected = OK if record.get("ok") else error_text(record) if "error" in record else CRASH
        got = outcome_here(vm, name, json=moment == "hot")
        counted[NOT_EMULATED if got == NOT_EMULATED else OK if got == OK else "refused"] += 1
        if got == OK:
            vm = board(profile, machine, ready=moment == "hot")
        if got not in (expected, NOT_EMULATED):
            differing.append((name, expected, got))
    assert differing == []
    # CPUs are plugged by other rules; all the rest is known.
    assert counted[NOT_EMULATED] <= sum(name.endswith("-x86_64-cpu") for name in known.keys("realize"))
    assert counted[OK] >= 60 or (machine, moment) == ("q35", "hot")
    assert counted["refused"] >= 150


def test_refusals_leave_nothing_behind() -> None:
    vm = board()
    before = (len(vm.savevm.entries), len(vm.savevm.blockers), len(vm.qom.walk()))
    known = vm.profile
    for name in known.keys("realize"):
        if not known.get("realize", name)["q35"]["cold"].get("ok"):
            assert outcome_here(vm, name, json=False) != OK
    assert (len(vm.savevm.entries), len(vm.savevm.blockers), len(vm.qom.walk())) == before
