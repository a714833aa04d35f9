# SPDX-License-Identifier: MIT
"""Connections that `yank` can break when they hang: character devices, migrations, block nodes.

QEMU: util/yank.c
"""

from __future__ import annotations

from fakeqemu.error import DEVICE_NOT_FOUND, QemuError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fakeqemu.system.machine import Machine

    #: QAPI's YankInstance: {"type": "chardev", "id": ...}, {"type": "migration"}, ...
    YankInstance = dict[str, Any]


class YankRegistry:
    """The instances of one machine, in the order of their registration, with what breaks their connections."""

    __slots__ = ("_instances",)

    def __init__(self, vm: Machine) -> None:  # noqa: ARG002 - every part of a machine is made so
        self._instances: list[tuple[YankInstance, list[Callable[[], None]]]] = []

    def register_instance(self, instance: YankInstance) -> None:
        """Raises QemuError when it is registered already."""
        if self._find(instance) is not None:
            raise QemuError("duplicate yank instance")
        self._instances.append((instance, []))

    def unregister_instance(self, instance: YankInstance) -> None:
        found = self._find(instance)
        assert found is not None
        self._instances.remove(found)

    def register_function(self, instance: YankInstance, function: Callable[[], None]) -> None:
        """Have `function()` called when the instance is yanked; it must not wait."""
        found = self._find(instance)
        assert found is not None
        found[1].append(function)

    def unregister_function(self, instance: YankInstance, function: Callable[[], None]) -> None:
        found = self._find(instance)
        assert found is not None
        found[1].remove(function)

    def yank(self, instances: list[YankInstance]) -> None:
        """Break the connections of all `instances`, or of none when one is unknown (QemuError)."""
        found = []
        for instance in instances:
            entry = self._find(instance)
            if entry is None:
                raise QemuError("Instance not found", DEVICE_NOT_FOUND)
            found.append(entry)
        for _instance, functions in found:
            for function in tuple(functions):
                function()

    def query(self) -> list[YankInstance]:
        return [instance for instance, _functions in self._instances]

    def _find(self, instance: YankInstance) -> tuple[YankInstance, list[Callable[[], None]]] | None:
        for entry in self._instances:
            if entry[0] == instance:
                return entry
        return None
