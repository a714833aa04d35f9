# SPDX-License-Identifier: MIT
"""One client of a VNC server: from the first byte to the last, told as it happens.

    connecting ── version ── authentication ── shared or exclusive ── messages ... ── gone

It is a task that reads one message after the other and answers it before it reads the next, so a client that does not
read its answers is not listened to either. Every length is checked before anything of it is waited for.

QEMU: VncState and the protocol_* functions in ui/vnc.c
"""

from __future__ import annotations

import re
import struct

from fakeqemu.ui import rfb, vnc_auth
from fakeqemu.ui.vnc_update import DirtyMap, framebuffer_update

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.host.channel import Channel
    from fakeqemu.host.sync import Task
    from fakeqemu.system.machine import Machine
    from fakeqemu.ui.vnc import VncDisplay

#: states of sharing
CONNECTING, SHARED, EXCLUSIVE, DISCONNECTED = "connecting", "shared", "exclusive", "disconnected"

#: "RFB %03d.%03d\n" as scanf reads it
_VERSION = re.compile(rb"RFB\s*([+-]\d{1,2}|\d{1,3})\.\s*([+-]\d{1,2}|\d{1,3})")
_MINORS = {3: 3, 4: 3, 5: 3, 7: 7, 8: 8}
_READ_BYTES = 4096
_MAX_CUT_TEXT_BYTES = 1 << 20
_MAX_NAME_BYTES = 1024
_MAX_AUDIO_HZ = 48000


class Disconnect(Exception):
    """This client goes: what it said makes no sense, or it may not stay."""


