# SPDX-License-Identifier: MIT
"""A device of the simulation that sends its state on multifd channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.migration.register import SaveVMHandlers, StateSender

if TYPE_CHECKING:
    from fakeqemu.system.machine import Machine

NAME = "0000:00:05.0/vfio"
PARTS = (b"one", b"two" * 1000)


class StateDevice(SaveVMHandlers):
    """Sends two parts, and waits for them on the far side."""

    __slots__ = ("_all_here", "_came", "_vm")

    has_save_thread = True
    has_load_state_buffer = True

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self._all_here: Any = vm.host.event()
        self._came: list[bytes] = []
        vm.savevm.register_live(NAME, 0, 1, self)

    async def save_complete_precopy_thread(self, sender: StateSender) -> None:
        for part in PARTS:
            if not sender.should_exit:
                await sender.send(part)

    async def load_setup(self, f: Any) -> None:
        begin = self._vm.savevm.start_load_thread
        assert begin is not None
        begin(self._all_here.wait(), "mig/dst/device")

    async def load_state_buffer(self, data: bytes) -> None:
        self._came.append(data)
        if sorted(self._came) == sorted(PARTS):
            self._all_here.set()
