# SPDX-License-Identifier: MIT
"""Objects with properties, in one tree per machine.

An object's properties come from four places, each asked only when the one before has no answer:

    defined    `define()`: properties of ours, with getter and setter
    set        values that somebody set
    record     what a real QEMU reported of this very object (table `qom-tree`, or the outcome of realizing a device)
    type       what a real QEMU reported of the type (table `qom-properties`): names, types, defaults

So a stock object costs a dictionary, and a class of ours (`registry.py`) says only what differs. Children are objects
below; a record's children come to life when somebody looks at them.

QEMU: qom/object.c
"""

from __future__ import annotations

from fakeqemu.error import DEVICE_NOT_FOUND, NotEmulated, QemuError
from fakeqemu.qapi.profile import MISSING
from fakeqemu.qapi.qdict import GHashTable, as_inserted
from fakeqemu.qom.properties import check_typed, default_of, parse_text, wrong_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fakeqemu.qom.registry import Record
    from fakeqemu.system.machine import Machine


_TYPE = {"name": "type", "type": "string"}


class Property:
    """One property of one object. `get` and `set` are None where the object's stored values serve."""

    __slots__ = ("default", "description", "get", "name", "set", "type", "visited_as", "writable")

    def __init__(
        self,
        name: str,
        type: str,
        description: str | None = None,
        default: Any = MISSING,
        get: Callable[[], Any] | None = None,
        set: Callable[[Any], None] | None = None,
        writable: bool = True,
        visited_as: str | None = None,
    ) -> None:
        self.name = name
        self.type = type
        #: the type that input is judged by, where QEMU declares another one than it reads
        self.visited_as = visited_as or type
        self.description = description
        self.default = default
        self.get = get
        self.set = set
        self.writable = writable


