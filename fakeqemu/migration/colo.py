# SPDX-License-Identifier: MIT
"""COLO: two machines that run the same guest, brought into step by one checkpoint after the other.

What a machine knows of it while nothing goes on; the work is done by its half (colo_half), which is there from the end of a
migration with x-colo until the half goes on alone.

QEMU: migration/colo.c, migration/colo-failover.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.migration import state as st

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.migration.colo_half import ColoHalf
    from fakeqemu.system.machine import Machine

NONE = "none"
PRIMARY = "primary"
SECONDARY = "secondary"
REQUEST = "request"
ERROR = "error"
PROCESSING = "processing"


class Colo:
    """Which half of a pair a machine is (`vm.colo`)."""

    __slots__ = ("_vm", "half", "last_mode")

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self.last_mode = NONE
        #: the latest one, also when it has ended
        self.half: ColoHalf | None = None

    @property
    def mode(self) -> str:
        """By the status of the migration: one that is cancelled ends the mode, whatever its half does."""
        if not self._vm.has_part("migration"):
            return NONE
        mig = self._vm.migration
        if mig.state == st.COLO:
            return PRIMARY
        return SECONDARY if mig.incoming is not None and mig.incoming.state == st.COLO else NONE

    @property
    def reason(self) -> str:
        """Why the machine is no half any more."""
        if self.half is None or not self.half.failing_over:
            return NONE
        return REQUEST if self.half.failed_over else PROCESSING

    async def lost_heartbeat(self) -> None:
        """x-colo-lost-heartbeat: go on alone; raises QemuError for a machine that is no half of a pair."""
        mode = self.mode
        if mode == NONE or self.half is None:
            words = self._vm.compat.migration_colo_mode_words
            raise QemuError("VM is not in COLO mode" if words else "The feature 'colo' is not enabled")
        if self.half.failing_over:
            raise QemuError("COLO failover is already activated")
        self.last_mode = mode
        await self.half.fail_over()

    def checkpoint_delay_set(self) -> None:
        """The parameter was set: a checkpoint is made now, and from then on as often as it says."""
        if self.half is not None and self.mode == PRIMARY:
            self.half.delay_set()
