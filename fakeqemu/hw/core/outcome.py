# SPDX-License-Identifier: MIT
"""What the capture saw come of realizing a device, and which of it holds here.

The table `realize` asks every type, alone with an id, on bare pc and q35 and on a q35 that has buses of most kinds
("rich"), on the command line (cold) and by device_add (hot). A refusal is either about the place (no such bus, no hotplug
there), which is for the rules of this program to judge anew, or the type's own.

The record nearest to what is asked counts: same machine and moment first.

QEMU: hw/core/qdev.c (device_set_realized)
"""

from __future__ import annotations

from fakeqemu.error import GENERIC_ERROR, NotEmulated, QemuError
from fakeqemu.hw.core.device_blocks import add_blocks
from fakeqemu.hw.core.inventory import MACHINES, PLUGGABLE_TEXT, error_text, outcomes
from fakeqemu.hw.core.properties import described
from fakeqemu.hw.pci.ids import class_code
from fakeqemu.migration.register import (
    MIG_PRI_DEFAULT,
    MIG_PRI_IOMMU,
    MIG_PRI_PCI_BUS,
    MIG_PRI_VIRTIO_MEM,
    StockState,
)
from fakeqemu.system.board_tree import UNATTACHED_DEVICE, moved_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fakeqemu.hw.core.qdev import DeviceState
    from fakeqemu.hw.pci.device import PCIDevice
    from fakeqemu.migration.register import Blocker, SaveStateEntry
    from fakeqemu.qom.registry import Record
    from fakeqemu.system.machine import Machine
    from fakeqemu.system.ramblock import RAMBlock

    Outcome = dict[str, Any]

#: id and path of the device in records
RECORDED_ID = "dev0"
_RECORDED_PATH = "/machine/peripheral/dev0"

#: the one record of PCI devices that was taken behind a PCI Express port
BEHIND_PORT = ("rich", "hot")
#: beginnings of refusals that are about the place, not the device
_ABOUT_PLACE = (
    "Bus '",
    "No '",
    "A '",
    "PCI: ",
    PLUGGABLE_TEXT,
    "Parameter 'driver' expects",
)
#: properties that only say where a device goes, or that all have
_PLACEMENT = (
    "addr",
    "multifunction",
    "bootindex",
    "romfile",
    "rombar",
    "romsize",
    "acpi-index",
    "chassis",
    "port",
    "slot",
)


def choose(device: DeviceState) -> Outcome:
    """The outcome of realizing the device where it is; raises QemuError in the recorded words, or NotEmulated."""
    outcome = _nearest(device)
    if outcome is None:
        raise NotEmulated(f"{device.type_name}: not emulated here")
    if outcome.get("crash") or outcome.get("hang"):
        raise NotEmulated(f"{device.type_name}: not emulated (QEMU does not survive it)")
    if not outcome.get("ok"):
        text = error_text(outcome)
        if not _still_holds(device, text):
            raise NotEmulated(f"{device.type_name}: not emulated with these properties")
        told = text.replace(RECORDED_ID, device.id or "(null)")
        raise QemuError(told, outcome.get("class", GENERIC_ERROR), _hint(device, text))
    return outcome


def _nearest(device: DeviceState) -> Outcome | None:
    """The recorded outcome that is of the type itself and nearest to what is asked; None if there is none."""
    table = outcomes(device.vm.profile, device.type_name)
    board = device.vm.board
    machines = dict.fromkeys([board.family if board is not None else "", *MACHINES])
    moments = ("hot", "cold") if device.hotplugged else ("cold", "hot")
    order = [(machine, moment) for moment in moments for machine in machines]
    if device.find_property("disable-legacy") is not None:
        # Behind a port virtio leaves its old interface away, as elsewhere when it is told to.
        order.remove(BEHIND_PORT)
        order.insert(0 if _modern_only(device) else len(order), BEHIND_PORT)
    for machine, moment in order:
        outcome = table.get(machine, {}).get(moment)
        if outcome and not _is_about_place(device.type_name, outcome):
            made = device.vm.profile.get("realize-made", f"{device.type_name}/{machine}/{moment}", {})
            return {**outcome, **made}
    return None


def _modern_only(device: DeviceState) -> bool:
    """Whether a virtio device on PCI comes without its old interface."""
    wanted = device._values.get("disable-legacy", "auto")
    if wanted != "auto":
        return bool(wanted == "on")
    return bool(getattr(device.parent_bus, "behind_port", False))


def _is_about_place(type_name: str, outcome: Outcome) -> bool:
    text = error_text(outcome)
    if outcome.get("ok") or not text:
        return False
    return (
        text.startswith(_ABOUT_PLACE)
        or text.endswith(("can not be hotplugged on this machine", "does not support hotplugging"))
        or text == f"'{type_name}' is not a valid device model name"
    )


