# SPDX-License-Identifier: MIT
"""Devices and buses: who sits where, and what realizing one means.

A device sits on a bus, or on none; a bus belongs to a device. The newest comes first in both lists, as QEMU inserts at
the head: the order is visible in `info qtree`, and decides which bus a device lands on when nobody names one.

    sysbus ── q35-pcihost ── pcie.0 ── mch, ICH9-LPC ── isa.0 ── ...
                                   └── pcie-root-port ── rp1 ── virtio-net-pci ── virtio-bus ── virtio-net-device

Devices and buses of the board are made from the profile's record of the board, when somebody looks at them; their places
come from that record too: the link `parent_bus` of a device, the links `child[N]` of a bus.

A device lives: made (properties may be set) → realized → unrealized, out of the tree.

QEMU: hw/core/qdev.c, hw/core/bus.c
"""

from __future__ import annotations

from fakeqemu.error import NotEmulated, QemuError
from fakeqemu.hw.core import properties
from fakeqemu.qapi.qdict import GHashTable
from fakeqemu.qom.object import Object, Property
from fakeqemu.qom.properties import check_typed, parse_bool
from fakeqemu.qom.registry import child_from_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from fakeqemu.system.machine import Machine

#: properties that every device has, and that say where it stands in its life
LIFE = ("parent_bus", "realized", "hotplugged", "hotpluggable")


class BusState(Object):
    """A bus: devices of one kind below one device."""

    __slots__ = ("_kids", "_max_index", "_table", "hotplug_handler", "parent_dev")

    def __init__(self, vm: Machine, type_name: str) -> None:
        super().__init__(vm, type_name)
        self._kids: list[tuple[int, DeviceState]] | None = None
        self._max_index = 0
        #: the names of what QEMU added to this one bus, in its order; None until the order matters
        self._table: GHashTable | None = None
        #: the device that the bus belongs to; None for the root
        self.parent_dev: DeviceState | None = None
        #: path of the object that takes hotplugged devices; "" where there is no hotplug. From the record if None.
        self.hotplug_handler: str | None = None

    @property
    def record(self) -> dict[str, list[Any]] | None:
        """What is recorded of the bus."""
        return self._record

    @property
    def kids(self) -> list[DeviceState]:
        """The devices on the bus, the newest first."""
        return [device for _, device in self._places()]

    def _places(self) -> list[tuple[int, DeviceState]]:
        if self._kids is None:
            self._kids = []
            for index, path in _recorded_places(self._record):
                device = self.vm.qom.find(path)
                if isinstance(device, DeviceState):
                    self._kids.append((index, device))
                    self._max_index = max(self._max_index, index + 1)
            self._kids.sort(key=lambda place: -place[0])
        return self._kids

    def attach(self, device: DeviceState) -> None:
        """Put a device on the bus."""
        self._places().insert(0, (self._max_index, device))
        if self._table is not None:
            self._table.add(f"child[{self._max_index}]")
        self._max_index += 1

    def detach(self, device: DeviceState) -> None:
        """Take a device off the bus; nothing if it is not there."""
        table = self._properties_table()
        for index, other in self._places():
            if other is device:
                table.remove(f"child[{index}]")
        self._kids = [place for place in self._places() if place[1] is not device]

    @property
    def owner(self) -> DeviceState | None:
        """The device that the bus belongs to; None for the main system bus."""
        if self.parent_dev is None and isinstance(self.parent, DeviceState):
            self.parent_dev = self.parent
        return self.parent_dev

    def is_full(self) -> bool:
        """Whether no further device fits, by number; slots are the matter of the bus's own `realize` rules."""
        limit = MAX_DEVICES.get(self.type_name)
        if limit is None and self.is_a("virtio-bus"):
            limit = 1
        return limit is not None and len(self._places()) >= limit

    def handler(self) -> str:
        """Path of the object that takes hotplugged devices; "" if none."""
        if self.hotplug_handler is None:
            entry = (self._record or {}).get("hotplug-handler")
            path = entry[1] if entry is not None and len(entry) > 1 else ""
            self.hotplug_handler = path if isinstance(path, str) else ""
        return self.hotplug_handler

    def is_hotpluggable(self) -> bool:
        return self.handler() != ""

    def properties(self) -> list[Property]:
        """As for any object, and a link for each device on the bus; the last slot of the table first."""
        names = self._properties_table()
        found = [prop for prop in super().properties() if not prop.name.startswith("child[") and prop.name not in names]
        for name in reversed(list(names)):
            prop = self.find_property(name)
            if prop is not None:
                found.append(prop)
        return found

    def _properties_table(self) -> GHashTable:
        if self._table is None:
            names = [prop.name for prop in super().properties()]
            added = [name for name in names if name != "type" and not name.startswith("child[")]
            links = [f"child[{index}]" for index, _ in reversed(self._places())]
            later = [name for name in added if name not in _FIRST_ADDED]
            self._table = GHashTable([*_FIRST_ADDED, *links, *later])
        return self._table

    def find_property(self, name: str) -> Property | None:
        if name.startswith("child["):
            for index, device in self._places():
                if name == f"child[{index}]":
                    return Property(name, f"link<{device.type_name}>", writable=False)
            return None
        return super().find_property(name)

    def read(self, prop: Property) -> Any:
        if prop.name.startswith("child["):
            for index, device in self._places():
                if prop.name == f"child[{index}]":
                    return device.path
        if prop.name == "hotplug-handler":
            return self.handler()
        return super().read(prop)

    def stock_writable(self, name: str, type: str) -> bool:
        return name in ("hotplug-handler", "realized") or super().stock_writable(name, type)

    def _store(self, prop: Property, value: Any) -> None:
        super()._store(prop, value)
        if prop.name == "hotplug-handler":
            handler = self._values[prop.name]
            self.hotplug_handler = handler.path if handler is not None else ""

    def unparented(self) -> None:
        """A bus that goes takes its devices along."""
        for device in self.kids:
            device.unparent()

    def dev_path(self, device: DeviceState) -> str:
        """How a device on this bus is called in names of state; "" where such names have no path."""
        owner = self.owner.qdev_path() if self.owner is not None else ""
        if self.is_a("virtio-bus"):
            return owner
        if self.type_name == "usb-bus":
            return f"{owner}/{device.port}" if owner else device.port
        if self.type_name == "SCSI":
            return f"{owner}/{device.get('channel')}:{device.get('scsi-id')}:{device.get('lun')}"
        return ""


