# SPDX-License-Identifier: MIT
"""Questions that a program made, asked of fakeqemu and of a real QEMU: the same answers, in the same order of members.

Each list is drawn from what the profile knows (paths, properties, types, arguments of commands) with a fixed seed: a
sample of the thousands that there are, and another one for each release. `FAKEQEMU_TEST_SEED` draws others.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from fakeqemu.qapi.profile import VersionProfile
from tests.bench._real import fake_qemu, real_qemu
from tests.conformance.test_machine_answers import stable

pytestmark = pytest.mark.real_qemu

VALUES: list[Any] = [
    True, False, 0, 1, -1, 7, 256, 1 << 31, 1 << 32, 1 << 63, (1 << 64) - 1, 1 << 64, 1.5, "", "x", "on", "0x10", "/machine",
    None, [], [1], {}, {"a": 1},
]  # fmt: skip
#: has QEMU know the types that are in modules too
LOAD_MODULES = '{"execute": "qom-list-types", "arguments": {"implements": "nosuch"}}'
#: says that all was answered
END = '{"execute": "query-name", "id": "end"}'


def conversation(emulator: list[str], arguments: list[str], lines: list[str]) -> list[str]:
    """Every message that comes for these lines, but events."""
    found: list[str] = []
    command = [*emulator, "-display", "none", "-accel", "tcg", "-qmp", "stdio", *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8"
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        text = "\n".join(['{"execute": "qmp_capabilities"}', *lines, END, ""])
        writer = threading.Thread(target=_write, args=(process.stdin, text))
        writer.start()
        for line in process.stdout:
            message = json.loads(line)
            if "event" not in message and "QMP" not in message:
                found.append(json.dumps(stable(message)))
            if message.get("id") == "end":
                # Not before: what a monitor has not written yet is lost at the end.
                writer.join()
                _write(process.stdin, '{"execute": "quit"}\n')
        process.wait(60)
    return found


def _write(stream: Any, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        pass  # the emulator is gone, as its missing answers will tell


def request(name: str, **arguments: Any) -> str:
    return json.dumps({"execute": name, "arguments": arguments})


def places(tree: dict[str, Any], path: str = "") -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Path of each object of a recorded tree, and its properties with their types."""
    yield path or "/", [(name, entry[0]) for name, entry in tree.items() if not entry[0].startswith("child<")]
    for name, entry in tree.items():
        if entry[0].startswith("child<") and len(entry) > 1:
            yield from places(entry[1], f"{path}/{name}")


def about_objects(profile: VersionProfile, variant: str, chance: random.Random) -> list[str]:
    """Questions about objects, and settings that mostly are refused."""
    objects = list(places(profile.get("qom-tree", variant)))
    properties = [(path, name) for path, listed in objects for name, _ in listed]
    asked = []
    for path, _ in chance.sample(objects, min(30, len(objects))):
        asked.append(request("qom-list", path=path))
        asked.append(request("qom-list", path=chance.choice([path.rpartition("/")[2], path + "/", path + "/x"])))
        asked.append(request("qom-list-get", paths=[path]))
    for path, name in chance.sample(properties, min(150, len(properties))):
        asked.append(request("qom-get", path=path, property=name))
    for _ in range(200):
        path, name = chance.choice(properties)
        value = chance.choice(VALUES)
        # The first would make the monitor's lines many, the second takes devices out of service.
        if name != "pretty" and not (name == "realized" and value is False) and name != "avx10-version":
            asked.append(request("qom-set", path=path, property=name, value=value))
    return asked


def about_types(profile: VersionProfile, chance: random.Random) -> list[str]:
    """Questions about types, their relations and their properties."""
    types = profile.keys("types")
    asked = [LOAD_MODULES]
    for name in chance.sample(types, 40):
        asked.append(request("qom-list-types", implements=name, abstract=chance.random() < 0.5))
    for table, command in (("qom-properties", "qom-list-properties"), ("device-properties", "device-list-properties")):
        for name in chance.sample(types, 60):
            known = profile.get(table, name)
            # Releases before 11 die of some.
            if isinstance(known, list) or not known.get("crash"):
                if name not in ("qemu-text-console", "qemu-graphic-console"):
                    asked.append(request(command, typename=name))
    return asked


