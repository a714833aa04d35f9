# SPDX-License-Identifier: MIT
"""`x-migration-parallel-states` as a tool sees it: there and on in `next`, unknown in 11.1."""

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from qemu.qmp import ExecuteError

from fakeqemu.testing.emulator import EmulatorFailed

if TYPE_CHECKING:
    from fakeqemu.testing.pytest_plugin import StartEmulator

PROPERTY = "x-migration-parallel-states"
Q35 = ("-machine", "q35", "-m", "64", "-nodefaults", "-S")
VF = "vfio-pci,host=0000:3b:00.1,id=vf0"


async def test_next_describes_it_as_a_bool_that_is_on(fakeqemu: "StartEmulator") -> None:
    vm = await fakeqemu("-machine", "none", profile="next")
    properties = await vm.execute("device-list-properties", {"typename": "vfio-pci"})
    found = [p for p in properties if p["name"] == PROPERTY]
    assert [(p["type"], p["default-value"]) for p in found] == [("bool", True)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("-device", VF), True),
        (("-device", f"{VF},{PROPERTY}=off"), False),
        (("-global", f"vfio-pci.{PROPERTY}=off", "-device", VF), False),
        (("-global", f"vfio-pci.{PROPERTY}=off", "-device", f"{VF},{PROPERTY}=on"), True),
    ],
    ids=["default", "off", "global off", "global off, on"],
)
async def test_next_takes_it_for_each_device(
    fakeqemu: "StartEmulator", arguments: tuple[str, ...], expected: bool
) -> None:
    vm = await fakeqemu(*Q35, *arguments, profile="next")
    path = "/machine/peripheral/vf0"
    assert await vm.execute("qom-get", {"path": path, "property": PROPERTY}) is expected
    listed = await vm.execute("qom-list", {"path": path})
    assert {"name": PROPERTY, "type": "bool"} in listed


async def test_11_1_does_not_know_it(fakeqemu: "StartEmulator") -> None:
    unknown = f"Property 'vfio-pci.{PROPERTY}' not found"
    with pytest.raises(EmulatorFailed) as failure:
        await fakeqemu(*Q35, "-device", f"{VF},{PROPERTY}=on", profile="11.1")
    assert failure.value.status == 1
    assert unknown in failure.value.stderr

    vm = await fakeqemu(*Q35, "-device", "pcie-root-port,id=rp1,chassis=1", profile="11.1")
    properties = await vm.execute("device-list-properties", {"typename": "vfio-pci"})
    assert PROPERTY not in [p["name"] for p in properties]
    with pytest.raises(ExecuteError) as refusal:
        await vm.execute("device_add", {"driver": "vfio-pci", "bus": "rp1", PROPERTY: True})
    assert str(refusal.value) == unknown


@pytest.mark.parametrize(("profile", "present"), [("next", True), ("11.1", False)])
def test_device_help(profile: str, present: bool) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "fakeqemu", "-fake", f"profile={profile}", "-device", "vfio-pci,help"],
        check=True,
        capture_output=True,
        text=True,
    )
    lines = [line.strip() for line in result.stdout.splitlines()]
    described = [line for line in lines if line.startswith(f"{PROPERTY}=")]
    assert bool(described) is present
    if present:
        assert described[0].startswith(f"{PROPERTY}=<bool>")
        assert "on" in described[0]
