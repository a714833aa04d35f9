# SPDX-License-Identifier: MIT
"""One TLS conversation: bytes in, bytes out, no socket.

    handshake() ─── more input needed? ─── feed() ───┐       take_output() after each: what is to be sent
         ▲──────────────────────────────────────────┘
         └── done ── check_credentials() ── read(), write() ── bye()

Who the other side is, is looked at when the handshake is done: its certificate leads to an authority, is one of the host
that was meant, and its name is one that the authorization object lets in.

QEMU: crypto/tlssession.c
"""

from __future__ import annotations

from fakeqemu.authz.base import QAuthZ
from fakeqemu.crypto.tlscreds import TLSCreds
from fakeqemu.crypto.tlscredsanon import TLSCredsAnon
from fakeqemu.crypto.tlscredspsk import TLSCredsPSK
from fakeqemu.crypto.tlscredsx509 import TLSCredsX509
from fakeqemu.crypto.x509 import BadCertificate
from fakeqemu.error import QemuError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.crypto.x509 import Certificate

    Buffer = bytes | bytearray | memoryview

# GnuTLS's words
PREMATURE = "The TLS connection was non-properly terminated."
UNEXPECTED_PACKET = "An unexpected TLS packet was received."
BAD_PACKET = "Error decoding the received TLS packet."
BAD_RECORD = "Decryption has failed."
FATAL_ALERT = "A TLS fatal alert has been received."
PEER_ENDED = "Peer has terminated the connection"
ILLEGAL_PARAMETER = "An illegal parameter has been received."
NO_CIPHER = "No supported cipher suites have been found."
NO_CREDENTIALS = "Insufficient credentials for that request."
NO_PEER_CERTIFICATE = "No certificate was found."


class HandshakeFailed(Exception):
    """The two sides did not agree; the text is GnuTLS's."""


class PeerRefused(Exception):
    """The other side's certificate leads to nobody whom we believe; the text is QEMU's."""


class Broken(Exception):
    """What came is not what the other side encrypted; the text is GnuTLS's."""


class TLSSession:
    """Base of the sessions. `role` is what this side is: client or server."""

    __slots__ = ("creds",)

    def __init__(self, creds: TLSCreds) -> None:
        self.creds = creds

    def handshake(self) -> bool:
        """Go on with the handshake; False while more input is needed. Raises HandshakeFailed or PeerRefused."""
        raise NotImplementedError

    def feed(self, data: bytes) -> None:
        """Bytes from the other side."""
        raise NotImplementedError

    def take_output(self) -> bytes:
        """Bytes for the other side."""
        raise NotImplementedError

    def read(self, size: int) -> bytes | None:
        """1 to `size` bytes of text; b"" after the other side's goodbye, None while more input is needed. Raises Broken."""
        raise NotImplementedError

    def write(self, data: Buffer) -> None:
        """Encrypt `data`."""
        raise NotImplementedError

    def bye(self) -> None:
        """Say that there is no more to come."""
        raise NotImplementedError

    def peer_certificate(self) -> Certificate | None:
        """Whose certificate was shown; None where there was none. Raises BadCertificate."""
        return None

    def check_credentials(self, hostname: str | None, authz: str | None) -> None:
        """See who the other side is. `hostname`: what a client wanted; `authz`: id of an object that a server asks.

        Raises QemuError.
        """
        creds = self.creds
        if not isinstance(creds, TLSCredsX509) or not creds.verify_peer:
            return
        try:
            certificate = self.peer_certificate()
        except BadCertificate as err:
            raise QemuError(f"Cannot import certificate: {err}") from None
        if certificate is None:
            raise QemuError(f"Verify failed: {NO_PEER_CERTIFICATE}")
        if authz:
            _check_authorized(creds, certificate, authz)
        if not creds.is_server:
            if hostname is None:
                raise QemuError("No hostname for certificate validation")
            if not certificate.matches(hostname):
                raise QemuError(f"Certificate does not match the hostname {hostname}")


