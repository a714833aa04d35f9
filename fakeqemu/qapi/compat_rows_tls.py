# SPDX-License-Identifier: MIT
"""Compat rows of TLS. In the order of the alphabet."""

from __future__ import annotations

from fakeqemu.qapi.compat_row import CompatRow

ROWS: tuple[CompatRow, ...] = (
    CompatRow(
        "multifd_tls_goodbye",
        "A source ends each of its encrypted multifd channels with a goodbye.",
        (((), False), ((10, 0, 0), True)),
        "A destination takes an end without one for a failure, unless multifd-clean-tls-termination is off.",
    ),
    CompatRow(
        "tls_channel_errors_passed",
        "What goes wrong below an encrypted channel is told as it is.",
        (((), False), ((10, 0, 0), True)),
        "`Unable to write to socket: Broken pipe`; before, `Cannot write to TLS channel: Input/output error` for everything.",
    ),
    CompatRow(
        "tls_dh_params_deprecated",
        "A file dh-params.pem of TLS credentials is on its way out.",
        (((), False), ((10, 2, 0), True)),
        "A warning when one is there.",
    ),
    CompatRow(
        "tls_identities",
        "A tls-creds-x509 has any number of certificates, each with its key, and each chain is looked at.",
        (((), False), ((10, 2, 0), True)),
        "`server-cert-0.pem` and so on count; `Cert 'CN=...' has no issuer in CA chain`.",
    ),
    CompatRow(
        "tls_incoming_refused_fails",
        "A destination whose TLS credentials cannot be used fails with the first connection.",
        (((), False), ((10, 0, 0), True)),
        "Status failed; before, setup, and the error is printed only.",
    ),
    CompatRow(
        "tls_priority_words",
        "What is said of a priority that GnuTLS does not take.",
        (((), "Cannot set default TLS session priority"), ((10, 2, 0), "Unable to set TLS session priority")),
        "The error of a migration with such credentials.",
    ),
)
