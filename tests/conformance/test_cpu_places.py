# SPDX-License-Identifier: MIT
"""Devices that plug CPUs have a place for each that there may be: ours grow as real ones do."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fakeqemu.migration import further_cpus
from tests.conformance._real import need_real_qemu
from tests.migration import damage
from tests.migration.split import Split

pytestmark = pytest.mark.real_qemu

#: what the CPUs themselves have: whether one waits to be started shows there
OF_CPUS = ("apic", "cpu", "cpu_common")


def sizes(split: Split) -> dict[tuple[str, int], int]:
    return {key: len(body) for key, body in split.bodies.items() if key[0] not in OF_CPUS}


def saved(command: list[str], machine: str, smp: str) -> Split:
    near, far = socket.socketpair()
    near.settimeout(damage.PATIENCE_S)
    with near, tempfile.TemporaryDirectory(prefix="places") as folder:
        pipe = Path(folder, "pipe")
        os.mkfifo(pipe)
        arguments = ["-nodefaults", "-machine", machine, "-m", "16", "-S", "-smp", smp]
        process = damage._start(command, arguments, far, subprocess.DEVNULL)
        try:
            damage._Monitor(near).execute("migrate", {"uri": f"exec:cat > {pipe}"})
            return Split(pipe.read_bytes())
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("smp", ["2", "1,maxcpus=3"])
@pytest.mark.parametrize("board", ["pc-q35", "pc-i440fx"])
@pytest.mark.parametrize("version", ["7.2", "10.0", "11.1"])
def test_a_machine_with_more_cpus_has_as_many_places_as_a_real_one(version: str, board: str, smp: str) -> None:
    command, machine = need_real_qemu(version), f"{board}-{version}"
    real = saved(command, machine, smp)
    ours = saved([sys.executable, "-m", "fakeqemu", "-fake", f"profile={version}"], machine, smp)
    assert sizes(ours) == sizes(real)
    grown = [device for device in real.description["devices"] if further_cpus.places_of(device)]
    assert bool(grown) == (version == "11.1")
    for device in grown:
        assert json.dumps(device) in json.dumps(ours.description["devices"])
        key = device["name"], device["instance_id"]
        assert ours.bodies[key] == real.bodies[key]
