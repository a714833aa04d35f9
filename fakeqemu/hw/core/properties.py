# SPDX-License-Identifier: MIT
"""Properties of devices: what they take, in QEMU's words, and how `info qtree` prints them.

The profile names a property's type and describes it (`qom-properties`); scalars are the matter of qom/properties.py, and
here stands what only devices have. Several types call themselves `str` and are told apart by their description:

    addr      slot and function of a PCI device, as text or as a number
    macaddr   six bytes
    host      address of a host's PCI device
    chardev, netdev, drive, audiodev, tpm     name of a backend, which must exist and be free

A type that QEMU describes as `a/b/c` is an enumeration of these words.

A property may be an alias for one of a part: virtio-net-pci.mac is that of its virtio-net-device, and refusals name the
part. Which are aliases is seen from the part having a property of that name too.

QEMU: hw/core/qdev-properties.c, hw/core/qdev-properties-system.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.qom.properties import (
    INTEGERS,
    check_enum,
    check_typed,
    parse_text,
    scalar_type,
    wrong_type,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.hw.core.qdev import DeviceState
    from fakeqemu.qapi.profile import VersionProfile
    from fakeqemu.qom.object import Property

#: beginning of a description -> kind of a property whose type is `str`
_KINDS = (
    ("Slot and optional function number", "addr"),
    ("Ethernet 6-byte MAC Address", "macaddr"),
    ("Host PCI address", "host"),
    ("ID of a chardev", "chardev"),
    ("ID of a netdev", "netdev"),
    ("ID of an audiodev", "audiodev"),
    ("ID of a tpm", "tpm"),
    ("Node name or ID of a block device", "drive"),
    ("UUID (aka GUID)", "uuid"),
)

#: kind -> attribute of the machine that finds backends of that kind
_BACKENDS = {"chardev": "chardevs", "netdev": "netdevs", "audiodev": "audiodevs", "tpm": "tpms", "drive": "block"}

#: properties that can be set while the device lives
_ANY_TIME = ("bootindex", "guest-stats-polling-interval", "stats-intervals", "realized")


def settable_any_time(device: DeviceState, name: str) -> bool:
    """Whether the property may be set while the device lives."""
    return name in _ANY_TIME or settable(device, name, "always")


def settable(device: DeviceState, name: str, when: str) -> bool:
    """Whether the profile says that the property can be set "never" or "always"; it knows the devices of boards."""
    known = device.vm.profile.get("settable", device.type_name, None)
    if known is None:
        return False
    stem, bracket, _ = name.partition("[")
    return (f"{stem}[*]" if bracket else name) in known[when]


def natural_key(name: str) -> list[Any]:
    """A sort key that takes the digits in a name as numbers: ide.2 before ide.10."""
    key: list[Any] = []
    digits = ""
    for c in name:
        if c.isdigit():
            digits += c
            continue
        if digits:
            key.append((1, int(digits)))
            digits = ""
        key.append((0, c))
    if digits:
        key.append((1, int(digits)))
    return key


# --- what the profile knows -------------------------------------------------------------------------------


def described(profile: VersionProfile, type_name: str) -> dict[str, dict[str, Any]]:
    """The properties of a type by name, as the profile has them; empty for a type it could not ask. Not to be changed."""
    key = (profile, type_name)
    found = _described.get(key)
    if found is None:
        found = _described[key] = {entry["name"]: entry for entry in listed_properties(profile, type_name)}
    return found


_described: dict[tuple[VersionProfile, str], dict[str, dict[str, Any]]] = {}


def listed_properties(profile: VersionProfile, type_name: str) -> list[dict[str, Any]]:
    """The properties of a device type in QEMU's order. Types in modules tell them in only one of two ways."""
    listed = profile.get("qom-properties", type_name, None)
    if isinstance(listed, list):
        return listed
    listed = profile.get("device-properties", type_name, None)
    if isinstance(listed, list):
        return [*_COMMON, *listed]
    # A type that this build cannot make at all: what those above it have will do to refuse it.
    parent = profile.type_parent(type_name) if profile.is_type(type_name) else None
    return listed_properties(profile, parent) if parent is not None else list(_COMMON)


#: what every device has
_COMMON: tuple[dict[str, Any], ...] = (
    {"name": "type", "type": "string"},
    {"name": "parent_bus", "type": "link<bus>"},
    {"name": "realized", "type": "bool"},
    {"name": "hotplugged", "type": "bool"},
    {"name": "hotpluggable", "type": "bool"},
)


