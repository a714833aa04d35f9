# SPDX-License-Identifier: MIT
"""Every type that a QEMU lists, made with nothing but an id: it comes to life, or is refused, as the real one did it."""

from __future__ import annotations

from collections import Counter

import pytest

from fakeqemu.error import NotEmulated, QemuError
from fakeqemu.hw.core.inventory import error_text
from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.record.capture_realize import CONTROLLERS, PORT, RICH
from fakeqemu.system.machine import Machine
from tests.unit._boards import board, plug

OK, CRASH, NOT_EMULATED = "ok", "crash", "not emulated"


def machine_of(profile: str, name: str, moment: str) -> Machine:
    """The machine that the capture asked."""
    vm = board(profile, "q35" if name == RICH else name)
    for controller in CONTROLLERS if name == RICH else ():
        driver, _, rest = controller.partition(",")
        if driver == "nvme":  # it needs a property, so no record tells of it
            continue
        plug(vm, driver, json=False, **dict(word.split("=") for word in rest.split(",") if word))
    if moment == "hot":
        vm.phase = "ready"
    return vm


def outcome_here(vm: Machine, name: str, *, json: bool, bus: str | None = None) -> str:
    try:
        plug(vm, name, json=json, id="dev0", **({} if bus is None else {"bus": bus}))
    except NotEmulated:
        return NOT_EMULATED
    except QemuError as err:
        return err.desc
    return OK


@pytest.mark.parametrize("moment", ["cold", "hot"])
@pytest.mark.parametrize("machine", ["q35", "pc", "microvm", RICH])
@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
def test_it_does_what_was_recorded(profile: str, machine: str, moment: str) -> None:
    known = VersionProfile.load(profile)
    counted: Counter[str] = Counter()
    differing = []
    vm = machine_of(profile, machine, moment)
    for name in known.keys("realize"):
        record = known.get("realize", name)[machine][moment]
        expected = OK if record.get("ok") else error_text(record) if "error" in record else CRASH
        on_port = machine == RICH and moment == "hot" and known.implements(name, "pci-device")
        got = outcome_here(vm, name, json=moment == "hot", bus=PORT if on_port else None)
        counted[NOT_EMULATED if got == NOT_EMULATED else OK if got == OK else "refused"] += 1
        if got == OK:
            vm = machine_of(profile, machine, moment)
        if machine == RICH and name == "nvme-ns":
            continue  # sits on what the machine here lacks
        if got not in (expected, NOT_EMULATED) and not expected.startswith("info: "):  # which tells of the slot
            differing.append((name, expected, got))
    assert differing == []
    assert counted[NOT_EMULATED] == 0
    assert counted[OK] >= 60 or machine == "microvm" or (machine, moment) == ("q35", "hot")
    assert counted["refused"] >= 150


def test_refusals_leave_nothing_behind() -> None:
    vm = board()
    before = (len(vm.savevm.entries), len(vm.savevm.blockers), len(vm.qom.walk()))
    known = vm.profile
    for name in known.keys("realize"):
        if not known.get("realize", name)["q35"]["cold"].get("ok"):
            assert outcome_here(vm, name, json=False) != OK
    assert (len(vm.savevm.entries), len(vm.savevm.blockers), len(vm.qom.walk())) == before
