# SPDX-License-Identifier: MIT
"""The destination's leave to switch over (capability switchover-ack), in both generations.

Up to 11.0, and with `switchover-ack-legacy`, the destination counts: its devices that have initial data to get. When all
have it, or there are none, it sends one SWITCHOVER_ACK, and the source waits for that one. From 11.1 on the source
counts: a device asks by what it reports as pending, and each ACK takes one off; where nobody asked, none is sent.

QEMU: migration/migration.c (migration_can_switchover), migration/savevm.c (qemu_loadvm_approve_switchover)
"""

from __future__ import annotations

import os

from fakeqemu.error import QemuError
from fakeqemu.migration.stream import return_path as rp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.migration.loadvm import LoadVM
    from fakeqemu.migration.register import Pending
    from fakeqemu.system.machine import Machine

#: property of QEMU's object `migration`; releases without it are all legacy
_LEGACY = "switchover-ack-legacy"


def is_legacy(vm: Machine) -> bool:
    """Whether the destination counts: by -global, else by the machine type, else by the release."""
    value = vm.migration.settings.get(_LEGACY)
    return value is None or bool(value)


class SwitchoverAck:
    """The source's side."""

    __slots__ = ("_acked", "_legacy", "_underflowed", "_vm", "pending")

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self._legacy = is_legacy(vm)
        self._acked = False
        #: how many ACKs are still waited for
        self.pending = 0
        self._underflowed = False

    def asked(self, pending: Pending) -> None:
        """Devices have said what is left, and how many of them want an ACK for it."""
        self.pending += pending.acks

    def received(self) -> None:
        """An ACK came; raises QemuError when nobody asked for it."""
        if self._legacy:
            self._acked = True
        elif self.pending:
            self.pending -= 1
        else:
            self._underflowed = True
            raise QemuError("Switchover ack pending num underflowed")
        self._vm.trace("source_return_path_thread_switchover_acked", switchover_ack_pending_num=self.pending)

    def allows_switchover(self) -> bool:
        """Whether the guest may be stopped. A guest that does not run has nothing to wait for."""
        if not self._vm.savevm.capability("switchover-ack") or not self._vm.runstate.running:
            return True
        return self._acked if self._legacy else not self.pending and not self._underflowed


class SwitchoverApproval:
    """The destination's side."""

    __slots__ = ("_legacy", "_load", "_pending")

    def __init__(self, load: LoadVM) -> None:
        self._load = load
        self._legacy = is_legacy(load.vm)
        self._pending = 0

    def count(self) -> None:
        """All entries were set up: see who has to get initial data before the switchover."""
        if not self._load.vm.savevm.capability("switchover-ack"):
            return
        self._load.vm.savevm.approve_switchover = self._approve
        if self._legacy:
            for entry in self._load.vm.savevm.live_entries():
                assert entry.handlers is not None
                self._pending += entry.handlers.switchover_ack_needed()

    async def return_path_opened(self) -> None:
        """Where nobody is waited for, the source hears so at once; raises LoadFault."""
        if not self._load.vm.savevm.capability("switchover-ack") or not self._legacy or self._pending:
            return
        number = await self._send()
        if number:
            text, why = "Could not send switchover ack RP MSG", os.strerror(number)
            raise self._load.fault(number, f"{text}: {why}", old=[f"{text}, err -{number} ({why})"])

    async def _approve(self) -> None:
        if self._legacy:
            self._pending -= 1
            self._load.vm.trace("loadvm_approve_switchover", switchover_ack_pending_num=self._pending)
            if self._pending:
                return
        await self._send()

    async def _send(self) -> int:
        if not self._load.return_path_open:
            return 0
        return await self._load.send(rp.MIG_RP_MSG_SWITCHOVER_ACK, b"")
