# SPDX-License-Identifier: MIT
"""Capabilities and parameters that a program made up, set on fakeqemu and on a real QEMU: the same answers, and the same
values afterwards. Every pair of capabilities is among them. `FAKEQEMU_TEST_SEED` makes up others.
"""

from __future__ import annotations

import itertools
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.qapi.schema import Member, schema_of
from tests.bench._real import fake_qemu
from tests.conformance._real import need_real_qemu
from tests.conformance.test_machine_answers import answers

pytestmark = pytest.mark.real_qemu

INTEGERS: list[Any] = [
    0, 1, 2, 9, 10, 20, 21, 50, 99, 100, 101, 255, 256, 300, 1000, 1001, 4095, 4096, 4097, 10000, 10001, 65536, 100000, 100001,
    1 << 20, 2 << 20, 1 << 30, 1 << 31, (1 << 32) - 1, 1 << 32, 2000000, 2000001, 1 << 63, (1 << 64) - 1, 1 << 64, -1, -5, 1.5,
]  # fmt: skip
TEXTS = ["", "a", "none", "zlib", "zstd", "legacy", "multifd", "normal", "cpr-reboot", "on", "5", "é"]
OTHERS: list[Any] = [None, True, False, [], {}, [1], {"a": 1}, ["a", "b"], "x"]
NAMES = ["a", "b", "n0", "a.b", "1a", "", "n" * 32, "n" * 256, "n" * 1024]


def chance_of(name: str) -> random.Random:
    return random.Random(name + os.environ.get("FAKEQEMU_TEST_SEED", ""))


def capabilities(*states: tuple[str, Any]) -> dict[str, Any]:
    listed = [{"capability": name, "state": state} for name, state in states]
    return {"execute": "migrate-set-capabilities", "arguments": {"capabilities": listed}}


def mapping(chance: random.Random) -> list[dict[str, Any]]:
    def bitmap() -> dict[str, Any]:
        found = {"name": chance.choice(NAMES), "alias": chance.choice(NAMES)}
        return {**found, "transform": chance.choice([{}, {"persistent": True}, 5])} if chance.random() < 0.2 else found

    return [
        {
            "node-name": chance.choice(NAMES),
            "alias": chance.choice(NAMES),
            "bitmaps": [bitmap() for _ in range(chance.choice([0, 1, 2]))],
        }
        for _ in range(chance.choice([0, 1, 1, 2]))
    ]


def value(member: Member, chance: random.Random) -> Any:
    kind, luck = member.type.kind, chance.random()
    if luck < 0.15:
        return chance.choice(OTHERS + TEXTS)
    if kind == "enum":
        return chance.choice(list(member.type.values))
    if kind == "array":
        return mapping(chance) if member.name == "block-bitmap-mapping" else chance.choice([[], ["a"], ["x", "y"], [1]])
    if kind == "builtin":
        return chance.choice([True, False]) if member.type.json_type == "boolean" else chance.choice(INTEGERS)
    return chance.choice([*TEXTS, None])


def made_up(version: str, count: int = 200) -> list[dict[str, Any]]:
    """Settings, each followed by the question what is set now."""
    chance = chance_of(version)
    profile = VersionProfile.load(version)
    known = profile.keys("capabilities")
    members = schema_of(profile).arguments("migrate-set-parameters").members
    asked: list[dict[str, Any]] = []
    for _ in range(count):
        if chance.random() < 0.5:
            names = chance.choices([*known, "nosuch"], k=chance.choice([0, 1, 1, 2, 2, 3, 4]))
            states = [(name, chance.choice([True, True, True, False, False, 1, "on"])) for name in names]
            if chance.random() < 0.2:
                states = [(name, False) for name in known]
            asked += [capabilities(*states), {"execute": "query-migrate-capabilities"}]
        else:
            chosen = chance.choices(members, k=chance.choice([0, 1, 1, 1, 2, 3]))
            arguments = {member.name: value(member, chance) for member in chosen}
            asked += [
                {"execute": "migrate-set-parameters", "arguments": arguments},
                {"execute": "query-migrate-parameters"},
            ]
            asked.append({"execute": "human-monitor-command", "arguments": {"command-line": "info migrate_parameters"}})
    return asked


