# SPDX-License-Identifier: MIT
"""Devices known only by what the profile recorded.

A stock device does nothing of its own. Where it may sit and what its properties take is judged by the same rules as for
every device; what then comes of realizing it, the capture has seen (`outcome.py`): it stands as it stood then, with the
parts, buses and numbers of the record, or is refused in the same words. What the capture could not see is refused as not
emulated. So it is never more lenient than what was seen.

Devices of the board are stock devices too: their record is that of the board.

QEMU: the realize functions of all those device models
"""

from __future__ import annotations

from fakeqemu.hw.core import outcome as recorded
from fakeqemu.hw.core import properties
from fakeqemu.hw.core.qdev import DeviceState
from fakeqemu.hw.core.rules import check_rules, unplug_from_hub
from fakeqemu.hw.pci.config_space import BAR, ConfigSpace
from fakeqemu.hw.pci.device import PCIDevice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.hw.core.outcome import Outcome
    from fakeqemu.qom.registry import Record


#: (type, property, BAR, unit): regions whose size a property tells
_SIZED_BARS = (
    ("pci-vga", "vgamem_mb", 0, 1 << 20),
    ("bochs-display", "vgamem", 0, 1),
)


class StockDevice(DeviceState):
    """A device of any type that has no model."""

    __slots__ = ("stanza", "state")

    #: the recorded lines of `info qtree`; "" for a device of the board, which finds its own
    stanza: str
    #: what it registered for migration
    state: recorded.DeviceStates

    def __init__(self, vm: Any, type_name: str) -> None:
        super().__init__(vm, type_name)
        self.stanza = ""

    def device_realize(self) -> None:
        check_rules(self)
        outcome = recorded.choose(self)
        take_record(self, outcome)
        self.stanza = outcome.get("qtree", "")
        self.state = recorded.register_states(self)

    def device_unrealize(self) -> None:
        if self.is_a("usb-hub"):
            unplug_from_hub(self)
        if hasattr(self, "state"):
            self.state.unregister()


class StockPCIDevice(PCIDevice):
    """A PCI device of a type that has no model."""

    __slots__ = ("_outcome", "stanza", "state")

    stanza: str
    state: recorded.DeviceStates

    def __init__(self, vm: Any, type_name: str) -> None:
        super().__init__(vm, type_name)
        self._outcome: Outcome | None = None
        self.stanza = ""

    def make_config(self) -> ConfigSpace:
        entry: dict[str, Any] | None
        if self._outcome is None:
            # One that is being made has its own when its type has had its turn.
            entry = recorded.board_pci_entry(self) if not self.realizing else None
        else:
            entry = self._outcome.get("pci") or recorded.pci_entry_from_qtree(self, self._outcome["qtree"])
        express = self.bus.is_express and self.is_a("pci-express-device")
        config = config_from_entry(entry, express=express) if entry else ConfigSpace(0xFFFF, 0xFFFF, 0)
        self._size_bars(config)
        return config

    def _size_bars(self, config: ConfigSpace) -> None:
        """Make regions as large as properties say."""
        for type_name, name, number, unit in _SIZED_BARS:
            size = self._values.get(name)
            if size is not None and self.is_a(type_name) and number in config.bars:
                limited = min(max(size * unit, 1 << 20), 512 << 20)
                config.bars[number].size = 1 << (limited - 1).bit_length()

    def device_realize(self) -> None:
        self._outcome = None
        super().device_realize()

    def pci_realize(self) -> None:
        check_rules(self)
        outcome = recorded.choose(self)
        self._outcome = outcome
        self._config = self.make_config()
        self._config.multifunction = self.multifunction
        self.state = recorded.register_states(self)
        take_record(self, outcome)
        self.stanza = outcome.get("qtree", "")

    def exit(self) -> None:
        if hasattr(self, "state"):
            self.state.unregister()


def config_from_entry(entry: dict[str, Any], *, express: bool) -> ConfigSpace:
    """A configuration space with the ids, class and regions that an entry of query-pci tells."""
    ids = entry["id"]
    config = ConfigSpace(
        ids["vendor"],
        ids["device"],
        entry["class_info"]["class"],
        subsystem_vendor=ids.get("subsystem-vendor", 0),
        subsystem=ids.get("subsystem", 0),
        interrupt_pin=entry["irq_pin"],
        express=express,
        bridge="pci_bridge" in entry,
    )
    for region in entry["regions"]:
        config.add_bar(
            BAR(
                region["bar"],
                region["size"],
                is_io=region["type"] == "io",
                prefetch=region.get("prefetch", False),
                is_64=region.get("mem_type_64", False),
            )
        )
    if config.is_bridge:
        from fakeqemu.hw.pci.bridge import load_windows

        load_windows(config, entry["pci_bridge"]["bus"])
    return config


def take_record(device: DeviceState, outcome: Outcome) -> None:
    """Let the device stand as it stood in the record: parts, buses, values nobody set."""
    names = _bus_names(device, outcome)
    board = device.vm.board
    further_cpus = board.smp.cpus - 1 if board is not None else 0
    record = recorded.rebase(outcome["qom"], device.path, names, device.hotplugged, further_cpus)
    record["hotpluggable"] = ["bool", device.is_hotpluggable()]
    device.attach_record(record)
    device.realized = False  # realize() says so when all is done
    _pass_values_on(device)


def _pass_values_on(device: DeviceState) -> None:
    """Give the parts of a device the values that were set through it."""
    for name, value in list(device._values.items()):
        owner = properties.owner_type(device.vm.profile, device.type_name, name)
        if owner == device.type_name:
            continue
        for child in device.children.values():
            if child.type_name == owner:
                child._values[name] = value


def _bus_names(device: DeviceState, outcome: Outcome) -> dict[str, str]:
    """Recorded name of a bus -> its name here: the id of the device leads, or the kind of bus with a number."""
    names: dict[str, str] = {}
    for name, type_name in sorted(_named_after_device(outcome["qom"]), key=lambda bus: properties.natural_key(bus[0])):
        if device.id is not None:
            names[name] = device.id + name[len(recorded.RECORDED_ID) :]
        else:
            names[name] = _automatic_name(device, type_name)
    return names


def _named_after_device(record: Record) -> list[tuple[str, str]]:
    """Name and kind of the buses in a record that have the device's id in their name."""
    found = []
    for name, entry in record.items():
        kind = entry[0]
        if not kind.startswith("child<") or len(entry) < 2:
            continue
        if name == recorded.RECORDED_ID or name.startswith(recorded.RECORDED_ID + "."):
            found.append((name, kind[len("child<") : -1]))
        found += _named_after_device(entry[1])
    return found


def _automatic_name(device: DeviceState, type_name: str) -> str:
    """`usb-bus.0`: kind of bus and a number that nobody has had yet."""
    counters = recorded.bus_counters(device.vm)
    number = counters.get(type_name, 0)
    counters[type_name] = number + 1
    return f"{type_name.lower()}.{number}"
