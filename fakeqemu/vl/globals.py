# SPDX-License-Identifier: MIT
"""-global: values for properties of every object of a type.

They are kept in the machine (`vm.globals`) and applied when a device is made. Those of the board's own devices, which are
made from a record, and of `migration`, which is no device, are judged when the board is.

QEMU: hw/core/qdev-properties.c (qdev_prop_check_globals), qom/object.c (object_apply_global_props)
"""

from __future__ import annotations

from fakeqemu.error import NotEmulated, QemuError
from fakeqemu.qom.properties import parse_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.system.machine import Machine
    from fakeqemu.vl.location import Reporter
    from fakeqemu.vl.opts import Opts

#: the class behind -global migration.*
_MIGRATION = "migration"
#: its properties that are no capability and no parameter, but change something here
_EMULATED_SETTINGS = (
    "multifd-clean-tls-termination", "multifd-flush-after-each-section", "send-configuration", "send-section-footer",
    "send-switchover-start", "store-global-state", "switchover-ack-legacy", "x-preempt-pre-7-2",
)  # fmt: skip


class GlobalRefused(QemuError):
    """A -global that cannot be applied: reported with no place, whatever made the object."""

    placeless = True


def register(vm: Machine, given: list[Opts]) -> None:
    """Keep the values for the devices to come."""
    for opts in given:
        vm.globals.append((str(opts.get("driver")), str(opts.get("property")), str(opts.get("value"))))


def apply_to_migration(vm: Machine) -> None:
    """Set the globals of the migration, and look whether they go together; raises GlobalRefused."""
    given = [(name, text) for driver, name, text in vm.globals if driver == _MIGRATION]
    for name, text in given:
        try:
            _set_migration(vm, name, text)
        except NotEmulated:
            raise
        except QemuError as err:
            raise refused(_MIGRATION, name, text, err) from None
    if given:
        options = vm.migration.options
        try:
            options.check_parameters(options.parameters)
            options.check_capabilities(options.capabilities)
        except QemuError as err:
            raise GlobalRefused(err.desc) from None


def _set_migration(vm: Machine, name: str, text: str) -> None:
    found = _property(vm, _MIGRATION, name)
    if found is None:
        raise QemuError(f"Property '{_MIGRATION}.{name}' not found")
    value = parse_text(found["type"], name, text)
    _check_word(vm, name, text)
    migration = vm.migration
    if name in migration.settings and name not in _EMULATED_SETTINGS and value != found.get("default-value"):
        raise NotEmulated(f"-global {_MIGRATION}.{name}")
    migration.set_property(name, value)


def _check_word(vm: Machine, name: str, text: str) -> None:
    """Raise QemuError for what is no value of a parameter that takes one of some words."""
    from fakeqemu.qapi.schema import schema_of

    member = schema_of(vm.profile).arguments("migrate-set-parameters").member_names.get(name)
    words = getattr(member.type, "values", None) if member is not None else None
    if words and text not in words:
        raise QemuError(f"Parameter '{name}' does not accept value '{text}'")


def _property(vm: Machine, type_name: str, name: str) -> dict[str, Any] | None:
    properties = vm.profile.device_properties(type_name, machine=False) if vm.profile.is_type(type_name) else []
    if not isinstance(properties, list):
        return None
    return next((entry for entry in properties if entry["name"] == name), None)


def apply_to_board(vm: Machine) -> None:
    """Judge the globals that concern devices of the board; raises GlobalRefused."""
    tree = _board_types(vm)
    for driver, name, text in vm.globals:
        for type_name in tree:
            if vm.profile.implements(type_name, driver) and vm.profile.implements(type_name, "device"):
                _judge(vm, type_name, (driver, name, text))


def _board_types(vm: Machine) -> list[str]:
    """Types of the board's own devices: read off the record, in which no object has come to life yet."""
    assert vm.board is not None
    variant = vm.board.tree_variant()
    if not vm.profile.has("qom-tree", variant):
        return []
    parts = vm.profile.raw("qom-tree", variant).decode().split('"child<')
    return list(dict.fromkeys(part.partition(">")[0] for part in parts[1:]))


def _judge(vm: Machine, type_name: str, given: tuple[str, str, str]) -> None:
    driver, name, text = given
    properties = vm.profile.qom_properties(type_name)
    found = None
    if isinstance(properties, list):
        found = next((entry for entry in properties if entry["name"] == name), None)
    found = found or _property(vm, type_name, name)
    try:
        if found is None:
            raise QemuError(f"Property '{type_name}.{name}' not found")
        parse_text(found["type"], name, text)
    except QemuError as err:
        raise refused(driver, name, text, err) from None


def refused(driver: str, name: str, text: str, reason: QemuError) -> GlobalRefused:
    """The error that ends a start for such a value."""
    return GlobalRefused(f"can't apply global {driver}.{name}={text}: {reason.desc}")


def check_used(vm: Machine, reporter: Reporter) -> None:
    """Warn of globals that concern nothing."""
    profile = vm.profile
    made = [*_board_types(vm), *(obj.type_name for obj in vm.qom.walk(vm.qom.machine))]
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
    """Whether the type allows devices of it to be added later: only parts of a board's own PCI chips forbid it."""
    outcome = vm.profile.get("realize", driver, None)
    if outcome is None or not vm.profile.implements(driver, "pci-device"):
        return True
    error = outcome.get("pc", {}).get("cold", {}).get("error", "")
    return "pluggable device type" not in str(error)