def pairs(version: str) -> list[dict[str, Any]]:
    """Each capability, each pair of them, and some sets of five, switched on together."""
    known = VersionProfile.load(version).keys("capabilities")
    chance = chance_of("pairs" + version)
    sets = [
        *((name,) for name in known),
        *itertools.combinations(known, 2),
        *(chance.sample(known, 5) for _ in range(50)),
    ]
    asked: list[dict[str, Any]] = []
    for names in sets:
        asked += [capabilities(*((name, True) for name in names)), {"execute": "query-migrate-capabilities"}]
        asked.append(capabilities(*((name, False) for name in known)))
    return asked


def listening(directory: Path) -> dict[str, Any]:
    return {"execute": "migrate-incoming", "arguments": {"uri": f"unix:{directory}/listening"}}


def compare(version: str, tmp_path: Path, arguments: str, asked: list[dict[str, Any]]) -> None:
    real = need_real_qemu(version)
    directory = tmp_path / "d"
    found = []
    with fake_qemu(version) as fake:
        for who, emulator in (("real", real), ("fake", fake)):
            directory.mkdir()
            (directory / "ram").mkdir()
            found.append(answers(emulator, arguments.replace("$DIR", str(directory)).split(), asked))
            directory.rename(tmp_path / who)
    different = [
        f"{json.dumps(question)[:600]}\n  real {json.dumps(theirs)[:600]}\n  fake {json.dumps(ours)[:600]}"
        for question, theirs, ours in zip(asked, *found, strict=True)
        if ours != theirs
    ]
    assert not different, "\n".join(different[:5])


VERSIONS = pytest.mark.parametrize("version", ["11.1", "10.0", "7.2"])
FILE = "-object memory-backend-file,id=ram,size=16M,mem-path=$DIR/ram,share=on"


@VERSIONS
def test_settings_that_were_made_up(version: str, tmp_path: Path) -> None:
    compare(version, tmp_path, "-M none", made_up(version))


@VERSIONS
@pytest.mark.parametrize(
    "arguments", ["-M none", "-M q35 -nodefaults -m 16 -incoming defer", f"-M none,memory-backend=ram -m 16 {FILE}"]
)
def test_capabilities_that_go_together(version: str, arguments: str, tmp_path: Path) -> None:
    compare(version, tmp_path, arguments, pairs(version))


@VERSIONS
def test_capabilities_of_a_destination_that_listens(version: str, tmp_path: Path) -> None:
    compare(version, tmp_path, "-M none -incoming defer", [listening(tmp_path / "d"), *pairs(version)])


@VERSIONS
@pytest.mark.parametrize("parameters", [{"tls-creds": "tls0"}, {"multifd-compression": "zlib"}])
def test_capabilities_with_parameters(version: str, parameters: dict[str, Any], tmp_path: Path) -> None:
    compare(
        version, tmp_path, "-M none", [{"execute": "migrate-set-parameters", "arguments": parameters}, *pairs(version)]
    )


@pytest.mark.parametrize("version", ["11.1", "10.0"])
@pytest.mark.parametrize("machine", ["none", "pc-q35-7.2", "pc-q35-8.0", "pc-i440fx-8.2", "pc-q35-9.2", "q35"])
@pytest.mark.parametrize(
    "further", ["", "-global migration.send-switchover-start=on -global migration.zero-page-detection=none"]
)
def test_a_machine_type_says_what_an_old_release_understands(
    version: str, machine: str, further: str, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"execute": "human-monitor-command", "arguments": {"command-line": "info migrate -a"}}
    asked: list[dict[str, Any]] = [
        {"execute": "query-migrate-parameters"},
        {"execute": "query-migrate-capabilities"},
        settings,
    ]
    compare(version, tmp_path, f"-M {machine} -m 16 -nodefaults -S {further}", asked)