def kind_of(entry: dict[str, Any] | None, type_name: str) -> str:
    """What a property takes: one of the kinds above, "enum", or the name of its type."""
    description = (entry or {}).get("description") or ""
    if description.startswith(_KINDS[0][0]):
        return "addr"  # before 10.0 it called itself int32
    if type_name in ("str", "string"):
        for start, kind in _KINDS:
            if description.startswith(start):
                return kind
        return "str"
    if scalar_type(type_name) is None and enum_words(description):
        return "enum"
    return type_name


def enum_words(description: str) -> tuple[str, ...]:
    """The words of an enumeration from its description: `on/off/auto`, or the same in parentheses at the end."""
    text = description
    if text.endswith(")") and "(" in text:
        text = text[text.rindex("(") + 1 : -1]
    if "/" not in text or " " in text.strip():
        return ()
    return tuple(word for word in text.strip().split("/") if word)


_COMMON_ENUMS = {
    "OnOffAuto": ("on", "off", "auto"),
    "OffAutoPCIBAR": ("off", "auto", "bar0", "bar1", "bar2", "bar3", "bar4", "bar5"),
}


def owner_type(profile: VersionProfile, type_name: str, name: str) -> str:
    """The type whose property it is: a part of the device where the device only passes it on."""
    is_pci = profile.implements(type_name, "pci-device")
    for part in _parts(profile, type_name):
        if is_pci and profile.implements(part, "pci-device"):
            continue  # a function of the same chip: what both have is not passed on
        if name in described(profile, part) and name not in _COMMON_NAMES:
            return part
    return type_name


def _parts(profile: VersionProfile, type_name: str) -> list[str]:
    """The types of the devices that a device of this type is made of."""
    kinds = [entry["type"] for entry in described(profile, type_name).values() if entry["type"].startswith("child<")]
    parts = [kind[len("child<") : -1] for kind in kinds]
    return [part for part in parts if profile.implements(part, "device")]


_COMMON_NAMES = tuple(entry["name"] for entry in _COMMON)


# --- setting ----------------------------------------------------------------------------------------------


def from_json(device: DeviceState, prop: Property, value: Any) -> Any:
    """The value to store for typed input; raises QemuError."""
    entry = described(device.vm.profile, device.type_name).get(prop.name)
    kind = kind_of(entry, prop.type)
    if kind == "enum" or prop.type in _COMMON_ENUMS:
        return check_enum(_words(entry, prop.type), prop.name, value)
    if kind == "addr":
        return _addr_from_json(device, prop.name, value)
    if kind in ("str", "macaddr", "host", "uuid") or kind in _BACKENDS:
        if not isinstance(value, str):
            raise wrong_type(prop.name, "string")
        return _from_string(device, prop.name, kind, value)
    return check_typed(prop.type, prop.name, value)


def from_text(device: DeviceState, prop: Property, text: str) -> Any:
    """The value to store for text; raises QemuError."""
    entry = described(device.vm.profile, device.type_name).get(prop.name)
    kind = kind_of(entry, prop.type)
    if kind == "enum" or prop.type in _COMMON_ENUMS:
        return check_enum(_words(entry, prop.type), prop.name, text)
    if kind == "addr":
        return _parse_addr(device, prop.name, text)
    if kind in ("str", "macaddr", "host", "uuid") or kind in _BACKENDS:
        return _from_string(device, prop.name, kind, text)
    return parse_text(prop.type, prop.name, text)


def _words(entry: dict[str, Any] | None, type_name: str) -> tuple[str, ...]:
    return _COMMON_ENUMS.get(type_name) or enum_words((entry or {}).get("description") or "")


def refused(device: DeviceState, name: str, value: str) -> QemuError:
    """The value has the wrong form."""
    owner = owner_type(device.vm.profile, device.type_name, name)
    return QemuError(f"Property '{owner}.{name}' doesn't take value '{value}'")


def _from_string(device: DeviceState, name: str, kind: str, text: str) -> Any:
    if kind == "macaddr":
        return _parse_mac(device, name, text)
    if kind == "host":
        if parse_host_address(text) is None:
            raise refused(device, name, text)
        return text
    if kind == "uuid":
        if text != "auto" and not is_uuid(text):
            raise refused(device, name, text)
        return text
    if kind in _BACKENDS:
        return _take_backend(device, name, kind, text)
    return text


