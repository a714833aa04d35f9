# SPDX-License-Identifier: MIT
"""Fault points of the channels: connecting, listening, TLS, the link itself.

Without a point:

    file_parse_offset, migrate_uri_parse, migrate_channels_parse      a matter of what was asked, not of the host
    fd_is_pipe, migration_fd_valid, qio_channel_new_fd               a matter of the descriptor that was handed over
    migration_channel_identify                                       what it refuses came over the link: corrupt that
    migration_socket_outgoing_error (zero copy)                      the kind of address decides, not a call
    qemu_file_set_blocking, qio_channel_set_delay                    a channel of ours has no such mode
    migration_yank_iochannel, qio_channel_shutdown, qio_channel_close, migration_tls_channel_end
                                                                     QEMU passes over what goes wrong there
    qio_channel_command_abort, _wait                                 a program of ours is not waited for
    rdma.c, channel-block.c, cpr-*.c                                 not part of these migrations

QEMU: migration/channel.c, socket.c, exec.c, fd.c, file.c, tls.c, yank_functions.c; io/channel-*.c, net-listener.c.
"""

from __future__ import annotations

from fakeqemu.faults.point import READ, READS, WRITE, WRITES, Point, point

POINTS: tuple[Point, ...] = (
    # before there is a connection
    point("migration_socket_outgoing_connected", "source", "qemu", "Failed to connect to '{address}': {error}", "address",
          "the source's connection", waits=True, connected=False),
    point("qio_channel_socket_connect_complete", "source", "qemu", "Unable to query remote socket address: {error}", "address",
          "asking who is at the other end of a connection that was made", connected=False),
    point("migration_file_outgoing", "source", "os", "", "filename", "opening the file that is written", connected=False),
    point("fake_file_truncate", "source", "os", "", "filename", "cutting the file that is written to its beginning",
          connected=False),
    point("fake_qio_channel_io_seek", "both", "os", "", "filename", "going to where a migration begins in its file",
          connected=False),
    point("fake_qemu_set_offset", "source", "os", "", "block", "going behind the pages of a block in a mapped-ram file",
          connected=False),
    point("fake_monitor_fdset_dup_fd_add", "both", "os", "", "filename", "opening what a set of descriptors holds",
          connected=False),
    point("migration_exec_outgoing", "source", "os", "", "command", "starting the program that is written to",
          connected=False),
    point("migration_fd_outgoing", "source", "os", "", "fd", "taking a descriptor", connected=False),
    point("qio_channel_socket_listen_sync", "destination", "qemu", "Failed to listen at '{address}': {error}", "address",
          "listening: the reply of migrate-incoming", connected=False),
    point("qio_channel_socket_listen_complete", "destination", "qemu", "Unable to query local socket address: {error}",
          "address", "asking at what address it listens", connected=False),
    point("migration_socket_incoming_accepted", "destination", "os", "", "",
          "accepting a connection; one that is not accepted is closed", connected=False),
    point("migration_file_incoming", "destination", "os", "", "filename", "opening the file that is read", connected=False),
    point("migration_exec_incoming", "destination", "os", "", "command", "starting the program that is read from",
          connected=False),
    point("migration_fd_incoming", "destination", "os", "", "fd", "taking a descriptor", connected=False),
    point("migration_set_incoming_channel", "destination", "os", "", "", "looking at the first bytes of a connection",
          waits=True, connected=False),
    # TLS: of the main channel, and of others
    point("fake_migration_tls_get_creds", "both", "qemu", "No TLS credentials with id '{id}'", "id",
          "looking for the credentials", connected=False),
    point("qcrypto_tls_session_new", "both", "qemu", "Cannot initialize TLS session: {error}", "", "making a TLS session",
          connected=False),
    point("migration_tls_outgoing_handshake_start", "source", "qemu", "TLS handshake failed: {error}", "hostname",
          "the source's side of a TLS handshake", waits=True, connected=False),
    point("multifd_tls_outgoing_handshake_start", "source", "qemu", "TLS handshake failed: {error}", "hostname",
          "the same on a channel of multifd", waits=True, connected=False),
    point("postcopy_preempt_tls_handshake", "source", "qemu", "TLS handshake failed: {error}", "hostname",
          "the same on the channel of postcopy-preempt", waits=True, connected=False),
    point("migration_tls_incoming_handshake_start", "destination", "qemu", "TLS handshake failed: {error}", "",
          "the destination's side of a TLS handshake: it waits for another connection", waits=True, connected=False),
    point("qcrypto_tls_session_check_creds", "both", "qemu", "Verify failed: {error}", "",
          "seeing who the other side is, the handshake being done", connected=False),
    # the link
    point(READ, "both", "os", "", "channel position", "one read of a migration channel", waits=True, flow=READS),
    point(WRITE, "both", "os", "", "channel position size", "one write of a migration channel", waits=True, flow=WRITES),
)  # fmt: skip
