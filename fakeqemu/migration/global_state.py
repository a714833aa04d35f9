# SPDX-License-Identifier: MIT
"""The section "globalstate": the run state in which the guest was when the migration stopped it.

    be32 length of the name + 1, 32 bytes name, 01, suspended?, 66 zero bytes       (7.2: 100 bytes of name)

QEMU: migration/global_state.c
"""

from __future__ import annotations

from fakeqemu.migration.stream.qemu_file import c_string
from fakeqemu.migration.stream.vmstate import PostLoadError, VMStateDescription
from fakeqemu.migration.stream.vmstate_fields import buffer, uint8, uint32
from fakeqemu.system.runstate import PAUSED, RUNNING, SUSPENDED, TRANSITIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.system.machine import Machine

_NAME_SIZE = 32
_OLD_NAME_SIZE = 100
_REST_SIZE = 66


class GlobalState:
    """What is stored before the guest is stopped, and what has come in."""

    __slots__ = ("_vm", "has_vm_was_suspended", "received", "runstate", "size", "unused", "vm_was_suspended")

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self.size = 0
        self.runstate = bytes(self._name_size)
        self.has_vm_was_suspended = 0
        self.vm_was_suspended = 0
        self.unused = bytes(_REST_SIZE)
        #: run state that came in, None when none did
        self.received: str | None = None

    @property
    def _name_size(self) -> int:
        return _NAME_SIZE if self._vm.compat.migration_globalstate_suspended else _OLD_NAME_SIZE

    def store(self) -> None:
        """Keep the run state of now: the one that the other side is to continue with."""
        state = self._vm.runstate
        name = state.state.encode()
        self.size = len(name) + 1
        self.runstate = name.ljust(self._name_size, b"\0")
        self.has_vm_was_suspended = 1
        self.vm_was_suspended = int(state.vm_was_suspended or state.state == SUSPENDED)

    @property
    def is_needed(self) -> bool:
        """Whether the section is sent: always, unless `store-global-state` is off; some releases send it even then when there
        is something particular to say.
        """
        if self._vm.migration.settings.get("store-global-state") is not False:
            return True
        if self._vm.compat.migration_globalstate_optional:
            return False
        return c_string(self.runstate) not in (RUNNING, PAUSED)

    def post_load(self) -> None:
        """Take what came; raises PostLoadError for a run state that does not exist."""
        limit = _NAME_SIZE - 1 if self._vm.compat.migration_globalstate_suspended else _OLD_NAME_SIZE
        name = c_string(self.runstate[:limit])
        self._vm.trace("migrate_global_state_post_load", state=name)
        self._vm.faults.check("migrate_global_state_post_load", state=name)
        if name not in TRANSITIONS:
            raise PostLoadError(f"invalid parameter value: {name}")
        self.received = name
        is_suspended = name == SUSPENDED and self._vm.compat.migration_globalstate_suspended
        self._vm.runstate.vm_was_suspended = bool(self.vm_was_suspended) or is_suspended

    @property
    def next_state(self) -> str:
        """The run state that the guest is to have here; without the section, it runs."""
        return self.received if self.received is not None else RUNNING


def _post_load(state: Any, version_id: int) -> None:  # noqa: ARG001
    state.post_load()


def _is_needed(state: Any) -> bool:
    return bool(state.is_needed)


def description(vm: Machine) -> VMStateDescription:
    """How the section travels in this release."""
    if vm.compat.migration_globalstate_suspended:
        fields = (
            uint32("size"),
            buffer("runstate", _NAME_SIZE),
            uint8("has_vm_was_suspended"),
            uint8("vm_was_suspended"),
            buffer("unused", _REST_SIZE),
        )
    else:
        fields = (uint32("size"), buffer("runstate", _OLD_NAME_SIZE))  # type: ignore[assignment]
    return VMStateDescription("globalstate", 1, 1, fields, needed=_is_needed, post_load=_post_load)
