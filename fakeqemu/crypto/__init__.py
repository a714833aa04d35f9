# SPDX-License-Identifier: MIT
"""TLS: credentials that a user makes as objects, and sessions that use them.

    tls-creds-x509, -anon, -psk ─── what a side has ──┐
                                                      ├─ TLSSession ── TLSChannel ── channel below
    host name, authz object ─── what it asks for ─────┘

A session is bytes in, bytes out. The work behind it is done by Python's `ssl`; by tlslite-ng (the extra `tls`) where that
cannot: a client without certificates that talks to a real QEMU, and keys shared before with a Python older than 3.13.
Neither is imported before the first credentials are made.

What a session has found out is told in the words of QEMU and GnuTLS. Three things differ from GnuTLS. A certificate that
does not lead to a known authority ends the handshake, where QEMU's client ends the connection just after it. Of a priority
string only the versions of TLS have an effect. A client has a certificate of another authority than the server asks for
refused, where GnuTLS does not show it.

Reading order: `tlscreds` and the three beside it, `x509`, `tlssession`, `session_openssl`, `session_tlslite`,
`channel_tls`.

QEMU: crypto/tls*.c, io/channel-tls.c
"""