def about_devices(profile: VersionProfile, chance: random.Random) -> list[str]:
    """Devices that are plugged, most of them where they cannot be or with properties that they have not."""
    asked = [LOAD_MODULES]
    for name in chance.sample([name for name in profile.keys("types") if profile.get("types", name)["device"]], 80):
        arguments: dict[str, Any] = {"driver": name, "~bogus": 1}
        if chance.random() < 0.5:
            arguments["bus"] = chance.choice(["nosuch", "/machine", "main-system-bus", ""])
        if chance.random() < 0.3:
            arguments["id"] = chance.choice(["", "a b", "1x", "x"])
        asked.append(request("device_add", **arguments))
        asked.append(request("device_del", id=name))
    return asked


def spoilt(lines: list[str], chance: random.Random) -> list[str]:
    """Lines in which some characters are other ones."""
    found = []
    for line in chance.choices(lines, k=150):
        text = list(line)
        for _ in range(chance.choice([1, 1, 2, 4])):
            at = chance.randrange(len(text))
            text[at : at + chance.choice([0, 1, 1, 3])] = chance.choice(
                ['"', "'", "{", "}", "[", "]", ",", ":", "%s", "\\", "\\u12", "1.", "-", "nul", "\t", "é", "\x01", ""]
            )
        found.append("".join(text))
        found.append("\xff")  # no text, and so the end of what was begun
    return found


def questions(profile: VersionProfile, kind: str, variant: str, chance: random.Random) -> list[str]:
    if kind == "objects":
        return about_objects(profile, variant, chance)
    if kind == "types":
        return about_types(profile, chance)
    if kind == "devices":
        return about_devices(profile, chance)
    harmless = ['{"execute": "query-name", "id": [1, 2.5, "a", {"k": null}]}', '{"execute": "qom-list"}', "[1, true]"]
    return spoilt(harmless, chance)


@pytest.mark.parametrize("version", ["11.1", "10.0", "7.2"])
@pytest.mark.parametrize(
    ("kind", "variant", "arguments"),
    [
        ("objects", "none-nodefaults", "-M none -nodefaults"),
        ("objects", "q35-nodefaults", "-M q35 -nodefaults -S"),
        ("objects", "pc-nodefaults", "-M pc -nodefaults -S"),
        ("objects", "microvm", "-M microvm -nodefaults -S"),
        ("types", "none", "-M none -nodefaults"),
        ("devices", "q35", "-M q35 -nodefaults -S"),
        ("devices", "pc", "-M pc -nodefaults -S"),
        ("text", "none", "-M none -nodefaults"),
    ],
)
def test_made_questions_have_the_answers_of_a_real_qemu(version: str, kind: str, variant: str, arguments: str) -> None:
    real = real_qemu(version)
    if real is None:
        pytest.skip(f"no real QEMU {version}")
    seed = os.environ.get("FAKEQEMU_TEST_SEED", "")
    chance = random.Random(f"{seed} {version} {kind} {variant}")
    asked = questions(VersionProfile.load(version), kind, variant, chance)
    theirs = conversation(real, arguments.split(), asked)
    with fake_qemu(version) as fake:
        ours = conversation(fake, arguments.split(), asked)
    one_each = kind != "text"
    different = [
        f"{asked[at - 1] if one_each and 0 < at <= len(asked) else at}\n  real {mine[:300]}\n  fake {other[:300]}"
        for at, (mine, other) in enumerate(zip(theirs, ours, strict=False))
        if mine != other
    ]
    assert not different, "\n".join(different)
    assert len(ours) == len(theirs) > len(asked) // 3
