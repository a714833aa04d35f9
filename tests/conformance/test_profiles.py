# SPDX-License-Identifier: MIT
"""The shipped profiles against the QEMUs they were captured from, and against a capture by other hands.

The second is a folder with `qemu-VERSION.json.xz`, made by a script of its own; FAKEQEMU_PROFILE_FACTS names it. Where
the two hold the same thing in another form, it is brought to one form here; where they were asked otherwise, the
difference is told in `EXPLAINED`.
"""

from __future__ import annotations

import json
import lzma
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.record import capture
from fakeqemu.record.capture_queries import VARIANTS
from fakeqemu.record.capture_vm import CaptureVm, Emulator
from fakeqemu.record.capture_vmstate import dissect, migrated
from tests.conformance._real import SUITES, need_real_qemu

FACTS = Path(os.environ.get("FAKEQEMU_PROFILE_FACTS", Path(__file__).parents[3] / "shared/qmp-corpus/profiles"))


@pytest.fixture(params=sorted(SUITES))
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# --- against the binary -----------------------------------------------------------------------------------


@pytest.fixture
def emulator(version: str) -> Iterator[Emulator]:
    with Emulator(need_real_qemu(version)) as made:
        yield made


def test_a_second_capture_says_the_same(version: str, emulator: Emulator, tmp_path: Path) -> None:
    folder = capture.capture(emulator.command, str(tmp_path), version, ["interface", "machines", "types"])
    shipped, again = VersionProfile.load(version), VersionProfile(folder)
    assert (again.version, again.package, again.version_line) == (
        shipped.version,
        shipped.package,
        shipped.version_line,
    )
    tables = list(again.manifest["tables"])
    assert len(tables) >= 10
    for table in tables:
        assert dict(again.records(table)) == dict(shipped.records(table)), table
        assert again.keys(table) == shipped.keys(table), table


def test_raw_records_are_what_qemu_put_on_the_wire(version: str, emulator: Emulator) -> None:
    profile = VersionProfile.load(version)

    def listed(records: list[bytes]) -> bytes:
        return b'{"return": [' + b", ".join(records) + b"]}"

    with CaptureVm(emulator, capture.NONE) as vm:
        assert vm.line("query-qmp-schema") == listed([data for _, data in profile.records("schema")])
        assert vm.line("query-machines") == listed(
            [data for key, data in profile.records("machines") if not key.startswith("alias:")]
        )
        for name in ("e1000", "vfio-pci", "virtio-net-pci", "qemu64-x86_64-cpu"):
            for table, command in (
                ("device-properties", "device-list-properties"),
                ("qom-properties", "qom-list-properties"),
            ):
                assert vm.line(command, {"typename": name}) == b'{"return": ' + profile.raw(table, name) + b"}"


def test_the_monitor_prints_the_help_of_the_command_line(version: str, emulator: Emulator) -> None:
    """The capture takes the help of device types from the monitor; a sample is asked of the command line."""
    profile = VersionProfile.load(version)
    quiet = ["-machine", "none", "-display", "none", "-nodefaults"]
    for name in ("vfio-pci", "e1000", "isa-fdc", "pc-dimm", "qemu64-x86_64-cpu"):
        assert emulator.run(["-device", f"{name},help", *quiet]) == profile.get("help", f"-device {name},help")


def test_a_recorded_outcome_comes_again(version: str, emulator: Emulator) -> None:
    profile = VersionProfile.load(version)
    base = profile.manifest["command-lines"]["realize-q35"].split(" -display")[0].split()
    for name in ("vfio-pci", "ide-hd", "usb-kbd", "virtio-serial-pci"):
        outcome = profile.get("realize", name)["q35"]["cold"]
        answer = emulator.run([*base, "-display", "none", "-device", f"{name},id=dev0"], 3.0)
        if outcome["ok"]:
            assert answer["status"] is None, name
        else:
            assert (answer["status"], answer["stderr"]) == (outcome["status"], outcome["stderr"]), name


def test_recorded_device_state_is_what_is_sent_now(version: str, emulator: Emulator) -> None:
    """All but the bytes that hold the time, or that QEMU never set."""
    recorded = VersionProfile.load(version).get("vmstate", "q35-nodefaults")
    with CaptureVm(emulator, VARIANTS["q35-nodefaults"]) as vm:
        sent = dissect(migrated(vm))
    assert sent["vmdesc"] == recorded["vmdesc"]
    assert len(sent["sections"]) > 20
    for mine, real in zip(recorded["sections"], sent["sections"], strict=True):
        assert {**mine, "data": len(mine["data"])} == {**real, "data": len(real["data"])}
        if mine["name"] in ("apic", "ioapic", "fw_cfg", "globalstate", "port92", "i8259"):
            assert mine["data"] == real["data"], mine["name"]


# --- against another capture ------------------------------------------------------------------------------


@pytest.fixture
def facts(version: str) -> dict[str, Any]:
    path = FACTS / f"qemu-{version}.json.xz"
    if not path.exists():
        pytest.skip(f"no capture by other hands at {path}")
    with lzma.open(path, "rt") as file:
        loaded: dict[str, Any] = json.load(file)
    return loaded


def short(value: Any) -> Any:
    """A refusal as the other capture keeps it: its text."""
    if isinstance(value, dict) and value.get("crash"):
        return "emulator died"
    return value["error"]["desc"] if isinstance(value, dict) and "error" in value else value


