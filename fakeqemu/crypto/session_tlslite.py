# SPDX-License-Identifier: MIT
"""TLS by tlslite-ng, for what Python's ssl cannot do: keys that were shared before, and a client without certificates.

The library is written in Python, and encrypts some hundred kilobytes a second. It talks to a socket that does not block;
here that is bytes in memory.

    psk    TLS 1.3
    anon   TLS 1.2, a client

QEMU: crypto/tlssession.c
"""

from __future__ import annotations

import errno

from fakeqemu.crypto import tlssession as tls
from fakeqemu.crypto.tlscredspsk import TLSCredsPSK
from fakeqemu.error import NotEmulated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from fakeqemu.crypto.tlscreds import TLSCreds
    from fakeqemu.crypto.tlssession import Buffer

_TLS12, _TLS13 = (3, 3), (3, 4)
_GROUPS = ["ffdhe2048", "ffdhe3072", "ffdhe4096"]
#: the fastest in Python first
_CIPHERS = ["chacha20-poly1305", "aes128gcm", "aes256gcm"]

#: bytes of text in one record
_RECORD_BYTES = 16384

#: numbers of alerts that the library would send -> GnuTLS's words
_LOCAL_ALERTS = {
    10: tls.UNEXPECTED_PACKET,
    22: tls.UNEXPECTED_PACKET,  # a record that is too long is none
    40: tls.NO_CIPHER,
    47: tls.ILLEGAL_PARAMETER,
    50: tls.BAD_PACKET,
    70: tls.UNEXPECTED_PACKET,
}
_CLOSE_NOTIFY, _HANDSHAKE_FAILURE = 0, 40


def _library() -> Any:
    """tlslite-ng; raises ImportError where it is not installed."""
    from importlib import import_module

    return import_module("tlslite.api")


def is_installed() -> bool:
    try:
        _library()
    except ImportError:
        return False
    return True


class TLSliteSession(tls.TLSSession):
    """One conversation; raises NotEmulated when there is no library."""

    __slots__ = ("_connection", "_errors", "_library", "_pipe", "_reading", "_shaking")

    def __init__(self, creds: TLSCreds) -> None:
        super().__init__(creds)
        try:
            library = self._library = _library()
        except ImportError:
            raise missing() from None
        self._errors = import_errors()
        self._pipe = _Pipe()
        self._connection = library.TLSConnection(self._pipe)
        self._shaking = self._begin()
        self._reading: Iterator[Any] | None = None

    def _begin(self) -> Iterator[Any]:
        settings = self._library.HandshakeSettings()
        settings.useExperimentalTackExtension = False
        settings.ticket_count = 0
        shaking: Iterator[Any]
        if isinstance(self.creds, TLSCredsPSK):
            settings.minVersion = settings.maxVersion = _TLS13
            settings.cipherNames = list(_CIPHERS)
            settings.pskConfigs = [(bytearray(user), bytearray(key), "sha256") for user, key in _keys(self.creds)]
            if self.creds.is_server:
                shaking = self._connection.handshakeServerAsync(settings=settings)
            else:
                shaking = self._connection.handshakeClientCert(settings=settings, async_=True)
        else:
            settings.minVersion = settings.maxVersion = _TLS12
            settings.dhGroups = list(_GROUPS)
            settings.keyShares = []
            shaking = self._connection.handshakeClientAnonymous(settings=settings, async_=True)
        return shaking

    # --- handshake ------------------------------------------------------------------------------------

    def handshake(self) -> bool:
        errors = self._errors
        try:
            for _ in self._shaking:
                if self._pipe.starved:
                    return False
        except errors.TLSAbruptCloseError:
            raise tls.HandshakeFailed(tls.PREMATURE) from None
        except errors.TLSRemoteAlert as err:
            self._pipe.output.clear()
            ended = err.description == _CLOSE_NOTIFY
            raise tls.HandshakeFailed(tls.PEER_ENDED if ended else tls.FATAL_ALERT) from None
        except errors.TLSLocalAlert as err:
            self._pipe.output.clear()
            # A name that nobody knows is told as a key that is wrong.
            known = (
                {} if isinstance(self.creds, TLSCredsPSK) and err.description == _HANDSHAKE_FAILURE else _LOCAL_ALERTS
            )
            raise tls.HandshakeFailed(known.get(err.description, tls.ILLEGAL_PARAMETER)) from None
        except (errors.TLSError, ValueError, SyntaxError):
            self._pipe.output.clear()
            raise tls.HandshakeFailed(tls.ILLEGAL_PARAMETER) from None
        if self._connection.session.serverCertChain is not None:
            self._pipe.output.clear()  # a certificate is no proof of the key that is shared
            raise tls.HandshakeFailed(tls.NO_CREDENTIALS)
        return True

    # --- bytes ----------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        self._pipe.input += data
        self._pipe.starved = False

    def take_output(self) -> bytes:
        output = bytes(self._pipe.output)
        self._pipe.output.clear()
        return output

    def read(self, size: int) -> bytes | None:
        if self._reading is None:
            self._reading = self._connection.readAsync(size, 1)
        try:
            for result in self._reading:
                if isinstance(result, bytes):
                    self._reading = None
                    return result
                if self._pipe.starved:
                    return None
        except (self._errors.TLSError, ValueError, SyntaxError):
            self._reading = None
            raise tls.Broken(tls.UNEXPECTED_PACKET) from None
        return b""

    def write(self, data: Buffer) -> None:
        view = memoryview(data)
        for at in range(0, len(view), _RECORD_BYTES):
            for _ in self._connection.writeAsync(view[at : at + _RECORD_BYTES]):
                pass

    def bye(self) -> None:
        for _ in self._connection.closeAsync():
            pass


class _Pipe:
    """What the library takes for a socket that does not block."""

    __slots__ = ("input", "output", "starved")

    def __init__(self) -> None:
        self.input = bytearray()
        self.output = bytearray()
        #: it has asked for more than there is
        self.starved = False

    def recv(self, size: int) -> bytes:
        if not self.input:
            self.starved = True
            raise BlockingIOError(errno.EWOULDBLOCK, "nothing has come")
        data = bytes(self.input[:size])
        del self.input[:size]
        return data

    def send(self, data: bytes) -> int:
        self.output += data
        return len(data)

    def sendall(self, data: bytes) -> None:
        self.output += data

    def close(self) -> None:
        """The channel below is closed by who owns it."""


def missing() -> NotEmulated:
    return NotEmulated(
        "TLS with tls-creds-psk needs Python 3.13 or a library: install fakeqemu with the extra 'tls'"
    )  # fmt: skip


def import_errors() -> Any:
    from importlib import import_module

    return import_module("tlslite.errors")


def _keys(creds: TLSCredsPSK) -> list[tuple[bytes, bytes]]:
    if not creds.is_server:
        return [(creds.user.encode(), creds.key)]
    return [(user.encode("utf-8", "surrogateescape"), key) for user, key in creds.users()]
