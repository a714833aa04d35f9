# SPDX-License-Identifier: MIT
"""TLS by Python's ssl, over bytes in memory.

Whether the other side's certificate leads to an authority is judged here, in the handshake; all else that QEMU looks at,
afterwards. What is sent when a handshake fails stays unsent: GnuTLS says nothing then unless it is asked to.

    x509   TLS 1.2 and 1.3
    anon   TLS 1.2 with Diffie-Hellman and no certificate
    psk    TLS 1.2 and 1.3, from Python 3.13 on

QEMU: crypto/tlssession.c
"""

from __future__ import annotations

import os
import ssl

from fakeqemu.crypto import tlssession as tls
from fakeqemu.crypto import x509
from fakeqemu.crypto.tlscredsanon import TLSCredsAnon
from fakeqemu.crypto.tlscredspsk import TLSCredsPSK
from fakeqemu.crypto.tlscredsx509 import TLSCredsX509

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.crypto.tlscreds import TLSCreds
    from fakeqemu.crypto.tlssession import Buffer, Versions
    from fakeqemu.crypto.x509 import Certificate

#: GnuTLS believes in keys that OpenSSL finds short
_CIPHERS = "DEFAULT:@SECLEVEL=1"
_ANON_CIPHERS = "ADH:@SECLEVEL=0"
_PSK_CIPHERS = "PSK:@SECLEVEL=0"

#: a key of which nobody knows anything, for a name that nobody knows
_NO_KEY_BYTES = 32

#: parameters of Diffie-Hellman that both sides know by name: ffdhe2048 of RFC 7919
_FFDHE2048 = b"""-----BEGIN DH PARAMETERS-----
MIIBDAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAgICAOE=
-----END DH PARAMETERS-----
"""

#: OpenSSL's reasons -> GnuTLS's
_REASONS = {
    "NO_SHARED_CIPHER": tls.NO_CIPHER,
    "NO_CIPHERS_AVAILABLE": tls.NO_CIPHER,
    "NO_SUITABLE_KEY_SHARE": tls.NO_CIPHER,
    "BINDER_DOES_NOT_VERIFY": tls.ILLEGAL_PARAMETER,
    "BAD_PSK": tls.ILLEGAL_PARAMETER,
    "UNSUPPORTED_PROTOCOL": "A packet with illegal or unsupported version was received.",
    "BAD_SIGNATURE": "Public key signature verification has failed.",
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": tls.BAD_RECORD,
}
_UNEXPECTED = (
    "WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "UNKNOWN_PROTOCOL", "UNEXPECTED_MESSAGE",
    "UNEXPECTED_RECORD", "BAD_RECORD_TYPE", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "DATA_LENGTH_TOO_LONG",
    "WRONG_SSL_VERSION", "NOT_ON_RECORD_BOUNDARY",
)  # fmt: skip

#: OpenSSL's codes of what is wrong with a chain -> QEMU's words; all others: not trusted
_NO_ISSUER = (2, 18, 19, 20, 21)
_REVOKED = 23
_INSECURE = (66, 67, 68)
#: what a certificate is for, of which GnuTLS is not asked
WRONG_PURPOSE = 26


def has_psk() -> bool:
    """Whether this Python can do keys that were shared before."""
    return hasattr(ssl.SSLContext, "set_psk_client_callback") and bool(getattr(ssl, "HAS_PSK", False))


