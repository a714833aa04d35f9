# SPDX-License-Identifier: MIT
"""A real machine's stream, of two CPUs and some devices, damaged at random: a real QEMU and ours end alike, in the same words.

Cut is it anywhere behind the RAM; changed where the format itself stands: headers and footers of sections and subsections, the
list of RAM blocks, fields that are the same on both sides. What a device holds we keep as bytes, and only it knows what it would
refuse.
"""

from __future__ import annotations

import random
from functools import cache

import pytest

from fakeqemu.migration.stream.vmdesc import fixed_fields, subsection_heads
from tests.bench._real import fake_qemu
from tests.conformance._real import need_real_qemu
from tests.conformance.test_saved_machines import RAM_START, Saved
from tests.migration import damage
from tests.migration.split import Split
from tests.migration.streams import Case, block_name

pytestmark = pytest.mark.real_qemu

VERSIONS = ("7.2", "10.0", "11.1")
MACHINES = {
    "q35": "-M q35 -m 16 -smp 2 -device VGA -device e1000 -device virtio-rng-pci -device virtio-net-pci",
    "pc": "-M pc -m 16 -smp 2 -device VGA -device rtl8139 -device virtio-balloon-pci",
}
#: what of these a destination of ours cannot know: bits that devices compare, and the oldest versions that they take
OF_DEVICES = ("Bad config data", "is too old for", "saved image requires")
SEEDS = range(6)
FLIPS = (0x01, 0x10, 0x80, 0xFF)


@cache
def saved(version: str, machine: str) -> bytes:
    return Saved(need_real_qemu(version), MACHINES[machine]).data


def structure(data: bytes) -> list[int]:
    """Places of all bytes behind the RAM that belong to the format, and of the list of RAM blocks."""
    split = Split(data)
    blocks = data.index(RAM_START) + len(RAM_START)
    places = list(range(blocks + 8, blocks + 160))
    at = len(split.front)
    for device in split.description["devices"]:
        key = device["name"], device["instance_id"]
        head = 5 + len(block_name(key[0])) + 8
        body = split.bodies[key]
        places += range(at, at + head - 1)  # the last byte of a version: few others are not refused as too old
        begin = at + head
        for mark in dict.fromkeys(subsection_heads(device, possible=True)):
            found = body.find(mark)
            places += range(begin + found, begin + found + len(mark) - 1) if found >= 0 else ()
        for place, content in fixed_fields(device, body).values():
            places += range(begin + place, begin + place + len(content))
        at = begin + len(body) + 5
        places += range(at - 5, at)
    return places


def damaged(data: bytes, seed: str) -> list[bytes]:
    """A stream cut twice, and changed twice."""
    chance = random.Random(seed)
    split = Split(data)
    devices = len(data) - len(split.text) - 6
    streams = [data[: chance.randrange(len(split.front), devices)] for _ in range(2)]
    places = structure(data)
    for _ in range(2):
        at = chance.choice(places)
        streams.append(data[:at] + bytes((data[at] ^ chance.choice(FLIPS),)) + data[at + 1 :])
    return streams


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("version", VERSIONS)
def test_damage_is_found_as_a_real_machine_finds_it(version: str, machine: str, seed: int) -> None:
    command = need_real_qemu(version)
    line = ("-nodefaults", *MACHINES[machine].split(), "-incoming", "defer")
    with fake_qemu(version) as fake:
        for number, stream in enumerate(damaged(saved(version, machine), f"{machine} {seed}")):
            case = Case(f"{machine} {seed} {number}", stream)
            real, ours = (damage.real_outcome(one, case, exits=version == "7.2", line=line) for one in (command, fake))
            told = "".join(real.get("stderr", [])) + str(real.get("query-migrate"))
            if any(words in told for words in OF_DEVICES):
                continue
            assert ours == real, (len(stream), number)
