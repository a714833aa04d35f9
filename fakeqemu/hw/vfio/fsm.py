# SPDX-License-Identifier: MIT
"""The states of a VFIO device and the arcs between them.

A user asks for a state; the device walks there arc by arc, and any arc may fail. Which arcs exist depends on two features
of the device, P2P and PRE_COPY: a state that needs a feature the device lacks is stepped over.

    RUNNING ──── RUNNING_P2P ──── STOP ──── STOP_COPY
       │              │            │            ▲
    PRE_COPY ─── PRE_COPY_P2P   RESUMING        │
                      └─────────────────────────┘

Arcs downwards from the first row, and STOP to STOP_COPY, open a saving session; STOP to RESUMING opens a loading session.
ERROR is never asked for; only a reset leaves it.

QEMU: hw/vfio/migration.c; Linux: drivers/vfio/vfio_main.c
"""

from __future__ import annotations

import errno
import os

ERROR = "error"
STOP = "stop"
RUNNING = "running"
STOP_COPY = "stop-copy"
RESUMING = "resuming"
RUNNING_P2P = "running-p2p"
PRE_COPY = "pre-copy"
PRE_COPY_P2P = "pre-copy-p2p"

#: the kernel's numbers, by name; they stand in error texts and traces
NUMBERS: dict[str, int] = {
    ERROR: 0, STOP: 1, RUNNING: 2, STOP_COPY: 3, RESUMING: 4, RUNNING_P2P: 5, PRE_COPY: 6, PRE_COPY_P2P: 7,
}  # fmt: skip

FLAG_STOP_COPY = 1
FLAG_P2P = 2
FLAG_PRE_COPY = 4

#: the flags of the migration feature without which a device has no such state
REQUIRED_FLAGS: dict[str, int] = {
    STOP: FLAG_STOP_COPY,
    RUNNING: FLAG_STOP_COPY,
    STOP_COPY: FLAG_STOP_COPY,
    RESUMING: FLAG_STOP_COPY,
    RUNNING_P2P: FLAG_STOP_COPY | FLAG_P2P,
    PRE_COPY: FLAG_STOP_COPY | FLAG_PRE_COPY,
    PRE_COPY_P2P: FLAG_STOP_COPY | FLAG_P2P | FLAG_PRE_COPY,
}

#: NEXT_HOP[current][target] is the next state on the way; a missing target cannot be reached. From STOP_COPY the saving
#: session cannot be resumed as PRE_COPY: Linux never ends such a request on a device that can pre-copy, we refuse it.
NEXT_HOP: dict[str, dict[str, str]] = {
    STOP: {
        RUNNING: RUNNING_P2P, PRE_COPY: RUNNING_P2P, PRE_COPY_P2P: RUNNING_P2P, STOP_COPY: STOP_COPY,
        RESUMING: RESUMING, RUNNING_P2P: RUNNING_P2P,
    },
    RUNNING: {
        STOP: RUNNING_P2P, PRE_COPY: PRE_COPY, PRE_COPY_P2P: RUNNING_P2P, STOP_COPY: RUNNING_P2P,
        RESUMING: RUNNING_P2P, RUNNING_P2P: RUNNING_P2P,
    },
    PRE_COPY: {
        STOP: RUNNING, RUNNING: RUNNING, PRE_COPY_P2P: PRE_COPY_P2P, STOP_COPY: PRE_COPY_P2P,
        RESUMING: RUNNING, RUNNING_P2P: RUNNING,
    },
    PRE_COPY_P2P: {
        STOP: RUNNING_P2P, RUNNING: RUNNING_P2P, PRE_COPY: PRE_COPY, STOP_COPY: STOP_COPY,
        RESUMING: RUNNING_P2P, RUNNING_P2P: RUNNING_P2P,
    },
    STOP_COPY: {STOP: STOP, RUNNING: STOP, RESUMING: STOP, RUNNING_P2P: STOP},
    RESUMING: {STOP: STOP, RUNNING: STOP, PRE_COPY: STOP, PRE_COPY_P2P: STOP, STOP_COPY: STOP, RUNNING_P2P: STOP},
    RUNNING_P2P: {
        STOP: STOP, RUNNING: RUNNING, PRE_COPY: RUNNING, PRE_COPY_P2P: PRE_COPY_P2P, STOP_COPY: STOP, RESUMING: STOP,
    },
    ERROR: {},
}  # fmt: skip

#: arcs that open a saving session (a new data descriptor)
OPENS_SAVING: tuple[tuple[str, str], ...] = (
    (STOP, STOP_COPY), (RUNNING, PRE_COPY), (RUNNING_P2P, PRE_COPY_P2P),
)  # fmt: skip

#: the arc that opens a loading session and wipes the device's internal state
OPENS_LOADING: tuple[str, str] = (STOP, RESUMING)

#: states in which a saving session is open
SAVING = (STOP_COPY, PRE_COPY, PRE_COPY_P2P)
PRE_COPYING = (PRE_COPY, PRE_COPY_P2P)
#: states in which the device works for the guest, at least in part
WORKING = (RUNNING, RUNNING_P2P, PRE_COPY, PRE_COPY_P2P)


def has_state(state: str, flags: int) -> bool:
    """Whether a device with these flags knows the state (and it may be asked for)."""
    required = REQUIRED_FLAGS.get(state)
    return required is not None and flags & required == required


def next_hop(current: str, target: str, flags: int) -> str:
    """The state in which the next arc on the way to `target` ends; raises OSError(EINVAL) if there is no way."""
    if not has_state(target, flags) or not has_state(current, flags):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    hop = NEXT_HOP[current].get(target)
    while hop is not None and not has_state(hop, flags):
        hop = NEXT_HOP[hop].get(target)
    if hop is None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return hop


def path(current: str, target: str, flags: int) -> list[str]:
    """The states that a device passes on the way from `current` to `target`, `target` last; empty when it is there.

    Raises OSError(EINVAL) before anything happens when the target or one of the hops cannot be.
    """
    if not has_state(target, flags):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    hops: list[str] = []
    while current != target:
        current = next_hop(current, target, flags)
        hops.append(current)
    return hops
