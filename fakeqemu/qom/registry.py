# SPDX-License-Identifier: MIT
"""Which class of ours an object of a QOM type is, and how recorded trees become objects.

A type that stands here, or descends from one that does, is made as that class; the module is loaded when the first such
object is made. All others are plain `Object`s: what a real QEMU reported of them, and nothing else.

QEMU: type_init of each module, qom/object.c (type_table)
"""

from __future__ import annotations

from sys import modules

from fakeqemu.qom.object import Object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.system.machine import Machine

    #: property name -> [type], [type, value] or, for a child, [type, record of the child] or [type, what makes it]
    Record = dict[str, list[Any]]

#: QOM type -> module:class. The class is called with (vm, type name).
CLASSES: dict[str, str] = {
    "PCI": "fakeqemu.hw.pci.bus:PCIBus",
    "bus": "fakeqemu.hw.core.qdev:BusState",
    "device": "fakeqemu.hw.core.stock:StockDevice",
    "pci-device": "fakeqemu.hw.core.stock:StockPCIDevice",
    "iothread": "fakeqemu.system.iothread:IOThread",
    "main-loop": "fakeqemu.system.iothread:MainLoop",
    "authz-list": "fakeqemu.authz.list:QAuthZList",
    "authz-simple": "fakeqemu.authz.simple:QAuthZSimple",
    "secret": "fakeqemu.system.objects:Secret",
    "tls-creds-anon": "fakeqemu.crypto.tlscredsanon:TLSCredsAnon",
    "tls-creds-psk": "fakeqemu.crypto.tlscredspsk:TLSCredsPSK",
    "tls-creds-x509": "fakeqemu.crypto.tlscredsx509:TLSCredsX509",
    "mc146818rtc": "fakeqemu.hw.core.mc146818rtc:MC146818RTC",
    "rng-builtin": "fakeqemu.system.objects:RngBackend",
    "rng-random": "fakeqemu.system.objects:RngRandom",
    "memory-backend-ram": "fakeqemu.system.hostmem:MemoryBackendRam",
    "memory-backend-file": "fakeqemu.system.hostmem:MemoryBackendFile",
    "memory-backend-memfd": "fakeqemu.system.hostmem:MemoryBackendMemfd",
    "vfio-pci": "fakeqemu.hw.vfio.pci:VFIOPCIDevice",
    "monitor-hmp": "fakeqemu.vl.monitor_objects:MonitorObject",
    "monitor-qmp": "fakeqemu.vl.monitor_objects:MonitorObject",
    "x86_64-cpu": "fakeqemu.system.cpus:X86CPU",
}

#: types that are plain objects: known here so that nothing is looked up for them
_PLAIN = ("container", "memory-region", "irq")


def object_class(vm: Machine, type_name: str) -> type[Object]:
    """The class for objects of a QOM type: that of the nearest type above it that has one."""
    at: str | None = type_name
    while at is not None and at not in _PLAIN:
        where = CLASSES.get(at)
        if where is not None:
            module, _, name = where.partition(":")
            __import__(module)
            cls: type[Object] = getattr(modules[module], name)
            return cls
        at = vm.profile.type_parent(at) if vm.profile.is_type(at) else None
    return Object


def new_object(vm: Machine, type_name: str) -> Object:
    """A new object of a concrete type, outside the tree."""
    return object_class(vm, type_name)(vm, type_name)


def child_from_record(vm: Machine, entry: list[Any]) -> Object:
    """The object that a record's `child<T>` entry tells of."""
    child = new_object(vm, entry[0][len("child<") : -1])
    child.attach_record(recorded_below(entry))
    return child


def recorded_below(entry: list[Any]) -> Record:
    """The record of the child that an entry tells of. One that has to be made to fit is made now: nobody may ever ask."""
    below: Record = entry[1]() if callable(entry[1]) else entry[1]
    return below


def load_board_tree(vm: Machine) -> None:
    """Attach the profile's tree of this board to the root; those containers that only we know stay as they are."""
    board = vm.board
    assert board is not None
    record = board.tree_record()
    vm.qom.root.attach_record(record)
    # Those that exist already learn what is recorded of them now: nobody else would open the record above them.
    vm.qom.root.open_record()
    board.object.open_record()