def _addr_from_json(device: DeviceState, name: str, value: Any) -> int:
    if isinstance(value, str):
        return _parse_addr(device, name, value)
    if isinstance(value, int) and not isinstance(value, bool):
        if not -1 <= value <= 255:
            raise QemuError(f"Parameter '{name}' expects a value between -1 and 255")
        return value
    raise QemuError(f"Invalid parameter type for '{name}', expected int or str")


def _parse_addr(device: DeviceState, name: str, text: str) -> int:
    """Slot and function, hexadecimal: 1f.3, 0x2, 2."""
    slot_text, dot, fn_text = text.strip(" \t\n").partition(".")
    slot = _hex(slot_text)
    fn = _hex(fn_text) if dot else 0
    if slot is None or fn is None or slot > 31 or fn > 7:
        raise refused(device, name, text)
    return slot << 3 | fn


def _hex(text: str) -> int | None:
    """A number as sscanf reads %x, without a sign."""
    digits = text[2:] if text[:2] in ("0x", "0X") else text
    try:
        return int(digits, 16) if digits.isascii() and digits.isalnum() else None
    except ValueError:
        return None


def _parse_mac(device: DeviceState, name: str, text: str) -> str:
    """Six pairs of hexadecimal digits with `:` or `-` between."""
    good = len(text) == 17
    for i, c in enumerate(text):
        good = good and (c in ":-" if i % 3 == 2 else c in "0123456789abcdefABCDEF")
    if not good:
        raise refused(device, name, text)
    return text.replace("-", ":").lower()


def parse_host_address(text: str) -> tuple[int, int, int, int] | None:
    """(domain, bus, slot, function) of `[DDDD:]BB:DD.F`; None for anything else."""
    head, dot, fn_text = text.rpartition(".")
    parts = head.split(":")
    if not dot or len(parts) not in (2, 3):
        return None
    numbers = [_hex(part) for part in (["0", *parts] if len(parts) == 2 else parts)]
    fn = _hex(fn_text)
    domain, bus, slot = numbers
    if domain is None or bus is None or slot is None or fn is None:
        return None
    if domain > 0xFFFFFFFF or bus > 0xFF or slot > 0x1F or fn > 7:
        return None
    return domain, bus, slot, fn


def is_uuid(text: str) -> bool:
    """Whether the text is a UUID as QEMU reads one."""
    groups = text.split("-")
    return [len(group) for group in groups] == [8, 4, 4, 4, 12] and all(
        c in "0123456789abcdefABCDEF" for group in groups for c in group
    )


def _take_backend(device: DeviceState, name: str, kind: str, text: str) -> str:
    """The name of a backend that exists and that nobody uses; "" stands for none."""
    if text == "":
        return text
    vm = device.vm
    owner = owner_type(vm.profile, device.type_name, name)
    registry = getattr(vm, _BACKENDS[kind], None)
    backend = registry.find(text) if registry is not None else None
    if backend is None:
        raise QemuError(f"Property '{owner}.{name}' can't find value '{text}'")
    try:
        backend.claim()
    except QemuError as err:
        if kind == "netdev":
            raise QemuError(f"Property '{owner}.{name}' can't take value '{text}', it's in use") from None
        raise err.prefixed(f"Property '{owner}.{name}' can't take value '{text}': ") from None
    device.backends.append(backend)
    return text


# --- printing ---------------------------------------------------------------------------------------------


def to_qtree(kind: str, value: Any) -> str:
    """A value as `info qtree` prints it; `kind` as from `kind_of`."""
    if kind == "addr" and isinstance(value, int):
        return "<unset>" if value < 0 else f"{value >> 3:02x}.{value & 7:x}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if kind == "size":
            return f"{value} ({size_text(value)})"
        if kind in INTEGERS or kind.startswith("uint"):
            return f"{value} (0x{value & 0xFFFFFFFFFFFFFFFF:x})"
    return f'"{value}"'


def size_text(value: int) -> str:
    """A size with a binary unit and three digits: 128 MiB, 1.5 GiB."""
    power = 0
    # The unit changes at 1000 of the smaller one, not at 1024.
    while power < 6 and value * 1024 >= 1000 << 10 * (power + 1):
        power += 1
    unit = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")[power]
    return f"{value / (1 << 10 * power):.3g} {unit}"