class Object:
    """A QOM object. `name` and `parent` are set while it is in the tree."""

    __slots__ = ("_children", "_defined", "_record", "_record_open", "_values", "name", "parent", "type_name", "vm")

    def __init__(self, vm: Machine, type_name: str) -> None:
        self.vm = vm
        self.type_name = type_name
        self.name = ""
        self.parent: Object | None = None
        self._children: dict[str, Object] = {}
        self._defined: dict[str, Property] = {}
        self._values: dict[str, Any] = {}
        self._record: Record | None = None
        self._record_open = False

    def __repr__(self) -> str:
        return f"<{self.type_name} {self.path or 'outside the tree'}>"

    def is_a(self, type_name: str) -> bool:
        """Whether the object's type is, descends from, or has as an interface `type_name`."""
        return type_name in (self.type_name, "object") or self.vm.profile.implements(self.type_name, type_name)

    # --- the tree -------------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """The canonical path; "" for an object outside the tree."""
        at: Object | None = self
        names: list[str] = []
        while at is not None and at.parent is not None:
            names.append(at.name)
            at = at.parent
        return "/" + "/".join(reversed(names)) if at is self.vm.qom.root else ""

    @property
    def children(self) -> dict[str, Object]:
        """The objects below, by name; those of a record included. Not to be changed by the caller."""
        self.open_record()
        return self._children

    def child(self, name: str) -> Object | None:
        """The object below of that name, or None."""
        found = self._children.get(name)
        if self._record_open and self._record is not None:
            entry = self._record.get(name)
            if entry is not None and entry[0].startswith("child<") and len(entry) > 1:
                # This one alone comes to life: a path through a board's containers passes hundreds of others.
                found = self._recorded_child(name, entry)
        return found

    def _recorded_child(self, name: str, entry: list[Any]) -> Object:
        """The child that an entry of the record tells of; one that somebody else made learns what is recorded of it."""
        from fakeqemu.qom.registry import child_from_record, recorded_below

        known = self._children.get(name)
        if known is None:
            return self.add_child(name, child_from_record(self.vm, entry))
        if known._record is None:
            known.attach_record(recorded_below(entry))
        return known

    def add_child(self, name: str, child: Object) -> Object:
        """Put `child` below this object; a name ending in `[*]` gets the first free number. Returns the child.

        Raises QemuError when there is a property of that name.
        """
        if name.endswith("[*]"):
            stem, number = name[:-3], 0
            while self.find_property(f"{stem}[{number}]") is not None:
                number += 1
            name = f"{stem}[{number}]"
        elif name in self._children or name in self._defined:
            raise QemuError(f"attempt to add duplicate property '{name}' to object (type '{self.type_name}')")
        assert child.parent is None, f"{child} is in the tree already"
        child.name = name
        child.parent = self
        self._children[name] = child
        return child

    def unparent(self) -> None:
        """Take the object, and all below it, out of the tree, telling them by `unparented()`; nothing if it is not there."""
        parent = self.parent
        if parent is None:
            return
        self._record_open = False  # what has not come to life yet never does
        for below in list(self._children.values()):
            below.unparent()
        self.unparented()
        parent.forget_child(self.name)
        self.parent = None

    def forget_child(self, name: str) -> None:
        """The child `name` leaves: called by its `unparent`."""
        self.open_record()  # which would bring it back later
        self._children.pop(name, None)

    def unparented(self) -> None:
        """Called just before the object leaves the tree; for subclasses."""

    def attach_record(self, record: Record) -> None:
        """Let `record` tell of the properties and children that nobody defines here."""
        self._record = record
        self._record_open = True

    def open_record(self) -> None:
        """Bring the record's children to life: once, and one level."""
        if not self._record_open or self._record is None:
            return
        self._record_open = False
        for name, entry in self._record.items():
            if entry[0].startswith("child<") and len(entry) > 1:
                known = self._children.get(name)
                if known is not None and known._record is not None:
                    # Somebody looked for it before: it stands where it would stand otherwise.
                    self._children[name] = self._children.pop(name)
                else:
                    self._recorded_child(name, entry)

    # --- properties -----------------------------------------------------------------------------------

    def define(
        self,
        name: str,
        type: str,
        get: Callable[[], Any] | None = None,
        set: Callable[[Any], None] | None = None,
        *,
        description: str | None = None,
        default: Any = MISSING,
        writable: bool = True,
        visited_as: str | None = None,
    ) -> None:
        """Give the object a property of ours. Without `get` and `set` it reads and takes a stored value.

        The setter receives a value already checked against `type`. A property with `get` and no `set` is read-only.
        """
        if get is not None and set is None:
            writable = False
        self._defined[name] = Property(name, type, description, default, get, set, writable, visited_as)

    def properties(self) -> list[Property]:
        """Every property, in the order in which QEMU lists them."""
        found: dict[str, Property] = {}
        self.open_record()
        if self._record is not None:
            for name, entry in self._record.items():
                if not entry[0].startswith("child<") or name in self._children:
                    found[name] = self._property(name, entry[0])
        else:
            for known in self._type_properties():
                if not known["type"].startswith("child<") or known["name"] in self._children:
                    found[known["name"]] = self._property(known["name"], known["type"])
        for name, defined in self._defined.items():
            found[name] = defined
        for name, child in self._children.items():
            found[name] = Property(name, f"child<{child.type_name}>", get=_path_of(child), writable=False)
        return list(found.values())

    def find_property(self, name: str) -> Property | None:
        """The property `name`, or None."""
        defined = self._defined.get(name)
        if defined is not None:
            return defined
        child = self.child(name)
        if child is not None:
            return Property(name, f"child<{child.type_name}>", get=_path_of(child), writable=False)
        if name == "type":
            return self._property(name, "string")
        if self._record is not None:
            entry = self._record.get(name)
            return None if entry is None or entry[0].startswith("child<") else self._property(name, entry[0])
        known = self._type_property(name)
        if known is not None and not known["type"].startswith("child<"):
            return self._property(name, known["type"])
        return None

    def _property(self, name: str, type: str) -> Property:
        defined = self._defined.get(name)
        if defined is not None:
            return defined
        writable = name != "type" and not type.startswith("child<") and self.stock_writable(name, type)
        return Property(name, type, writable=writable)

    def _type_properties(self) -> list[dict[str, Any]]:
        """What the profile says of the type; only `type` for what it could not be asked."""
        known = self.vm.profile.get("qom-properties", self.type_name, None)
        return known if isinstance(known, list) else [_TYPE]

    def _type_property(self, name: str) -> dict[str, Any] | None:
        """The one of `_type_properties` that has this name."""
        return self.vm.profile.named_properties(self.type_name).get(name, _TYPE if name == "type" else None)

    def stock_writable(self, name: str, type: str) -> bool:  # noqa: ARG002
        """Whether a property that no class of ours defines can be set: what is recorded of a living object cannot."""
        return self._record is None

    def get(self, name: str) -> Any:
        """The value as `qom-get` shows it; raises QemuError."""
        prop = self.find_property(name)
        if prop is None:
            raise self.not_found(name)
        return self.read(prop)

    def read(self, prop: Property) -> Any:
        """The value of one of this object's properties; raises QemuError."""
        if prop.name == "type":
            return self.type_name
        if prop.get is not None:
            return prop.get()
        value = self._values.get(prop.name, MISSING)
        if value is MISSING and self._record is not None:
            entry = self._record.get(prop.name)
            if entry is not None and len(entry) > 1:
                value = entry[1]
                if isinstance(value, dict) and "!" in value:
                    raise QemuError(value["!"])
                value = as_inserted(value)
        if value is MISSING:
            value = prop.default if prop.default is not MISSING else self._type_default(prop)
        if value is None and prop.type.startswith("link<"):
            return ""
        return value.path if isinstance(value, Object) else value

    def _type_default(self, prop: Property) -> Any:
        known = self._type_property(prop.name)
        if known is not None and "default-value" in known:
            return known["default-value"]
        value = default_of(prop.type)
        if value is None:
            raise NotEmulated(f"The value of property '{self.type_name}.{prop.name}' is not emulated")
        return value

    def set(self, name: str, value: Any) -> None:
        """Set from a JSON value, as `qom-set` and `object-add` do; raises QemuError."""
        prop = self._writable_property(name)
        self._store(prop, check_typed(prop.visited_as, name, value))

    def set_str(self, name: str, text: str) -> None:
        """Set from text, as `-object a=b` does; raises QemuError."""
        prop = self._writable_property(name)
        self._store(prop, parse_text(prop.visited_as, name, text))

    def _writable_property(self, name: str) -> Property:
        prop = self.find_property(name)
        if prop is None and not self._has_part(name):
            raise self.not_found(name)
        if prop is None or not prop.writable:
            raise QemuError(f"Property '{self.type_name}.{name}' is not writable")
        if not prop.type.startswith("link<"):
            self.check_settable(prop)
        return prop

    def _has_part(self, name: str) -> bool:
        """Whether objects of this type have such a child from the beginning: here they get it with their record."""
        known = self._type_property(name) if self._record is None else None
        return known is not None and known["type"].startswith("child<")

    def check_settable(self, prop: Property) -> None:
        """Raise QemuError where the object's state forbids setting `prop` now; for subclasses."""

    def _store(self, prop: Property, value: Any) -> None:
        if prop.type.startswith("link<"):
            value = self.resolve_link(prop.name, prop.type[len("link<") : -1], value)
            self.check_settable(prop)
        if prop.set is not None:
            prop.set(value)
        else:
            self._values[prop.name] = value

    def resolve_link(self, name: str, target_type: str, path: Any) -> Object | None:
        """The object that a link is set to: None for the empty path; raises QemuError."""
        if not isinstance(path, str):
            raise wrong_type(name, "string")
        if path == "":
            return None
        target, ambiguous = self.vm.qom.lookup(path, target_type)
        if ambiguous:
            raise QemuError(f"Path '{path}' does not uniquely identify an object")
        if target is not None:
            return target
        if self.vm.qom.lookup(path)[0] is not None:
            raise wrong_type(name, target_type)
        raise QemuError(f"Device '{path}' not found", DEVICE_NOT_FOUND)

    def not_found(self, name: str) -> QemuError:
        return QemuError(f"Property '{self.type_name}.{name}' not found")

    def link_target(self, name: str) -> Object | None:
        """The object that the link `name` points to, None if it points nowhere."""
        prop = self.find_property(name)
        if prop is None or not prop.type.startswith("link<"):
            return None
        value = self._values.get(name, MISSING)
        if isinstance(value, Object):
            return value
        path = self.read(prop)
        return self.vm.qom.lookup(path)[0] if path else None


