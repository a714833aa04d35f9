# SPDX-License-Identifier: MIT
"""VNC displays: each listens at its addresses, and says who may share its picture.

    share=              a client that wants the picture for itself      one that shares
    ignore              comes                                           comes
    allow-exclusive     comes, the others go                            comes, unless one is there for itself
    force-shared        does not come                                   comes

`connections=` limits those who share, and those who have not said yet what they want: of these the eldest goes.

Differences from QEMU: where it has a client go in the next refresh of the picture, some 30 ms later, here it goes in the
next turn. A client that does not read its answers is not disconnected, it only gets no further.

QEMU: VncDisplay in ui/vnc.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.ui import rfb
from fakeqemu.ui.console import QemuConsole, console_of_device, default_console
from fakeqemu.ui.vnc_client import CONNECTING, DISCONNECTED, EXCLUSIVE, SHARED, VncState, basic_info
from fakeqemu.ui.vnc_opts import DEFAULT_CONNECTIONS, SHARE_POLICIES, VncSettings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random
    from typing import Any

    from fakeqemu.crypto.tlscreds import TLSCreds
    from fakeqemu.host.channel import Channel, Listener, SocketAddress
    from fakeqemu.system.machine import Machine
    from fakeqemu.ui.vnc_opts import Options

#: when a password expires that does not
NEVER_S = (1 << 63) - 1

AUTH_NAMES = {
    rfb.AUTH_INVALID: "invalid",
    rfb.AUTH_NONE: "none",
    rfb.AUTH_VNC: "vnc",
    rfb.AUTH_VENCRYPT: "vencrypt",
}
#: QAPI's VncVencryptSubAuth
SUBAUTH_NAMES = {
    rfb.VENCRYPT_TLSNONE: "tls-none",
    rfb.VENCRYPT_TLSVNC: "tls-vnc",
    rfb.VENCRYPT_X509NONE: "x509-none",
    rfb.VENCRYPT_X509VNC: "x509-vnc",
}


class VncDisplay:
    """One server."""

    def __init__(self, vm: Machine, name: str) -> None:
        self.vm = vm
        self.id = name
        self.auth = rfb.AUTH_INVALID
        #: of VeNCrypt: what follows TLS
        self.subauth = rfb.AUTH_INVALID
        self.tls_creds: TLSCreds | None = None
        self.tls_authz: str | None = None
        self.password: str | None = None
        #: when the password expires, in seconds since 1970
        self.expires_s = NEVER_S
        self.share_policy = SHARE_POLICIES[1]
        self.connections = DEFAULT_CONNECTIONS
        self.power_control = False
        #: whether clients can have sound; it is silence
        self.has_audio = bool(vm.compat.vnc_audio_always)
        self.console = QemuConsole(None)
        #: whether queries say whose console it is
        self.names_console = False
        self.listeners: list[Listener] = []
        self.clients: list[VncState] = []
        self._count = 0
        self.random: Random = vm.host.random(f"vnc/{name}")

    # --- opening --------------------------------------------------------------------------------------

    def open(self, opts: Options) -> None:
        """Listen, or connect to a viewer, as the options say; raises QemuError."""
        settings = VncSettings(self.vm, opts)
        self.password = settings.password
        self.auth, self.subauth = settings.auth, settings.subauth
        self.tls_creds, self.tls_authz = settings.tls_creds, settings.tls_authz
        self.share_policy = str(settings.share_policy)
        self.connections = settings.connections
        self.power_control = settings.power_control
        self.has_audio = self.has_audio or settings.audiodev is not None
        if settings.device is not None:
            self.console = console_of_device(self.vm, settings.device, settings.head)
        else:
            self.console = default_console(self.vm)
        self.names_console = settings.device is not None or bool(self.vm.compat.vnc_default_console_bound)
        if settings.reverse:
            self._connect(settings.addresses)
            return
        try:
            self.listen(settings.addresses)
        except QemuError:
            self.stop_listening()  # where it listens by now, of several addresses
            raise
        if settings.says_where and self.listeners:
            where = self.listeners[0].address()
            if where["type"] == "inet":
                self.vm.host.write_stderr(f"VNC server running on {where['host']}:{where['port']}\n")

    def _connect(self, addresses: list[SocketAddress]) -> None:
        if len(addresses) != 1:
            if addresses:
                raise QemuError("Expected a single address in reverse mode")
            return
        self.add_client(self.vm.host.connect_now(addresses[0], name="vnc-reverse"))

    def listen(self, addresses: Iterable[SocketAddress]) -> None:
        """Listen at all of them, each name at all addresses that it stands for; raises QemuError."""
        for address in addresses:
            failure: QemuError | None = None
            found = False
            for place in self.vm.host.resolve(address):
                try:
                    self.listeners.append(self.vm.host.listen(place, self.add_client, name="vnc-listen"))
                    found = True
                except QemuError as error:
                    failure = failure or error
            if failure is not None and not found:
                raise failure

    def stop_listening(self) -> None:
        """Clients that are there stay."""
        for listener in self.listeners:
            listener.close()
        self.listeners.clear()

    # --- clients --------------------------------------------------------------------------------------

    def add_client(self, channel: Channel, auth: int | None = None) -> None:
        """One has come; `auth`, where it differs from the display's, is what it has to prove."""
        self._count += 1
        client = VncState(self, channel, self.auth if auth is None else auth, self._count)
        client.trace("vnc_client_connect", ioc=client.number)
        self.clients.append(client)
        client.start()
        connecting = [other for other in self.clients if other.share_mode == CONNECTING]
        if len(connecting) > self.connections:
            connecting[0].disconnect()

    def remove(self, client: VncState) -> None:
        self.clients.remove(client)

    def admit(self, client: VncState, wish: str) -> bool:
        """Whether a client may come that wants to share, or not; others may have to go for it."""
        if self.share_policy == "force-shared" and wish == EXCLUSIVE:
            return False
        if self.share_policy == "allow-exclusive":
            if wish == EXCLUSIVE:
                for other in self.clients:
                    if other is not client and other.share_mode in (SHARED, EXCLUSIVE):
                        other.disconnect()
            elif any(other.share_mode == EXCLUSIVE for other in self.clients):
                return False
        if client.share_mode == DISCONNECTED:
            return False
        client.share_mode = wish
        return sum(other.share_mode == SHARED for other in self.clients) <= self.connections

    # --- what is told ---------------------------------------------------------------------------------

    @property
    def auth_text(self) -> str:
        """What clients have to prove, in one word."""
        name = AUTH_NAMES[self.auth]
        return f"{name}+{SUBAUTH_NAMES[self.subauth].replace('-', '+')}" if self.subauth else name

    def emit(self, event: str, client: VncState) -> None:
        """An event about a client; none from a display that does not listen."""
        server = basic_info(self.listeners[0].address()) if self.listeners else None
        if server is not None and client.info is not None:
            self.vm.emit(event, {"server": {"auth": self.auth_text, **server}, "client": client.info})

    def client_infos(self) -> list[dict[str, Any]]:
        """QAPI's VncClientInfo of each, the youngest first."""
        infos = (client.full_info() for client in reversed(self.clients))
        return [info for info in infos if info is not None]


class VncDisplays:
    """All servers of a machine."""

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self.all: list[VncDisplay] = []

    def find(self, name: str | None) -> VncDisplay | None:
        """The one of that name, or the first."""
        for display in self.all:
            if name is None or display.id == name:
                return display
        return None

    def open(self, name: str, opts: Options) -> None:
        """Start a server; raises QemuError."""
        display = VncDisplay(self._vm, name)
        self.all.append(display)
        display.open(opts)

    def close(self) -> None:
        """The process ends: releases that tidy up then unlink their sockets."""
        if self._vm.compat.vnc_socket_unlinked_at_exit:
            for display in self.all:
                display.stop_listening()
