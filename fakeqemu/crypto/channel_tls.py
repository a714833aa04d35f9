# SPDX-License-Identifier: MIT
"""A channel that encrypts: what is written goes through a TLS session to the channel below, what comes from there back.

    read(), write() ── TLSSession ── channel below

One reads and one writes at the same time, as with any channel; what the session itself has to say goes out with either.

QEMU: io/channel-tls.c
"""

from __future__ import annotations

import errno
import os

from fakeqemu.crypto import tlssession as tls
from fakeqemu.error import QemuError
from fakeqemu.host.channel import Channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.crypto.tlssession import TLSSession
    from fakeqemu.host.channel import SocketAddress
    from fakeqemu.system.machine import Machine

READ_SIZE = 1 << 18
#: a record of TLS: its type, its version and its length come first
_HEADER_BYTES = 5


class TLSChannelError(OSError):
    """What went wrong has a text of its own, and no errno that would tell it."""

    def __init__(self, desc: str) -> None:
        super().__init__(errno.EIO, desc)
        self.desc = desc


class _Records:
    """Where in a record of TLS what has come so far ends."""

    __slots__ = ("_header", "_left")

    def __init__(self) -> None:
        self._header = b""
        #: bytes of the body that are still to come
        self._left = 0

    @property
    def inside(self) -> bool:
        """Whether the header of a record was there, and not all of its body."""
        return self._left > 0

    def feed(self, data: bytes) -> None:
        while data:
            if self._left:
                skipped = min(self._left, len(data))
                self._left -= skipped
                data = data[skipped:]
                continue
            missing = _HEADER_BYTES - len(self._header)
            self._header, data = self._header + data[:missing], data[missing:]
            if len(self._header) == _HEADER_BYTES:
                self._left = int.from_bytes(self._header[3:], "big")
                self._header = b""


class TLSChannel(Channel):
    """Owns the channel below."""

    can_peek = False

    def __init__(self, vm: Machine, inner: Channel, session: TLSSession) -> None:
        super().__init__(inner.name)
        self._vm = vm
        self._inner = inner
        self._session = session
        self._lock = vm.host.lock()
        #: whether an end without a goodbye is an end like any other
        self.relaxed_end = False
        self.is_socket = inner.is_socket

    async def handshake(self, hostname: str | None, authz: str | None, kind: str) -> None:
        """Agree with the other side, and see who it is; raises QemuError. `kind` is how texts call the channel below."""
        session, records = self._session, _Records()
        self._vm.trace("qio_channel_tls_handshake_start")
        try:
            while not session.handshake():
                await self._flush(kind)
                data = await self._pull(kind)
                if not data:
                    raise tls.HandshakeFailed(tls.BAD_PACKET if records.inside else tls.PREMATURE)
                records.feed(data)
                session.feed(data)
            await self._flush(kind)
        except tls.HandshakeFailed as err:
            self._vm.trace("qio_channel_tls_handshake_fail")
            raise QemuError(f"TLS handshake failed: {err}") from None
        except tls.PeerRefused as err:
            self._vm.trace("qio_channel_tls_credentials_deny")
            raise QemuError(str(err)) from None
        self._vm.trace("qio_channel_tls_handshake_complete")
        self._vm.faults.check("qcrypto_tls_session_check_creds")
        session.check_credentials(hostname, authz)
        self._vm.trace("qio_channel_tls_credentials_allow")

    async def _pull(self, kind: str) -> bytes:
        try:
            return await self._inner.read(READ_SIZE)
        except OSError as err:
            raise tls.HandshakeFailed(self._of_function("pull", f"Unable to read from {kind}", err)) from None

    async def _flush(self, kind: str) -> None:
        try:
            await self._send_output()
        except OSError as err:
            raise tls.HandshakeFailed(self._of_function("push", f"Unable to write to {kind}", err)) from None

    def _of_function(self, function: str, what: str, err: OSError) -> str:
        text = f"Error in the {function} function."
        if self._vm.compat.tls_channel_errors_passed:
            text += f": {what}: {os.strerror(err.errno or errno.EIO)}"
        return text

    async def _send_output(self) -> None:
        async with self._lock:
            output = self._session.take_output()
            if output:
                await self._inner.write(output)

    # --- pulled ---------------------------------------------------------------------------------------

    async def read(self, size: int) -> bytes:
        while True:
            try:
                text = self._session.read(size)
            except tls.Broken as err:
                raise self._error("read from", str(err)) from None
            if text is not None:
                return text
            await self._send_output()
            data = await self._read_below()
            if not data:
                if self.relaxed_end:
                    return b""
                raise self._error("read from", tls.PREMATURE)
            self._session.feed(data)

    async def _read_below(self) -> bytes:
        try:
            return await self._inner.read(READ_SIZE)
        except OSError:
            if self._vm.compat.tls_channel_errors_passed:
                raise
            raise self._error("read from", "") from None

    async def peek(self, size: int) -> bytes:  # noqa: ARG002
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    async def write(self, *buffers: bytes | bytearray | memoryview) -> None:
        # Together: a record is as long as what is written at once, and each costs something.
        data = buffers[0] if len(buffers) == 1 else b"".join(buffers)
        if len(data):
            self._session.write(data)
        try:
            await self._send_output()
        except OSError:
            if self._vm.compat.tls_channel_errors_passed:
                raise
            raise self._error("write to", "") from None

    async def bye(self) -> None:
        """Say that there is no more to come; raises OSError."""
        self._vm.trace("qio_channel_tls_bye_start")
        self._session.bye()
        await self._send_output()

    def _error(self, what: str, text: str) -> TLSChannelError:
        if not self._vm.compat.tls_channel_errors_passed:
            text = os.strerror(errno.EIO)
        return TLSChannelError(f"Cannot {what} TLS channel: {text}")

    # --- both -----------------------------------------------------------------------------------------

    def shutdown(self, how: str = "both") -> None:
        self._inner.shutdown(how)

    def close(self) -> None:
        self._inner.close()

    def local_address(self) -> SocketAddress | None:
        return self._inner.local_address()

    def peer_address(self) -> SocketAddress | None:
        return self._inner.peer_address()