def test_interface_agrees_with_another_capture(version: str, facts: dict[str, Any]) -> None:
    profile = VersionProfile.load(version)
    assert profile.keys("commands") == facts["commands-order"]
    assert [profile.get("schema", key) for key in profile.keys("schema")] == facts["qmp-schema"]
    assert {key: profile.get("int-types", key) for key in profile.keys("int-types")} == facts["int-types"]
    assert {key: profile.get("alternate-names", key) for key in profile.keys("alternate-names")} == (
        facts["alternate-names"]
    )
    greeting = facts["greeting"]["QMP"]["version"]
    assert (profile.version, profile.package) == (
        tuple(greeting["qemu"][x] for x in ("major", "minor", "micro")),
        greeting["package"],
    )


def test_types_agree_with_another_capture(version: str, facts: dict[str, Any]) -> None:
    profile = VersionProfile.load(version)
    types = {key: profile.get("types", key) for key in profile.keys("types")}
    concrete = [{"name": key, "parent": entry["parent"]} for key, entry in types.items() if not entry["abstract"]]
    assert [{key: value for key, value in entry.items() if value is not None} for entry in concrete] == (
        facts["qom-types"]
    )
    assert [key for key, entry in types.items() if entry["abstract"]] == facts["qom-types-abstract"]
    assert sorted(key for key, entry in types.items() if entry["device"]) == facts["qom-devices"]
    assert (
        sorted(key for key, entry in types.items() if entry["user-creatable"] and not entry["abstract"])
        == (facts["qom-user-creatable"])
    )
    for table, command in (("qom-properties", "qom-list-properties"), ("device-properties", "device-list-properties")):
        mine = {key: short(profile.get(table, key)) for key in profile.keys(table)}
        assert list(mine) != []
        differing = {key: (mine.get(key), value) for key, value in facts[command].items() if mine.get(key) != value}
        # After each death of its emulator the other capture went on with one that had loaded no modules, so that
        # types were missing which it lists itself; and some deaths came of what was asked before.
        lost = {key for key, (_, other) in differing.items() if other in not_loaded(key)}
        assert set(differing) - lost == set(), table
        assert mine.keys() == facts[command].keys()
        on_q35 = {
            key: value
            for key, value in facts["q35-nodefaults"][command + "-differs"].items()
            if value not in not_loaded(key) and key not in lost
        }
        assert {key: short(profile.get(f"{table}-q35", key)) for key in profile.keys(f"{table}-q35")} == on_q35, table


def not_loaded(name: str) -> tuple[str, ...]:
    """What an emulator says of a type whose module it has not loaded, or the other capture of one that died."""
    return f"Class '{name}' not found", f"Device '{name}' not found", "emulator died"


# Asked otherwise: the other capture starts `none` with -nodefaults and without -S and -accel.
EXPLAINED: dict[str, set[str]] = {"none": {"query-status", "query-kvm", "query-accelerators"}}


@pytest.mark.parametrize("variant", ["none", "q35", "q35-nodefaults", "pc", "microvm"])
def test_queries_agree_with_another_capture(version: str, facts: dict[str, Any], variant: str) -> None:
    profile = VersionProfile.load(version)
    own = "none-nodefaults" if variant == "none" else variant
    theirs = facts[variant] if variant == "none" else facts[variant]["queries"]
    differing = {}
    for command, value in theirs.items():
        key = f"{own}/{command}"
        if not profile.has("queries", key):
            key = f"none/{command}"
        if command in ("query-commands", "query-qmp-schema") or command in EXPLAINED.get(variant, ()):
            continue
        mine = profile.get("queries", key, None)
        if settled(mine) != settled(value):
            differing[command] = (mine, value)
    assert differing == {}


def settled(value: Any) -> Any:
    """Without what changes from run to run, or is scrubbed in another manner."""
    text = json.dumps(value, sort_keys=True)
    text = re.sub(r"0x[0-9a-fA-F]*HOSTPTR|0x0000(?:7[ef]|5[4-9a-f])[0-9a-f]{10}", "PTR", text)
    text = re.sub(r"unix:[^,\"]*", "unix:PATH", text)
    return json.loads(text)


@pytest.mark.parametrize("variant", ["q35", "q35-nodefaults", "pc", "microvm"])
def test_trees_agree_with_another_capture(version: str, facts: dict[str, Any], variant: str) -> None:
    mine, theirs = VersionProfile.load(version).get("qom-tree", variant), facts[variant]["qom"]
    assert list(differences(settled(mine), settled(theirs), "")) == []


def differences(mine: Any, theirs: Any, path: str) -> Iterator[str]:
    """The places in which two trees are not the same."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        for key in {**mine, **theirs}:
            yield from differences(mine.get(key), theirs.get(key), f"{path}/{key}")
    elif isinstance(mine, list) and isinstance(theirs, list) and theirs == mine[:1]:
        pass  # the other capture does not read values of all types
    elif isinstance(mine, list) and isinstance(theirs, list) and len(mine) == len(theirs):
        for at, (one, other) in enumerate(zip(mine, theirs, strict=True)):
            yield from differences(one, other, path if at else path + ":")
    elif mine != theirs:
        yield f"{path} {mine!r:.60} {theirs!r:.60}"
