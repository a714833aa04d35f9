# SPDX-License-Identifier: MIT
"""Compat rows of migration, of memory and of VFIO devices. By subject, in the order of the alphabet."""

from __future__ import annotations

from fakeqemu.qapi.compat_row import CompatRow

ROWS: tuple[CompatRow, ...] = (
    # --- dirty rate ---
    CompatRow(
        "dirty_limit_negative_refused",
        "The human monitor's set_vcpu_dirty_limit takes no negative number.",
        (((), False), ((8, 1), True)),
        "`invalid dirty page limit -5`; before, a very large one.",
    ),
    CompatRow(
        "dirty_rate_milliseconds",
        "calc-dirty-rate measures for 50 ms to 60 s, in units that can be chosen.",
        (((), False), ((8, 2), True)),
        "`Calculation time is out of range [50ms, 60000ms].`; before, 1 to 60 whole seconds: `calc-time is out of range[1, 60].`",
    ),
    CompatRow(
        "dirty_rate_samples_refused",
        "calc-dirty-rate takes sample-pages in the mode page-sampling only.",
        (((), False), ((8, 0), True)),
        "`sample-pages is used only in page-sampling mode`; before, without a meaning in the mode dirty-bitmap.",
    ),
    CompatRow(
        "dirty_rate_wall_clock",
        "The start-time of query-dirty-rate is the wall clock's.",
        (((), False), ((8, 2), True)),
        "Seconds since 1970; before, since the host was started.",
    ),
    # --- memory ---
    CompatRow(
        "memdev_busy_text",
        "The words for a memory backend that cannot be deleted because it is in use; ID stands for its id.",
        (
            ((), "object 'ID' is in use, can not be deleted"),
            ((11, 0, 0), "Cannot delete host memory backend 'ID' which is mapped"),
        ),
        "The error of object-del.",
    ),
    CompatRow(
        "memdev_page_multiple",
        "The size of a memory-backend-file is a multiple of the page size, and a file too small is told by name.",
        (((), False), ((9, 0, 0), True)),
        "`memory size must be multiple of 4 KiB`; `... is too small for 'size' option ...`.",
    ),
    CompatRow(
        "memdev_readonly_creates",
        "A memory-backend-file with readonly=on makes a file that is not there.",
        (((), True), ((9, 0, 0), False)),
        "A new empty file, before; an error now.",
    ),
    CompatRow(
        "memory_load_transaction",
        "Loading the devices of an incoming migration is one memory transaction.",
        (((), False),),
        "The memory topology is rendered once per load, not once per device: a shorter downtime.",
    ),
    CompatRow(
        "memory_read_policy",
        "How a read of memory that is not there or not ready is treated while devices are loaded.",
        (((), "stale"),),
        "`stale` reads through the last rendered topology; `force` renders the pending one first, at its cost.",
        ("stale", "strict", "force", "rcu"),
    ),
    # --- blocktime ---
    CompatRow(
        "blocktime_engine",
        "How the destination of a postcopy accounts for vCPUs that wait for pages.",
        (((), "array"), ((10, 1), "hash")),
        "Two members of query-migrate, in milliseconds; or six, with latencies in nanoseconds and their distribution.",
        ("array", "hash"),
    ),
    # --- migration ---
    CompatRow(
        "migration_blocks_given_first",
        "Block devices are given away before anything is sent of a guest that was stopped.",
        (((), False), ((10, 0), True)),
        "What is on the wire when they cannot be: nothing; before, all but the end.",
    ),
    CompatRow(
        "migration_cancelled_in_setup",
        "A migration that is given up while it connects is cancelled at once.",
        (((), False), ((10, 0), True), ((10, 1), False)),
        "[cancelling] [cancelled] before the reply; else the second comes when the connection has ended.",
    ),
    CompatRow(
        "migration_capabilities_when_listening",
        "Multifd and postcopy-preempt cannot be set once the destination listens.",
        (((), False), ((8, 0), True)),
        "`Multifd must be set before incoming starts`.",
    ),
    CompatRow(
        "migration_continue_to_device_state",
        "A plain precopy passes through the status `device`.",
        (((), False), ((9, 0), True)),
        "A MIGRATION event `device` after STOP; before, only with pause-before-switchover.",
    ),
    CompatRow(
        "migration_discard_function",
        "Which function says that a range of RAM cannot be discarded.",
        (((), "ram_block_discard_range"), ((10, 1), "ram_block_discard_shared_range")),
        "`ram_block_discard_range: Overrun block 'ram' (...)`.",
        ("ram_block_discard_range", "ram_block_discard_shared_range"),
    ),
    CompatRow(
        "migration_error_chain",
        "The error-desc of a failed load says what went wrong.",
        (((), False), ((11, 0), True)),
        "`load of migration failed: Invalid argument: Unknown section ...`; before, only the errno's text, the rest on stderr.",
    ),
    CompatRow(
        "migration_exit_on_error",
        "A failed load can leave the process alive (exit-on-error=false), and its error-desc is kept.",
        (((), False), ((9, 1), True)),
        "7.2 always exits.",
    ),
    CompatRow(
        "migration_expected_downtime_exact",
        "The expected downtime is worked out at each exact look at what is left.",
        (((), False), ((11, 0), True)),
        "9223372036854775807 while no bandwidth is known and nothing is left; before, the downtime limit until pages got dirty.",
    ),
    CompatRow(
        "migration_failing_state",
        "The status `failing` comes before `failed`.",
        (((), False), ((11, 0), True)),
        "MIGRATION events failing, failed; RESUME between them where the guest had been stopped, before: after failed. A broken "
        "multifd channel has the first of them told twice.",
    ),
    CompatRow(
        "migration_fd_file_refused",
        "`fd:` takes only sockets and pipes.",
        (((), False), ((10, 1), True)),
        "`fd: migration to a file is not supported. Use file: instead.`",
    ),
    CompatRow(
        "migration_fd_file_warned",
        "`fd:` with what is neither socket nor pipe warns.",
        (((), False), ((9, 1), True), ((10, 1), False)),
        "`warning: fd: migration to a file is deprecated. Use file: instead.`, later an error.",
    ),
    CompatRow(
        "migration_file_transport",
        "A migration can go to a file: `file:PATH[,offset=SIZE]`.",
        (((), False), ((8, 2), True)),
        "Before, an address of no known kind.",
    ),
    CompatRow(
        "migration_file_words",
        "A file that cannot be opened is worded by what was to be done with it.",
        (((), False), ((8, 1), True)),
        "`Could not create 'X': ...`; before, `Unable to open X: ...`.",
    ),
    CompatRow(
        "migration_final_sync_counted",
        "The look at the dirty bitmap after the guest has stopped is a pass of its own.",
        (((), True), ((11, 0), False)),
        "One more MIGRATION_PASS after STOP, one more in dirty-sync-count.",
    ),
    CompatRow(
        "migration_first_pass_event",
        "The first look at the dirty bitmap, in setup, is announced.",
        (((), True), ((11, 0), False)),
        "MIGRATION_PASS 1 between setup and active.",
    ),
    CompatRow(
        "migration_block_entry",
        "Disks can be migrated with the guest: they stand before its RAM among what is saved.",
        (((), True), ((9, 1), False)),
        "The number of RAM's sections in the stream: 2, then 1.",
    ),
    CompatRow(
        "migration_globalstate_optional",
        "Without store-global-state the section globalstate is never sent.",
        (((), False), ((9, 0), True)),
        "Before, it was for a guest that neither ran nor was paused: prelaunch, guest-panicked.",
    ),
    CompatRow(
        "migration_globalstate_suspended",
        "The section globalstate says whether the guest was suspended.",
        (((), False), ((9, 0), True)),
        "The run state is 32 bytes and two flags instead of 100 bytes.",
    ),
    CompatRow(
        "migration_hmp_compact",
        "The form of `info migrate`: compact, settings only with -a; or a line a counter, settings first.",
        (((), False), ((10, 1), True)),
        "`Status: active` or `Migration status: active`.",
    ),
    CompatRow(
        "migration_hmp_detached_words",
        "The human monitor says when it does not wait for the end of a migration because it cannot.",
        (((), True), ((11, 0), False)),
        "`terminal does not allow synchronous migration, continuing detached`.",
    ),
    CompatRow(
        "migration_hmp_raw_value",
        "`migrate_set_parameter` takes all that is left of the line, quotes and spaces with it.",
        (((), False), ((10, 2), True)),
        "`cpr-exec-command` is a line of words.",
    ),
    CompatRow(
        "migration_ignore_shared_named",
        "x-ignore-shared leaves only shared files with a name behind.",
        (((), False), ((8, 1), True)),
        "Shared memfds and anonymous shared memory travel; 7.2 leaves them behind as well.",
    ),
    CompatRow(
        "migration_incoming_setup_first",
        "A destination enters `setup` before it looks at the address, and leaves it when that is bad.",
        (((), True), ((8, 2), False)),
        "An event MIGRATION setup even for `nosuch:`; another try is possible after a failed bind.",
    ),
    CompatRow(
        "migration_incoming_setup_status",
        "query-migrate of a destination that listens has a status.",
        (((), False), ((8, 2), True)),
        "`status: setup` beside socket-address.",
    ),
    CompatRow(
        "migration_inet_options_checked",
        "Options of a tcp address are taken by name, and unknown ones refused.",
        (((), False), ((10, 1), True)),
        "`Invalid parameter 'bogus'`; before, what is not known is passed over.",
    ),
    CompatRow(
        "migration_load_setup_reason",
        "A destination that cannot prepare a device says why.",
        (((), False), ((9, 1), True)),
        "`Load state of device ram failed: Input/output error`; before, without the reason.",
    ),
    CompatRow(
        "migration_mapped_page_size",
        "A mapped-ram file has to have pages of the size that the target has.",
        (((), False), ((11, 0), True)),
        "Where not, their size only tells how many bits of the bitmap count.",
    ),
    CompatRow(
        "migration_option_words",
        "How a parameter out of range is refused.",
        (((), "parameter"), ((10, 2), "option")),
        "`Parameter 'downtime_limit' expects ...` or `Option downtime-limit expects ...`.",
        ("parameter", "option"),
    ),
    CompatRow(
        "migration_paused_guest_forgotten",
        "A guest that did not run is as after a migration when one has failed, or was cancelled, behind the switchover.",
        (((), True), ((9, 0), False)),
        "Run state postmigrate, for which there is no other migration; later, what it was before. Seen on 7.2.22.",
    ),
    CompatRow(
        "migration_peek_magic",
        "The destination looks at the first bytes of a connection before it takes it for the main one.",
        (((), False), ((10, 1), True)),
        "`unknown channel magic: N` on stderr, setup then failed without error-desc; before: active, failed.",
    ),
    CompatRow(
        "migration_pending_equal",
        "The threshold itself is low enough for an exact look at what is left.",
        (((), False), ((11, 0), True)),
        "A migration shorter than the first window still makes a second pass: MIGRATION_PASS 2 before STOP.",
    ),
    CompatRow(
        "migration_ram_compression",
        "Pages may travel compressed one by one, where a capability says so, and transports may hook into the RAM section.",
        (((), True), ((9, 1), False)),
        "`Received an unexpected compressed page`, or nothing, where later releases know no such flags.",
    ),
    CompatRow(
        "migration_ram_skipped",
        "query-migrate counts skipped pages: none, ever.",
        (((), True), ((9, 1), False)),
        "ram.skipped.",
    ),
    CompatRow(
        "migration_ram_word_checked",
        "A destination whose connection ends between two records of the RAM section says so.",
        (((), False), ((8, 1), True)),
        "`Getting RAM address failed`; before, `Unknown combination of migration flags: 0x0`.",
    ),
    CompatRow(
        "migration_rate_counts_put",
        "The bandwidth limit looks at every record that is put into the stream.",
        (((), True), ((8, 0), False)),
        "Little is sent in a window when the limit is low; later, at least a buffer of 32 KiB.",
    ),
    CompatRow(
        "migration_rdma_checked",
        "When it is looked at what RDMA cannot be used with: never, by a destination that begins to listen, or first.",
        (((), "never"), ((8, 2), "listening"), ((10, 1), "first")),
        "`RDMA and XBZRLE can't be used together`; first: with postcopy-ram, too, on both sides.",
        ("never", "listening", "first"),
    ),
    CompatRow(
        "migration_rdma_errors_printed",
        "Errors of RDMA are printed on stderr, too.",
        (((), True), ((8, 2), False)),
        "`RDMA ERROR: ...` without a program's name.",
    ),
    CompatRow(
        "migration_return_path_errors",
        "Errors of the return path become error-desc.",
        (((), False), ((8, 2), True)),
        "Before, they are only printed on stderr, with `RP: ` in front.",
    ),
    CompatRow(
        "migration_save_errors_printed",
        "Because of which errors a section that cannot be sent is named on stderr: -5 of the main channel, -1 of another.",
        (((), ""), ((8, 0), "-5"), ((11, 0), "-5 -1")),
        "`failed to save SaveStateEntry with id(name): 1(ram): -5`.",
    ),
    CompatRow(
        "migration_setup_error_words",
        "A channel that breaks during setup is worded as the RAM's error.",
        (((), False), ((9, 1), True)),
        "`ram_save_setup failed: Input/output error`.",
    ),
    CompatRow(
        "migration_snapshot_starts",
        "A background snapshot leaves the guest running, also one that was paused.",
        (((), True), ((9, 0), False)),
        "RESUME of a guest that somebody had stopped.",
    ),
    CompatRow(
        "migration_snapshot_sync_counted",
        "The look at the dirty bitmap in setup counts as one also in a background snapshot.",
        (((), False), ((11, 0), True)),
        "ram.dirty-sync-count is 1, before 0.",
    ),
    CompatRow(
        "migration_switchover_errors",
        "What error-desc says of a section that cannot be sent, or of a switchover that cannot be: nothing, in general, or what.",
        (((), "none"), ((9, 0), "general"), ((11, 0), "own")),
        "`Failed to save iterable device state: Unable to write to file: File too large`, in 10.0 without the first part. A "
        "cancel at the switchover: `Switchover is interrupted`, in 10.0 `Channel error: Input/output error`. In 7.2 failed or "
        "cancelled, without a word: there only a channel that breaks before the switchover is told of.",
        ("none", "general", "own"),
    ),
    CompatRow(
        "migration_switchover_start",
        "The source says with a command of its own that the last phase begins.",
        (((), False), ((10, 0), True)),
        "SWITCHOVER_START in the stream.",
    ),
    CompatRow(
        "migration_throttle_sync",
        "With auto-converge, whether the dirty bitmap is looked at when five seconds have passed without that, as a pass of its "
        "own or silently.",
        (((), "off"), ((9, 2), "pass"), ((11, 0), "silent")),
        "A throttle that rises also while a pass takes long; MIGRATION_PASS then, or not.",
        ("off", "pass", "silent"),
    ),
    CompatRow(
        "migration_top_remaining",
        "query-migrate says what is left of all state, not only of RAM.",
        (((), False), ((11, 0), True)),
        "`remaining` beside `ram`.",
    ),
    CompatRow(
        "migration_transferred_all",
        "ram.transferred counts all bytes of the main channel.",
        (((), False), ((8, 1), True)),
        "Before, only those of page records: precopy, downtime, postcopy and multifd bytes.",
    ),
    CompatRow(
        "migration_uri_words",
        "How an address of no known kind is refused, and when.",
        (((), "late"), ((8, 2), "early")),
        "`Parameter 'uri' expects a valid migration protocol` with status failed, or `unknown migration protocol: X` with no "
        "change of status.",
        ("late", "early"),
    ),
    CompatRow(
        "migration_vmdesc_arrays",
        "How the description at the end of a stream tells apart the elements of an array that are not alike.",
        (((), "whole"), ((10, 0), "split"), ((11, 1), "marked")),
        "An `index` on each; on all but the last, and `nullptr` for null pointers; on none, and `ptr-marker`.",
        ("whole", "split", "marked"),
    ),
    CompatRow(
        "migration_vmdesc_configuration",
        "The description at the end of a stream includes the configuration section.",
        (((), False), ((8, 1), True)),
        "`configuration` in the JSON text.",
    ),
    CompatRow(
        "migration_zero_blocks_warned",
        "Each check of capabilities with zero-blocks among them warns of it.",
        (((), False), ((9, 2), True)),
        "`warning: zero-blocks capability is deprecated` on stderr (seen on 10.0.13, not on 7.2.22).",
    ),
    CompatRow(
        "migration_zero_page_fill",
        "What a zero page record may fill a page with.",
        (((), "any"), ((8, 2), "zero")),
        "`Found a zero page with value N`; before, the page is filled with it.",
        ("any", "zero"),
    ),
    # --- run state ---
    CompatRow(
        "runstate_suspended_live",
        "A guest that has suspended itself can be stopped, and is suspended where it has migrated to.",
        (((), False), ((9, 0), True)),
        "`stop` makes it paused (STOP); before, it does nothing, and a migration wakes the guest (WAKEUP).",
    ),
    # --- vfio ---
    CompatRow(
        "vfio_fd_error_object",
        "The property `fd` speaks of an object, not of a remote object.",
        (((), False), ((11, 1), True)),
        "`Could not parse object fd NAME:...`, before `Could not parse remote object fd NAME:...`.",
    ),
    CompatRow(
        "vfio_group_open_text",
        "How a group node that cannot be opened is named.",
        (((), "failed to open {}"), ((10, 0), "Could not open '{}'")),
        "`failed to open /dev/vfio/12: ...` or `Could not open '/dev/vfio/12': ...`.",
        ("failed to open {}", "Could not open '{}'"),
    ),
    CompatRow(
        "vfio_init_failed_text",
        "The blocker of a device that cannot migrate names the step that failed.",
        (((), False), ((11, 1), True)),
        "`NAME: VFIO migration init failed: migration is not supported in kernel: ...`, before `NAME: VFIO migration is not "
        "supported in kernel`.",
    ),
    CompatRow(
        "vfio_large_ram_check",
        "Migration without dirty tracking is refused when the container's bitmap cannot describe all of RAM.",
        (((), False), ((11, 1), True)),
        "`Migration is currently not supported with large memory VM due to ...` with enable-migration=on.",
    ),
    CompatRow(
        "vfio_launch_us",
        "How long starting the thread of one parallel transition takes, in microseconds.",
        (((), 0),),
        "Stopping N devices side by side takes N times that longer.",
    ),
    CompatRow(
        "vfio_migration_v2",
        "VFIO devices migrate by the kernel's protocol 2.",
        (((), False), ((8, 0), True)),
        "Where not, every VFIO device blocks migration: `VFIO device doesn't support migration` (protocol 1 is not modelled).",
    ),
    CompatRow(
        "vfio_p2p_prepare_event",
        "VFIO_MIGRATION tells that a device is about to be asked for pre-copy-p2p.",
        (((), False), ((11, 1), True)),
        "The state `pre-copy-p2p-prepare` in the event.",
    ),
    CompatRow(
        "vfio_parallel_states",
        "vfio-pci has the property x-migration-parallel-states: devices of one depth change state side by side.",
        (((), False),),
        "Stopping N devices takes as long as the slowest, not as long as all together; in `next` only.",
    ),
    CompatRow(
        "vfio_pci_vmstate_member",
        "What the description of a VFIO device's config space calls the PCI device.",
        (((), "pdev"), ((10, 2), "parent_obj")),
        "Only seen in older releases' lines on stderr: `Failed to load VFIOPCIDevice:pdev`.",
        ("pdev", "parent_obj"),
    ),
    CompatRow(
        "vfio_pending_split",
        "What a VFIO device still has to send counts apart for pre-copy and for the stop.",
        (((), False), ((11, 1), True)),
        "Part of `remaining`; before, the whole size of the device counted as pre-copy data.",
    ),
    CompatRow(
        "vfio_query_warnings",
        "A VFIO device that does not say how much it holds is warned of, once.",
        (((), False), ((11, 1), True)),
        "`warning: VFIO device 0000:3b:00.1 ioctl(VFIO_MIG_GET_PRECOPY_INFO) failed (-5)`.",
    ),
    CompatRow(
        "vfio_thread_names",
        "What the thread of one device's transition is called; `_prepare` follows for the first of the two.",
        (((), "vfio_vmstate_change"),),
        "Names of tasks in traces; review of the series asks for `vfio_vm_state_change`.",
        ("vfio_vmstate_change", "vfio_vm_state_change"),
    ),
)
