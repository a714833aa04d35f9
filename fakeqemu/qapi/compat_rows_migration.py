# SPDX-License-Identifier: MIT
"""Compat rows of migration, of memory and of VFIO devices. By subject, in the order of the alphabet."""

from __future__ import annotations

from fakeqemu.qapi.compat_row import CompatRow

ROWS: tuple[CompatRow, ...] = (
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
    # --- migration ---
    CompatRow(
        "migration_capabilities_when_listening",
        "Multifd and postcopy-preempt cannot be set once the destination listens.",
        (((), False), ((8, 0), True)),
        "`Multifd must be set before incoming starts`.",
    ),
    CompatRow(
        "migration_colo_return_path",
        "The capability x-colo needs return-path.",
        (((), False), ((11, 0), True)),
        "`Capability 'x-colo' requires capability 'return-path'`.",
    ),
    CompatRow(
        "migration_continue_to_device_state",
        "A plain precopy passes through the status `device`.",
        (((), False), ((9, 0), True)),
        "A MIGRATION event `device` after STOP; before, only with pause-before-switchover.",
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
        "MIGRATION events failing, failed; RESUME between them where the guest had been stopped, before: after failed.",
    ),
    CompatRow(
        "migration_fd_file_refused",
        "`fd:` takes only sockets and pipes.",
        (((), False), ((10, 1), True)),
        "`fd: migration to a file is not supported. Use file: instead.`",
    ),
    CompatRow(
        "migration_file_transport",
        "A migration can go to a file: `file:PATH[,offset=SIZE]`.",
        (((), False), ((8, 2), True)),
        "Before, an address of no known kind.",
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
        "migration_multifd_flush_word",
        "The RAM section has a word that asks for a flush of the multifd channels.",
        (((), False), ((8, 1), True)),
        "Before, `Unknown combination of migration flags: 0x200`.",
    ),
    CompatRow(
        "migration_multifd_levels_settable",
        "migrate-set-parameters takes multifd-zlib-level and multifd-zstd-level.",
        (((), False), ((8, 0), True)),
        "Before, it passes over them: they keep their values, whatever was asked.",
    ),
    CompatRow(
        "migration_multifd_postcopy",
        "Multifd and postcopy-ram may be on together.",
        (((), True), ((8, 0), False), ((10, 1), True)),
        "`Postcopy is not yet compatible with multifd` where not.",
    ),
    CompatRow(
        "migration_option_words",
        "How a parameter out of range is refused.",
        (((), "parameter"), ((10, 2), "option")),
        "`Parameter 'downtime_limit' expects ...` or `Option downtime-limit expects ...`.",
        ("parameter", "option"),
    ),
    CompatRow(
        "migration_pause_in_recover",
        "migrate-pause also works in postcopy-recover.",
        (((), False), ((9, 1), True)),
        "`... only supported during postcopy-active or postcopy-recover state`.",
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
        "migration_ram_skipped",
        "query-migrate counts skipped pages: none, ever.",
        (((), True), ((9, 1), False)),
        "ram.skipped.",
    ),
    CompatRow(
        "migration_return_path_errors",
        "Errors of the return path become error-desc.",
        (((), False), ((8, 2), True)),
        "Before, they are only printed on stderr, with `RP: ` in front.",
    ),
    CompatRow(
        "migration_save_errors_printed",
        "A section that cannot be sent is named on stderr.",
        (((), False), ((8, 0), True)),
        "`failed to save SaveStateEntry with id(name): 1(ram): -5`.",
    ),
    CompatRow(
        "migration_setup_error_words",
        "A channel that breaks during setup is worded as the RAM's error.",
        (((), False), ((9, 1), True)),
        "`ram_save_setup failed: Input/output error`.",
    ),
    CompatRow(
        "migration_switchover_start",
        "The source says with a command of its own that the last phase begins.",
        (((), False), ((10, 0), True)),
        "SWITCHOVER_START in the stream.",
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
        "migration_vmdesc_configuration",
        "The description at the end of a stream includes the configuration section.",
        (((), False), ((8, 1), True)),
        "`configuration` in the JSON text.",
    ),
    CompatRow(
        "migration_zero_page_fill",
        "What a zero page record may fill a page with.",
        (((), "any"), ((8, 2), "zero")),
        "`Found a zero page with value N`; before, the page is filled with it.",
        ("any", "zero"),
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
        "vfio_pending_split",
        "What a VFIO device still has to send counts apart for pre-copy and for the stop.",
        (((), False), ((11, 1), True)),
        "Part of `remaining`; before, the whole size of the device counted as pre-copy data.",
    ),
    CompatRow(
        "vfio_thread_names",
        "What the thread of one device's transition is called; `_prepare` follows for the first of the two.",
        (((), "vfio_vmstate_change"),),
        "Names of tasks in traces; review of the series asks for `vfio_vm_state_change`.",
        ("vfio_vmstate_change", "vfio_vm_state_change"),
    ),
)
