# SPDX-License-Identifier: MIT
"""Fault points of COLO: what the two sides say to each other between checkpoints.

Pages and devices of a checkpoint pass the points of every migration as well (`points_migration`): `ram_save_complete`,
`savevm_section_start`, `vmstate_save` on the primary, `qemu_loadvm_state_section`, `vmstate_load`, `ram_load_start` on the
secondary, with what COLO makes of their failure.

Without a point:

- colo_send_message, colo_receive_message: a message of our own that does not exist. One of the other side's is `corrupt`.
- colo_process_checkpoint, colo_process_incoming_thread: a status that changed before the thread began, a second direction
  that cannot be opened. Nothing comes between the two steps here, and no channel has one direction only.
- colo_incoming_start_dirty_log, colo_flush_ram_cache, colo_record_bitmap, colo_checkpoint_notify and its timer,
  multifd_colo_prepare_recv, multifd_colo_process_recv, vm_start and vm_stop_force_state: nobody looks whether they fail.
- replication_start_all, replication_do_checkpoint_all, replication_get_error_all, replication_stop_all: disks that are
  replicated, of which there are none. colo_notify_compares_event, colo_notify_filters_event: colo-compare and filters of the
  net, likewise.
- failover_request_active, colo_failover_bh, colo_do_failover, primary_vm_do_failover, secondary_vm_do_failover: statuses of a
  failover that are not the expected ones, and a failover while devices are loaded (`relaunch`). A failover is one step here,
  and waits for the BQL that the loading holds. What a client can come by, x-colo-lost-heartbeat refuses by itself.
- ram_block_discard_disable: no device here discards.

QEMU: migration/colo.c, colo-failover.c, multifd-colo.c, and colo_init_ram_cache of ram.c.
"""

from __future__ import annotations

from fakeqemu.faults.point import READS, WRITES, Point, point

POINTS: tuple[Point, ...] = (
    # both
    point("colo_send_message", "both", "qemu", "Can't send COLO message: {error}", "msg", "sending a message to the other half",
          waits=True, flow=WRITES),
    point("colo_receive_message", "both", "qemu", "Can't receive COLO message: {error}", "msg",
          "waiting for a message of the other half", waits=True, flow=READS),
    # the primary
    point("fake_colo_send_message_value", "source", "qemu", "Failed to send value for message:{msg}: {error}", "msg",
          "the size of the devices' state, behind its message", flow=WRITES),
    point("fake_colo_send_vmstate", "source", "os", "", "", "the devices' state: whose failure nobody tells", flow=WRITES),
    # the secondary
    point("fake_colo_init_ram_cache", "destination", "os", "", "block", "memory for the copy of a block"),
    point("fake_colo_receive_message_value", "destination", "qemu", "Failed to get value for COLO message: {msg}: {error}",
          "msg", "the size of the devices' state, behind its message", flow=READS),
    point("fake_colo_receive_vmstate", "destination", "qemu", "Got 0 VMState data, less than expected {size}", "size",
          "the devices' state, behind its size", flow=READS),
)  # fmt: skip
