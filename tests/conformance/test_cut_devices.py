# SPDX-License-Identifier: MIT
"""The state of a board's devices, saved by a real QEMU and cut anywhere: a real one and ours miss the same, in the same words.

We keep the state of these devices as bytes. What a reader of them would say is told by the description at the end of a
stream, of our own record of such a machine: which state, which field, on which level.
"""

from __future__ import annotations

import random
import sys
from functools import cache

import pytest

from tests.conformance._real import need_real_qemu
from tests.migration import damage
from tests.migration.split import Split
from tests.migration.streams import Case

pytestmark = pytest.mark.real_qemu

CUTS = 12
VERSIONS = ("7.2", "10.0", "11.1")
BOARDS = ("pc-q35", "pc-i440fx")
#: QEMU compares what it has read, not all of which has come, with what it has: that depends on its memory
COMPARED = "Bad config data"


@cache
def saved(version: str, machine: str) -> bytes:
    return damage.saved_by(need_real_qemu(version), machine)


@pytest.mark.in_turn("version")
@pytest.mark.parametrize("seed", range(CUTS))
@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("version", VERSIONS)
def test_devices_that_are_cut_miss_what_they_miss_at_a_real_qemu(version: str, board: str, seed: int) -> None:
    command, machine = need_real_qemu(version), f"{board}-{version}"
    data = saved(version, machine)
    whole = Split(data)
    devices = len(data) - len(whole.text) - 6
    size = random.Random(f"{board} {seed}").randrange(len(whole.front), devices)
    case = Case(f"cut at {size}", data[:size], mib=16, machine=machine)
    exits = version == "7.2"
    real = damage.real_outcome(command, case, exits=exits)
    ours = damage.real_outcome([sys.executable, "-m", "fakeqemu", "-fake", f"profile={version}"], case, exits=exits)
    if any(COMPARED in line for line in real["stderr"]):
        assert ours["events"] == real["events"]
    else:
        assert ours == real
