# SPDX-License-Identifier: MIT
"""What `-vnc` says: addresses, and everything that is checked before the server listens.

    HOST:N          port 5900 + N; N itself where the server connects to a viewer (reverse=on)
    [HOST]:N        the same, for addresses with colons
    unix:PATH
    none            no address: a display that listens later (display-update), or never

`vnc=` may come several times. The order of the checks is QEMU's: which mistake is told of first can be seen.

QEMU: vnc_display_get_addresses and vnc_display_open in ui/vnc.c
"""

from __future__ import annotations

from fakeqemu.error import NotEmulated, QemuError
from fakeqemu.ui import rfb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from fakeqemu.crypto.tlscreds import TLSCreds
    from fakeqemu.host.channel import SocketAddress
    from fakeqemu.system.machine import Machine

    class Options(Protocol):
        """One set of parameters, as QemuOpts gives them."""

        values: list[tuple[str, str]]

        def get(self, name: str, default: str | None = None) -> str | None: ...
        def get_bool(self, name: str, default: bool = False) -> bool: ...
        def get_number(self, name: str, default: int) -> int: ...
        def has(self, name: str) -> bool: ...


_FIRST_PORT = 5900
_MAX_PORT = 65535
_UINT64_MAX = (1 << 64) - 1
SHARE_POLICIES = ("ignore", "allow-exclusive", "force-shared")
DEFAULT_CONNECTIONS = 32


class VncSettings:
    """The options of one display, checked; raises QemuError, and NotEmulated for what has no emulation."""

    def __init__(self, vm: Machine, opts: Options) -> None:
        self.reverse = opts.get_bool("reverse")
        self.addresses = _addresses(opts, self.reverse)
        self.password: str | None = None
        secret = opts.get("password-secret")
        if secret is not None:
            if opts.has("password"):
                raise QemuError("'password' flag is redundant with 'password-secret'")
            self.password = _secret_text(vm, secret)
        wants_password = secret is not None or opts.get_bool("password")
        sasl = opts.get_bool("sasl")
        self.tls_creds = _tls_creds(vm, opts)
        self.tls_authz = opts.get("tls-authz")
        if self.tls_authz is not None and self.tls_creds is None:
            raise QemuError("'tls-authz' provided but TLS is not enabled")
        if opts.has("sasl-authz") and not sasl:
            raise QemuError("'sasl-authz' provided but SASL auth is not enabled")
        self.share_policy = opts.get("share", SHARE_POLICIES[1])
        if self.share_policy not in SHARE_POLICIES:
            raise QemuError("unknown vnc share= option")
        self.connections = opts.get_number("connections", DEFAULT_CONNECTIONS) & 0xFFFFFFFF
        self.power_control = opts.get_bool("power-control")
        self.auth = rfb.AUTH_VNC if wants_password else rfb.AUTH_NONE
        self.subauth = rfb.AUTH_INVALID
        if self.tls_creds is not None:
            self.auth, self.subauth = rfb.AUTH_VENCRYPT, _subauth(self.tls_creds, wants_password)
        self.audiodev = opts.get("audiodev")
        if self.audiodev is not None and self.audiodev not in vm.audiodevs:
            raise QemuError(f"{vm.compat.audiodev_word} '{self.audiodev}' not found")
        self.device = opts.get("display")
        self.head = opts.get_number("head", 0)
        self.says_where = opts.has("to")
        if self.addresses and opts.has("websocket"):
            if self.reverse:
                raise QemuError("Cannot use websockets in reverse mode")
            raise NotEmulated("websocket")
        if sasl and not wants_password:
            raise NotEmulated("sasl")


def _addresses(opts: Options, reverse: bool) -> list[SocketAddress]:
    first = opts.get("vnc")
    if first is None or first == "none":
        return []
    to = opts.get_number("to", 0)
    families = {name: opts.get_bool(name) for name in ("ipv4", "ipv6") if opts.has(name)}
    return [_address(value, reverse, to, families) for name, value in opts.values if name == "vnc"]


def _address(text: str, reverse: bool, to: int, families: dict[str, bool]) -> SocketAddress:
    if text.startswith("unix:"):
        if to:
            raise QemuError("Port range not support with UNIX socket")
        return {"type": "unix", "path": text[len("unix:") :]}
    host, colon, port = text.rpartition(":")
    if not colon:
        raise QemuError("no vnc port specified")
    if not port:
        raise QemuError("vnc port cannot be empty")
    offset = 0 if reverse else _FIRST_PORT
    number, rest = decimal(port)
    if number is None or number < 0 or rest or number > _UINT64_MAX:
        raise QemuError(f"can't convert to a number: {port}")
    if number + offset > _MAX_PORT:
        raise QemuError(f"port {port} out of range")
    if host.startswith("[") and host.endswith("]") and len(host) > 1:
        host = host[1:-1]
    address: SocketAddress = {"type": "inet", "host": host, "port": str(number + offset), **families}
    if to:
        address["to"] = (to + offset) & 0xFFFF
    return address


def decimal(text: str) -> tuple[int | None, str]:
    """The number that a text begins with, None for none, and what follows it, as C's strtoull has it."""
    text = text.lstrip(" \t\n\v\f\r")
    start = end = 1 if text[:1] in ("+", "-") else 0
    while end < len(text) and text[end] in "0123456789":
        end += 1
    return (None if end == start else int(text[:end])), text[end:]


def _secret_text(vm: Machine, name: str) -> str:
    from fakeqemu.system.objects import Secret

    secret = vm.qom.objects.children.get(name)
    if secret is None:
        raise QemuError(f"No secret with id '{name}'")
    if not isinstance(secret, Secret):
        raise QemuError(f"Object with id '{name}' is not a secret")
    try:
        return secret.content.decode()
    except UnicodeDecodeError:
        raise QemuError(f"Data from secret {name} is not valid UTF-8") from None


def _tls_creds(vm: Machine, opts: Options) -> TLSCreds | None:
    name = opts.get("tls-creds")
    if name is None:
        return None
    from fakeqemu.crypto.tlscreds import TLSCreds

    creds = vm.qom.objects.children.get(name)
    if creds is None:
        raise QemuError(f"No TLS credentials with id '{name}'")
    if not isinstance(creds, TLSCreds):
        raise QemuError(f"Object with id '{name}' is not TLS credentials")
    if not creds.is_server:
        raise QemuError("Expected TLS credentials for a server endpoint")
    return creds


def _subauth(creds: TLSCreds, wants_password: bool) -> int:
    """What is to be proved once the connection is encrypted."""
    if creds.type_name == "tls-creds-x509":
        return rfb.VENCRYPT_X509VNC if wants_password else rfb.VENCRYPT_X509NONE
    if creds.type_name == "tls-creds-anon":
        return rfb.VENCRYPT_TLSVNC if wants_password else rfb.VENCRYPT_TLSNONE
    raise QemuError(f"Unsupported TLS cred type {creds.type_name}")
