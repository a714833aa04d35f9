# SPDX-License-Identifier: MIT
"""Fault points of the channels: connecting, listening, TLS, the link itself.

QEMU: migration/channel.c, socket.c, exec.c, fd.c, file.c, tls.c.
"""

from __future__ import annotations

from fakeqemu.faults.point import READ, READS, WRITE, WRITES, Point, point

POINTS: tuple[Point, ...] = (
    # before there is a connection
    point("migration_socket_outgoing_connected", "source", "qemu", "Failed to connect to '{address}': {error}", "address",
          "the source's connection", waits=True, connected=False),
    point("migration_tls_outgoing_handshake_start", "source", "qemu", "TLS handshake failed: {error}", "hostname",
          "the source's side of a TLS handshake", waits=True, connected=False),
    point("migration_file_outgoing", "source", "os", "", "filename", "opening the file that is written", connected=False),
    point("migration_exec_outgoing", "source", "os", "", "command", "starting the program that is written to",
          connected=False),
    point("migration_fd_outgoing", "source", "os", "", "fd", "taking a descriptor", connected=False),
    point("qio_channel_socket_listen_sync", "destination", "qemu", "Failed to listen at '{address}': {error}", "address",
          "listening: the reply of migrate-incoming", connected=False),
    point("migration_socket_incoming_accepted", "destination", "os", "", "",
          "accepting a connection; one that is not accepted is closed", connected=False),
    point("migration_tls_incoming_handshake_start", "destination", "qemu", "TLS handshake failed: {error}", "",
          "the destination's side of a TLS handshake: it waits for another connection", waits=True, connected=False),
    point("migration_file_incoming", "destination", "os", "", "filename", "opening the file that is read", connected=False),
    point("migration_exec_incoming", "destination", "os", "", "command", "starting the program that is read from",
          connected=False),
    point("migration_fd_incoming", "destination", "os", "", "fd", "taking a descriptor", connected=False),
    # the link
    point(READ, "both", "os", "", "channel position", "one read of a migration channel", waits=True, flow=READS),
    point(WRITE, "both", "os", "", "channel position size", "one write of a migration channel", waits=True, flow=WRITES),
)  # fmt: skip
