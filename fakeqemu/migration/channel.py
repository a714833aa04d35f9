# SPDX-License-Identifier: MIT
"""Where a migration goes to or comes from: a URI or a list of channels, made into QAPI's MigrationAddress, and opened.

    tcp:HOST:PORT[,OPTIONS]  unix:PATH  vsock:CID:PORT  fd:NAME   a socket address
    exec:COMMAND                                                  run by /bin/sh -c
    file:PATH[,offset=SIZE]                                       from an offset on
    rdma:HOST:PORT

Sockets connect later and in the background; files, descriptors and programs are opened at once, so that what is wrong with
them is the reply of the command.

QEMU: migration/channel.c, socket.c, fd.c, file.c, exec.c, util/qemu-sockets.c (socket_parse)
"""

from __future__ import annotations

import errno
import os
import stat

from fakeqemu.error import QemuError
from fakeqemu.migration.stream.qemu_file import COMMAND, FILE, SOCKET
from fakeqemu.qapi.cutils import NumberError, parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fakeqemu.host.channel import Channel, Listener
    from fakeqemu.migration.options import MigrationOptions
    from fakeqemu.qapi.compat import Compat
    from fakeqemu.system.machine import Machine

    MigrationAddress = dict[str, Any]

MAIN = "main"
MULTIFD = "multifd"
PREEMPT = "preempt"
OFFSET_OPTION = ",offset="
FDSET_PREFIX = "/dev/fdset/"

_UINT64_MAX = (1 << 64) - 1
#: options of an inet address that are switches
_INET_SWITCHES = ("ipv4", "ipv6", "keep-alive", "mptcp", "numeric")


# --- addresses ------------------------------------------------------------------------------------------


def resolve(compat: Compat, uri: str | None, channels: list[dict[str, Any]] | None) -> MigrationAddress:
    """The address of the main channel, from either of the two arguments; raises QemuError."""
    if (uri is None) == (not channels):
        raise QemuError("need either 'uri' or 'channels' argument")
    if channels:
        seen: dict[str, MigrationAddress] = {}
        for channel in channels:
            kind = channel["channel-type"]
            if kind in seen:
                raise QemuError(f"Channel list has more than one {kind} entry")
            seen[kind] = channel["addr"]
        if MAIN not in seen:  # QEMU dies here
            raise QemuError("Channel list has no main entry")
        return seen[MAIN]
    assert uri is not None
    return parse_uri(compat, uri)


def parse_uri(compat: Compat, uri: str) -> MigrationAddress:
    """QAPI's MigrationAddress of a URI; raises QemuError."""
    scheme, colon, rest = uri.partition(":")
    if colon:
        if scheme == "exec":
            return {"transport": "exec", "args": ["/bin/sh", "-c", rest]}
        if scheme == "rdma":
            return {"transport": "rdma", **_parse_rdma(compat, rest)}
        if scheme in ("tcp", "unix", "vsock", "fd"):
            return {"transport": "socket", **_parse_socket(compat, scheme, rest)}
        if scheme == "file" and compat.migration_file_transport:
            return {"transport": "file", **_parse_file(rest)}
    if compat.migration_uri_words == "late":
        raise UnknownProtocol("Parameter 'uri' expects a valid migration protocol")
    raise QemuError(f"unknown migration protocol: {uri}")


class UnknownProtocol(QemuError):
    """A URI of no known kind, in releases where `migrate` fails with it but keeps no error-desc."""


def _parse_rdma(compat: Compat, text: str) -> dict[str, Any]:
    try:
        return _parse_inet(compat, text)
    except QemuError:
        if compat.migration_uri_words == "early":
            raise
        raise QemuError(f"RDMA ERROR: bad RDMA migration address '{text}'") from None


