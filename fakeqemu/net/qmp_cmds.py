# SPDX-License-Identifier: MIT
"""QMP commands of networks.

QEMU: net/announce.c
"""

from __future__ import annotations

from fakeqemu.monitor.registry import qmp_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.system.machine import Machine


@qmp_command
def qmp_announce_self(
    vm: Machine,
    *,
    initial: int,
    max: int,
    rounds: int,
    step: int,
    interfaces: list[str] | None = None,
    id: str = "",
) -> None:
    """Have the guest's network cards say where they are."""
    vm.announcer.announce({"initial": initial, "max": max, "rounds": rounds, "step": step}, interfaces, id=id)
