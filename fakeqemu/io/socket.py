# SPDX-License-Identifier: MIT
"""Sockets: channels that can carry descriptors, listeners, and QEMU's words when the kernel refuses.

Only the C module `_socket` is used: the `socket` module brings in `selectors` and `enum`, which cost more than a start.

QEMU: util/qemu-sockets.c, io/channel-socket.c
"""

from __future__ import annotations

import _socket
import os
from sys import byteorder

from fakeqemu.error import NotEmulated, QemuError
from fakeqemu.host.channel import Listener
from fakeqemu.host.sync import Future
from fakeqemu.io.stream import StreamChannel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fakeqemu.host.channel import Channel, SocketAddress
    from fakeqemu.io.host import ProcessHost
    from fakeqemu.io.stream import Buffer

#: descriptors that one message can carry on Linux
MAX_FDS = 253
_ANCILLARY_SIZE = _socket.CMSG_SPACE(MAX_FDS * 4)
_UNIX_PATH_SIZE = 108
_EINPROGRESS = 115
#: how long to wait before another try to connect to a UNIX socket that has no room for it
_BACKLOG_RETRY_NS = 10_000_000
_EADDRINUSE = 98
_EINVAL = 22


class SocketChannel(StreamChannel):
    """A connected stream socket."""

    __slots__ = ("_is_unix", "_socket")

    is_socket = True

    def __init__(self, host: ProcessHost, sock: _socket.socket, name: str = "") -> None:
        fd = sock.fileno()
        super().__init__(host, fd, fd, name)
        sock.setblocking(False)
        self._socket = sock
        self._is_unix = sock.family == _socket.AF_UNIX
        if not self._is_unix and sock.family in (_socket.AF_INET, _socket.AF_INET6):
            sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)

    def fileno(self) -> int:
        return self._rfd

    def _take(self, size: int) -> bytes:
        if not self._is_unix:
            return self._socket.recv(size)
        data, ancillary, _flags, _address = self._socket.recvmsg(size, _ANCILLARY_SIZE, _socket.MSG_CMSG_CLOEXEC)
        self._keep_fds(ancillary)
        return data

    def _take_into(self, buffer: memoryview) -> int:
        if not self._is_unix:
            return self._socket.recv_into(buffer)
        size, ancillary, _flags, _address = self._socket.recvmsg_into(
            [buffer], _ANCILLARY_SIZE, _socket.MSG_CMSG_CLOEXEC
        )
        self._keep_fds(ancillary)
        return size

    def _keep_fds(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        for level, kind, payload in ancillary:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                for at in range(0, len(payload) - 3, 4):
                    self._fds.append(int.from_bytes(payload[at : at + 4], byteorder))

    def _give(self, buffers: list[Buffer]) -> int:
        if len(buffers) == 1:
            return self._socket.send(buffers[0])
        return self._socket.sendmsg(buffers)

    async def write_fds(self, data: bytes, fds: list[int]) -> None:
        if len(fds) > MAX_FDS:
            raise OSError(_EINVAL, "Invalid argument")
        sent = False

        def give(buffers: list[Buffer]) -> int:
            nonlocal sent
            if sent:
                return self._give(buffers)
            payload = b"".join(fd.to_bytes(4, byteorder) for fd in fds)
            rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, payload)] if fds else []
            taken = self._socket.sendmsg(buffers, rights)
            sent = True
            return taken

        await self._write_all([data], give)

    def shutdown(self, how: str = "both") -> None:
        if not self._closed:
            try:
                self._socket.shutdown({"read": 0, "write": 1, "both": 2}[how])
            except OSError:
                pass  # the peer was faster
        super().shutdown(how)

    def _release(self) -> None:
        self._socket.close()

    def local_address(self) -> SocketAddress | None:
        return address_of(self._socket.family, self._socket.getsockname())

    def peer_address(self) -> SocketAddress | None:
        try:
            return address_of(self._socket.family, self._socket.getpeername())
        except OSError:
            return None


