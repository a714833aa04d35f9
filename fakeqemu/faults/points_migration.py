# SPDX-License-Identifier: MIT
"""Fault points of the migration itself, its RAM and its device state, on both sides.

Held against the sources of QEMU function by function, and against the texts of its binaries, in the order of their code.
Where a place only passes on what somebody else says (a device's handler, a notifier), the words of the point stand for theirs.

Without a point:

- Memory that cannot be had (ram_state_init, compress_threads_save_setup, cpr, most of xbzrle_init: other texts of a place that
  has one) or mapped (ram_block_discard_disable): ours is not the host's. COLO's copies and postcopy's ranges have points.
- Looking at dirty memory (memory_global_dirty_log_start, migration_bitmap_sync): only its listeners fail, of VFIO, which has
  points of its own, and of KVM.
- Taking block devices back (bdrv_activate_all), block migration, dirty bitmaps, snapshots: there are no block devices yet.
  Giving them away has a point.
- RDMA (rdma_registration_*, ram_control_*), Xen (loadvm_section_start_full), CPR (cpr_*, migration_stop_vm before a start):
  not emulated.
- Those that return nothing: vm_start, cpu_synchronize_*, announcing, throttling, counters, load_cleanup, save_cleanup,
  global_state_store (an assertion today), qemu_savevm_state_header, qemu_fclose (its result is not looked at), hooks behind
  saving, precopy_notify (its one user, the balloon, cannot fail).
- qemu_file_set_blocking, qemu_file_get_return_path on a destination: cannot fail for a channel that works.
- xbzrle_cache_resize: the parameter is set before it is compared, so that nothing is resized (seen on 7.2.22: a size that no
  host has is taken).
- What a command answers (options.c, dirtyrate.c, qmp_* of migration.c): an answer of the scenario takes its place.
- A channel's own errors (qemu_fill_buffer, qemu_fflush, qemu_get_*): fake_channel_read and fake_channel_write.

QEMU: migration/migration.c, savevm.c, ram.c, vmstate.c, vmstate-types.c, page_cache.c, qemu-file.c, block-active.c,
global_state.c.
"""

from __future__ import annotations

from fakeqemu.faults.point import READS, WRITES, Point, point

_SETUP_DIFFERS = "Make sure that your current VM setup matches your saved VM setup, including any hotplugged devices"

