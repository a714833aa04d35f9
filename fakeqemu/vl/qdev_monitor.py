# SPDX-License-Identifier: MIT
"""Plugging devices in and out: `-device`, `device_add`, `device_del`.

A device is made in this order, and each step has its refusals: type, bus, whether either allows it while the machine runs,
id, properties (in the order of QEMU's dictionary), realizing.

Unplugging asks first and takes away later where a guest has to agree (PCI, by ACPI or a port's own button): the device is
*pending* until the guest lets go, or a reset of the machine does it in its place. Elsewhere (USB, SCSI, serial ports) the
device goes at once. DEVICE_DELETED tells of it either way.

QEMU: system/qdev-monitor.c, hw/acpi/pcihp.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.hw.core.inventory import (
    PLUGGABLE_TEXT,
    bus_type,
    canonical_type,
    error_text,
    hotpluggable,
    outcomes,
    user_creatable,
)
from fakeqemu.hw.core.qdev import BusState, DeviceState
from fakeqemu.hw.core.tree import bus_name, device_by_id, find_bus, find_recursive, main_system_bus
from fakeqemu.hw.pci.acpi_hotplug import ejected_by_reset
from fakeqemu.hw.pci.device import PCIDevice
from fakeqemu.qapi.qdict import ordered
from fakeqemu.qom.registry import new_object
from fakeqemu.vl.globals import refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.qom.object import Object
    from fakeqemu.system.machine import Machine

_DYNAMIC_SYSBUS_TEXT = "Parameter 'driver' expects a dynamic sysbus device type for the machine"
#: family of boards -> types that it takes while it runs though they sit on no bus
_ON_BOARD = {"pc": ("pc-dimm", "x86_64-cpu"), "q35": ("pc-dimm", "x86_64-cpu"), "microvm": ("x86_64-cpu",)}


def device_add(vm: Machine, options: dict[str, Any], *, from_json: bool, hotplug: bool) -> Object:
    """Make and realize the device that `options` describe: values of JSON, or text where `from_json` is off.

    Raises QemuError with nothing left behind.
    """
    driver = options.get("driver")
    if not isinstance(driver, str):
        raise QemuError("Parameter 'driver' is missing")
    type_name = _device_type(vm, driver, hotplug)
    bus = _choose_bus(vm, type_name, options.get("bus"))
    if hotplug:
        check_hotplug(vm, type_name, bus)
    device_id = options.get("id")
    if not isinstance(device_id, str):
        device_id = None
    if _is_cpu(vm, type_name):
        return _add_cpu(vm, type_name, device_id, options, from_json=from_json)
    device = new_object(vm, type_name)
    assert isinstance(device, DeviceState), f"{type_name} is not made as a device"
    device.hotplugged = hotplug
    _enter_tree(vm, device, device_id)
    try:
        apply_globals(device)
        for name in ordered(options):
            if name in ("driver", "bus", "id"):
                continue
            device.options[name] = options[name]
            if from_json:
                device.set(name, options[name])
            else:
                try:
                    device.set_str(name, options[name])
                except QemuError as err:
                    raise _as_option(err) from None
        if bus is not None:
            device.parent_bus = bus
        device.realize()
    except BaseException:
        device.unparent()
        raise
    return device


def _is_cpu(vm: Machine, type_name: str) -> bool:
    """Whether a type is a CPU, which is no device of a bus."""
    return vm.profile.implements(type_name, "cpu")


def _add_cpu(vm: Machine, type_name: str, cpu_id: str | None, options: dict[str, Any], *, from_json: bool) -> Object:
    from fakeqemu.system.cpus import X86CPU
    from fakeqemu.vl.cpu_plug import board_for_cpus, plug_cpu

    vm.qom.load()  # what is recorded of the board is numbered by the CPUs of the start
    board_for_cpus(vm, type_name)
    cpu = X86CPU(vm, type_name)
    _enter_tree(vm, cpu, cpu_id)
    own = {name: options[name] for name in ordered(options) if name not in ("driver", "bus", "id")}
    try:
        plug_cpu(cpu, own, from_json=from_json)
    except BaseException:
        cpu.unparent()
        raise
    return cpu


def _device_type(vm: Machine, driver: str, hotplug: bool) -> str:
    """The type that `driver` means, if users may make such devices; raises QemuError."""
    profile = vm.profile
    type_name = canonical_type(profile, driver)
    if not profile.is_type(type_name) or not profile.implements(type_name, "device"):
        raise QemuError(f"'{driver}' is not a valid device model name")
    if profile.is_abstract(type_name):
        raise QemuError("Parameter 'driver' expects a non-abstract device type")
    if not user_creatable(profile, type_name):
        raise QemuError(PLUGGABLE_TEXT)
    if hotplug and vm.compat.device_cold_only_not_pluggable and not hotpluggable(profile, type_name):
        raise QemuError(PLUGGABLE_TEXT)
    if profile.implements(type_name, "sys-bus-device") and not _is_dynamic_sysbus(vm, type_name):
        raise QemuError(_DYNAMIC_SYSBUS_TEXT)
    return type_name


def _is_dynamic_sysbus(vm: Machine, type_name: str) -> bool:
    """Whether the board takes this type on its main system bus from users."""
    family = vm.board.family if vm.board is not None else ""
    outcome = outcomes(vm.profile, type_name).get(family, {}).get("cold")
    return outcome is not None and error_text(outcome) != _DYNAMIC_SYSBUS_TEXT


def _choose_bus(vm: Machine, type_name: str, path: Any) -> BusState | None:
    """The bus that was named, or else the first of the right kind; raises QemuError."""
    kind = bus_type(vm.profile, type_name)
    if isinstance(path, str):
        bus = find_bus(vm, path)
        if kind is None or not bus.is_a(kind):
            raise QemuError(f"Device '{type_name}' can't go on {bus.type_name} bus")
        return bus
    if kind is None:
        return None
    top = main_system_bus(vm)
    found = find_recursive(top, None, kind) if top is not None else None
    if found is None:
        raise QemuError(f"No '{kind}' bus found for device '{type_name}'")
    if found.is_full():
        if vm.compat.device_full_bus_told:
            raise QemuError(f"A '{kind}' bus was found but is full")
        raise QemuError(f"No '{kind}' bus found for device '{type_name}'")
    return found


def check_hotplug(vm: Machine, type_name: str, bus: BusState | None) -> None:
    """Raise QemuError where device or bus does not take part in hotplug, or a migration runs.

    QEMU: qdev_device_add_from_qdict, qdev_hotplug_allowed
    """
    first = vm.compat.device_add_migrating_first
    if first:
        _check_not_migrating(vm, "device_add")
    _check_takes_part(vm, type_name, bus)
    if not first:
        _check_not_migrating(vm, "device_add")
    if bus is None and not _board_takes(vm, type_name):
        raise QemuError(f"Device '{type_name}' can not be hotplugged on this machine")


def _check_takes_part(vm: Machine, type_name: str, bus: BusState | None) -> None:
    """What is asked of a device that comes and of one that goes, in the same words."""
    device_error = None
    if not hotpluggable(vm.profile, type_name):
        device_error = QemuError(f"Device '{type_name}' does not support hotplugging")
    if device_error is not None and vm.compat.device_hotplug_type_first:
        raise device_error
    if bus is not None and not bus.is_hotpluggable():
        raise QemuError(f"Bus '{bus_name(bus)}' does not support hotplugging")
    if device_error is not None:
        raise device_error


def _check_not_migrating(vm: Machine, command: str) -> None:
    if vm.savevm.busy is not None and vm.savevm.busy():
        raise QemuError(f"{command} not allowed while migrating")


def _board_takes(vm: Machine, type_name: str) -> bool:
    taken = _ON_BOARD.get(vm.board.family, ()) if vm.board is not None else ()
    return any(vm.profile.implements(type_name, name) for name in taken)


def _enter_tree(vm: Machine, device: Object, device_id: str | None) -> None:
    """Give the device its id and place in the QOM tree; raises QemuError."""
    if device_id is None:
        vm.qom.peripheral_anon.add_child(f"device[{vm.qom.anonymous}]", device)
        vm.qom.anonymous += 1
        return
    if vm.compat.device_id_checked and not is_identifier(device_id):
        raise QemuError(f"Invalid qdev ID '{device_id}'")
    if vm.qom.peripheral.find_property(device_id) is not None:
        raise QemuError(f"Duplicate device ID '{device_id}'")
    if isinstance(device, DeviceState):
        device.id = device_id
    vm.qom.peripheral.add_child(device_id, device)


def is_identifier(text: str) -> bool:
    return bool(text) and text.isascii() and text[0].isalpha() and all(c.isalnum() or c in "-._" for c in text)


def apply_globals(device: DeviceState) -> None:
    """Set what the machine type and `-global` say of the device's type.

    A refused value of `-global` ends a start (GlobalRefused); of a hotplugged device it is reported only.
    """
    vm = device.vm
    if vm.board is not None:
        for entry in vm.profile.get("machine-compat", vm.board.name, []):
            # The machine types of a release speak of properties that not every build has.
            if device.is_a(entry["qom-type"]) and device.find_property(entry["property"]) is not None:
                device.set_str(entry["property"], entry["value"])
    for driver, name, text in vm.globals:
        if not device.is_a(driver):
            continue
        try:
            device.set_str(name, text)
        except QemuError as err:
            refusal = refused(driver, name, text, err)
            if not device.hotplugged:
                raise refusal if not vm.compat.global_refusal_names_option else QemuError(refusal.desc) from None
            vm.error_report(f"warning: {refusal.desc}")


def _as_option(error: QemuError) -> QemuError:
    """The same refusal as QEMU words it for `-device TYPE,key=value`, which goes another way than -global."""
    text, expects, what = error.desc.rpartition(" expects ")
    return QemuError(f"{text} expects integer") if expects and what in ("int64", "uint64") else error


def as_text(options: dict[str, Any]) -> dict[str, str]:
    """A request's members as texts; what has no text is left out."""
    texts = {}
    for name, value in options.items():
        if isinstance(value, bool):
            texts[name] = "on" if value else "off"
        elif isinstance(value, int | str):
            texts[name] = str(value)
        elif isinstance(value, float):
            texts[name] = f"{value:.17g}"
    return texts