class VncState:
    """One connection."""

    __slots__ = (
        "_channel",
        "_dirty",
        "_encodings",
        "_input",
        "_listens",
        "_peer_name",
        "_pixel_format",
        "_task",
        "_wants_update",
        "auth",
        "display",
        "info",
        "minor",
        "number",
        "share_mode",
        "vm",
    )

    def __init__(self, display: VncDisplay, channel: Channel, auth: int, number: int) -> None:
        self.vm: Machine = display.vm
        self.display = display
        self.auth = auth
        #: clients are counted from 1 on
        self.number = number
        #: minor version of the protocol, 3, 7 or 8
        self.minor = 0
        self.share_mode = ""
        #: QAPI's VncClientInfo as events tell it; None where the address is of no kind that QAPI knows
        self.info = basic_info(channel.peer_address())
        #: that of the client's certificate
        self._peer_name: str | None = None
        self._channel = channel
        self._task: Task | None = None
        self._input = b""
        self._pixel_format = rfb.NATIVE
        self._encodings: tuple[int, ...] = ()
        surface = display.console.surface
        self._dirty = DirtyMap(surface.width, surface.height)
        self._wants_update = False
        #: to sound
        self._listens = False

    def trace(self, event: str, **fields: Any) -> None:
        """An event of this client; `state` is a number where QEMU has a pointer."""
        self.vm.trace(event, state=self.number, **fields)

    def full_info(self) -> dict[str, Any] | None:
        """QAPI's VncClientInfo with everything that is known by now."""
        if self.info is None or self._peer_name is None:
            return self.info
        return {**self.info, "x509_dname": self._peer_name}

    # --- life -----------------------------------------------------------------------------------------

    def start(self) -> None:
        self.display.emit("VNC_CONNECTED", self)
        self.share_mode = CONNECTING
        self._task = self.vm.host.start(self._run(), "vnc")

    def disconnect(self) -> None:
        """Break the connection off: the client's task then finds its end."""
        self.trace("vnc_client_disconnect_start", ioc=self.number)
        self.share_mode = DISCONNECTED
        self._channel.shutdown()

    async def _run(self) -> None:
        try:
            await self._negotiate()
            await self._initialize()
            while True:
                await self._message()
        except (Disconnect, vnc_auth.Refused, EOFError, OSError):
            pass
        finally:
            self.share_mode = DISCONNECTED
            self._channel.close()
            self.display.remove(self)
            self.trace("vnc_client_disconnect_finish", ioc=self.number)
            self.display.emit("VNC_DISCONNECTED", self)

    async def read(self, count: int) -> bytes:
        """Exactly `count` bytes; raises EOFError at the end, OSError."""
        if self.share_mode == DISCONNECTED:
            raise EOFError
        while len(self._input) < count:
            data = await self._channel.read(_READ_BYTES)
            if not data:
                raise EOFError
            self._input += data
        data, self._input = self._input[:count], self._input[count:]
        return data

    async def write(self, data: bytes) -> None:
        await self._channel.write(data)

    async def start_tls(self) -> None:
        """Encrypt what follows, both ways; raises QemuError where the two do not agree, or the client may not come."""
        from fakeqemu.crypto.channel_tls import TLSChannel
        from fakeqemu.crypto.tlssession import new_session

        creds = self.display.tls_creds
        if self._input or creds is None:
            raise Disconnect  # what came before cannot be trusted
        session = new_session(creds)
        self._channel = channel = TLSChannel(self.vm, self._channel, session)
        await channel.handshake(None, self.display.tls_authz, "socket")
        certificate = session.peer_certificate() if creds.verify_peer else None
        if certificate is not None:
            self._peer_name = certificate.subject_name

    # --- handshake ------------------------------------------------------------------------------------

    async def _negotiate(self) -> None:
        await self.write(rfb.VERSION)
        await self.vm.host.turn()  # who is one too many goes before anybody listens to it
        found = _VERSION.match((await self.read(len(rfb.VERSION))).partition(b"\0")[0])
        if found is None:
            raise Disconnect
        minor = _MINORS.get(int(found[2])) if int(found[1]) == 3 else None
        if minor is None:
            await self.write(rfb.AUTH_INVALID.to_bytes(4, "big"))
            raise Disconnect
        self.minor = minor
        if minor == 3:
            await self._choose_for_client()
        else:
            await self.write(bytes((1, self.auth)))
            chosen = (await self.read(1))[0]
            if chosen != self.auth:
                self.trace("vnc_auth_reject", expected=self.auth, got=chosen)
                await vnc_auth.reject(self)
        await vnc_auth.authenticate(self, self.auth)

    async def _choose_for_client(self) -> None:
        """With version 3.3 the server says what is to be proved."""
        if self.auth not in (rfb.AUTH_NONE, rfb.AUTH_VNC):
            await self.write(rfb.AUTH_INVALID.to_bytes(4, "big"))
            raise Disconnect
        await self.write(self.auth.to_bytes(4, "big"))

    async def _initialize(self) -> None:
        wish = SHARED if (await self.read(1))[0] else EXCLUSIVE
        if not self.display.admit(self, wish):
            raise Disconnect
        surface = self.display.console.surface
        await self.write(struct.pack(">HH", surface.width, surface.height) + rfb.NATIVE_MESSAGE + self._name())
        self.info = self.full_info()
        self.display.emit("VNC_INITIALIZED", self)

    def _name(self) -> bytes:
        name = "QEMU" if self.vm.name is None else f"QEMU ({self.vm.name})"
        text = name.encode("utf-8", "surrogateescape")
        if len(text) >= _MAX_NAME_BYTES:
            text = text[: _MAX_NAME_BYTES - 1] + b"\0"
        return len(text).to_bytes(4, "big") + text

    # --- messages -------------------------------------------------------------------------------------

    async def _message(self) -> None:
        if not self._input:
            await self._update()
        kind = (await self.read(1))[0]
        if kind == rfb.SET_PIXEL_FORMAT:
            await self._set_pixel_format(b"\0" + await self.read(19))
        elif kind == rfb.SET_ENCODINGS:
            count = int.from_bytes((await self.read(3))[1:], "big")
            await self._set_encodings(struct.unpack(f">{count}i", await self.read(4 * count)))
        elif kind == rfb.UPDATE_REQUEST:
            await self._request(*struct.unpack(">BHHHH", await self.read(9)))
        elif kind == rfb.KEY_EVENT:
            down, keysym = struct.unpack(">BxxI", await self.read(7))
            self.trace("vnc_msg_client_key_event", ioc=self.number, down=down, sym=keysym)
        elif kind == rfb.POINTER_EVENT:
            await self.read(5)
        elif kind == rfb.CLIENT_CUT_TEXT:
            await self._cut_text(int.from_bytes((await self.read(7))[3:], "big", signed=True))
        elif kind == rfb.CLIENT_XVP:
            await self._xvp()
        elif kind == rfb.CLIENT_QEMU:
            await self._qemu((await self.read(1))[0])
        elif kind == rfb.SET_DESKTOP_SIZE:
            await self._set_desktop_size()
        else:
            raise Disconnect

    async def _update(self) -> None:
        """All that is said has been heard: show what was asked for."""
        if self._wants_update:
            surface = self.display.console.surface
            data = framebuffer_update(surface, self._dirty, self._pixel_format)
            if data:
                self._wants_update = False
                await self.write(data)

    async def _set_pixel_format(self, message: bytes) -> None:
        wanted = rfb.read_pixel_format(message)
        if wanted is None:
            raise Disconnect
        self._pixel_format = wanted
        if not message[7]:
            await self.write(wanted.colour_map())

    async def _set_encodings(self, encodings: tuple[int, ...]) -> None:
        self._encodings = encodings
        surface = self.display.console.surface
        answers = []
        # The one that the client likes best comes first in its list and last here.
        for encoding in reversed(encodings):
            if encoding == rfb.EXT_KEY_EVENT or (encoding == rfb.AUDIO and self.display.has_audio):
                answers.append(rfb.update(rfb.rectangle(0, 0, surface.width, surface.height, encoding)))
            elif encoding == rfb.XVP and self.display.power_control:
                answers.append(rfb.xvp(rfb.XVP_INIT))
            elif encoding == rfb.CLIPBOARD_EXT:
                answers.append(rfb.clipboard_caps())
        if rfb.POINTER_TYPE_CHANGE in encodings:  # relative: no guest has woken up a tablet
            answers.append(rfb.update(rfb.rectangle(0, 0, surface.width, surface.height, rfb.POINTER_TYPE_CHANGE)))
        if rfb.LED_STATE in encodings:
            answers.append(rfb.update(rfb.rectangle(0, 0, 1, 1, rfb.LED_STATE) + b"\0"))
        if answers:
            await self.write(b"".join(answers))

    async def _request(self, incremental: int, x: int, y: int, width: int, height: int) -> None:
        self._wants_update = True
        if not incremental:
            self._dirty.mark(x, y, width, height)
            if rfb.DESKTOP_RESIZE_EXT in self._encodings:
                await self._tell_size()

    async def _tell_size(self, answer: int = 0) -> None:
        surface = self.display.console.surface
        await self.write(rfb.desktop_size(surface.width, surface.height, answer))

    async def _cut_text(self, length: int) -> None:
        """Text of the client's clipboard; a negative length is that of a message of the extended clipboard."""
        if abs(length) > _MAX_CUT_TEXT_BYTES:
            self._complain(f"vnc: client_cut_text msg payload has {abs(length)} bytes which exceeds our limit of 1MB.")
        data = await self.read(abs(length))
        if length < 0:
            if rfb.CLIPBOARD_EXT not in self._encodings:
                self._complain("vnc: extended clipboard message while disabled")
            if len(data) < 4:
                self._complain(
                    "vnc: malformed payload (header less than 4 bytes) in extended clipboard pseudo-encoding."
                )

    async def _xvp(self) -> None:
        if rfb.XVP not in self._encodings or not self.display.power_control:
            self._complain("vnc: xvp client message while disabled")
        _padding, version, action = await self.read(3)
        if version != 1:
            self._complain(f"vnc: xvp client message version {version} != 1")
        if action == rfb.XVP_ACTION_SHUTDOWN:
            self.vm.request_powerdown()
        elif action == rfb.XVP_ACTION_RESET:
            self.vm.request_reset("host-qmp-system-reset")
        else:
            await self.write(rfb.xvp(rfb.XVP_FAIL))

    async def _qemu(self, kind: int) -> None:
        """QEMU's own messages: keys by their place on the keyboard, and sound."""
        if kind == rfb.QEMU_EXT_KEY_EVENT:
            await self.read(10)
        elif kind == rfb.QEMU_AUDIO:
            await self._audio()
        else:
            raise Disconnect

    async def _audio(self) -> None:
        announced = self.display.has_audio and rfb.AUDIO in self._encodings
        if not announced and not self.vm.compat.vnc_audio_always:
            # QEMU names a byte that may not have come yet.
            self._complain(f"Audio message {int.from_bytes(self._input[:1], 'big')} with audio disabled")
        kind = int.from_bytes(await self.read(2), "big")
        if kind == rfb.AUDIO_SET_FORMAT:
            sample, channels, frequency = struct.unpack(">BBI", await self.read(6))
            if sample > 5 or channels not in (1, 2) or frequency > _MAX_AUDIO_HZ:
                raise Disconnect
        elif kind == rfb.AUDIO_ENABLE:
            if self._listens:
                self.vm.error_report("audio already running")
            self._listens = True
        elif kind == rfb.AUDIO_DISABLE:
            self._listens = False
        else:
            raise Disconnect

    async def _set_desktop_size(self) -> None:
        screens = (await self.read(7))[5]
        await self.read(16 * screens)
        takes_size = self.display.console.takes_size
        await self._tell_size(rfb.SIZE_FORWARDED if takes_size else rfb.SIZE_NO_SUCH_LAYOUT)

    def _complain(self, text: str) -> None:
        """Say on stderr what is wrong with the client, and let it go."""
        self.vm.error_report(text)
        raise Disconnect


def basic_info(address: dict[str, Any] | None) -> dict[str, Any] | None:
    """QAPI's VncBasicInfo of an address; None for one that it has no words for."""
    if address is not None and address["type"] == "inet":
        family = "ipv6" if address.get("ipv6") else "ipv4"
        return {"family": family, "service": address["port"], "host": address["host"], "websocket": False}
    if address is not None and address["type"] == "unix":
        return {"family": "unix", "service": address["path"], "host": "", "websocket": False}
    return None
