# SPDX-License-Identifier: MIT
"""Fault points of multifd: further channels, their packets and their syncs.

QEMU: migration/multifd*.c.
"""

from __future__ import annotations

from fakeqemu.faults.point import READS, WRITES, Point, point

POINTS: tuple[Point, ...] = (
    point("multifd_new_send_channel_async", "source", "qemu", "Failed to connect channel {id}: {error}", "id",
          "the connection of a further channel", waits=True),
    point("multifd_send_fill", "source", "qemu", "multifd_send {id}: {error}", "id packet_num", "sending a packet",
          waits=True, flow=WRITES, channel="migration-multifd-send-{id}"),
    point("multifd_send_sync_main", "source", "qemu", "multifd_send_sync_main: {error}", "",
          "waiting for all channels at the end of a pass"),
    point("multifd_recv_new_channel", "destination", "stream", "{error}", "", "the first packet of a further channel"),
    point("multifd_recv_unfill", "destination", "stream", "multifd {id}: {error}", "id packet_num",
          "a packet, between its header and its pages", flow=READS, channel="migration-multifd-recv-{id}"),
)  # fmt: skip