def _parse_socket(compat: Compat, scheme: str, rest: str) -> dict[str, Any]:
    if scheme == "unix":
        if not rest:
            raise QemuError("invalid Unix socket address")
        return {"type": "unix", "path": rest}
    if scheme == "fd":
        if not rest and compat.migration_uri_words == "early":
            raise QemuError("invalid file descriptor address")
        return {"type": "fd", "str": rest}
    if scheme == "vsock":
        cid, colon, port = rest.partition(":")
        port, comma, _ = port.partition(",")
        if not cid or not colon or not port:
            raise QemuError(f"error parsing address '{rest}'")
        if comma:
            raise QemuError(f"trailing characters in address '{rest}'")
        return {"type": "vsock", "cid": cid, "port": port}
    return {"type": "inet", **_parse_inet(compat, rest)}


def _parse_inet(compat: Compat, text: str) -> dict[str, Any]:
    main, comma, options = text.partition(",")
    told = main if compat.migration_inet_options_checked else text
    if main.startswith("["):
        host, bracket, rest = main[1:].partition("]")
        if not host or not bracket or not rest.startswith(":") or not rest[1:]:
            raise QemuError(f"error parsing IPv6 address '{told}'")
        port = rest[1:]
    else:
        host, colon, port = main.partition(":")
        if not colon or not port:
            of_port = bool(colon) and not host and not compat.migration_inet_options_checked
            raise QemuError(f"error parsing {'port in address' if of_port else 'address'} '{told}'")
    address: dict[str, Any] = {"host": host, "port": port}
    if comma:
        if compat.migration_inet_options_checked:
            _parse_inet_options(address, options)
        else:
            _parse_old_inet_options(address, "," + options)
    return address


def _parse_inet_options(address: dict[str, Any], text: str) -> None:
    for option in text.split(","):
        name, equals, value = option.partition("=")
        if name in _INET_SWITCHES:
            if equals and value not in ("on", "off"):
                raise QemuError(f"Parameter '{name}' expects 'on' or 'off'")
            address[name] = value != "off"
        elif name == "to":
            if not value.isdigit():
                raise QemuError("Parameter 'to' expects a number")
            address["to"] = int(value)
        elif not name.startswith("keep-alive-"):
            raise QemuError(f"Invalid parameter '{name}'")


def _parse_old_inet_options(address: dict[str, Any], text: str) -> None:
    """Older releases look for what they know and pass over the rest."""
    at = text.find(",to=")
    if at >= 0:
        number = text[at + 4 :].partition(",")[0]
        if not number.isdigit():
            raise QemuError("error parsing to= argument")
        address["to"] = int(number)
    for name in ("ipv4", "ipv6", "keep-alive", "mptcp"):
        at = text.find("," + name)
        if at < 0:
            continue
        value = text[at + 1 + len(name) :].partition(",")[0]
        if value in ("", "=on"):
            address[name] = True
        elif value == "=off":
            address[name] = False
        else:
            raise QemuError(f"error parsing '{name}' flag '{value}'")


def _parse_file(text: str) -> dict[str, Any]:
    at = text.find(OFFSET_OPTION)
    if at < 0:
        return {"filename": text, "offset": 0}
    number = text[at + len(OFFSET_OPTION) :]
    try:
        if number.startswith("-"):
            raise NumberError(errno.ERANGE)
        offset = parse_size(number)
        if offset > _UINT64_MAX:
            raise NumberError(errno.ERANGE)
    except NumberError as err:
        raise QemuError(f"file URI has bad offset {number}: {os.strerror(err.errno)}") from None
    return {"filename": text[:at], "offset": offset}


def check_transport(options: MigrationOptions, address: MigrationAddress) -> None:
    """Refuse an address over which the capabilities that are on cannot work; raises QemuError."""
    transport = address["transport"]
    if options.on("mapped-ram") and transport != "file":
        raise QemuError("Migration requires seekable transport (e.g. file)")
    multi: bool = transport == "socket" and address["type"] in ("unix", "inet", "vsock")
    wanted = options.on("multifd") or options.on("postcopy-preempt")
    if wanted and not multi and not (transport == "file" and options.on("mapped-ram")):
        raise QemuError("Migration requires multi-channel URIs (e.g. tcp)")


