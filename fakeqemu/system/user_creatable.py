# SPDX-License-Identifier: MIT
"""Objects that a user makes: `object-add`, `-object`, and what they have in common.

An object is made in three steps: properties are set one by one in the order of QEMU's dictionary, the object is put under
/objects, and `complete()` does the real work. Whatever fails, nothing is left.

QEMU: qom/object_interfaces.c
"""

from __future__ import annotations

from fakeqemu.error import NotEmulated, QemuError
from fakeqemu.qapi.qdict import ordered
from fakeqemu.qom.object import Object
from fakeqemu.qom.registry import object_class

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.system.machine import Machine


class UserCreatable(Object):
    """Base of the objects that can be made by `object-add`."""

    __slots__ = ()

    def complete(self) -> None:
        """All properties are set: come to life. Raises QemuError."""

    def check_deletable(self) -> None:
        """Raise QemuError when something still uses the object."""


def id_wellformed(text: str) -> bool:
    """Whether QEMU takes a text as an id: a letter, then letters, digits, `-`, `.`, `_`."""
    return text.isascii() and text[:1].isalpha() and all(char.isalnum() or char in "-._" for char in text)


def object_add(vm: Machine, options: dict[str, Any]) -> Object:
    """Make the object that typed `options` (QAPI's ObjectOptions) tell of; raises QemuError."""
    properties = {name: value for name, value in options.items() if name not in ("qom-type", "id")}
    return add_type(vm, options["qom-type"], options["id"], properties)


def add_type(vm: Machine, type_name: str, id: str, properties: dict[str, Any]) -> Object:
    """Make an object of a type below /objects; raises QemuError."""
    if not id_wellformed(id):
        raise QemuError("Parameter 'id' expects an identifier")
    profile = vm.profile
    if not profile.is_type(type_name):
        raise QemuError(f"invalid object type: {type_name}")
    if not profile.implements(type_name, "user-creatable"):
        raise QemuError(f"object type '{type_name}' isn't supported by object-add")
    if profile.is_abstract(type_name):
        raise QemuError(f"object type '{type_name}' is abstract")
    cls = object_class(vm, type_name)
    if not issubclass(cls, UserCreatable):
        raise NotEmulated(f"The object type {type_name} is not emulated")
    made = cls(vm, type_name)
    try:
        for name in ordered(properties):
            made.set(name, properties[name])
        vm.qom.objects.add_child(id, made)
        made.complete()
    except QemuError:
        if made.parent is not None:
            made.unparent()
        raise
    return made


def object_del(vm: Machine, id: str) -> None:
    """Take away what `object_add` made; raises QemuError."""
    target = vm.qom.objects.children.get(id)
    if target is None or not isinstance(target, UserCreatable):
        raise QemuError(f"object '{id}' not found")
    target.check_deletable()
    target.unparent()
