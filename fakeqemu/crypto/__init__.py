# SPDX-License-Identifier: MIT
"""TLS: credentials that a user makes as objects, and sessions that use them.

    tls-creds-x509, -anon, -psk ─── what a side has ──┐
                                                      ├─ TLSSession ── TLSChannel ── channel below
    host name, authz object ─── what it asks for ─────┘

A session is bytes in, bytes out. The work behind it is done by Python's `ssl`; by tlslite-ng (the extra `tls`) where that
cannot: a client without certificates that talks to a real QEMU, and keys shared before with a Python older than 3.13.
Neither is imported before the first credentials are made.

What a session has found out is told in the words of QEMU and GnuTLS. What differs, deliberately:

- A certificate that is not to be believed ends the handshake. QEMU ends the connection just after it, so that a destination
  whose certificate is refused goes `active` and fails; here it says that the handshake failed, and waits for another source.
- What a certificate may be used for (extendedKeyUsage) is looked at even where it is not critical.
- A client shows its certificate whatever authorities the server names; GnuTLS keeps one of another authority back.
- Of a priority string only the versions have an effect, and none before TLS 1.2 is spoken.

Reading order: `tlscreds` and the three beside it, `x509`, `tlssession`, `session_openssl`, `session_tlslite`,
`channel_tls`.

QEMU: crypto/tls*.c, io/channel-tls.c
"""
