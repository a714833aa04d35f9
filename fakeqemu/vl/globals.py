# SPDX-License-Identifier: MIT
"""-global: values for properties of every object of a type.

They are kept in the machine (`vm.globals`) and applied when a device is made. Those of the board's own devices, which are
made from a record, and of `migration`, which is no device, are judged when the board is.

QEMU: hw/core/qdev-properties.c (qdev_prop_check_globals), qom/object.c (object_apply_global_props)
"""

from __future__ import annotations

from fakeqemu.error import QemuError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.qom.object import Object
    from fakeqemu.system.machine import Machine
    from fakeqemu.vl.location import Reporter
    from fakeqemu.vl.opts import Opts

#: the class behind -global migration.*
_MIGRATION = "migration"


class GlobalRefused(QemuError):
    """A -global that cannot be applied: reported with no place, whatever made the object."""

    placeless = True


def register(vm: Machine, given: list[Opts]) -> None:
    """Keep the values for the devices to come."""
    for opts in given:
        vm.globals.append((str(opts.get("driver")), str(opts.get("property")), str(opts.get("value"))))


def apply_to_migration(vm: Machine) -> None:
    """Set the globals of the migration; raises GlobalRefused."""
    for driver, name, text in vm.globals:
        if driver == _MIGRATION:
            try:
                _set_migration(vm, name, text)
            except QemuError as err:
                raise refused(driver, name, text, err) from None


def _set_migration(vm: Machine, name: str, text: str) -> None:
    properties = vm.profile.device_properties(_MIGRATION, machine=False) if vm.profile.is_type(_MIGRATION) else []
    if not isinstance(properties, list) or not any(p["name"] == name for p in properties):
        raise QemuError(f"Property '{_MIGRATION}.{name}' not found")
    vm.migration.set_global(name, text)


def apply_to_board(vm: Machine) -> None:
    """Judge the globals that concern devices of the board; raises GlobalRefused."""
    if not vm.globals:
        return
    devices = [obj for obj in vm.qom.walk(vm.qom.machine) if obj.is_a("device")]
    for driver, name, text in vm.globals:
        for device in devices:
            if device.is_a(driver):
                _check_on(device, driver, name, text)


def _check_on(device: Object, driver: str, name: str, text: str) -> None:
    if device.find_property(name) is None:
        raise refused(driver, name, text, device.not_found(name))


def refused(driver: str, name: str, text: str, reason: QemuError) -> GlobalRefused:
    """The error that ends a start for such a value."""
    return GlobalRefused(f"can't apply global {driver}.{name}={text}: {reason.desc}")


def check_used(vm: Machine, reporter: Reporter) -> None:
    """Warn of globals that concern nothing."""
    profile = vm.profile
    made = {obj.type_name for obj in vm.qom.walk(vm.qom.machine)}
    for driver, name, text in vm.globals:
        if driver == _MIGRATION:
            continue
        if not profile.is_type(driver) or not profile.implements(driver, "device"):
            reporter.warn(f"global {driver}.{name} has invalid class name")
            continue
        used = any(profile.implements(type_name, driver) for type_name in made)
        if not used and not _hotpluggable(vm, driver):
            reporter.warn(f"global {driver}.{name}={text} not used")


def _hotpluggable(vm: Machine, driver: str) -> bool:
    """Whether devices of a type can be added later."""
    found = vm.profile.get("realize", driver, None)
    if not isinstance(found, dict):
        return False
    return any(isinstance(entry, dict) and entry.get("hot", {}).get("ok") for entry in found.values())
