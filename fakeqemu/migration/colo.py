# SPDX-License-Identifier: MIT
"""COLO: two machines that run the same guest, brought into step by one checkpoint after the other.

QEMU: migration/colo.c, migration/colo-failover.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.system.machine import Machine

NONE = "none"


class Colo:
    """Which half of a pair a machine is (`vm.colo`)."""

    __slots__ = ("_vm", "last_mode", "mode", "reason")

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self.mode = NONE
        self.last_mode = NONE
        self.reason = NONE

    def lost_heartbeat(self) -> None:
        """x-colo-lost-heartbeat; raises QemuError for a machine that is no half of a pair."""
        mode_words = self._vm.compat.migration_colo_mode_words
        raise QemuError("VM is not in COLO mode" if mode_words else "The feature 'colo' is not enabled")
