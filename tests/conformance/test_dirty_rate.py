# SPDX-License-Identifier: MIT
"""Dirty rates and their limits: what fakeqemu and a real QEMU answer under TCG, QMP and human monitor.

Numbers are those of a guest that is stopped: 0. Start times change; a measurement of a second may say 1001 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qemu.qmp import ExecuteError

from fakeqemu.testing.emulator import Emulator, short_directory
from tests.conformance._wait import LOOK_AGAIN_S
from tests.interop._machines import OURS, REAL, start

pytestmark = pytest.mark.real_qemu

VERSIONS = ("11.1", "10.0", "7.2")
MACHINES = {"none": ("-machine", "none", "-S"), "q35": ("-machine", "q35", "-nodefaults", "-m", "64", "-S")}

CALC: list[dict[str, Any]] = [
    {"calc-time": 0}, {"calc-time": 61}, {"calc-time": -1}, {"calc-time": 1 << 62}, {"calc-time": (1 << 63) - 1},
    {"calc-time": 60001, "calc-time-unit": "millisecond"}, {"calc-time": 49, "calc-time-unit": "millisecond"},
    {"calc-time": 1, "sample-pages": 127}, {"calc-time": 1, "sample-pages": 16385}, {"calc-time": 1, "sample-pages": -1},
    {"calc-time": 1, "mode": "dirty-bitmap", "sample-pages": 5}, {"calc-time": 0, "mode": "dirty-ring"},
    {"calc-time": 1, "mode": "dirty-ring", "sample-pages": 512}, {"calc-time": 1, "mode": "dirty-ring", "sample-pages": 5},
    {"calc-time": 1, "mode": "nosuch"}, {},
]  # fmt: skip
#: the real 7.2 crashes under TCG
CALC_LATER: list[dict[str, Any]] = [{"calc-time": 1, "mode": "dirty-ring"}]
LINES = [
    "info dirty_rate", "info vcpu_dirty_limit", "calc_dirty_rate", "calc_dirty_rate 0", "calc_dirty_rate 61",
    "calc_dirty_rate -1", "calc_dirty_rate 1 5", "calc_dirty_rate -r -b 1", "calc_dirty_rate -b 1 5", "calc_dirty_rate x",
    "calc_dirty_rate 1 x", "calc_dirty_rate 1 512 3", "calc_dirty_rate -x 1", "calc_dirty_rate 1+1 5",
    "calc_dirty_rate 0x1 5", "calc_dirty_rate (1 5", "calc_dirty_rate 1/0", "calc_dirty_rate 1 5M",
    "calc_dirty_rate 99999999999999999999", "set_vcpu_dirty_limit", "set_vcpu_dirty_limit 5", "set_vcpu_dirty_limit 5 0",
    "set_vcpu_dirty_limit -5", "set_vcpu_dirty_limit 0", "set_vcpu_dirty_limit x", "set_vcpu_dirty_limit 5 0 7",
    "cancel_vcpu_dirty_limit", "cancel_vcpu_dirty_limit 0", "cancel_vcpu_dirty_limit 99", "cancel_vcpu_dirty_limit x",
    "cancel_vcpu_dirty_limit 1 2", "help calc_dirty_rate",
]  # fmt: skip
LIMITS: list[tuple[str, dict[str, Any]]] = [
    ("set-vcpu-dirty-limit", {"dirty-rate": 5}), ("set-vcpu-dirty-limit", {"dirty-rate": 0}),
    ("set-vcpu-dirty-limit", {"dirty-rate": 5, "cpu-index": -1}), ("set-vcpu-dirty-limit", {}),
    ("cancel-vcpu-dirty-limit", {}), ("cancel-vcpu-dirty-limit", {"cpu-index": 77}), ("query-vcpu-dirty-limit", {}),
]  # fmt: skip


async def told(vm: Emulator, command: str, arguments: dict[str, Any]) -> Any:
    """The reply, or the error's class and words."""
    try:
        return await vm.execute(command, arguments)
    except ExecuteError as err:
        return err.error_class, str(err)


async def both(directory: Path, version: str, machine: str, ask: Callable[[Emulator], Any]) -> tuple[Any, Any]:
    found = []
    for kind in (OURS, REAL):
        vm = await start(kind, directory, kind, *MACHINES[machine], version=version)
        try:
            found.append(await ask(vm))
        finally:
            await vm.stop()
    return found[0], found[1]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.asyncio
async def test_refusals_and_words(tmp_path: Path, version: str, machine: str) -> None:
    async def ask(vm: Emulator) -> list[Any]:
        calc = CALC if version == "7.2" else CALC + CALC_LATER
        found: list[Any] = [(arguments, await told(vm, "calc-dirty-rate", arguments)) for arguments in calc]
        found += [
            (unit, await told(vm, "query-dirty-rate", {"calc-time-unit": unit})) for unit in ("second", "millisecond")
        ]
        found += [(line, await vm.hmp(line)) for line in LINES]
        found += [(arguments, await told(vm, name, arguments)) for name, arguments in LIMITS]
        return found

    ours, real = await both(short_directory(tmp_path), version, machine, ask)
    assert ours == real


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("mode", ["page-sampling", "dirty-bitmap"])
@pytest.mark.asyncio
async def test_a_measurement(tmp_path: Path, version: str, machine: str, mode: str) -> None:
    if version == "7.2" and mode == "dirty-bitmap":
        pytest.skip("the real 7.2 crashes under TCG")

    async def ask(vm: Emulator) -> list[Any]:
        found: list[Any] = [await told(vm, "calc-dirty-rate", {"calc-time": 1, "mode": mode})]
        while (info := await told(vm, "query-dirty-rate", {}))["status"] != "measured":
            # No event tells: look again, unless the emulator ends.
            with contextlib.suppress(TimeoutError):
                assert vm.process is not None
                await asyncio.wait_for(vm.process.wait(), 10 * LOOK_AGAIN_S)
        assert info.pop("start-time") > 0
        text = re.sub(r"Start Time: \d+", "Start Time: T", await vm.hmp("info dirty_rate"))
        return [*found, info, list(info), text]

    ours, real = await both(short_directory(tmp_path), version, machine, ask)
    assert ours == real
