# SPDX-License-Identifier: MIT
"""QMP commands about types and objects.

What a type has is the profile's to tell (tables `types`, `qom-properties`, `device-properties`); what an object has is the
object's.

QEMU: qom/qom-qmp-cmds.c
"""

from __future__ import annotations

from fakeqemu.error import DEVICE_NOT_FOUND, NotEmulated, QemuError
from fakeqemu.monitor.registry import qmp_command
from fakeqemu.qapi.json_out import RawJSON
from fakeqemu.qom.object import Object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.qapi.profile import VersionProfile
    from fakeqemu.system.machine import Machine

#: class of a recorded answer that was none: the capture's QEMU did not survive the question
UNKNOWN_ANSWER = "x-crashed"


def _object_at(vm: Machine, path: str) -> Object:
    target = vm.qom.find(path)
    if target is None:
        raise QemuError(f"Device '{path}' not found", DEVICE_NOT_FOUND)
    return target


def _listing(target: Object) -> list[dict[str, Any]]:
    shown = []
    for prop in target.properties():
        entry: dict[str, Any] = {"name": prop.name, "type": prop.type}
        if prop.description is not None:
            entry["description"] = prop.description
        shown.append(entry)
    return shown


@qmp_command
def qmp_qom_list(vm: Machine, *, path: str) -> list[dict[str, Any]]:
    """The properties of the object at `path`."""
    return _listing(vm.qom.resolve(path))


@qmp_command
def qmp_qom_list_get(vm: Machine, *, paths: list[str]) -> list[dict[str, Any]]:
    """The properties of several objects with those values that can be read."""
    found = [vm.qom.resolve(path) for path in paths]
    return [{"properties": [_with_value(target, entry) for entry in _listing(target)]} for target in found]


def _with_value(target: Object, entry: dict[str, Any]) -> dict[str, Any]:
    try:
        entry["value"] = target.get(entry["name"])
    except QemuError:
        pass  # as QEMU: a property that cannot be read has no value
    return entry


@qmp_command
def qmp_qom_get(vm: Machine, *, path: str, property: str) -> Any:
    """The value of one property."""
    return _object_at(vm, path).get(property)


@qmp_command
def qmp_qom_set(vm: Machine, *, path: str, property: str, value: Any) -> None:
    """Set one property."""
    _object_at(vm, path).set(property, value)


@qmp_command
def qmp_qom_list_types(vm: Machine, *, implements: str | None = None, abstract: bool = False) -> list[dict[str, Any]]:
    """The types that descend from or have `implements`; abstract ones only when asked for."""
    profile = vm.profile
    if implements is not None and not profile.is_type(implements):
        return []
    shown = []
    for name in profile.keys("types"):
        entry = profile.get("types", name)
        if entry["abstract"] and not abstract:
            continue
        if implements is not None and not _implements(profile, name, implements):
            continue
        info: dict[str, Any] = {"name": name}
        if entry["abstract"]:
            info["abstract"] = True
        if entry["parent"] is not None:
            info["parent"] = entry["parent"]
        shown.append(info)
    return shown


def _implements(profile: VersionProfile, name: str, other: str) -> bool:
    """Whether a type can be cast to another: to the mother of all interfaces only if it has a single one."""
    if other != "interface" or profile.implements(name, other):
        return profile.implements(name, other)
    return len(profile.get("types", name)["implements"]) == 1


@qmp_command
def qmp_qom_list_properties(vm: Machine, *, typename: str) -> Any:
    """The properties that an object of a type has."""
    if not vm.profile.is_type(typename):
        raise QemuError(f"Class '{typename}' not found", DEVICE_NOT_FOUND)
    return _of_type(vm, "qom-properties", typename)


@qmp_command
def qmp_device_list_properties(vm: Machine, *, typename: str) -> Any:
    """The properties that a user can give a device of a type."""
    profile = vm.profile
    if not profile.is_type(typename):
        raise QemuError(f"Device '{typename}' not found", DEVICE_NOT_FOUND)
    if profile.is_abstract(typename) or not profile.implements(typename, "device"):
        raise QemuError("Parameter 'typename' expects a non-abstract device type")
    return _of_type(vm, "device-properties", typename)


def _of_type(vm: Machine, table: str, name: str) -> Any:
    """A record of what a type has: that of a machine where the recorded answers differ by machine."""
    profile = vm.profile
    if vm.board is not None and vm.board.family != "none" and profile.has(table + "-q35", name):
        table += "-q35"
    if not profile.has(table, name):
        return []
    data = profile.raw(table, name)
    if data.startswith(b"{"):
        error = profile.get(table, name)["error"]
        if error["class"] == UNKNOWN_ANSWER:
            raise NotEmulated(f"The properties of {name} are not known: a real QEMU of this release ends when asked")
        raise QemuError(error["desc"], error["class"])
    return RawJSON(data)
