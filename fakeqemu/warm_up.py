# SPDX-License-Identifier: MIT
"""What makes the first migration as fast as the second: its modules are loaded and its records read while the emulator has
nothing to do.

Piece by piece, between looks at the monitors, so that a command waits for one module at most. A machine that is asked to
migrate before that loads what is missing then.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from fakeqemu.system.machine import Machine

#: lower ones first, so that each is one piece
MODULES = (
    "array", "binascii", "struct", "json.decoder", "json.encoder", "fakeqemu.qapi.events", "fakeqemu.system.fds",
    "fakeqemu.system.guest", "fakeqemu.migration.stream.section", "fakeqemu.migration.stream.ram_page",
    "fakeqemu.migration.stream.qemu_file",
    "fakeqemu.migration.stream.vmstate", "fakeqemu.migration.stream.vmstate_fields", "fakeqemu.migration.stream.vmdesc",
    "fakeqemu.migration.stream.return_path",
    "fakeqemu.migration.state", "fakeqemu.migration.options", "fakeqemu.migration.stats", "fakeqemu.migration.global_state",
    "fakeqemu.migration.configuration", "fakeqemu.migration.board_settings", "fakeqemu.migration.board_state",
    "fakeqemu.migration.board_changes",
    "fakeqemu.migration.savevm",
    "fakeqemu.migration.channel",
    "fakeqemu.migration.rate", "fakeqemu.migration.page_sink", "fakeqemu.migration.cpu_throttle", "fakeqemu.migration.ram",
    "fakeqemu.migration.switchover",
    "fakeqemu.migration.return_path", "fakeqemu.migration.giving_up", "fakeqemu.migration.outgoing",
    "fakeqemu.migration.ram_load",
    "fakeqemu.migration.kept_state", "fakeqemu.migration.load_commands", "fakeqemu.migration.loadvm",
    "fakeqemu.net.announce", "fakeqemu.migration.incoming", "fakeqemu.migration.begin_incoming",
    "fakeqemu.migration.begin", "fakeqemu.migration.qmp_cmds",
)  # fmt: skip


class WarmUp:
    """The work, and how far it has come."""

    __slots__ = ("_steps", "_vm")

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self._steps = self._work()

    def step(self) -> bool:
        """Do one piece; False when all is done."""
        if next(self._steps, False):
            return True
        self._vm.host.when_idle(None)
        return False

    def _work(self) -> Iterator[bool]:
        for name in MODULES:
            __import__(name)
            yield True
        from fakeqemu.migration.savevm import board_block_list, make_ready

        board_block_list(self._vm)
        yield True
        yield from make_ready(self._vm)
