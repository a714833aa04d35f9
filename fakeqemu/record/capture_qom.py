# SPDX-License-Identifier: MIT
"""QOM as a QEMU tells it: types, their properties without and with a machine, and the trees of machines.

QEMU: qom/qom-qmp-cmds.c
"""

from __future__ import annotations

from typing import Any

from fakeqemu.record.capture_vm import CaptureVm, Died

# Types of properties whose value is not read into the tree: a clock, and addresses that differ from run to run.
UNREAD_TYPES = ("struct tm", "SocketAddress")
MAX_DEPTH = 24
WINDOW = 8


def capture_types(vm: CaptureVm) -> dict[str, Any]:
    """Type -> parent, abstract, interfaces (inherited ones too), user-creatable, device; order of qom-list-types."""
    listed = vm("qom-list-types", abstract=True)
    concrete = {entry["name"] for entry in vm("qom-list-types", abstract=False)}
    interfaces: dict[str, list[str]] = {}
    for entry in listed:
        if entry.get("parent") == "interface":
            for user in vm("qom-list-types", implements=entry["name"], abstract=True):
                interfaces.setdefault(user["name"], []).append(entry["name"])
    devices = {entry["name"] for entry in vm("qom-list-types", implements="device", abstract=True)}
    result = {}
    for entry in listed:
        name = entry["name"]
        implements = sorted(interfaces.get(name, []))
        result[name] = {
            "parent": entry.get("parent"),
            "abstract": name not in concrete,
            "implements": [x for x in implements if x != name],
            "user-creatable": "user-creatable" in implements and name != "user-creatable",
            "device": name in devices,
        }
    return result


def capture_properties(vm: CaptureVm, command: str, types: list[str]) -> dict[str, Any]:
    """Type -> what qom-list-properties or device-list-properties says, an error included.

    Some releases die of making an object of some types: then there is `crash` beside an error of ours.
    """
    result: dict[str, Any] = {}
    load_modules(vm)
    while len(result) < len(types):
        rest = types[len(result) :]
        try:
            for name, answer in zip(
                rest, vm.pipelined(((command, {"typename": x}) for x in rest), WINDOW), strict=True
            ):
                result[name] = answer
        except Died:
            vm.restart()
            load_modules(vm)
            # Answers under way died with it: only one question at a time tells which type it was.
            for name in types[len(result) : len(result) + WINDOW]:
                result[name] = vm(command, typename=name)
                if isinstance(result[name], dict) and result[name]["error"]["class"] == "x-crashed":
                    desc = f"QEMU dies when it is asked for the properties of '{name}'"
                    result[name] = {"error": {"class": "GenericError", "desc": desc}, "crash": True}
                    load_modules(vm)
    return result


def load_modules(vm: CaptureVm) -> None:
    """Have the emulator load what it has as modules: until then it does not know their types."""
    vm("qom-list-types")


def differing(new: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    """The records of `new` that `old` has otherwise."""
    return {key: value for key, value in new.items() if old.get(key) != value}


def capture_tree(vm: CaptureVm, path: str = "/", depth: int = 0) -> dict[str, Any]:
    """Property name -> [type], [type, value] or, for a child, [type, tree]; a value of {"!": text} could not be read."""
    listed = vm("qom-list", path=path)
    if isinstance(listed, dict):
        return {"!": listed["error"]["desc"]}
    out: dict[str, Any] = {}
    readable = [x["name"] for x in listed if not x["type"].startswith("child<") and x["type"] not in UNREAD_TYPES]
    values = dict(
        zip(readable, vm.pipelined(("qom-get", {"path": path, "property": x}) for x in readable), strict=True)
    )
    for prop in listed:
        name, kind = prop["name"], prop["type"]
        if kind.startswith("child<") and depth < MAX_DEPTH:
            out[name] = [kind, capture_tree(vm, path.rstrip("/") + "/" + name, depth + 1)]
        elif name in values:
            value = values[name]
            failed = isinstance(value, dict) and "error" in value
            out[name] = [kind, {"!": value["error"]["desc"]} if failed else value]
        else:
            out[name] = [kind]
    return out