# --- out --------------------------------------------------------------------------------------------------


def device_del(vm: Machine, name: str) -> None:
    """Ask for the device with that id or path to go; raises QemuError."""
    device = device_by_id(vm, name)
    if not isinstance(device, DeviceState):
        from fakeqemu.vl.cpu_plug import unplug_cpu

        unplug_cpu(device)
        return
    if device.pending_deleted:
        raise QemuError(f"Device {name} is already in the process of unplug")
    request_unplug(device)


def request_unplug(device: DeviceState) -> None:
    """Take the device away, or ask the guest to let it go; raises QemuError."""
    vm = device.vm
    bus = device.parent_bus
    _check_takes_part(vm, device.type_name, bus)
    _check_not_migrating(vm, "device_del")
    if bus is None and not _board_takes(vm, device.type_name):
        raise QemuError(f"Device '{device.type_name}' does not support hotplugging")
    if isinstance(device, PCIDevice):
        device.pending_deleted = True
        vm.trace("fake_unplug_requested", device=device.path)
        _eject_at_reset(vm)
        return
    device.unparent()


def guest_ejects(device: DeviceState) -> None:
    """The guest lets a device go; with function 0 of a PCI slot go all others of the slot."""
    slot = [device]
    if isinstance(device, PCIDevice):
        slot = [other for other in device.bus.functions.values() if other.devfn >> 3 == device.devfn >> 3]
    for function in reversed(slot):
        function.unparent()


def _eject_at_reset(vm: Machine) -> None:
    """Have the next reset of the machine take pending devices away, as if the guest had let them go."""

    def eject() -> None:
        for device in ejected_by_reset(vm):
            if device.parent is not None:
                guest_ejects(device)

    def on_reset(cause: str) -> None:  # noqa: ARG001 - any reset does it
        vm.on_reset.remove(on_reset)
        vm.host.call_soon(eject)

    vm.on_reset.add(on_reset)
