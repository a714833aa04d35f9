# SPDX-License-Identifier: MIT
"""Machines with dirty rings, from the command line on, and rates of each of their vCPUs."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.error import QemuError
from fakeqemu.host.clock import NS_PER_S
from fakeqemu.sim.world import SimWorld
from fakeqemu.testing.sim_machine import SimEmulator

RELEASES = ("7.2", "10.0", "11.1")


def start(accel: str, *more: str, profile: str = "11.1") -> SimEmulator:
    made = SimEmulator(
        SimWorld(seed=1),
        ["-nodefaults", "-accel", accel, "-m", "1G", "-qmp", "unix:/tmp/qmp,server=on,wait=off", *more],
        profile=profile,
        fake={"kvm": "on", "guest.dirty-rate": "600M", "ram": "model"},
    )
    if made.exit_status is None:
        made.connect("/tmp/qmp")
    return made


def measure(made: SimEmulator, **arguments: Any) -> dict[str, Any]:
    made.execute("calc-dirty-rate", **{"calc-time": 1, **arguments})
    made.world.run_for(NS_PER_S)
    result: dict[str, Any] = made.execute("query-dirty-rate")
    assert result["status"] == "measured"
    return result


@pytest.mark.parametrize("profile", RELEASES)
def test_each_vcpu_is_measured(profile: str) -> None:
    made = start("kvm,dirty-ring-size=4096", "-smp", "3", profile=profile)
    result = measure(made, mode="dirty-ring")
    assert [vcpu["id"] for vcpu in result["vcpu-dirty-rate"]] == [0, 1, 2]
    assert all(198 <= vcpu["dirty-rate"] <= 200 for vcpu in result["vcpu-dirty-rate"])
    assert result["dirty-rate"] == sum(vcpu["dirty-rate"] for vcpu in result["vcpu-dirty-rate"])
    assert (result["mode"], result["sample-pages"]) == ("dirty-ring", 0)
    text = made.execute("human-monitor-command", **{"command-line": "info dirty_rate"})
    rates = [vcpu["dirty-rate"] for vcpu in result["vcpu-dirty-rate"]]
    assert text.endswith(
        f"Dirty rate: {sum(rates)} (MB/s)\r\n"
        + "".join(f"vcpu[{index}], Dirty rate: {rate} (MB/s)\r\n" for index, rate in enumerate(rates))
    )
    # another mode says nothing of vCPUs
    assert "vcpu-dirty-rate" not in measure(made)


@pytest.mark.parametrize("profile", RELEASES)
def test_a_mode_needs_its_way_of_logging(profile: str) -> None:
    for accel, mode in (("kvm,dirty-ring-size=4096", "dirty-bitmap"), ("kvm", "dirty-ring"), ("tcg", "dirty-ring")):
        with pytest.raises(QemuError, match=f"^mode {mode} is not enabled, use other method instead.$"):
            measure(start(accel, profile=profile), mode=mode)


def test_one_vcpu_is_limited_and_the_others_are_not() -> None:
    made = start("kvm,dirty-ring-size=4096", "-smp", "3")
    made.execute("set-vcpu-dirty-limit", **{"dirty-rate": 50, "cpu-index": 1})
    made.world.run_for(15 * NS_PER_S)
    assert [limit["cpu-index"] for limit in made.execute("query-vcpu-dirty-limit")] == [1]
    rates = [vcpu["dirty-rate"] for vcpu in measure(made, mode="dirty-ring")["vcpu-dirty-rate"]]
    assert 25 <= rates[1] <= 75
    assert all(198 <= rates[index] <= 200 for index in (0, 2))


def test_a_vcpu_that_is_to_be_plugged_has_its_limit_already() -> None:
    made = start("kvm,dirty-ring-size=4096", "-smp", "1,maxcpus=2,sockets=2")
    made.execute("set-vcpu-dirty-limit", **{"dirty-rate": 50})
    made.world.run_for(3 * NS_PER_S)
    found = made.execute("query-vcpu-dirty-limit")
    assert [(one["cpu-index"], one["limit-rate"]) for one in found] == [(0, 50), (1, 50)]
    assert found[1]["current-rate"] == 0
    made.execute(
        "device_add",
        **{"driver": "qemu64-x86_64-cpu", "id": "two", "socket-id": 1, "core-id": 0, "thread-id": 0},
    )
    made.world.run_for(20 * NS_PER_S)
    assert all(25 <= one["current-rate"] <= 75 for one in made.execute("query-vcpu-dirty-limit"))


@pytest.mark.parametrize("profile", RELEASES)
@pytest.mark.parametrize(
    ("size", "error"),
    [
        ("3000", "dirty-ring-size must be a power of two."),
        ("x", "Parameter 'dirty-ring-size' expects uint64"),
        ("4294967296", "Parameter 'dirty-ring-size' expects uint32_t"),
    ],
)
def test_a_size_that_is_none_is_refused(profile: str, size: str, error: str) -> None:
    made = start(f"kvm,dirty-ring-size={size}", profile=profile)
    assert made.exit_status == 1
    assert "".join(made.said).rstrip().endswith(f"-accel kvm,dirty-ring-size={size}: {error}")


@pytest.mark.parametrize(
    ("size", "errors"),
    [
        (131072, ["KVM dirty ring size 131072 too big (maximum is 65536).  Please use a smaller value.", "Invalid argument"]),
        (512, ["Enabling of KVM dirty ring failed: Invalid argument. Suggested minimum value is 1024.", "Input/output error"]),
    ],
)  # fmt: skip
def test_a_size_that_the_kernel_does_not_take_leaves_the_machine_without_kvm(size: int, errors: list[str]) -> None:
    made = start(f"kvm,dirty-ring-size={size}")
    assert made.exit_status == 1
    for wanted in (errors[0], f"failed to initialize kvm: {errors[1]}"):
        assert f": {wanted}\n" in "".join(made.said)
    fallback = start(f"kvm,dirty-ring-size={size}", "-accel", "tcg")
    assert fallback.exit_status is None
    assert fallback.vm.dirty_ring_size == 0


def test_a_size_of_nothing_is_no_ring() -> None:
    assert start("kvm,dirty-ring-size=0").vm.dirty_ring_size == 0
    assert start("kvm,dirty-ring-size=65536").vm.dirty_ring_size == 65536