def _still_holds(device: DeviceState, text: str) -> bool:
    """Whether a refusal of the bare type is one of this device too.

    It is if no property could have changed it, or if it asks for a property that still is not there.
    """
    given = [name for name in device.options if name not in _PLACEMENT]
    if not given:
        return True
    words = text.replace("'", " ").replace(".", " ").split()
    asked = [name for name in described(device.vm.profile, device.type_name) if name in words]
    return bool(asked) and not any(device._values.get(name) for name in asked)


def _hint(device: DeviceState, text: str) -> str:
    """Further lines that QEMU wrote on stderr behind the refusal."""
    for variants in outcomes(device.vm.profile, device.type_name).values():
        _, found, rest = variants.get("cold", {}).get("stderr", "").partition(text + "\n")
        if found and rest.strip():
            return str(rest.rstrip("\n"))
    return ""


# --- records made to fit ----------------------------------------------------------------------------------


def rebase(record: Record, path: str, names: dict[str, str], hotplugged: bool, further_cpus: int = 0) -> Record:
    """A copy of a device's record with its path and its buses' names as they are here; parts are copied when they are.

    It was recorded of a machine with one CPU: devices of the board stand behind the `further_cpus`.
    """
    result: Record = {}
    for name, entry in record.items():
        kind = entry[0]
        here = names.get(name, name)
        if kind.startswith("child<") and len(entry) > 1:
            result[here] = [kind, _rebased_later(entry[1], path, names, hotplugged, further_cpus)]
        elif name == "hotplugged":
            result[here] = [kind, hotplugged]
        elif len(entry) > 1 and isinstance(entry[1], str) and entry[1].startswith(_RECORDED_PATH):
            result[here] = [kind, _rebased_path(entry[1], path, names)]
        elif len(entry) > 1 and isinstance(entry[1], str) and entry[1].startswith(UNATTACHED_DEVICE):
            result[here] = [kind, moved_path(entry[1], further_cpus)]
        else:
            result[here] = entry
    return result


def _rebased_later(
    record: Record, path: str, names: dict[str, str], hotplugged: bool, further_cpus: int
) -> Callable[[], Record]:
    return lambda: rebase(record, path, names, hotplugged, further_cpus)


def _rebased_path(text: str, path: str, names: dict[str, str]) -> str:
    parts = [names.get(part, part) for part in text[len(_RECORDED_PATH) :].split("/")]
    return path + "/".join(parts)


def bus_counters(vm: Machine) -> dict[str, int]:
    """Kind of bus -> number of the next one that gets a name by itself; those of the board count."""
    counters: dict[str, int] | None = vm.__dict__.get("_bus_counters")
    if counters is None:
        from fakeqemu.hw.core.qdev import BusState

        counters = {}
        for at in vm.qom.walk(vm.qom.machine):
            # The root bus of q35 was named by the board, and does not count.
            if isinstance(at, BusState) and at.name.startswith(at.type_name.lower() + ".") and at.name != "pcie.0":
                counters[at.type_name] = counters.get(at.type_name, 0) + 1
        vm.__dict__["_bus_counters"] = counters
    return counters


def board_pci_entry(device: PCIDevice) -> dict[str, Any] | None:
    """What query-pci told of a function of the board."""
    board = device.vm.board
    if board is None:
        return None
    if device.type_name == board.adapter:
        made: dict[str, Any] | None = outcomes(device.vm.profile, board.adapter)[board.family]["cold"].get("pci")
        return made
    layout = board.layout()
    devfn = device.devfn if layout is None else layout.recorded_devfn(device.devfn)
    for bus in device.vm.profile.get("queries", f"{board.tree_variant()}/query-pci", []):
        for entry in bus["devices"]:
            if entry["slot"] << 3 | entry["function"] == devfn:
                return dict(entry)
    return None


def pci_entry_from_qtree(device: PCIDevice, stanza: str) -> dict[str, Any]:
    """What query-pci would have told of a device that was recorded behind a port, where it is blind.

    Ids, class and sizes are those of `info qtree`; what that does not tell (pin, kinds of memory) is as where the type was
    recorded elsewhere.
    """
    elsewhere: dict[str, Any] = {}
    for variants in outcomes(device.vm.profile, device.type_name).values():
        for outcome in variants.values():
            elsewhere = elsewhere or outcome.get("pci", {})
    known = {region["bar"]: region for region in elsewhere.get("regions", [])}
    entry: dict[str, Any] = {
        "irq_pin": elsewhere.get("irq_pin", 0),
        "regions": [],
        "class_info": {"class": 0},
        "id": {},
    }
    if "pci_bridge" in elsewhere:
        entry["pci_bridge"] = elsewhere["pci_bridge"]
    for line in stanza.splitlines():
        words = line.split()
        if line.startswith("  class ") and ", pci id " in line:
            name, _, rest = line[len("  class ") :].partition(", addr ")
            ids = rest.replace("(", " ").replace(")", " ").split()
            vendor, device_id = ids[3].split(":")
            sub_vendor, sub_id = ids[5].split(":")
            entry["class_info"] = {"class": class_code(name)}
            entry["id"] = {
                "vendor": int(vendor, 16), "device": int(device_id, 16),
                "subsystem-vendor": int(sub_vendor, 16), "subsystem": int(sub_id, 16),
            }  # fmt: skip
        elif line.startswith("  bar "):
            number = int(words[1].rstrip(":"))
            first, last = int(words[-2], 16), int(words[-1].strip("[]"), 16)
            region = dict(known.get(number, {}))
            region.update(bar=number, type="io" if words[2] == "i/o" else "memory")
            region["size"] = (last - first + 1) & 0xFFFFFFFFFFFFFFFF
            entry["regions"].append(region)
    return entry


