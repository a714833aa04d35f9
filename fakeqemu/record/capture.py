# SPDX-License-Identifier: MIT
"""Capturing a profile: a real QEMU is started many times and asked everything that it knows of itself.

The emulator runs under TCG; /dev/kvm is not looked at. The steps are independent of each other, and each can be
run again alone on a folder that stands: a table is written when its step is done.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from typing import Any

from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.record import (
    capture_blocks,
    capture_changes,
    capture_cpus,
    capture_help,
    capture_qom,
    capture_queries,
    capture_realize,
    capture_schema,
    capture_settable,
    capture_trace,
    capture_vmstate,
)
from fakeqemu.record.capture_tables import ProfileWriter
from fakeqemu.record.capture_vm import ACCEL, PROGRAM, CaptureVm, Emulator

NONE = ["-machine", "none", "-nodefaults", *ACCEL]


def capture(
    command: list[str], out: str | None, name: str | None, steps: list[str] | None, tell: Callable[[str], object] = str
) -> str:
    """Make or renew the profile of the emulator that `command` starts; returns its folder.

    `out` is the folder in which the profile's own stands; `steps` a choice of STEPS; `tell` hears of each step.
    Raises Died when the emulator cannot be started.
    """
    with Emulator(command) as emulator:
        with CaptureVm(emulator, NONE) as vm:
            facts = vm.greeting["QMP"]["version"]
        version = facts["qemu"]
        name = name or f"{version['major']}.{version['minor']}"
        folder = os.path.join(out or "schemas", name)
        if os.path.exists(os.path.join(folder, "manifest.json")):
            writer = ProfileWriter.reopen(folder)
        else:
            writer = ProfileWriter(folder, {"name": name})
        writer.manifest.update(
            {
                "version": version,
                "package": facts["package"],
                "version-line": emulator.run(["-version"])["stdout"].splitlines()[0],
                "emulator": PROGRAM,
                "captured": datetime.date.today().isoformat(),
            }
        )
        writer.manifest.setdefault("command-lines", {})
        for step in steps or list(STEPS):
            tell(f"{name}: {step}")
            STEPS[step](emulator, writer)
        writer.save()
    return folder


def _written(writer: ProfileWriter) -> VersionProfile:
    """What earlier steps wrote, through the reader."""
    writer.save()
    return VersionProfile(writer.folder)


def _note(writer: ProfileWriter, key: str, args: list[str]) -> None:
    writer.manifest["command-lines"][key] = " ".join(
        [*args, "-display", "none", "-qmp", "unix:PATH,server=on,wait=off"]
    )


def _interface(emulator: Emulator, writer: ProfileWriter) -> None:
    _note(writer, "interface", NONE)
    with CaptureVm(emulator, NONE) as vm:
        schema = capture_schema.capture_schema(vm)
        names = [entry["name"] for entry in vm("query-commands")]
        preconfig = capture_schema.capture_preconfig(emulator, names)
        writer.table("schema", schema)
        writer.table("commands", capture_schema.capture_commands(vm, schema, preconfig))
        hidden = capture_schema.HiddenFacts(vm, schema)
        writer.table("int-types", hidden.ints)
        writer.table("alternate-names", hidden.alternates)
        writer.table("capabilities", {x["capability"]: x["state"] for x in vm("query-migrate-capabilities")})
        writer.table("parameters", vm("query-migrate-parameters"))


def _types(emulator: Emulator, writer: ProfileWriter) -> None:
    bare = capture_queries.VARIANTS["q35-nodefaults"]
    _note(writer, "types", NONE)
    _note(writer, "types-q35", bare)
    with CaptureVm(emulator, NONE) as vm, CaptureVm(emulator, bare) as q35:
        types = capture_qom.capture_types(vm)
        writer.table("types", types)
        for table, command in (
            ("qom-properties", "qom-list-properties"),
            ("device-properties", "device-list-properties"),
        ):
            plain = capture_qom.capture_properties(vm, command, list(types))
            writer.table(table, plain)
            real = capture_qom.capture_properties(q35, command, list(types))
            writer.table(table + "-q35", capture_qom.differing(real, plain))


def _machines(emulator: Emulator, writer: ProfileWriter) -> None:
    _note(writer, "machines", NONE)
    with CaptureVm(emulator, NONE) as vm:
        entries = vm("query-machines")
        table: dict[str, Any] = {entry["name"]: entry for entry in entries}
        table.update({f"alias:{entry['alias']}": entry["name"] for entry in entries if "alias" in entry})
        writer.table("machines", table)
        told = vm("query-machines", compat_props=True)
        if isinstance(told, list):
            writer.table("machine-compat", {x["name"]: x["compat-props"] for x in told if "compat-props" in x})


def _variants(emulator: Emulator, writer: ProfileWriter) -> None:
    known = _written(writer).keys("commands")
    queries: dict[str, Any] = {}
    hmp: dict[str, Any] = {}
    trees: dict[str, Any] = {}
    for variant, args in capture_queries.VARIANTS.items():
        _note(writer, variant, args)
        with CaptureVm(emulator, args) as vm:
            # First: some later questions make the emulator load modules, and then it lists more back ends.
            queries.update(capture_queries.capture_queries(vm, variant, known, first=not queries))
            trees[variant] = emulator.scrub(capture_qom.capture_tree(vm))
            hmp.update(capture_queries.capture_hmp(vm, variant))
            if variant == "q35":
                hmp.update(capture_queries.capture_hmp_help(vm))
    writer.table("queries", queries)
    writer.table("qom-tree", trees, compress=True)
    writer.table("hmp", hmp)


def _settable(emulator: Emulator, writer: ProfileWriter) -> None:
    profile = _written(writer)
    devices = {name for name in profile.keys("types") if profile.get("types", name)["device"]}
    table: dict[str, Any] = {}
    for variant in profile.keys("qom-tree"):
        args = capture_queries.VARIANTS[variant]
        _note(writer, f"settable-{variant}", args)
        with CaptureVm(emulator, args) as vm:
            table.update(capture_settable.capture_settable(vm, profile.get("qom-tree", variant), devices))
    writer.table("settable", table)


def _help(emulator: Emulator, writer: ProfileWriter) -> None:
    _note(writer, "help", NONE)
    writer.manifest["command-lines"]["help-of-options"] = " ".join(["OPTION help", *capture_help.QUIET])
    profile = _written(writer)
    types = {name: profile.get("types", name) for name in profile.keys("types")}
    machines = [name.removeprefix("alias:") for name in profile.keys("machines")]
    with CaptureVm(emulator, NONE) as vm:
        texts = capture_help.capture_help(emulator, vm, types, machines)
        writer.table("help", texts)
        described = vm("query-command-line-options")
        writer.table("options", capture_help.capture_options(emulator, texts["-help"]["stdout"], described))
        # In plain: each record is short, and all of them are read at once.
        writer.table("trace-events", capture_trace.capture_trace_events(vm), compress=False)


def _cpus(emulator: Emulator, writer: ProfileWriter) -> None:
    _note(writer, "cpus", [*capture_cpus.MACHINE, "-cpu", "MODEL", *capture_cpus.END])
    text = _written(writer).get("help", "-cpu help")["stdout"]
    writer.table("cpu-warnings", capture_cpus.capture_cpu_warnings(emulator, text))


def _realize(emulator: Emulator, writer: ProfileWriter) -> None:
    for machine, args in capture_realize.MACHINES.items():
        _note(writer, f"realize-{machine}", args)
    profile = _written(writer)
    types = {name: profile.get("types", name) for name in profile.keys("types")}
    light, made = capture_realize.split(capture_realize.capture_realize(emulator, types))
    writer.table("realize", light, compress=True)
    writer.table("realize-made", made, compress=True)
    with CaptureVm(emulator, NONE) as vm:
        writer.table("objects", capture_realize.capture_objects(vm, types))


def _vmstate(emulator: Emulator, writer: ProfileWriter) -> None:
    profile = _written(writer)
    writer.table("vmstate", capture_vmstate.capture_vmstate(emulator), compress=True)
    outcomes = {name: profile.get("realize", name) for name in profile.keys("realize")}
    states = capture_vmstate.capture_device_vmstate(emulator, outcomes)
    writer.table("device-sections", capture_vmstate.names_of_sections(states))
    writer.table("device-vmstate", states, compress=True)


def _blocks(emulator: Emulator, writer: ProfileWriter) -> None:
    profile = _written(writer)
    outcomes = {name: profile.get("realize", name) for name in profile.keys("realize")}
    types = {name: profile.get("types", name) for name in profile.keys("types")}
    writer.table("device-blocks", capture_blocks.capture_blocks(emulator, outcomes, types))


def _changes(emulator: Emulator, writer: ProfileWriter) -> None:
    for variant, args in capture_queries.VARIANTS.items():
        if variant.removesuffix("-nodefaults") in capture_changes.FAMILIES:
            _note(writer, f"changes-{variant}", ["-machine", "TYPE", *args[2:]])
    _note(writer, "changes-cpu", [*capture_queries.VARIANTS[capture_changes.CPU_MACHINE], "-cpu", "MODEL"])
    profile = _written(writer)
    machines = [name for name in profile.keys("machines") if not name.startswith("alias:")]
    types = {name: profile.get("types", name) for name in profile.keys("types")}
    writer.table("vmstate-changes", capture_changes.capture_changes(emulator, machines, types), compress=True)


STEPS: dict[str, Callable[[Emulator, ProfileWriter], None]] = {
    "interface": _interface,
    "types": _types,
    "machines": _machines,
    "variants": _variants,
    "settable": _settable,
    "help": _help,
    "cpus": _cpus,
    "realize": _realize,
    "vmstate": _vmstate,
    "blocks": _blocks,
    "changes": _changes,
}