# --- opening --------------------------------------------------------------------------------------------


def kind_of(address: MigrationAddress, channel: Channel) -> str:
    """How error texts call a channel of this address."""
    if channel.is_socket:
        return SOCKET
    return COMMAND if address["transport"] == "exec" else FILE


def is_background(address: MigrationAddress) -> bool:
    """Whether the source connects in the background, after the command was answered."""
    return bool(address["transport"] == "socket" and address["type"] != "fd")


async def connect(
    vm: Machine, address: MigrationAddress, name: str = "migration-socket-outgoing", *, further: str = ""
) -> Channel:
    """The source's channel to a socket address; raises QemuError. `further`: multifd or preempt, for one beside the main one."""
    if address["type"] == "vsock":
        raise _no_vsock(address)
    shown = shown_address(address)
    if further == PREEMPT:
        await vm.faults.pass_through("postcopy_preempt_new_channel", address=shown)
    elif not further:
        await vm.faults.pass_through("migration_socket_outgoing_connected", address=shown)
    channel = await vm.host.connect(_socket_address(address), name=name)
    try:
        vm.faults.check("qio_channel_socket_connect_complete", address=shown)
    except QemuError:
        channel.close()
        raise
    return await secure(vm, address, vm.faults.channel(channel), further=further)


async def secure(vm: Machine, address: MigrationAddress, channel: Channel, *, further: str = "") -> Channel:
    """The source's channel to use instead of one that was just opened: the same, unless there is to be TLS. Raises QemuError."""
    if not vm.migration.options.get("tls-creds"):
        return channel
    from fakeqemu.migration import tls

    return await tls.connect(vm, channel, address, kind_of(address, channel), further=further)


def open_now(vm: Machine, address: MigrationAddress) -> Channel:
    """The source's channel to a file, descriptor or program; raises QemuError."""
    transport = address["transport"]
    if transport == "rdma":
        raise QemuError("RDMA ERROR: could not create CM channel")
    if transport == "exec":
        return vm.faults.channel(_spawn(vm, address["args"], "migration-exec-outgoing"))
    if transport == "file":
        return vm.faults.channel(_open_file(vm, address, os.O_CREAT | os.O_WRONLY, "migration-file-outgoing"))
    return vm.faults.channel(_take_fd(vm, vm.fds.take_named(address["str"]), "migration-fd-outgoing"))


def open_further(vm: Machine, address: MigrationAddress, flags: int, name: str) -> Channel:
    """A description of our own of a file that is open already; raises QemuError."""
    return vm.faults.channel(_open_path(vm, address["filename"], flags, name))


def listen(
    vm: Machine, address: MigrationAddress, on_channel: Callable[[Channel], None]
) -> Listener | None:  # fmt: skip
    """Wait for the source at `address`; `on_channel(channel)` for each connection. None where there is nothing to
    listen at: then the one channel comes in a later turn. Raises QemuError.
    """
    transport = address["transport"]
    if transport == "rdma":
        raise QemuError("RDMA ERROR: could not create rdma event channel")
    if transport == "socket" and address["type"] != "fd":
        if address["type"] == "vsock":
            raise _no_vsock(address)
        vm.faults.check("qio_channel_socket_listen_sync", address=shown_address(address))
        listener = vm.host.listen(
            _socket_address(address),
            _accepting(vm, address, on_channel),
            backlog=_connections(vm.migration.options),
            name="migration-socket-listener",
        )
        try:
            vm.faults.check("qio_channel_socket_listen_complete", address=shown_address(address))
        except QemuError:
            listener.close()
            raise
        return listener
    if transport == "exec":
        channel = _spawn(vm, address["args"], "migration-exec-incoming")
    elif transport == "file":
        channel = _open_file(vm, address, os.O_RDONLY, "migration-file-incoming")
    else:
        fd = vm.fds.from_param(address["str"])
        if not vm.compat.migration_fd_file_refused and not _is_open(vm, fd):
            _warn_of_file(vm)
            return None  # nobody looks whether it is one, and nothing will ever come from there
        channel = _take_fd(vm, fd, "migration-fd-incoming")
        if vm.host.real_fds and not channel.is_pipe:  # how a pipe ends is seen to by who reads it
            vm.migration.start(_when_readable(vm, address, channel, on_channel), "mig/dst/main")
            return None
    vm.host.call_soon(lambda: _arrived(vm, address, vm.faults.channel(channel), on_channel))
    return None


