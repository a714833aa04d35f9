# SPDX-License-Identifier: MIT
"""Compat rows of postcopy. By subject, in the order of the alphabet."""

from __future__ import annotations

from fakeqemu.qapi.compat_row import CompatRow

ROWS: tuple[CompatRow, ...] = (
    CompatRow(
        "migration_multifd_postcopy",
        "Multifd and postcopy-ram may be on together.",
        (((), True), ((8, 0), False), ((10, 1), True)),
        "`Postcopy is not yet compatible with multifd` where not.",
    ),
    CompatRow(
        "migration_pause_in_recover",
        "migrate-pause also works in postcopy-recover.",
        (((), False), ((9, 1), True)),
        "`... only supported during postcopy-active or postcopy-recover state`.",
    ),
    CompatRow(
        "migration_postcopy_active_first",
        "The status postcopy-active is entered before the guest is stopped, and there is no status `device` on the way.",
        (((), True), ((10, 0), False)),
        "MIGRATION postcopy-active, then STOP; later: STOP, device, postcopy-active.",
    ),
    CompatRow(
        "migration_postcopy_cancel_refused",
        "migrate_cancel is an error once the guest runs on the other side.",
        (((), False), ((10, 0), True)),
        "`Postcopy migration in progress, cannot cancel.`",
    ),
    CompatRow(
        "migration_postcopy_device_state",
        "The source waits for the destination's word that it has loaded the devices.",
        (((), False), ((11, 0), True)),
        "The status postcopy-device on both sides; a PING 0x42 in the package.",
    ),
    CompatRow(
        "migration_postcopy_downtime",
        "query-migrate tells the downtime while pages still follow.",
        (((), False), ((8, 2), True)),
        "`downtime` instead of `expected-downtime` in the statuses of postcopy.",
    ),
    CompatRow(
        "migration_postcopy_ends_empty",
        "After the guest has left, nothing is left for END.",
        (((), False), ((10, 1), True)),
        "Before, as much as the downtime limit allows goes there, past max-postcopy-bandwidth.",
    ),
    CompatRow(
        "migration_postcopy_first",
        "migrate-start-postcopy is followed even when the rest would fit into the downtime limit.",
        (((), False), ((11, 0), True)),
        "postcopy-active instead of completed.",
    ),
    CompatRow(
        "migration_postcopy_pause_told",
        "query-migrate says why a postcopy is paused, and stderr that a broken socket cannot be shut down.",
        (((), False), ((8, 2), True)),
        "error-desc of status postcopy-paused.",
    ),
    CompatRow(
        "migration_postcopy_prepare",
        "The source puts a section of RAM without pages before it turns to postcopy.",
        (((), False), ((10, 1), True)),
        "With multifd the barrier behind which the other channels carry no more pages.",
    ),
    CompatRow(
        "migration_postcopy_last_word",
        "A postcopy that has sent everything, and does not hear that all has come, fails: the guest goes on here as well.",
        (((), False), ((8, 2), True)),
        "Status failed on a source whose guest runs. Before, it waits for ever: here it pauses.",
    ),
    CompatRow(
        "migration_postcopy_recover_setup",
        "A resumed source has a status of its own while it connects.",
        (((), False), ((9, 1), True)),
        "The status postcopy-recover-setup.",
    ),
    CompatRow(
        "migration_postcopy_tmpfs",
        "A destination takes the capability postcopy-ram only when files behind its memory are of tmpfs or hugetlbfs.",
        (((), False), ((8, 1), True)),
        "`Postcopy is not supported: Host backend files need to be TMPFS or HUGETLBFS only`.",
    ),
    CompatRow(
        "migration_preempt_early",
        "The channel of postcopy-preempt is made with the main one, and ends with an EOS; the load waits for both.",
        (((), True), ((8, 0), False)),
        "Before, a second connection at the beginning of the migration; later, when it turns to postcopy.",
    ),
    CompatRow(
        "migration_snapshot_words",
        "A background snapshot whose memory cannot be watched says so.",
        (((), False), ((11, 0), True)),
        "`Failed to start write tracking`; before, the migration fails without an error-desc.",
    ),
    CompatRow(
        "migration_userfault_words",
        "How a destination says that its kernel does not tell of missing pages.",
        (
            ((), "postcopy_ram_supported_by_host: userfaultfd not available"),
            ((8, 2), "Userfaultfd not available"),
        ),
        "What comes before the colon and the reason.",
        ("postcopy_ram_supported_by_host: userfaultfd not available", "Userfaultfd not available"),
    ),
)