class SocketListener(Listener):
    """A listening socket; unlinks its own UNIX socket's file when closed."""

    __slots__ = ("_host", "_name", "_on_channel", "_paused", "_socket", "_unlink")

    def __init__(
        self,
        host: ProcessHost,
        sock: _socket.socket,
        on_channel: Callable[[Channel], None],
        name: str = "",
        unlink: str = "",
    ) -> None:
        self._host = host
        self._socket = sock
        self._on_channel = on_channel
        self._name = name
        self._unlink = unlink  # as it was given: a daemon has gone to / and does not find it again, nor does QEMU
        self._paused = True
        sock.setblocking(False)
        host.listeners.append(self)
        self.resume()

    def address(self) -> SocketAddress:
        address = address_of(self._socket.family, self._socket.getsockname())
        assert address is not None
        return address

    def pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._host.poller.remove_reader(self._socket.fileno())

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._host.poller.add_reader(self._socket.fileno(), self._acceptable)

    def _acceptable(self) -> None:
        try:
            fd, _address = self._socket._accept()  # type: ignore[attr-defined]
        except OSError:  # gone again, or no descriptor left: the next turn tries again
            return
        sock = _socket.socket(self._socket.family, self._socket.type, self._socket.proto, fd)
        self._on_channel(SocketChannel(self._host, sock, self._name))

    def accept_waiting(self) -> None:
        self._acceptable()

    def accept_blocking(self) -> None:
        """Wait, turning nothing else, until a client is there, and hand it over."""
        self._host.block_until_readable(self._socket.fileno())
        self._acceptable()

    def close(self) -> None:
        if self._socket.fileno() < 0:
            return
        self.pause()
        self._host.listeners.remove(self)
        self._socket.close()
        self.unlink()

    def unlink(self) -> None:
        """Remove the file of a UNIX socket, once."""
        path, self._unlink = self._unlink, ""
        if path:
            try:
                os.unlink(path)
            except OSError:
                pass


def address_of(family: int, name: Any) -> SocketAddress | None:
    """A kernel address as QAPI's SocketAddress."""
    if family == _socket.AF_UNIX:
        if isinstance(name, bytes):  # abstract: begins with NUL
            return {"type": "unix", "path": os.fsdecode(name[1:]), "abstract": True}
        return {"type": "unix", "path": name}
    if family in (_socket.AF_INET, _socket.AF_INET6):
        which = "ipv4" if family == _socket.AF_INET else "ipv6"
        return {"type": "inet", "host": name[0], "port": str(name[1]), which: True}
    return None


def text_of(address: SocketAddress) -> str:
    """An address in the words of connect's errors."""
    if address["type"] == "inet":
        return f"{address['host']}:{address['port']}"
    if address["type"] == "unix":
        return str(address["path"])
    if address["type"] == "vsock":
        return f"{address['cid']}:{address['port']}"
    return str(address["str"])


# QAPI SocketAddress -> kernel addresses


def unix_name(address: SocketAddress) -> str | bytes:
    """What bind() and connect() take for a UNIX address; raises QemuError for a path that does not fit."""
    path: str = address["path"]
    raw = os.fsencode(path)
    if address.get("abstract"):
        limit = _UNIX_PATH_SIZE - 1
        if len(raw) > limit:
            raise QemuError(f"UNIX socket path '{path}' is too long", hint=f"Path must be less than {limit} bytes")
        name = b"\0" + raw
        return name if address.get("tight", True) else name.ljust(_UNIX_PATH_SIZE, b"\0")
    if len(raw) > _UNIX_PATH_SIZE:
        raise QemuError(
            f"UNIX socket path '{path}' is too long", hint=f"Path must be less than {_UNIX_PATH_SIZE} bytes"
        )
    return path or b"\0" * _UNIX_PATH_SIZE  # an empty one is given in full: an abstract name


def inet_families(address: SocketAddress) -> int:
    """AF_UNSPEC, AF_INET or AF_INET6, from ipv4= and ipv6=; raises QemuError when both are off."""
    ipv4, ipv6 = address.get("ipv4"), address.get("ipv6")
    if ipv4 is False and ipv6 is False:
        raise QemuError("Cannot disable IPv4 and IPv6 at same time")
    if ipv4 and ipv6:
        return _socket.AF_UNSPEC
    if ipv6 or ipv4 is False:
        return _socket.AF_INET6
    if ipv4 or ipv6 is False:
        return _socket.AF_INET
    return _socket.AF_UNSPEC


_NO_HOSTS = {"": "Name or service not known", "*": "Bad value for ai_flags"}  # of names to connect to glibc says so