async def _when_readable(
    vm: Machine, address: MigrationAddress, channel: Channel, on_channel: Callable[[Channel], None]
) -> None:
    """A descriptor counts as a connection once there is input: until then, which may be for ever, QEMU stays in setup."""
    if await channel.wait_readable():
        vm.host.call_soon(lambda: _arrived(vm, address, vm.faults.channel(channel), on_channel))


def _arrived(vm: Machine, address: MigrationAddress, channel: Channel, on_channel: Callable[[Channel], None]) -> None:
    """A channel from the source is there; where there is to be TLS, it is one when both sides have agreed."""
    if not vm.migration.options.get("tls-creds"):
        on_channel(channel)
        return
    from fakeqemu.migration import tls

    vm.migration.start(tls.accept(vm, channel, kind_of(address, channel), on_channel), "mig/dst/main")


def close(vm: Machine, address: MigrationAddress, channel: Channel) -> None:
    """Close a channel that was opened here; a descriptor of a set goes back to it."""
    fd = -1
    if address["transport"] == "file" and address["filename"].startswith(FDSET_PREFIX):
        fd = channel.fileno()  # type: ignore[attr-defined]
    channel.close()
    if fd >= 0:
        vm.fds.release(fd)


def _connections(options: MigrationOptions) -> int:
    """How many connections are to come beside the main one, or that one: so many wait to be accepted.

    QEMU: socket_start_incoming_migration
    """
    if options.on("multifd"):
        return int(options.get("multifd-channels"))
    return 2 if options.on("postcopy-preempt") else 1


def _accepting(
    vm: Machine, address: MigrationAddress, on_channel: Callable[[Channel], None]
) -> Callable[[Channel], None]:  # fmt: skip
    def accepted(channel: Channel) -> None:
        try:
            vm.faults.check("migration_socket_incoming_accepted")
        except OSError:
            channel.close()
        else:
            _arrived(vm, address, vm.faults.channel(channel), on_channel)

    return accepted


def shown_address(address: MigrationAddress) -> str:
    """A socket address as error texts show it."""
    return str(address["path"] if address["type"] == "unix" else f"{address['host']}:{address['port']}")


def _socket_address(address: MigrationAddress) -> dict[str, Any]:
    return {key: value for key, value in address.items() if key != "transport"}


def _no_vsock(address: MigrationAddress) -> QemuError:
    """As on a host without vsock; what is no number is seen before."""
    for name in ("cid", "port"):
        number = address[name]
        if not (number.isascii() and number.isdigit() and int(number) < 1 << 32):
            return QemuError(f"Failed to parse {name} '{number}'")
    text = os.strerror(errno.EAFNOSUPPORT)
    return QemuError(f"Failed to create socket: {text}", hint=f"vsock:{address['cid']}:{address['port']}")


def _spawn(vm: Machine, argv: list[str], name: str) -> Channel:
    if not argv:  # QEMU dies here
        raise QemuError("exec: no program to run")
    try:
        vm.faults.check(name.replace("-", "_"), command=argv[0])
        return vm.host.spawn(argv, name=name)
    except OSError as err:
        text = os.strerror(err.errno or errno.EIO)
        raise QemuError(f"Failed to execute child process \u201c{argv[0]}\u201d ({text})") from None


