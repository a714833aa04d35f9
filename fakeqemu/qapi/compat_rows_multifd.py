# SPDX-License-Identifier: MIT
"""Compat rows of COLO and of multifd. By subject, in the order of the alphabet."""

from __future__ import annotations

from fakeqemu.qapi.compat_row import CompatRow

ROWS: tuple[CompatRow, ...] = (
    # --- COLO ---
    CompatRow(
        "migration_colo_announced",
        "The source says in the stream that it goes on as one half of a pair; the destination has no last word then.",
        (((), True), ((11, 0), False)),
        "With x-colo and return-path both, a migration fails: `Received invalid message 0x0000 length 0x0000`.",
    ),
    CompatRow(
        "migration_colo_held",
        "A guest that is stopped for a checkpoint of COLO is nobody else's to continue.",
        (((), False), ((11, 0), True)),
        "`cont` in the run state colo: `COLO checkpoint in progress`.",
    ),
    CompatRow(
        "migration_colo_mode_words",
        "x-colo-lost-heartbeat says that the machine is in no such mode, or that there is no such feature.",
        (((), False), ((8, 1), True)),
        "`VM is not in COLO mode` or `The feature 'colo' is not enabled`.",
    ),
    CompatRow(
        "migration_colo_multifd",
        "Checkpoints of a COLO pair may send their pages on multifd channels.",
        (((), False), ((11, 0), True)),
        "x-colo and multifd together; before, pages went past the secondary's copy of memory, which is refused here.",
    ),
    CompatRow(
        "migration_colo_return_path",
        "The capability x-colo needs return-path.",
        (((), False), ((11, 0), True)),
        "`Capability 'x-colo' requires capability 'return-path'`.",
    ),
    CompatRow(
        "migration_colo_save_error_told",
        "A primary whose devices cannot be saved for a checkpoint says so, and keeps the error.",
        (((), False), ((9, 1), True)),
        "A line on stderr and the error-desc of query-migrate; before, only COLO_EXIT.",
    ),
    # --- multifd ---
    CompatRow(
        "migration_multifd_count_read",
        "How often the number of multifd channels is read: once for a migration, or at each place that needs it.",
        (((), "latched"),),
        "Counts in the trace event fake_multifd_count_reads; a change during a migration is for the next one either way.",
        ("latched", "per-call"),
    ),
    CompatRow(
        "migration_multifd_device_state",
        "Multifd channels have packets with the state of devices.",
        (((), False), ((10, 0), True)),
        "`Unknown idstr ... for load state buffer`; before, flags that are not known.",
    ),
    CompatRow(
        "migration_multifd_flush_word",
        "The RAM section has a word that asks for a flush of the multifd channels.",
        (((), False), ((8, 1), True)),
        "Before, `Unknown combination of migration flags: 0x200`.",
    ),
    CompatRow(
        "migration_multifd_id_words",
        "How a multifd channel's id that is too large is refused.",
        (((), "version"), ((8, 2), "greater"), ((11, 1), "exceeds")),
        "`received channel version 1 expected 1`; `... is greater than number of channels 2`; `... exceeds channel count 2`.",
        ("version", "greater", "exceeds"),
    ),
    CompatRow(
        "migration_multifd_init_counted",
        "multifd-bytes counts the packets with which channels begin.",
        (((), False), ((8, 1), True)),
        "64 bytes a channel.",
    ),
    CompatRow(
        "migration_multifd_init_fatal",
        "A multifd channel that does not begin well ends the migration.",
        (((), False), ((8, 0), True)),
        "Status failed and an error-desc; before, a line on stderr, and the destination goes on waiting.",
    ),
    CompatRow(
        "migration_multifd_levels_settable",
        "migrate-set-parameters takes multifd-zlib-level and multifd-zstd-level.",
        (((), False), ((8, 0), True)),
        "Before, it passes over them: they keep their values, whatever was asked.",
    ),
    CompatRow(
        "migration_multifd_packet_words",
        "How a multifd packet that is wrong is refused.",
        (((), "early"), ((9, 0), "late")),
        "`received packet magic 0 and expected magic 11223344`; `received packet magic 0, expected 11223344`.",
        ("early", "late"),
    ),
    CompatRow(
        "migration_multifd_peek",
        "A destination with multifd tells the main connection from the others by its first bytes, not by its being first.",
        (((), False), ((8, 0), True)),
        "Before, `received packet magic 5145564d expected 11223344` when the main connection comes later.",
    ),
    CompatRow(
        "migration_multifd_sync_allocates_none",
        "A SYNC packet of a multifd channel says that it has room for no pages.",
        (((), False), ((9, 0), True)),
        "0 instead of 128 in the packet.",
    ),
)
