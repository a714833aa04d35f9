# SPDX-License-Identifier: MIT
"""State of the devices that a board has by itself, as the profile recorded it, and getting it ready before it is wanted.

Unpacking it and writing its description as text is most of what a small migration does while the guest is stopped. Nothing of
it depends on the moment: an idle emulator does it beforehand (fakeqemu/warm_up.py), a device at a time. What was made ready is
found by all that it is made of, so another machine does not find it.
"""

from __future__ import annotations

from fakeqemu.migration.board_settings import adapted, settings_of
from fakeqemu.migration.further_cpus import with_place_bytes, with_places
from fakeqemu.migration.register import StockState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fakeqemu.migration.board_settings import Settings
    from fakeqemu.system.machine import Machine


def board_state(vm: Machine, data: str, description: dict[str, Any], instance_id: int) -> StockState:
    """The state of a device, from its record: a body as text, and what it is made of."""
    key = data, description["name"], instance_id, _places(vm), settings_of(vm)
    return vm.savevm.ready.pop(key, None) or StockState(_reader(*key, description))


def make_ready(vm: Machine, data: str, description: dict[str, Any], instance_id: int) -> None:
    """Do the work that the first use of such a state is."""
    key = data, description["name"], instance_id, _places(vm), settings_of(vm)
    state = StockState(_reader(*key, description))
    if state.data:
        state.text  # noqa: B018 - made at the first look
        state.is_made_alike(b"", 0)  # and so is what it is compared by
    vm.savevm.ready[key] = state


def _places(vm: Machine) -> int:
    return 1 if vm.board is None else vm.board.smp.maxcpus


def _reader(
    data: str, _name: str, instance_id: int, places: int, settings: Settings | None, description: dict[str, Any]
) -> Callable[[], tuple[bytes, dict[str, Any]]]:
    def read() -> tuple[bytes, dict[str, Any]]:
        from binascii import a2b_base64

        body, desc = adapted(settings, a2b_base64(data), {**description, "instance_id": instance_id})
        if places == 1:
            return body, desc
        return with_place_bytes(body, desc, places), with_places(desc, places)

    return read