def new_context(server: bool) -> ssl.SSLContext:
    """Nothing is believed yet, and nothing is had."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if server:
        context.num_tickets = 0  # QEMU has no use for them; a client that never reads would leave them behind
    return context


class OpenSSLSession(tls.TLSSession):
    """One conversation."""

    __slots__ = ("_broken", "_in", "_object", "_out")

    def __init__(self, creds: TLSCreds, versions: Versions) -> None:
        """Raises QemuError."""
        super().__init__(creds)
        context = _context_of(creds)
        context.minimum_version = ssl.TLSVersion.TLSv1_2 if versions.tls12 else ssl.TLSVersion.TLSv1_3
        only12 = isinstance(creds, TLSCredsAnon) or not versions.tls13
        context.maximum_version = ssl.TLSVersion.TLSv1_2 if only12 else ssl.TLSVersion.TLSv1_3
        #: why nothing more can be read
        self._broken = ""
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._in, self._out, server_side=creds.is_server)

    # --- handshake ------------------------------------------------------------------------------------

    def handshake(self) -> bool:
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLCertVerificationError as err:
            self._out.read()
            raise tls.PeerRefused(why_not_trusted(err.verify_code)) from None
        except ssl.SSLZeroReturnError:
            self._out.read()
            raise tls.HandshakeFailed(tls.PEER_ENDED) from None
        except ssl.SSLError as err:
            self._out.read()
            raise tls.HandshakeFailed(self._why(err)) from None
        if isinstance(self.creds, TLSCredsPSK) and self._object.getpeercert(True):
            self._out.read()  # a certificate is no proof of the key that is shared
            raise tls.HandshakeFailed(tls.NO_CREDENTIALS)
        return True

    def _why(self, err: ssl.SSLError) -> str:
        reason = str(err.reason or "")
        if "_ALERT_" in reason:
            return tls.UNEXPECTED_PACKET if self.creds.is_server else tls.FATAL_ALERT
        if reason in _UNEXPECTED:
            return tls.UNEXPECTED_PACKET
        if "LENGTH" in reason or "DECODE" in reason or "BAD_EXTENSION" in reason or "BAD_PACKET" in reason:
            return tls.BAD_PACKET
        if isinstance(self.creds, TLSCredsAnon) and self.creds.is_server and reason == "NO_SHARED_CIPHER":
            return tls.NO_CREDENTIALS
        return _REASONS.get(reason, tls.ILLEGAL_PARAMETER if reason else tls.PREMATURE)

    def peer_certificate(self) -> Certificate | None:
        der = self._object.getpeercert(True)
        return x509.Certificate(der) if der else None

    # --- bytes ----------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        self._in.write(data)

    def take_output(self) -> bytes:
        return self._out.read() if self._out.pending else b""

    def read(self, size: int) -> bytes | None:
        if self._broken:
            raise tls.Broken(self._broken)
        parts: list[bytes] = []
        try:
            while size > 0:  # the library gives one record at a time
                parts.append(self._object.read(size))
                size -= len(parts[-1])
                if not parts[-1]:
                    break
        except ssl.SSLWantReadError:
            return b"".join(parts) if parts else None
        except ssl.SSLZeroReturnError:
            pass
        except ssl.SSLError as err:
            self._broken = _why_broken(str(err.reason or ""))
            if not parts:
                raise tls.Broken(self._broken) from None
        return b"".join(parts)

    def write(self, data: Buffer) -> None:
        self._object.write(data)

    def bye(self) -> None:
        try:
            self._object.unwrap()
        except ssl.SSLError:
            pass  # the other side's goodbye is not waited for


def _why_broken(reason: str) -> str:
    """GnuTLS's words for what came in place of the other side's records."""
    if "_ALERT_" in reason:
        return tls.FATAL_ALERT
    return tls.BAD_RECORD if "BAD_RECORD_MAC" in reason else tls.UNEXPECTED_PACKET


def why_not_trusted(code: int) -> str:
    """QEMU's words for what OpenSSL finds wrong with a chain."""
    if code in _NO_ISSUER:
        return "The certificate hasn't got a known issuer"
    if code == _REVOKED:
        return "The certificate has been revoked"
    if code in _INSECURE:
        return "The certificate uses an insecure algorithm"
    return "The certificate is not trusted"


# --- contexts ---------------------------------------------------------------------------------------------


def _context_of(creds: TLSCreds) -> ssl.SSLContext:
    if isinstance(creds, TLSCredsX509):
        context = creds.context
        assert context is not None
        context.set_ciphers(_CIPHERS)
        wanted = ssl.CERT_OPTIONAL if creds.is_server else ssl.CERT_REQUIRED
        context.verify_mode = wanted if creds.verify_peer else ssl.CERT_NONE
        return context
    context = new_context(creds.is_server)
    if isinstance(creds, TLSCredsPSK):
        _use_psk(context, creds)
    else:
        assert isinstance(creds, TLSCredsAnon)
        context.set_ciphers(_ANON_CIPHERS)
        if creds.is_server:
            _use_dh_params(context, creds.dh_params or _FFDHE2048)
    return context


def are_dh_params(pem: bytes) -> bool:
    """Whether the library can use them."""
    try:
        _use_dh_params(new_context(True), pem)
    except ssl.SSLError:
        return False
    return True


def _use_dh_params(context: ssl.SSLContext, pem: bytes) -> None:
    """The library reads them from a file alone."""
    fd = os.memfd_create("dh-params")
    try:
        os.write(fd, pem)
        context.load_dh_params(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def _use_psk(context: Any, creds: TLSCredsPSK) -> None:
    context.set_ciphers(_PSK_CIPHERS)
    if not creds.is_server:
        context.set_psk_client_callback(lambda _hint: (creds.user, creds.key))
        return
    nobody = ssl.RAND_bytes(_NO_KEY_BYTES)  # not from the host's chance, whose seed anybody may know
    context.set_psk_server_callback(lambda user: dict(creds.users()).get(user or "") or nobody)


def verify_own(
    cert_path: str, key_path: str, password: bytes | None, authorities: list[Certificate]
) -> str | None:  # fmt: skip
    """What the other side would say of a certificate of ours, who believes in `authorities`; None when nothing.

    The two sides are both here: a handshake in memory.
    """
    server, client = new_context(True), new_context(False)
    for context in (server, client):
        context.set_ciphers(_CIPHERS)
    try:
        server.load_cert_chain(cert_path, key_path, password or b"")
    except (ssl.SSLError, OSError, ValueError):
        return None  # that is told by who loads them
    client.verify_mode = ssl.CERT_REQUIRED
    client.load_verify_locations(cadata=b"".join(one.der for one in authorities))
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(back, there)
    showing = server.wrap_bio(there, back, server_side=True)
    for _ in range(2):
        for side in (asking, showing):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLCertVerificationError as err:
                return None if err.verify_code == WRONG_PURPOSE else why_not_trusted(err.verify_code)
            except ssl.SSLError:
                return why_not_trusted(0)
    return None