def _check_authorized(creds: TLSCreds, certificate: Certificate, authz: str) -> None:
    judge = creds.vm.qom.objects.children.get(authz)
    if judge is None:
        raise QemuError(f"Cannot find QAuthZ object ID {authz}")
    if not isinstance(judge, QAuthZ):
        raise QemuError(f"Object '{authz}' is not a QAuthZ subclass")
    name = certificate.subject_name
    if not judge.is_allowed(name):
        raise QemuError(f"TLS x509 authz check for {name} is denied")


def new_session(creds: TLSCreds) -> TLSSession:
    """A session with these credentials; raises QemuError."""
    versions = Versions(creds)
    if isinstance(creds, TLSCredsPSK | TLSCredsAnon) and _needs_tlslite(creds):
        from fakeqemu.crypto.session_tlslite import TLSliteSession

        return TLSliteSession(creds)
    from fakeqemu.crypto.session_openssl import OpenSSLSession

    return OpenSSLSession(creds, versions)


def _needs_tlslite(creds: TLSCreds) -> bool:
    """Whether Python's own library cannot do it.

    A client without certificates has to offer groups for Diffie-Hellman together with TLS 1.2, which OpenSSL does not do and
    a real QEMU insists on. Between simulated machines both ends are ours.
    """
    from fakeqemu.crypto import session_openssl, session_tlslite

    if isinstance(creds, TLSCredsPSK):
        return not session_openssl.has_psk()
    return not creds.is_server and creds.vm.host.real_fds and session_tlslite.is_installed()


# --- priorities -------------------------------------------------------------------------------------------

#: what a priority string may begin with
_LEVELS = (
    "NORMAL", "PERFORMANCE", "SECURE128", "SECURE192", "SECURE256", "SECURE", "PFS", "SUITEB128", "SUITEB192", "LEGACY", "NONE",
)  # fmt: skip
_VERSIONS = ("VERS-TLS1.0", "VERS-TLS1.1", "VERS-TLS1.2", "VERS-TLS1.3")
_GROUPED = ("VERS-TLS-ALL", "VERS-ALL")
#: beginnings of the other things that can be added and taken away
_OTHERS = (
    "VERS-", "AES-", "CHACHA20-", "CAMELLIA-", "3DES-", "ARCFOUR-", "CIPHER-ALL", "MAC-ALL", "SHA", "MD5", "AEAD", "UMAC-",
    "KX-ALL", "RSA", "DHE-", "ECDHE-", "PSK", "ANON-", "SRP", "SIGN-", "GROUP-", "CURVE-", "COMP-", "CTYPE-",
)  # fmt: skip


class Versions:
    """Which versions of TLS a priority string leaves; raises QemuError for one that GnuTLS does not take."""

    __slots__ = ("tls12", "tls13")

    def __init__(self, creds: TLSCreds) -> None:
        text: str = creds.value("priority")
        left = [] if text.startswith("NONE") else list(_VERSIONS)
        parts = text.split(":") if text else []
        if parts and parts[0] not in _LEVELS and not parts[0].startswith("@"):
            raise _bad_priority(creds, text)
        for part in parts[1:]:
            sign, name = part[:1], part[1:]
            if sign == "%" and name:
                continue
            if sign not in ("+", "-", "!") or not name.startswith(_OTHERS):
                raise _bad_priority(creds, text)
            concerned = _VERSIONS if name in _GROUPED else (name,)
            for version in concerned:
                if version in _VERSIONS:
                    if sign == "+" and version not in left:
                        left.append(version)
                    elif sign != "+" and version in left:
                        left.remove(version)
        self.tls12 = "VERS-TLS1.2" in left
        self.tls13 = "VERS-TLS1.3" in left
        if not self.tls12 and not self.tls13:
            if left:
                raise QemuError(f"TLS older than 1.2, which is all that priority {text} leaves, is not emulated")
            raise _bad_priority(creds, text)


def _bad_priority(creds: TLSCreds, text: str) -> QemuError:
    words = creds.vm.compat.tls_priority_words
    return QemuError(f"{words} {text}: The request is invalid.")