# --- migration --------------------------------------------------------------------------------------------


class DeviceStates:
    """What a stock device told the migration: its sections, or that it cannot travel."""

    __slots__ = ("blocker", "blocks", "entries", "vm")

    def __init__(self, vm: Machine) -> None:
        self.vm = vm
        #: RAM blocks that are the device's
        self.blocks: list[RAMBlock] = []
        self.entries: list[SaveStateEntry] = []
        self.blocker: Blocker | None = None

    def unregister(self) -> None:
        for entry in self.entries:
            self.vm.savevm.unregister(entry)
        self.entries = []
        for block in self.blocks:
            self.vm.ram_blocks.remove(block)
        self.blocks = []
        if self.blocker is not None:
            self.vm.savevm.del_blocker(self.blocker)
            self.blocker = None


def register_states(device: DeviceState) -> DeviceStates:
    """Put the sections that the profile has of the device into the line; if it has none, forbid migration.

    Raises QemuError where a blocker is refused.
    """
    vm = device.vm
    states = DeviceStates(vm)
    states.blocks = add_blocks(device)
    machine = _recorded_machine(device)
    record = vm.profile.get("device-sections", device.type_name)[machine] if machine else {}
    sections = record.get("sections")
    if sections is None:
        text = str(record.get("error", ""))
        _, known, name = text.partition(_UNMIGRATABLE_TEXT)
        name = _section_name(device, name.rstrip("'")) if known else ""
        if name and vm.only_migratable:
            raise QemuError(f"Device {device.type_name} is not migratable, but --only-migratable was specified")
        states.blocker = vm.savevm.add_blocker(
            device, f"The migration state of device '{device.type_name}' is not emulated", unmigratable=name
        )
        return states
    for number, section in enumerate(sections):
        name = _section_name(device, section["name"])
        # The board's own sections of that name come first, also where they are not in the line yet.
        taken = [entry.instance_id for entry in vm.savevm.entries if entry.idstr == name]
        instance = max([section["instance"], *(other + 1 for other in taken)])
        priority = _priority(device) if name != "PCIBUS" else MIG_PRI_DEFAULT
        state = StockState(_reader(device, machine, number, name, instance))
        states.entries.append(vm.savevm.register_stock(name, instance, section["version"], state, priority))
    return states


def _priority(device: DeviceState) -> int:
    """Where in the line the device stands: what others depend on is loaded first."""
    for type_name, priority in _PRIORITIES:
        if device.is_a(type_name):
            return priority
    return MIG_PRI_DEFAULT


#: seen as the order of sections in streams of real machines
_PRIORITIES = (
    ("base-pci-bridge", MIG_PRI_PCI_BUS),
    ("virtio-mem-pci", MIG_PRI_VIRTIO_MEM),
    ("x86-iommu", MIG_PRI_IOMMU),
    ("virtio-iommu-pci", MIG_PRI_IOMMU),
)


_UNMIGRATABLE_TEXT = "State blocked by non-migratable device '"


def _recorded_machine(device: DeviceState) -> str:
    """The machine on which the device's state was recorded that counts here; "" if the profile has none."""
    table = device.vm.profile.get("device-sections", device.type_name, {})
    board = device.vm.board
    for machine in dict.fromkeys([board.family if board is not None else "", *MACHINES]):
        if machine in table:
            return machine
    return ""


def _reader(
    device: DeviceState, machine: str, number: int, name: str, instance: int
) -> Callable[[], tuple[bytes, dict[str, Any]]]:
    """What reads the recorded state of one section, which here has this name and number."""
    profile, type_name = device.vm.profile, device.type_name

    def read() -> tuple[bytes, dict[str, Any]]:
        from binascii import a2b_base64

        from fakeqemu.hw.core.mac_address import with_mac

        section = profile.get("device-vmstate", type_name)[machine]["sections"][number]
        body = a2b_base64(section["data"])
        if mac := device._values.get("mac"):
            body = with_mac(body, str(mac))
        return body, {**section["vmdesc"], "name": name, "instance_id": instance}

    return read


def _section_name(device: DeviceState, recorded: str) -> str:
    """The name of a section with the device's own path in front, where the recorded one had a path."""
    path, slash, name = recorded.rpartition("/")
    return f"{device.qdev_path()}/{name}" if slash and path[:1].isdigit() else recorded