#: the properties of every bus, in the order in which they are added; others come after the devices of the board
_FIRST_ADDED = ("hotplug-handler", "realized")

#: bus type -> how many devices go on it
MAX_DEVICES = {"IDE": 2, "floppy-bus": 2, "virtio-pci-bus": 1, "virtio-mmio-bus": 1, "nitro-vsock-bus": 1}


class DeviceState(Object):
    """A device. Subclasses override `device_realize` and `device_unrealize`."""

    __slots__ = (
        "_bus_known", "_child_buses", "_parent_bus", "backends", "hotplugged", "id", "options", "pending_deleted", "port",
        "realized", "realizing",
    )  # fmt: skip

    def __init__(self, vm: Machine, type_name: str) -> None:
        super().__init__(vm, type_name)
        #: what `id=` said; None for devices of the board and for those that nobody named
        self.id: str | None = None
        self.realized = False
        self.realizing = False
        #: made when the machine was ready already
        self.hotplugged = False
        #: asked to go, and the guest has not let go yet
        self.pending_deleted = False
        #: what `-device` or `device_add` gave, but for driver, bus and id; in QEMU's order
        self.options: dict[str, Any] = {}
        #: the port that a USB device got, where its property leaves that open
        self.port = ""
        #: back ends that properties of the device claimed; released when it goes
        self.backends: list[Any] = []
        self._parent_bus: BusState | None = None
        self._bus_known = False
        self._child_buses: list[BusState] | None = None

    # --- place ----------------------------------------------------------------------------------------

    def attach_record(self, record: dict[str, list[Any]]) -> None:
        super().attach_record(record)
        self._child_buses = None
        for name in ("realized", "hotplugged"):
            entry = record.get(name)
            if entry is not None and len(entry) > 1:
                setattr(self, name, bool(entry[1]))

    @property
    def parent_bus(self) -> BusState | None:
        """The bus that the device sits on."""
        if not self._bus_known:
            self._bus_known = True
            entry = (self._record or {}).get("parent_bus")
            if entry is not None and len(entry) > 1 and entry[1]:
                bus = self.vm.qom.find(entry[1])
                self._parent_bus = bus if isinstance(bus, BusState) else None
        return self._parent_bus

    @parent_bus.setter
    def parent_bus(self, bus: BusState | None) -> None:
        old = self._parent_bus if self._bus_known else None
        if old is not None:
            old.detach(self)
        self._parent_bus = bus
        self._bus_known = True
        if bus is not None:
            bus.attach(self)

    @property
    def child_buses(self) -> list[BusState]:
        """The buses of the device, the newest first."""
        if self._child_buses is None:
            found = [child for child in self._children.values() if isinstance(child, BusState)]
            # Only the buses of a record come to life, not all else that it tells of.
            for name, entry in (self._record or {}).items():
                kind = entry[0]
                if kind.startswith("child<") and name not in self._children and len(entry) > 1:
                    if self.vm.profile.implements(kind[len("child<") : -1], "bus"):
                        bus = self.add_child(name, child_from_record(self.vm, entry))
                        assert isinstance(bus, BusState)
                        found.append(bus)
            # Which was made last is not recorded; buses of one device differ by a number that counts up.
            self._child_buses = sorted(found, key=lambda bus: properties.natural_key(bus.name), reverse=True)
            for bus in self._child_buses:
                bus.parent_dev = self
        return self._child_buses

    @property
    def depth(self) -> int:
        """How many buses lie between the device and the root: the priority of its run-state handlers."""
        depth = 0
        bus = self.parent_bus
        while bus is not None:
            depth += 1
            bus = bus.owner.parent_bus if bus.owner is not None else None
        return depth

    def qdev_path(self) -> str:
        """How the device is called in names of migration sections, "" if it has no name there."""
        bus = self.parent_bus
        return bus.dev_path(self) if bus is not None else ""

    # --- properties -----------------------------------------------------------------------------------

    def _type_properties(self) -> list[dict[str, Any]]:
        return properties.listed_properties(self.vm.profile, self.type_name)

    def _type_property(self, name: str) -> dict[str, Any] | None:
        return properties.described(self.vm.profile, self.type_name).get(name)

    def stock_writable(self, name: str, type: str) -> bool:
        """Whether a property could be set at all; `check_settable` judges whether it can now."""
        if name in LIFE:
            return name == "realized"
        if type.startswith(("child<", "busnr")):
            return False
        return self._record is None or not properties.settable(self, name, "never")

    def check_settable(self, prop: Property) -> None:
        """Most properties are settled once the device is realized; those with a setter of ours judge for themselves."""
        if not self.realized or prop.set is not None or properties.settable_any_time(self, prop.name):
            return
        owner = properties.owner_type(self.vm.profile, self.type_name, prop.name)
        name = self.id if owner == self.type_name else None
        if prop.type.startswith("link<"):
            raise QemuError(
                f"Attempt to set link property '{prop.name}' on device '{name or '(null)'}' "
                f"(type '{owner}') after it was realized"
            )
        whom = f"device '{name}'" if name is not None else "anonymous device"
        raise QemuError(f"Attempt to set property '{prop.name}' on {whom} (type '{owner}') after it was realized")

    def set(self, name: str, value: Any) -> None:
        """Set from a JSON value, in the words of device properties; raises QemuError."""
        prop = self._writable_property(name)
        if name == "realized":
            self._set_realized(bool(check_typed("bool", name, value)))
            return
        self._store(prop, properties.from_json(self, prop, value))

    def set_str(self, name: str, text: str) -> None:
        """Set from text, in the words of device properties; raises QemuError."""
        prop = self._writable_property(name)
        if name == "realized":
            self._set_realized(parse_bool(name, text))
            return
        self._store(prop, properties.from_text(self, prop, text))

    def resolve_link(self, name: str, target_type: str, path: Any) -> Object | None:
        """As for any object; a plain id of a user's object is found without a look at the whole tree."""
        if isinstance(path, str) and path:
            found = self.vm.qom.objects.child(path)
            if found is not None and found.is_a(target_type):
                return found
        return super().resolve_link(name, target_type, path)

    def _set_realized(self, value: bool) -> None:
        if value != self.realized:
            raise NotEmulated(f"Setting '{self.type_name}.realized' is not emulated")

    def read(self, prop: Property) -> Any:
        name = prop.name
        if name == "realized":
            return self.realized
        if name == "parent_bus":
            return self.parent_bus.path if self.parent_bus is not None else ""
        if name == "hotplugged":
            return self.hotplugged
        if name == "hotpluggable":
            return self.is_hotpluggable()
        return super().read(prop)

    def is_hotpluggable(self) -> bool:
        """Whether the device could be taken out now: its type allows it, and so does its bus."""
        from fakeqemu.hw.core.inventory import hotpluggable

        recorded = (self._record or {}).get("hotpluggable")
        if recorded is not None and len(recorded) > 1:
            return bool(recorded[1])
        bus = self.parent_bus
        return hotpluggable(self.vm.profile, self.type_name) and (bus is None or bus.is_hotpluggable())

    # --- life -----------------------------------------------------------------------------------------

    def realize(self) -> None:
        """Bring the device to life on its bus; raises QemuError, and then nothing has changed."""
        if self.realized:
            return
        self.realizing = True
        try:
            self.device_realize()
        finally:
            self.realizing = False
        self.realized = True
        self.vm.trace("fake_device_realized", type=self.type_name, id=self.id or "")

    def device_realize(self) -> None:
        """What the type does when realized; for subclasses. Raises QemuError with everything undone."""

    def unrealize(self) -> None:
        """Take the device out of service, those on its buses first."""
        for bus in self.child_buses:
            for device in bus.kids:
                device.unrealize()
        if self.realized:
            self.realized = False
            self.device_unrealize()

    def device_unrealize(self) -> None:
        """What the type does when unrealized; for subclasses. Must not fail."""

    def unparent(self) -> None:
        """Take the device and its parts out of the tree: those too that nobody has looked at yet."""
        self.open_record()
        super().unparent()

    def unparented(self) -> None:
        """Leave service and bus. DEVICE_DELETED says so, for a device that was alive."""
        was_realized = self.realized
        path = self.path
        self.unrealize()
        if self._bus_known and self._parent_bus is not None:
            self.parent_bus = None
        for backend in self.backends:
            backend.release_frontend()
        self.backends = []
        if was_realized:
            data = {"path": path}
            if self.id is not None:
                data = {"device": self.id, "path": path}
            self.vm.emit("DEVICE_DELETED", data)


def _recorded_places(record: dict[str, list[Any]] | None) -> list[tuple[int, str]]:
    """(number, path) of each link `child[N]` that a bus's record has."""
    places = []
    for name, entry in (record or {}).items():
        if name.startswith("child[") and name.endswith("]") and len(entry) > 1 and isinstance(entry[1], str):
            places.append((int(name[len("child[") : -1]), entry[1]))
    return places


def each_device(bus: BusState) -> Iterator[DeviceState]:
    """Every device below a bus, in the order in which QEMU walks: each followed by what is on its buses.

    What the caller does not walk to need not come to life.
    """
    for device in bus.kids:
        yield device
        for below in device.child_buses:
            yield from each_device(below)


def all_devices(bus: BusState) -> list[DeviceState]:
    """As `each_device`, all at once."""
    return list(each_device(bus))
