# SPDX-License-Identifier: MIT
"""Fault points of the migration itself, its RAM and its device state, on both sides.

QEMU: migration/migration.c, savevm.c, ram.c, vmstate.c, global_state.c.
"""

from __future__ import annotations

from fakeqemu.faults.point import READS, WRITES, Point, point

POINTS: tuple[Point, ...] = (
    # the source
    point("fake_savevm_prepare", "source", "qemu", "{id}: {error}", "id", "asking a live device whether it can go along",
          connected=False),
    point("migration_call_notifiers", "source", "qemu", "Notifier of precopy setup failed: {error}", "event",
          "whoever wants to know of the beginning", waits=True),
    point("open_return_path_on_source", "source", "qemu", "Unable to open return-path", "", "opening the return path"),
    point("fake_ram_save_setup", "source", "qemu", "ram_save_setup failed: {error}", "", "beginning to track dirty pages",
          flow=WRITES),
    point("savevm_section_start", "source", "qemu", "Channel error: {error}", "id phase",
          "a live section behind its header (phase: start, part, end)", waits=True, flow=WRITES),
    point("migration_completion_vm_stop", "source", "qemu", "Failed to stop the VM: {error}", "",
          "stopping the guest for the switchover", waits=True),
    point("migration_block_activation", "source", "qemu", "Block inactivate failed during switchover", "",
          "giving block devices away, the guest being stopped"),
    point("ram_save_complete", "source", "qemu", "Channel error: {error}", "", "the last pass over the RAM", flow=WRITES),
    point("vmstate_save", "source", "qemu", "Channel error: {error}", "id", "saving one device, section header and all",
          flow=WRITES),
    point("source_return_path_thread_loop_top", "source", "qemu", "Unable to read from socket: {error}", "",
          "waiting for a message of the destination", waits=True),
    # the destination
    point("loadvm_state_setup", "destination", "stream", "{error}", "id", "preparing a live device for what will come",
          flow=READS),
    point("qemu_loadvm_state_section", "destination", "stream", "Failed to load section: {error}", "section_type",
          "one section of any kind, behind its first byte", waits=True, flow=READS),
    point("loadvm_process_command", "destination", "stream", "Failed to process command: {error}", "com",
          "a command of the stream, behind its header", waits=True, flow=READS),
    point("vmstate_load_state", "destination", "load", "Failed to load {name}: {error}", "name", "the configuration section",
          flow=READS),
    point("vmstate_load", "destination", "stream", "Failed to load {id}: {error}", "id",
          "loading one device: behind its section header", waits=True, flow=READS),
    point("ram_load_start", "destination", "stream", "", "", "a section of pages", flow=READS),
    point("migrate_global_state_post_load", "destination", "hook", "invalid parameter value: {state}", "state",
          "taking the run state that came"),
    point("migrate_send_rp_message", "destination", "os", "", "msg_type", "a message to the source", waits=True),
)  # fmt: skip
