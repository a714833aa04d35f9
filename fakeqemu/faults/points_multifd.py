# SPDX-License-Identifier: MIT
"""Fault points of multifd: further channels, their packets and their syncs.

Without a point:

    multifd_send, multifd_recv, multifd_queue_page, multifd_ram_flush_and_sync, multifd_recv_sync_main, *_terminate_threads,
    multifd_join_device_state_save_threads            they pass on what went wrong elsewhere, or cannot fail
    multifd_recv_unfill_packet_header, multifd_ram_unfill_packet, multifd_recv_zero_page_process
                                                      what they refuse came over the link: corrupt that
    multifd_send_zero_page_detect, multifd_spawn_device_state_save_thread    cannot fail
    multifd_zlib_send_prepare: room for what is compressed                   memory that grows
    file_write_ramblock_iov: an offset outside of a block                    never asked for
    multifd-qpl.c, multifd-uadk.c, multifd-qatzip.c, multifd-colo.c          no such devices, no such file any more

QEMU: migration/multifd*.c, multifd_file_recv_data and file_write_ramblock_iov in migration/file.c.
"""

from __future__ import annotations

from fakeqemu.faults.point import READS, WRITES, Point, point

_SENDS = "migration-multifd-send-{id}"
_RECEIVES = "migration-multifd-recv-{id}"

POINTS: tuple[Point, ...] = (
    # the source
    point("multifd_new_send_channel_async", "source", "qemu", "Failed to connect to '{address}': {error}", "id address",
          "the connection of a further channel", waits=True),
    point("multifd_send_thread_start", "source", "os", "", "id", "the first packet of a further channel", waits=True,
          flow=WRITES, channel=_SENDS),
    point("fake_multifd_zlib_send_setup", "source", "qemu", "multifd {id}: deflate init failed", "id", "setting up zlib"),
    point("fake_multifd_zstd_send_setup", "source", "qemu", "multifd {id}: zstd createCStream failed", "id",
          "setting up zstd"),
    point("fake_multifd_zlib_send_prepare", "source", "qemu", "multifd {id}: deflate returned -2 instead of Z_OK", "id",
          "compressing the pages of a packet with zlib"),
    point("fake_multifd_zstd_send_prepare", "source", "qemu", "multifd {id}: compressStream error {error}", "id",
          "compressing the pages of a packet with zstd"),
    point("multifd_send_fill", "source", "os", "", "id packet_num", "sending a packet", waits=True, flow=WRITES,
          channel=_SENDS),
    point("fake_file_write_ramblock_iov", "source", "os", "", "id", "writing pages to their places in a file", waits=True,
          flow=WRITES),
    point("fake_multifd_queue_device_state", "source", "qemu", "{id}: Channel error: {error}", "id",
          "handing a part of a device's state to a channel"),
    point("fake_multifd_device_state_send", "source", "os", "", "id idstr", "sending a part of a device's state", waits=True,
          flow=WRITES, channel=_SENDS),
    point("multifd_send_sync_main", "source", "qemu", "Channel error: {error}", "",
          "waiting for all channels at the end of a pass"),
    # the destination
    point("fake_multifd_zlib_recv_setup", "destination", "stream", "multifd {id}: inflate init failed", "id",
          "setting up zlib, the first channel being there"),
    point("fake_multifd_zstd_recv_setup", "destination", "stream", "multifd {id}: zstd createDStream failed", "id",
          "setting up zstd, the first channel being there"),
    point("multifd_recv_new_channel", "destination", "stream", "Unable to read from socket: {error}", "",
          "the first packet of a further channel"),
    point("multifd_recv_unfill", "destination", "stream", "Unable to read from socket: {error}", "id packet_num",
          "a packet, between its header and its pages", flow=READS, channel=_RECEIVES),
    point("fake_multifd_zlib_recv", "destination", "stream", "multifd {id}: inflate returned -3 instead of Z_OK", "id",
          "unpacking the pages of a packet with zlib"),
    point("fake_multifd_zstd_recv", "destination", "stream", "multifd {id}: decompressStream returned {error}", "id",
          "unpacking the pages of a packet with zstd"),
    point("fake_multifd_file_recv_data", "destination", "os", "", "id", "reading pages from their places in a file"),
    point("fake_qemu_loadvm_load_state_buffer", "destination", "stream",
          "Unknown idstr {id} or instance id {instance_id} for load state buffer", "id instance_id",
          "handing a part of a device's state to the device"),
)  # fmt: skip
