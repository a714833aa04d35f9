# SPDX-License-Identifier: MIT
"""vfio-pci refused, by fakeqemu and by a real QEMU: no such device on either host, wrong values, wrong buses."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.bench._real import fake_qemu, real_qemu

pytestmark = pytest.mark.real_qemu

MACHINE = ["-accel", "tcg", "-display", "none", "-machine", "q35", "-nodefaults", "-S"]

#: properties of a device on a root port, hotplugged
HOT: list[dict[str, Any]] = [
    {},
    {"host": "zz"},
    {"host": "0000:ff:1f.7"},
    {"host": "ff:1f.7"},
    {"sysfsdev": "/sys/bus/mdev/devices/4b20d080-1b54-4048-85b3-a6a62d165c01"},
    {"sysfsdev": "/sys/zz", "host": "0000:ff:1f.7"},
    {"sysfsdev": ""},
    {"fd": "foo"},
    {"fd": "17"},
    {"iommufd": "i0", "host": "0000:ff:1f.7"},
    {"host": "0000:ff:1f.7", "x-no-mmap": "on"},
    {"host": "0000:ff:1f.7", "x-nv-gpudirect-clique": 16},
    {"host": "0000:ff:1f.7", "enable-migration": True},
    {"host": "0000:ff:1f.7", "enable-migration": "maybe"},
    {"host": "0000:ff:1f.7", "migration-events": "on"},
    {"host": "0000:ff:1f.7", "no-such-property": "on"},
    {"host": "0000:ff:1f.7", "x-balloon-allowed": True},
    {"host": "0000:ff:1f.7", "vf-token": "zz"},
    {"host": "0000:ff:1f.7", "bus": "pcie.0"},
    {"driver": "vfio-pci-nohotplug", "host": "0000:ff:1f.7"},
]

#: `-device` options
COLD = [
    "vfio-pci",
    "vfio-pci,host=zz",
    "vfio-pci,host=0000:ff:1f.7",
    "vfio-pci,sysfsdev=/sys/bus/pci/devices/0000:ff:1f.7",
    "vfio-pci,fd=foo",
    "vfio-pci,iommufd=i0,host=0000:ff:1f.7",
    "vfio-pci,host=0000:ff:1f.7,x-nv-gpudirect-clique=16",
    "vfio-pci,host=0000:ff:1f.7,x-migration-parallel-states=on",
    "vfio-pci,host=0000:ff:1f.7,enable-migration=maybe",
    "vfio-pci,host=0000:ff:1f.7,addr=99",
    "vfio-pci,host=0000:ff:1f.7,ramfb=on",
    "vfio-pci-nohotplug,host=0000:ff:1f.7",
]


@pytest.fixture(params=["11.1", "10.0", "7.2"])
def profile(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def commands(profile: str) -> Iterator[tuple[list[str], list[str]]]:
    real = real_qemu(profile)
    if real is None:
        pytest.skip(f"no real QEMU {profile}")
    with fake_qemu(profile) as fake:
        yield real, fake


def hot_replies(command: list[str]) -> list[Any]:
    requests: list[dict[str, Any]] = [{"execute": "qmp_capabilities"}]
    requests += [
        {"execute": "device_add", "arguments": {"driver": "vfio-pci", "id": "a", "bus": "rp", **one}} for one in HOT
    ]
    requests += [{"execute": "quit"}]
    done = subprocess.run(
        [*command, *MACHINE, "-device", "pcie-root-port,id=rp", "-qmp", "stdio"],
        input="".join(json.dumps(request) + "\n" for request in requests),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    return [message for message in messages if "return" in message or "error" in message]


def test_device_add_is_refused_in_the_same_words(commands: tuple[list[str], list[str]]) -> None:
    real, fake = (hot_replies(command) for command in commands)
    assert len(real) == len(HOT) + 2
    for one, theirs, ours in zip([{}, *HOT, {}], real, fake, strict=True):
        assert ours == theirs, one


@pytest.mark.parametrize("option", COLD)
def test_the_command_line_is_refused_in_the_same_words(commands: tuple[list[str], list[str]], option: str) -> None:
    ends = []
    for command in commands:
        done = subprocess.run(
            [*command, *MACHINE, "-device", option], capture_output=True, text=True, timeout=60, check=False
        )
        # The program's own name stands first, and is not the same.
        ends.append((done.returncode, [line.partition(": -device")[2] or line for line in done.stderr.splitlines()]))
    assert ends[1] == ends[0]
