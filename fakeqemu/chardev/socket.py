# SPDX-License-Identifier: MIT
"""Sockets as character devices: listening or connecting, one peer at a time.

A server takes one client; others wait in the kernel's backlog and are taken when the first has left. A client connects
when it is made, or, with `reconnect-ms`, tries again until it succeeds, and again when the connection is lost.

QEMU: chardev/char-socket.c
"""

from __future__ import annotations

from fakeqemu.chardev.channel import ChannelChardev
from fakeqemu.error import NotEmulated, QemuError
from fakeqemu.host.clock import NS_PER_MS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.host.channel import Channel, Listener, SocketAddress
    from fakeqemu.host.clock import Timer
    from fakeqemu.host.sync import Task
    from fakeqemu.system.machine import Machine


class SocketChardev(ChannelChardev):
    """-chardev socket."""

    __slots__ = (
        "_address",
        "_connecting",
        "_is_server",
        "_listener",
        "_peer_text",
        "_reconnect_ns",
        "_retry",
        "_said_why",
        "_yankable",
    )

    def __init__(self, vm: Machine, label: str, kind: str) -> None:
        super().__init__(vm, label, kind)
        self._address: SocketAddress = {}
        self._is_server = False
        self._listener: Listener | None = None
        self._peer_text = ""
        self._reconnect_ns = 0
        self._retry: Timer | None = None
        self._connecting: Task | None = None
        self._said_why = False
        self._yankable = False
        self.define("connected", "bool", get=lambda: self.be_open)
        self.define("addr", "SocketAddress", get=self._address_in_use)

    @property
    def _yank_instance(self) -> dict[str, Any]:
        return {"type": "chardev", "id": self.label}

    def open(self, backend: dict[str, Any]) -> None:
        self._check(backend)
        self._address = flatten(backend["addr"])
        self._is_server = backend.get("server", True)
        self._reconnect_ns = backend.get("reconnect", 0) * 1000 * NS_PER_MS + backend.get("reconnect-ms", 0) * NS_PER_MS
        if self._address["type"] == "fd":
            self._address = {"type": "fd", "str": self._descriptor(self._address["str"])}
        if self._is_server:
            self._listener = self.vm.host.listen(self._address, self._accepted, name=self.label)
            self._address = {**self._address, **self._listener.address()}
        elif not self._reconnect_ns:
            self._connected(self.vm.host.connect_now(self._address, name=self.label))
        self._register_yank()
        if self._channel is not None:
            self.vm.yank.register_function(self._yank_instance, self._yank)
        if self._is_server:
            if backend.get("wait", False):
                self._wait_for_client()
        elif self._reconnect_ns:
            # In a turn of its own, as QEMU does it in a thread: a failure is not the option's.
            clock = self.vm.host.clock
            self._retry = clock.call_at(clock.now_ns(), self._start_connecting)

    def _check(self, backend: dict[str, Any]) -> None:
        for option in ("tls-creds", "tls-authz"):
            if backend.get(option) is not None:
                if option == "tls-authz" and backend.get("tls-creds") is None:
                    raise QemuError("'tls_authz' option requires 'tls_creds' option")
                if self.vm.qom.objects.child(backend[option]) is None:
                    raise QemuError(f"No TLS credentials with id '{backend[option]}'")
        for option in ("telnet", "tn3270", "websocket", "tls-creds", "tls-authz"):
            if backend.get(option):
                raise NotEmulated(f"chardev option '{option}': not emulated")
        is_server = backend.get("server", True)
        for option in ("reconnect", "reconnect-ms"):
            if is_server and backend.get(option):
                raise QemuError(f"'{option}' option is incompatible with socket in server listen mode")
        if not is_server and "wait" in backend:
            raise QemuError("'wait' option is incompatible with socket in client connect mode")
        if backend.get("reconnect") and backend.get("reconnect-ms"):
            raise QemuError("'reconnect' and 'reconnect-ms' are mutually exclusive")

    def _register_yank(self) -> None:
        old = self.vm.chardevs.find(self.label)
        if isinstance(old, SocketChardev) and old._yankable:  # chardev-change: the instance stays
            old._drop_channel()
            old._yankable = False
        else:
            self.vm.yank.register_instance(self._yank_instance)
        self._yankable = True

    def _descriptor(self, text: str) -> str:
        """The number of a descriptor: a monitor gives names, the command line numbers."""
        return str(self.vm.fds.take_named(text)) if self.vm.chardevs.from_monitor else text

    # server
    def _accepted(self, channel: Channel) -> None:
        assert self._listener is not None
        self._listener.pause()
        self._connected(channel)
        self.vm.yank.register_function(self._yank_instance, self._yank)

    def _wait_for_client(self) -> None:
        self.vm.error_report(f"info: QEMU waiting for connection on: {self.filename}")
        assert self._listener is not None
        while self._channel is None:
            self._listener.accept_blocking()

    # client
    def _start_connecting(self) -> None:
        self._retry = None
        self._connecting = self.vm.host.start(self._connect(), f"chardev/{self.label}")

    async def _connect(self) -> None:
        try:
            channel = await self.vm.host.connect(self._address, name=self.label)
        except QemuError as error:
            if not self._said_why:
                self.vm.error_report(f"Unable to connect character device {self.label}: {error.desc}")
                self._said_why = True
            self._retry_later()
            return
        finally:
            self._connecting = None
        self._said_why = False
        self._connected(channel)
        self.vm.yank.register_function(self._yank_instance, self._yank)

    def _retry_later(self) -> None:
        clock = self.vm.host.clock
        self._retry = clock.call_at(clock.now_ns() + self._reconnect_ns, self._start_connecting)

    # both
    def _connected(self, channel: Channel) -> None:
        self._channel = channel
        self._peer_text = self._connected_text(channel)
        channel.attach(self.received, self._hangup)
        self.opened()

    def _hangup(self) -> None:
        """The peer has left, or `yank` broke the connection."""
        self._drop_channel()
        self.closed()
        if self._listener is not None:
            self._listener.resume()
        elif self._reconnect_ns:
            self._retry_later()

    def _drop_channel(self) -> None:
        if self._channel is not None:
            channel, self._channel = self._channel, None
            channel.close()
            self.vm.yank.unregister_function(self._yank_instance, self._yank)

    def _yank(self) -> None:
        channel = self._channel
        if channel is not None:
            channel.shutdown()
            # Seen to before the next command is.
            self.vm.host.call_soon(lambda: self._hangup() if self._channel is channel else None)

    def greet_waiting(self) -> None:
        if self._listener is not None and self._channel is None:
            self._listener.accept_waiting()
        super().greet_waiting()

    def release(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        self._drop_channel()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._yankable:
            self._yankable = False
            self.vm.yank.unregister_instance(self._yank_instance)

    # names
    @property
    def filename(self) -> str:
        return self._peer_text if self._channel is not None else f"disconnected:{self._own_text()}"

    def _own_text(self) -> str:
        address, server = self._address, ",server=on" if self._is_server else ""
        kind = address["type"]
        if kind == "inet":
            return f"tcp:{address['host']}:{address['port']}{server}"
        if kind == "unix":
            options = ""
            if address.get("abstract"):
                options = ",abstract=on" + (",tight=on" if address.get("tight", True) else "")
            return f"unix:{address['path']}{options}{server}"
        return f"fd:{address['str']}{server}"

    def _connected_text(self, channel: Channel) -> str:
        local, peer = channel.local_address(), channel.peer_address()
        server = ",server=on" if self._is_server else ""
        if local is not None and local["type"] == "inet" and peer is not None:
            return f"tcp:{bracketed(local)}{server} <-> {bracketed(peer)}"
        named = local if self._is_server or not self.vm.compat.chardev_client_names_peer else peer
        if named is None or named["type"] != "unix" or named.get("abstract"):
            return f"unix:{server}"
        return f"unix:{named['path']}{server}"

    def _address_in_use(self) -> SocketAddress:
        return self._address


def flatten(legacy: dict[str, Any]) -> SocketAddress:
    """QAPI's SocketAddressLegacy {"type", "data"} as a SocketAddress."""
    return {"type": legacy["type"], **legacy["data"]}


def bracketed(address: SocketAddress) -> str:
    host = address["host"]
    return f"[{host}]:{address['port']}" if ":" in host else f"{host}:{address['port']}"
