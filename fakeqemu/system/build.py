# SPDX-License-Identifier: MIT
"""Making a machine: what every way to start one (command line, test, fleet) does first.

    vm = new_machine(host, VersionProfile.load("11.1"), {"seed": "7"})
    board.create_board(vm, "q35")         # vl does this and what follows from a command line
    ...

QEMU: the first half of qemu_init in system/vl.c
"""

from __future__ import annotations

from fakeqemu.system.machine import Machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.host.host import Host
    from fakeqemu.qapi.profile import VersionProfile

COMPAT_PREFIX = "compat."


def new_machine(host: Host, profile: VersionProfile, fake: dict[str, str] | None = None) -> Machine:
    """A machine with no board yet; its parts come to life when they are first used.

    `fake` are the settings of `-fake`; `compat.NAME` overrides a row of qapi/compat.py (ValueError if there is none).
    """
    vm = Machine(host, profile)
    if fake:
        vm.fake = dict(fake)
        rows = {key[len(COMPAT_PREFIX) :]: value for key, value in fake.items() if key.startswith(COMPAT_PREFIX)}
        if rows:
            vm.compat = vm.compat.override(rows)
    return vm
