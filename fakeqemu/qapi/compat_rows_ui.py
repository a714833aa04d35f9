# SPDX-License-Identifier: MIT
"""Compat rows of displays. In the order of the alphabet."""

from __future__ import annotations

from fakeqemu.qapi.compat_row import CompatRow

ROWS: tuple[CompatRow, ...] = (
    CompatRow(
        "add_client_wants_socket",
        "add_client looks whether the descriptor is a socket before anything else.",
        (((), False), ((10, 0, 0), True)),
        "`parameter @fdname must name a socket`.",
    ),
    CompatRow(
        "audiodev_twice_refused",
        "Two -audiodev with the same id end the start.",
        (((), False), ((11, 0, 0), True)),
        "`attempt to add duplicate property 'ID' to object (type 'container')`.",
    ),
    CompatRow(
        "audiodev_word",
        "How the error about an unknown audio back end calls it.",
        (((), "Audiodev"), ((10, 0, 0), "audiodev")),
        "`audiodev 'ID' not found`.",
    ),
    CompatRow(
        "hmp_change_vnc_error_marked",
        "What is wrong with the human monitor's `change vnc` is printed as other errors are.",
        (((), False), ((10, 0, 0), True)),
        "`Error: Expected 'password' after 'vnc'`.",
    ),
    CompatRow(
        "tls_reload_words",
        "What is said of TLS credentials that cannot be read again.",
        (((), "doesn't support to reload TLS credential"), ((11, 0, 0), "does not support reloading credentials")),
        "The error of display-reload with tls-certs.",
    ),
    CompatRow(
        "vnc_audio_always",
        "A VNC client can have sound whether or not an audio back end was asked for, or it has announced that.",
        (((), True), ((10, 0, 0), False)),
        "The server confirms the pseudo encoding of sound, and takes messages about it.",
    ),
    CompatRow(
        "vnc_connected_words",
        "What is said to set_password of VNC with connected=fail or disconnect.",
        (
            ((), "Invalid parameter 'connected'"),
            ((10, 0, 0), "parameter 'connected' must be 'keep' when 'protocol' is 'vnc'"),
        ),
        "The error of set_password.",
    ),
    CompatRow(
        "vnc_default_console_bound",
        "A VNC display without display= belongs to the first console from the start.",
        (((), False), ((10, 0, 0), True)),
        "query-vnc-servers tells the `display` where the adapter has an id.",
    ),
    CompatRow(
        "vnc_expiry_checked",
        "expire_password of VNC refuses a time that is no number.",
        (((), False), ((10, 0, 0), True)),
        "`Parameter 'time' doesn't take value 'X'`; before, the password expires at once.",
    ),
    CompatRow(
        "vnc_ids_assigned_late",
        "A -vnc without id= gets its name when the display is opened, not when the option is read.",
        (((), False), ((10, 0, 0), True)),
        "`-vnc none -vnc none,id=default` is no duplicate.",
    ),
    CompatRow(
        "vnc_password_errors_tell_why",
        "Why the password of VNC cannot be set is said.",
        (((), False), ((11, 0, 0), True)),
        "`No VNC display is present`, `VNC password authentication is disabled`; before, `Could not set password`.",
    ),
    CompatRow(
        "vnc_socket_unlinked_at_exit",
        "The UNIX sockets of VNC displays are unlinked when the process ends.",
        (((), False), ((11, 0, 0), True)),
        "Before, they stay.",
    ),
)
