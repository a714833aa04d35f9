# SPDX-License-Identifier: MIT
"""Fault points of postcopy and of background snapshots.

Without a point:

    postcopy_notify, postcopy_request_shared_page, postcopy_wake_shared     other processes that share the memory: vhost-user
    munlockall, os_mlock, the area that tests UFFDIO_REGISTER               one test of the kernel stands for all of them
    nhp_range, qemu_madvise                                                 QEMU passes over what goes wrong there
    blocktime_context_new, thread and semaphore set-up                      cannot fail
    loadvm_postcopy_handle_run_bh                                           block devices
    loadvm_postcopy_handle_*: wrong state, length, page size                what they refuse came over the link
    ram_postcopy_send_discard_bitmap, postcopy_preempt_shutdown_file        they write: see fake_channel_write
    migrate_send_rp_*, source_return_path_thread: reading                   migrate_send_rp_message and ..._loop_top, of migration
    open_return_path_on_source at a resume                                  sockets always have one
    ram_write_tracking_available, _compatible                               asked when the capability is set
    huge pages, discarded pages (virtio-mem)                                no such memory

QEMU: migration/postcopy-ram.c, and what migration.c, savevm.c and ram.c do for them; util/userfaultfd.c.
"""

from __future__ import annotations

from fakeqemu.faults.point import READS, WRITES, Point, point

POINTS: tuple[Point, ...] = (
    # background snapshots
    point("ram_write_tracking_ramblock_start", "source", "os", "", "",
          "freezing the memory for a background snapshot: failed, without an error-desc", waits=True),
    point("migration_completion_file_err", "source", "qemu", "Channel error: {error}", "",
          "devices of a background snapshot, all memory being sent", waits=True),
    # the source
    point("postcopy_start", "source", "qemu", "postcopy_start: Failed to stop the VM: {error}", "", "the switch to postcopy",
          waits=True),
    point("qemu_savevm_send_packaged", "source", "qemu", "postcopy_start: Failed to send packaged data", "",
          "sending all devices in one piece", waits=True, flow=WRITES),
    point("postcopy_preempt_new_channel", "source", "qemu", "Failed to connect to '{address}': {error}", "address",
          "the connection of postcopy-preempt", waits=True, connected=False),
    point("migrate_handle_rp_req_pages", "source", "qemu",
          "MIG_RP_MSG_REQ_PAGES: Misaligned page request, start:{start} len: {len}", "start len",
          "the destination asks for a page (start: in hexadecimal digits)", waits=True),
    point("postcopy_preempt_send_host_page", "source", "qemu",
          "ram_save_host_page_urgent() failed: ramblock={ramblock}, start_addr=0x{start_addr}", "ramblock start_addr",
          "sending a page that somebody waits for on the channel of postcopy-preempt", waits=True),
    point("migration_completion_postcopy_end", "source", "qemu", "Channel error: {error}", "", "the end, all pages being sent",
          waits=True, flow=WRITES),
    # the source goes on after a pause
    point("ram_dirty_bitmap_sync_wait", "source", "qemu", "Channel error: {error}", "",
          "asking which pages have come, after a pause", waits=True),
    point("ram_dirty_bitmap_reload_begin", "source", "qemu", "ramblock '{rbname}' end mark incorrect: 0x0", "rbname",
          "the bitmap of the pages of a block that have come", waits=True, flow=READS),
    point("savevm_send_postcopy_resume", "source", "qemu", "Channel error: {error}", "",
          "the last step of a resume", waits=True),
    point("source_return_path_thread_resume_ack", "source", "qemu", "illegal resume_ack value 0", "v",
          "the destination's answer to it"),
    # the destination
    point("loadvm_postcopy_handle_advise", "destination", "os", "", "", "asking the kernel whether it tells of missing pages"),
    point("postcopy_init_range", "destination", "os", "", "block", "emptying a block before anything comes"),
    point("ram_discard_range", "destination", "os", "", "block", "emptying a range that is stale"),
    point("loadvm_handle_cmd_packaged_received", "destination", "stream",
          "CMD_PACKAGED: Buffer receive fail ret=0 length={length}", "length", "all devices in one piece", waits=True),
    point("loadvm_postcopy_handle_listen", "destination", "os", "", "", "opening a descriptor that tells of missing pages"),
    point("fake_userfault_event_fd", "destination", "os", "", "", "opening one that ends who listens to it"),
    point("postcopy_ram_enable_notify", "destination", "os", "", "block", "having it tell of the pages of a block"),
    point("fake_postcopy_temp_pages_setup", "destination", "os", "", "", "memory to assemble pages in"),
    point("postcopy_ram_fault_thread_request", "destination", "os", "", "ramblock",
          "hearing of a page that somebody waits for: nobody is asked for pages any more"),
    point("postcopy_place_page", "destination", "os", "", "block", "putting pages in place"),
    point("postcopy_place_page_zero", "destination", "os", "", "block", "putting pages of zeroes in place"),
    point("postcopy_cleanup_range", "destination", "os", "", "block", "giving a block back: only said when it fails"),
    # the destination goes on after a pause
    point("loadvm_handle_recv_bitmap", "destination", "stream", "block '{block_name}' not found", "block_name",
          "being asked which pages of a block have come", waits=True),
    point("migrate_send_rp_recv_bitmap", "destination", "os", "", "block_name",
          "telling it; the source waits in vain when that fails", waits=True),
)  # fmt: skip