POINTS: tuple[Point, ...] = (
    # the source
    point("fake_savevm_prepare", "source", "qemu", "{id}: {error}", "id", "asking a live device whether it can go along",
          connected=False),
    point("migration_call_notifiers", "source", "qemu", "Notifier of precopy setup failed: {error}", "event",
          "whoever wants to know of the beginning", waits=True),
    point("open_return_path_on_source", "source", "qemu", "Unable to open return-path", "", "opening the return path"),
    point("savevm_section_start", "source", "qemu", "Channel error: {error}", "id phase",
          "a live section behind its header (phase: start, part, end)", waits=True, flow=WRITES),
    point("fake_xbzrle_init", "source", "qemu", "Failed to allocate page cache", "", "taking the memory for xbzrle's cache"),
    point("fake_ram_save_setup", "source", "qemu", "ram_save_setup failed: {error}", "", "sending the list of RAM blocks",
          flow=WRITES),
    point("migration_pagecache_insert", "source", "os", "", "", "keeping a page in xbzrle's cache: it goes as a whole"),
    point("migration_completion_vm_stop", "source", "qemu", "Failed to stop the VM: {error}", "",
          "stopping the guest for the switchover", waits=True, old="Error in migration completion: {error}"),
    point("migration_block_activation", "source", "os", "", "",
          "giving block devices away, the guest being stopped"),
    point("ram_save_complete", "source", "qemu", "Channel error: {error}", "", "the last pass over the RAM", flow=WRITES),
    point("vmstate_save", "source", "qemu", "Channel error: {error}", "id", "saving one device, section header and all",
          flow=WRITES),
    point("vmstate_save_state_top", "source", "qemu", "pre-save failed: {name}", "name",
          "what a device does before it is saved"),
    point("vmstate_save_state_loop", "source", "qemu", "Save of field {name}/{field} failed: put failed", "name field",
          "saving a device's first field"),
    point("source_return_path_thread_loop_top", "source", "qemu", "Unable to read from socket: {error}", "",
          "waiting for a message of the destination", waits=True),
    # the destination: the whole
    point("fake_loadvm_header", "destination", "stream", "Not a migration stream, magic: {magic} != 5145564d", "magic",
          "the first bytes of the stream", old="Not a migration stream"),
    point("fake_loadvm_configuration", "destination", "stream", "Configuration section missing, {kind} != 7", "kind",
          "the first byte of the configuration section", old="Configuration section missing"),
    point("fake_get_capability", "destination", "load", "Received unknown capability {name}", "name",
          "a capability that the configuration section lists"),
    point("fake_configuration_post_load", "destination", "chained", "Machine type received is '{name}' and local is '{local}'",
          "name local", "the machine type of the configuration section"),
    point("fake_configuration_validate_capabilities", "destination", "chained", "Failed to validate capabilities", "capability",
          "the capabilities of the configuration section", old="Capability {capability} is off, but received capability is on"),
    point("fake_vmstate_uuid_post_load", "destination", "hook", "UUID received is {received} and local is another", "received",
          "the UUID of the configuration section"),
    point("loadvm_state_setup", "destination", "stream", "{error}", "id", "preparing a live device for what will come",
          flow=READS),
    point("qemu_loadvm_state_section", "destination", "stream", "Unknown section type {section_type}", "section_type",
          "one section of any kind, behind its first byte", waits=True, flow=READS,
          old="Unknown savevm section type {section_type}"),
    point("qemu_loadvm_state_section_startfull", "destination", "stream",
          f"Unknown section or instance '{{idstr}}' {{instance_id}}. {_SETUP_DIFFERS}", "idstr instance_id",
          "whose section begins", flow=READS,
          old=f"Unknown savevm section or instance '{{idstr}}' {{instance_id}}. {_SETUP_DIFFERS}"),
    point("fake_loadvm_version", "destination", "stream", "unsupported version {version_id} for '{idstr}' v{local}",
          "idstr version_id local", "the version of a section that begins",
          old="savevm: unsupported version {version_id} for '{idstr}' v{local}"),
    point("qemu_loadvm_state_section_partend", "destination", "stream", "Unknown section {section_id}", "section_id",
          "whose section goes on or ends", flow=READS, old="Unknown savevm section {section_id}"),
    point("fake_check_section_footer", "destination", "stream", "Section footer error, section_id: {section_id}",
          "id section_id", "the footer of a section", flow=READS, old="Missing section footer for {id}"),
    point("fake_loadvm_vmdescription", "destination", "stream", "Expected vmdescription section, but got 0", "",
          "the description at the end of the stream: it is passed over"),
    # ... commands
    point("qemu_loadvm_state_section_command", "destination", "stream", "MIG_CMD 0x{command} unknown (len 0x{length})",
          "command length", "what command it is"),
    point("loadvm_process_command", "destination", "stream", "{com} received with bad length - expecting 0, got {len}", "com len",
          "a command of the stream, behind its header", waits=True, flow=READS),
    point("loadvm_process_command_ping", "destination", "stream", "CMD_PING (0x{value}) received with no return path", "value",
          "a PING"),
    point("fake_loadvm_switchover_start", "destination", "stream", "", "id", "telling a live device of the switchover"),
    point("migrate_send_rp_message", "destination", "os", "", "msg_type", "a message to the source", waits=True),
    # ... devices
    point("vmstate_load", "destination", "stream", "Failed to load {id}: {error}", "id",
          "loading one device: behind its section header", waits=True, flow=READS),
    point("vmstate_load_state", "destination", "load",
          "{name}: incoming version_id {version_id} is too new for local version_id {local}", "name version_id local",
          "the version of a description: of a device, of the configuration section, of one of their subsections", flow=READS),
    point("vmstate_load_state_field", "destination", "stream", "", "name field", "one field of a description", flow=READS),
    point("vmstate_subsection_load", "destination", "load", "VM subsection '{sub}' in '{name}' does not exist", "name sub",
          "a subsection, behind its name", old=""),
    point("fake_vmstate_post_load", "destination", "hook", "", "name", "what a device does when it is loaded"),
    point("migrate_global_state_post_load", "destination", "hook", "invalid parameter value: {state}", "state",
          "taking the run state that came"),
    # ... RAM
    point("ram_load_start", "destination", "stream", "", "", "a section of pages", flow=READS),
    point("fake_parse_ramblocks", "destination", "stream", 'Unknown ramblock "{name}", cannot accept migration', "name",
          "the name of a RAM block"),
    point("fake_qemu_ram_resize", "destination", "stream", "Size mismatch: {name}: 0x{size} != 0x{local}: {error}",
          "name size local", "the size of a RAM block"),
    point("ram_load_loop", "destination", "stream", "Illegal RAM offset {offset}", "block offset", "where a page belongs",
          flow=READS),
    point("fake_handle_zero_page", "destination", "stream", "Found a zero page with value {value}", "value",
          "what a zero page is filled with"),
    point("fake_load_xbzrle", "destination", "stream",
          "Failed to load XBZRLE page - decode error!\nFailed to decompress XBZRLE page at {offset}", "offset",
          "a page that is a difference", flow=READS),
    point("fake_mapped_ram_read_header", "destination", "stream",
          "Could not read whole mapped-ram migration header (expected {expected}, got {got} bytes)", "expected got",
          "the header of a block of a mapped-ram file", flow=READS),
    point("fake_parse_ramblock_mapped_ram", "destination", "stream", "Error reading dirty bitmap", "block",
          "the bitmap of a block of a mapped-ram file"),
    point("fake_read_ramblock_mapped_ram", "destination", "stream",
          "({block}) failed to read page {page}from file offset {offset}: {error}", "block page offset",
          "pages of a block of a mapped-ram file"),
)  # fmt: skip