def resolve(address: SocketAddress, *, passive: bool) -> list[tuple[int, int, int, str, Any]]:
    """getaddrinfo of an inet address; raises QemuError in QEMU's words. May take as long as a name server does."""
    host, port = address["host"], address["port"]
    family = inet_families(address)
    flags = _socket.AI_PASSIVE if passive else _socket.AI_ADDRCONFIG | _socket.AI_V4MAPPED
    if address.get("numeric"):
        flags |= _socket.AI_NUMERICHOST | _socket.AI_NUMERICSERV
    if not passive and host in _NO_HOSTS:
        raise QemuError(f"address resolution failed for {host}:{port}: {_NO_HOSTS[host]}")
    try:
        return _socket.getaddrinfo(host or None, port, family, _socket.SOCK_STREAM, 0, flags)
    except _socket.gaierror as error:
        raise QemuError(f"address resolution failed for {host}:{port}: {error.strerror}") from None


def needs_name_server(address: SocketAddress) -> bool:
    """Whether resolving an inet address could take time."""
    host = address["host"]
    if not host or host == "localhost":
        return False
    try:
        _socket.getaddrinfo(host, 0, 0, _socket.SOCK_STREAM, 0, _socket.AI_NUMERICHOST)
    except _socket.gaierror:
        return True
    return False


# connecting


async def connect(host: ProcessHost, address: SocketAddress, name: str) -> Channel:
    """Connect, waiting as long as it takes. Raises QemuError in QEMU's words."""
    kind = address["type"]
    if kind == "unix":
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            await _connect_unix(host, sock, unix_name(address))
        except OSError as error:
            sock.close()
            raise _failed_to_connect(address, error) from None
        except BaseException:
            sock.close()
            raise
        return SocketChannel(host, sock, name)
    if kind == "inet":
        found = (
            resolve(address, passive=False) if not needs_name_server(address) else await _resolve_aside(host, address)
        )
        first: OSError | None = None
        for family, type_, proto, _canonical, target in found:
            sock = _socket.socket(family, type_, proto)
            sock.setblocking(False)
            try:
                await _connect_inet(host, sock, target)
            except OSError as error:
                sock.close()
                first = error
            except BaseException:
                sock.close()
                raise
            else:
                if address.get("keep-alive"):
                    sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1)
                return SocketChannel(host, sock, name)
        assert first is not None
        raise _failed_to_connect(address, first)
    if kind == "fd":
        return SocketChannel(host, socket_from_fd(address["str"]), name)
    raise _unsupported(kind)


def connect_now(host: ProcessHost, address: SocketAddress, name: str) -> Channel:
    """Connect and hold everything up meanwhile, as start-up and chardev-add do."""
    if address["type"] == "unix":
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            sock.connect(unix_name(address))
        except OSError as error:
            sock.close()
            raise _failed_to_connect(address, error) from None
        return SocketChannel(host, sock, name)
    if address["type"] != "inet":
        from fakeqemu.host.sync import run_sync

        channel: Channel = run_sync(connect(host, address, name))
        return channel
    failure: OSError | None = None
    for family, type_, proto, _canonical, target in resolve(address, passive=False):
        sock = _socket.socket(family, type_, proto)
        try:
            sock.connect(target)
        except OSError as error:
            sock.close()
            failure = error
        else:
            return SocketChannel(host, sock, name)
    assert failure is not None
    raise _failed_to_connect(address, failure)


async def _connect_unix(host: ProcessHost, sock: _socket.socket, target: Any) -> None:
    """Connect; while the listener's backlog is full, try again and again: nothing tells when there is room."""
    sock.setblocking(False)
    while True:
        try:
            sock.connect(target)
        except BlockingIOError:
            await host.clock.sleep(_BACKLOG_RETRY_NS)
        else:
            return


async def _connect_inet(host: ProcessHost, sock: _socket.socket, target: Any) -> None:
    code = sock.connect_ex(target)
    if code == _EINPROGRESS:
        done = Future(host)
        fd = sock.fileno()
        host.poller.add_writer(fd, done.set_result)
        try:
            await done
        finally:
            host.poller.remove_writer(fd)
        code = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