def _path_of(child: Object) -> Callable[[], str]:
    return lambda: child.path


class Container(Object):
    """A container that the model fills. It lists its children as QEMU does: by its hash table, the last slot first."""

    __slots__ = ("_table",)

    def __init__(self, vm: Machine) -> None:
        super().__init__(vm, "container")
        self._table = GHashTable()

    def add_child(self, name: str, child: Object) -> Object:
        super().add_child(name, child)
        self._table.add(child.name)
        return child

    def forget_child(self, name: str) -> None:
        super().forget_child(name)
        self._table.remove(name)

    def in_table_order(self) -> list[Object]:
        """The children as QEMU finds them when it goes through all."""
        return [self._children[name] for name in self._table]

    def properties(self) -> list[Property]:
        self.open_record()
        children = [self.find_property(child.name) for child in reversed(self.in_table_order())]
        return [Property("type", "string", writable=False), *(prop for prop in children if prop is not None)]


class QomTree:
    """The composition tree of one machine.

    The containers that everybody needs exist from the start; all else of a board comes from the profile's tree of that
    board, and not before somebody looks for it (`loaded`).
    """

    __slots__ = (
        "_loaded", "_objects", "anonymous", "chardevs", "machine", "peripheral", "peripheral_anon", "root", "unattached", "vm",
    )  # fmt: skip

    def __init__(self, vm: Machine) -> None:
        self.vm = vm
        self.root = Container(vm)
        self._loaded = False
        #: /machine; None until -machine has chosen
        self.machine: Object | None = None
        self._objects = Container(vm)
        #: /chardevs
        self.chardevs = Container(vm)
        #: /machine/peripheral: devices with an id
        self.peripheral = Container(vm)
        #: /machine/peripheral-anon: devices that a user made without an id
        self.peripheral_anon = Container(vm)
        #: how many of them there were so far, also those that came to nothing: the number of the next
        self.anonymous = 0
        #: /machine/unattached: devices of the board
        self.unattached = Object(vm, "container")
        if not vm.compat.objects_container_late:
            self.root.add_child("objects", self._objects)
        self.root.add_child("chardevs", self.chardevs)

    @property
    def objects(self) -> Container:
        """/objects: user-creatable objects, and what a board makes by itself of that kind. There from the first look on."""
        if self._objects.parent is None:
            self.root.add_child("objects", self._objects)
        return self._objects

    def set_machine(self, machine: Object) -> None:
        """Make `machine` the tree's /machine, with its containers."""
        self.machine = self.root.add_child("machine", machine)
        machine.add_child("unattached", self.unattached)
        machine.add_child("peripheral", self.peripheral)
        machine.add_child("peripheral-anon", self.peripheral_anon)

    def load(self) -> None:
        """Read what the profile tells of this board's tree, once; called before anybody looks around."""
        if not self._loaded and self.machine is not None and self.vm.phase != "preconfig":
            self._loaded = True
            from fakeqemu.qom.registry import load_board_tree

            load_board_tree(self.vm)

    def resolve(self, path: str, type_name: str = "object") -> Object:
        """The object at an absolute or partial path; raises QemuError as `qom-list` does."""
        target, ambiguous = self.lookup(path, type_name)
        if target is None:
            if ambiguous:
                raise QemuError(f"Path '{path}' is ambiguous")
            raise QemuError(f"Device '{path}' not found", DEVICE_NOT_FOUND)
        return target

    def lookup(self, path: str, type_name: str = "object") -> tuple[Object | None, bool]:
        """The object of that type at a path, and whether a partial path matched more than one."""
        self.load()
        parts = [part for part in path.split("/") if part]
        if path.startswith("/"):
            return _resolve_absolute(self.root, parts, type_name), False
        return _resolve_partial(self.root, parts, type_name)

    def find(self, path: str) -> Object | None:
        """The object at an absolute or unique partial path, or None."""
        return self.lookup(path)[0]

    def walk(self, top: Object | None = None) -> list[Object]:
        """Every object below and including `top` (default: the root), parents before children."""
        self.load()
        found = [self.root if top is None else top]
        for at in found:
            found.extend(at.children.values())  # the list grows while we walk it
        return found


def _resolve_absolute(top: Object, parts: list[str], type_name: str) -> Object | None:
    at = top
    for part in parts:
        below = at.child(part) or at.link_target(part)
        if below is None:
            return None
        at = below
    return at if at.is_a(type_name) else None


def _resolve_partial(parent: Object, parts: list[str], type_name: str) -> tuple[Object | None, bool]:
    found = _resolve_absolute(parent, parts, type_name)
    for child in parent.children.values():
        below, ambiguous = _resolve_partial(child, parts, type_name)
        if ambiguous:
            return None, True
        if below is not None:
            if found is not None:
                return None, True
            found = below
    return found, False