def _open_file(vm: Machine, address: MigrationAddress, flags: int, name: str) -> Channel:
    path: str = address["filename"]
    vm.trace("migration_file_outgoing" if flags & os.O_CREAT else "migration_file_incoming", filename=path)
    channel = _open_path(vm, path, flags, name)
    offset = address["offset"]
    if flags & os.O_CREAT:
        try:
            vm.faults.check("fake_file_truncate", filename=path)
            channel.truncate(offset)
        except OSError as err:
            channel.close()
            why = os.strerror(err.errno or errno.EIO)
            raise QemuError(f"failed to truncate migration file to offset {offset:x}: {why}") from None
    if offset:
        try:
            vm.faults.check("fake_qio_channel_io_seek", filename=path)
            channel.seek(offset)
        except OSError as err:
            channel.close()
            why = os.strerror(err.errno or errno.EIO)
            raise QemuError(f"Unable to seek to offset {offset} whence 0 in file: {why}") from None
    return channel


def _open_path(vm: Machine, path: str, flags: int, name: str) -> Channel:
    if path.startswith(FDSET_PREFIX):
        return _open_fdset(vm, path, flags, name)
    try:
        vm.faults.check(name.replace("-", "_"), filename=path)
        channel: Channel = vm.host.open_channel(path, flags, 0o600, name=name)
    except OSError as err:
        verb = "create" if flags & os.O_CREAT else "open"
        why = os.strerror(err.errno or errno.EIO)
        if err.errno == errno.EINVAL and flags & os.O_DIRECT:
            why = "filesystem does not support O_DIRECT"
        raise QemuError(f"Could not {verb} '{path}': {why}") from None
    return channel


def _open_fdset(vm: Machine, path: str, flags: int, name: str) -> Channel:
    number = path[len(FDSET_PREFIX) :]
    if not (number.isascii() and number.isdigit()):
        raise QemuError(f"Could not parse fdset {path}")
    try:
        vm.faults.check("fake_monitor_fdset_dup_fd_add", filename=path)
        fd = vm.fds.open_fdset(int(number), flags)
    except PermissionError:
        raise QemuError(f"Failed to find file descriptor with matching flags=0x{flags:x}") from None
    except FileNotFoundError:
        raise QemuError(f"Failed to find fdset {path}") from None
    except OSError as err:
        verb = "create" if flags & os.O_CREAT else "open"
        raise QemuError(f"Could not {verb} '{path}': {os.strerror(err.errno or errno.EIO)}") from None
    return vm.host.channel_for_fd(fd, name=name)


def _take_fd(vm: Machine, fd: int, name: str) -> Channel:
    if vm.compat.migration_fd_file_refused and not _is_socket_or_pipe(vm, fd):
        if vm.host.real_fds:
            try:
                os.close(fd)
            except OSError:
                pass  # there is no such descriptor
        raise QemuError("fd: migration to a file is not supported. Use file: instead.")
    if not _is_socket_or_pipe(vm, fd):
        _warn_of_file(vm)
    try:
        vm.faults.check(name.replace("-", "_"), fd=fd)
        return vm.host.channel_for_fd(fd, name=name)
    except OSError as err:
        vm.fds.close(fd)
        raise QemuError(f"Unable to use file descriptor: {os.strerror(err.errno or errno.EIO)}") from None


def _warn_of_file(vm: Machine) -> None:
    if vm.compat.migration_fd_file_warned:
        vm.warn_report("fd: migration to a file is deprecated. Use file: instead.")


def _is_open(vm: Machine, fd: int) -> bool:
    """Whether that is a descriptor of this process."""
    if not vm.host.real_fds:
        return True
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _is_socket_or_pipe(vm: Machine, fd: int) -> bool:
    if not vm.host.real_fds:
        return True
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return False
    return stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode)