async def _resolve_aside(host: ProcessHost, address: SocketAddress) -> list[tuple[int, int, int, str, Any]]:
    """Ask a name server in a thread of its own, so that monitors are answered meanwhile."""
    answer = await host.call_in_thread(lambda: resolve(address, passive=False))
    found: list[tuple[int, int, int, str, Any]] = answer
    return found


def _failed_to_connect(address: SocketAddress, error: OSError) -> QemuError:
    return QemuError(f"Failed to connect to '{text_of(address)}': {error.strerror}")


def _unsupported(kind: str) -> QemuError:
    return NotEmulated(f"sockets of type '{kind}' are not emulated")


def socket_from_fd(text: str) -> _socket.socket:
    """A socket over an inherited descriptor, given as a number; raises QemuError in QEMU's words."""
    try:
        fd = int(text) if text.strip() == text and "_" not in text else -1
    except ValueError:
        fd = -1
    if fd < 0:
        raise QemuError(f"Unable to parse FD number {text}")
    try:
        sock = _socket.socket(-1, -1, -1, fd)
    except OSError:
        raise QemuError(f"File descriptor '{text}' is not a socket") from None
    os.set_inheritable(fd, False)
    return sock


# listening


def listen(
    host: ProcessHost, address: SocketAddress, on_channel: Callable[[Channel], None], backlog: int, name: str
) -> SocketListener:
    """Listen; raises QemuError in QEMU's words."""
    kind = address["type"]
    if kind == "unix":
        return _listen_unix(host, address, on_channel, backlog, name)
    if kind == "inet":
        return SocketListener(host, _bind_inet(address, backlog), on_channel, name)
    if kind == "fd":
        sock = socket_from_fd(address["str"])
        try:
            sock.listen(backlog)
        except OSError as error:
            raise QemuError(f"Failed to listen on fd socket: {error.strerror}") from None
        bound = address_of(sock.family, sock.getsockname())
        # QEMU unlinks at exit what it was given listening, too.
        path = bound["path"] if bound is not None and bound["type"] == "unix" and not bound.get("abstract") else ""
        return SocketListener(host, sock, on_channel, name, unlink=path)
    raise _unsupported(kind)


def _listen_unix(
    host: ProcessHost, address: SocketAddress, on_channel: Callable[[Channel], None], backlog: int, name: str
) -> SocketListener:
    if not address["path"] and not address.get("abstract"):
        from tempfile import mkstemp

        fd, path = mkstemp(prefix="qemu-socket-")
        os.close(fd)
        return _listen_unix(host, {**address, "path": path}, on_channel, backlog, name)
    target: Any = unix_name(address)
    path = "" if address.get("abstract") else address["path"]
    if path:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise QemuError(f"Failed to unlink socket {path}: {error.strerror}") from None
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        sock.bind(target)
    except OSError as error:
        sock.close()
        raise QemuError(f"Failed to bind socket to {address['path']}: {error.strerror}") from None
    sock.listen(backlog)
    return SocketListener(host, sock, on_channel, name, unlink=path)


def _bind_inet(address: SocketAddress, backlog: int) -> _socket.socket:
    found = resolve(address, passive=True)
    first_port = found[0][4][1]
    last_port = int(address.get("to") or first_port)
    if last_port < first_port:
        raise QemuError("Failed to create a socket")  # QEMU adds what some call before has left in errno
    failure: OSError | None = None
    busy: OSError | None = None
    for port in range(first_port, last_port + 1):
        for family, type_, proto, _canonical, target in found:
            try:
                sock = _socket.socket(family, type_, proto)
            except OSError as error:
                failure = error
                continue
            sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
            if family == _socket.AF_INET6:
                # One socket for both families unless IPv4 was switched off.
                v6_only = int(address.get("ipv4") is False or (bool(address.get("ipv6")) and not address.get("ipv4")))
                sock.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, v6_only)
            try:
                sock.bind((target[0], port, *target[2:]))
                sock.listen(backlog)
            except OSError as error:
                sock.close()
                if error.errno == _EADDRINUSE:
                    busy = error
                    continue
                raise QemuError(f"Failed to bind socket: {error.strerror}") from None
            return sock
    if busy is not None:
        raise QemuError(f"Failed to find an available port: {busy.strerror}")
    assert failure is not None
    raise QemuError(f"Failed to create a socket: {failure.strerror}")
