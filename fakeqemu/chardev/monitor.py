# SPDX-License-Identifier: MIT
"""A monitor as the front end of a chardev. The monitor itself is handed in: chardevs know no monitor.

    attach_monitor(chardev, lambda **io: MonitorQMP(vm, pretty=pretty, **io))

QEMU: monitor/qmp.c (monitor_init_qmp), monitor/hmp.c
"""

from __future__ import annotations

from fakeqemu.chardev.char import CLOSED, OPENED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol, TypeVar

    from fakeqemu.chardev.char import Chardev

    class Monitor(Protocol):
        """What a monitor is told by its chardev."""

        def connected(self) -> None: ...
        def receive_data(self, data: bytes, fds: Sequence[int] = (), /) -> None: ...
        def disconnected(self) -> None: ...

    M = TypeVar("M", bound=Monitor)


def attach_monitor(chardev: Chardev, make: Callable[..., M]) -> M:
    """Claim `chardev` (QemuError when it is in use) and give it to the monitor that `make` returns.

    `make` is called with `write`, `pause_reading`, `resume_reading` and `name`.
    """
    chardev.claim()
    monitor = make(
        write=chardev.write,
        pause_reading=chardev.pause_input,
        resume_reading=chardev.resume_input,
        name=chardev.label,
    )

    def on_event(event: str) -> None:
        if event == OPENED:
            monitor.connected()
        elif event == CLOSED:
            monitor.disconnected()

    chardev.set_frontend(monitor.receive_data, on_event)
    return monitor
