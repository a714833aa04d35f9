# SPDX-License-Identifier: MIT
"""QMP commands about displays and their passwords. A machine without VNC is asked, too, and answers without loading it.

QEMU: ui/ui-qmp-cmds.c, the qmp_* functions of ui/vnc.c, qmp_add_client in monitor/qmp-cmds.c
"""

from __future__ import annotations

from fakeqemu.error import DEVICE_NOT_ACTIVE, QemuError
from fakeqemu.monitor.registry import qmp_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.system.machine import Machine
    from fakeqemu.ui.vnc import VncDisplay

_NS_PER_S = 1_000_000_000
_UINT64_MAX = (1 << 64) - 1


def displays(vm: Machine) -> list[VncDisplay]:
    return vm.vnc.all if vm.has_part("vnc") else []


def _display(vm: Machine, name: str | None) -> VncDisplay | None:
    return vm.vnc.find(name) if vm.has_part("vnc") else None


# --- queries ----------------------------------------------------------------------------------------------


@qmp_command
def qmp_query_vnc(vm: Machine) -> dict[str, Any]:
    """The first display, and whether it listens."""
    display = _display(vm, None)
    if display is None or not display.listeners:
        return {"enabled": False}
    from fakeqemu.ui.vnc_client import basic_info

    address = display.listeners[0].address()
    info = basic_info(address)
    if info is None:
        raise QemuError(f"Unsupported socket address type {address['type']}")
    return {
        "enabled": True,
        "auth": display.auth_text,
        "family": info["family"],
        "clients": display.client_infos(),
        "service": info["service"],
        "host": info["host"],
    }


@qmp_command
def qmp_query_vnc_servers(vm: Machine) -> list[dict[str, Any]]:
    """All displays with all their addresses, the last ones first."""
    return [_server(display) for display in reversed(displays(vm))]


def _server(display: VncDisplay) -> dict[str, Any]:
    from fakeqemu.ui.vnc import AUTH_NAMES, SUBAUTH_NAMES
    from fakeqemu.ui.vnc_client import basic_info

    auth: dict[str, Any] = {"auth": AUTH_NAMES[display.auth]}
    if display.subauth:
        auth["vencrypt"] = SUBAUTH_NAMES[display.subauth]
    result: dict[str, Any] = {**auth, "clients": display.client_infos()}
    device = display.console.device
    if display.names_console and device is not None and device.id is not None:
        result["display"] = device.id
    infos = [basic_info(listener.address()) for listener in reversed(display.listeners)]
    result["server"] = [{**auth, **info} for info in infos if info is not None]
    result["id"] = display.id
    return result


# --- passwords --------------------------------------------------------------------------------------------


@qmp_command
def qmp_change_vnc_password(vm: Machine, *, password: str) -> None:
    """Set the password of the first display."""
    set_vnc_password(vm, None, password)


@qmp_command
def qmp_set_password(
    vm: Machine, *, protocol: str, password: str, connected: str = "keep", display: str | None = None
) -> None:
    """Set the password of a display; those who are connected stay."""
    if protocol == "spice":
        raise QemuError("SPICE is not in use", DEVICE_NOT_ACTIVE)
    if connected != "keep":
        raise QemuError(vm.compat.vnc_connected_words)
    set_vnc_password(vm, display, password)


def set_vnc_password(vm: Machine, name: str | None, password: str) -> None:
    """Raises QemuError where there is no such display, or it asks for no password."""
    from fakeqemu.ui import rfb

    display = _display(vm, name)
    why = vm.compat.vnc_password_errors_tell_why
    if display is None:
        if not why:
            raise QemuError("Could not set password")
        raise QemuError("No VNC display is present", hint="To enable it, use '-vnc ...'")
    if display.auth == rfb.AUTH_NONE:
        if not why:
            raise QemuError("Could not set password")
        raise QemuError(
            "VNC password authentication is disabled", hint="To enable it, use '-vnc ...,password-secret=ID'"
        )
    display.password = password


@qmp_command
def qmp_expire_password(vm: Machine, *, protocol: str, time: str, display: str | None = None) -> None:
    """Set when a password expires: `now`, `never`, `+SECONDS`, or seconds since 1970."""
    expires_s = _expiry(vm, time)
    if protocol == "spice":
        raise QemuError("SPICE is not in use", DEVICE_NOT_ACTIVE)
    found = _display(vm, display)
    if found is None:
        raise QemuError("Could not set password expire time")
    found.expires_s = expires_s


def _expiry(vm: Machine, text: str) -> int:
    from fakeqemu.ui.vnc import NEVER_S
    from fakeqemu.ui.vnc_opts import decimal

    if text == "now":
        return 0
    if text == "never":
        return NEVER_S
    is_relative = text.startswith("+")
    number, rest = decimal(text[1:] if is_relative else text)
    if vm.compat.vnc_expiry_checked and (number is None or rest or abs(number) > _UINT64_MAX):
        raise QemuError(f"Parameter 'time' doesn't take value '{text}'")
    seconds = number or 0
    if abs(seconds) > _UINT64_MAX:
        seconds = _UINT64_MAX
    if is_relative:
        seconds += vm.host.clock.wall_ns() // _NS_PER_S
    # What has 64 bits without a sign becomes C's time_t.
    return ((seconds & _UINT64_MAX) ^ 1 << 63) - (1 << 63)


# --- displays ---------------------------------------------------------------------------------------------


@qmp_command
def qmp_display_reload(vm: Machine, *, type: str, tls_certs: bool = False) -> None:  # noqa: ARG001 - there is one type
    """Read the certificates of the first display again."""
    if not tls_certs:
        return
    display = _display(vm, None)
    if display is None:
        raise QemuError("Can not find vnc display")
    creds = display.tls_creds
    if creds is None:
        raise QemuError("vnc tls is not enabled")
    if creds.type_name != "tls-creds-x509":
        raise QemuError(f"{creds.type_name} {vm.compat.tls_reload_words}")
    creds.complete()


@qmp_command
def qmp_display_update(vm: Machine, *, type: str, addresses: list[dict[str, Any]] | None = None) -> None:  # noqa: ARG001
    """Have the first display listen elsewhere; clients that are there stay."""
    display = _display(vm, None)
    if display is None:
        raise QemuError("Can not find vnc display")
    if addresses is not None:
        display.stop_listening()
        display.listen(_with_number(vm, address) for address in addresses)


def _with_number(vm: Machine, address: dict[str, Any]) -> dict[str, Any]:
    """A client names descriptors; what listens wants their numbers. Raises QemuError."""
    if address["type"] != "fd":
        return address
    fd = vm.fds.take_named(address["str"])
    if not vm.host.is_socket(fd):
        vm.fds.close(fd)
        raise QemuError(f"File descriptor '{address['str']}' is not a socket")
    return {**address, "str": str(fd)}


@qmp_command
def qmp_add_client(vm: Machine, *, protocol: str, fdname: str, skipauth: bool = False, tls: bool = False) -> None:  # noqa: ARG001
    """Hand a connected socket to a display, or to a character device."""
    fd = vm.fds.take_named(fdname)
    if vm.compat.add_client_wants_socket and not vm.host.is_socket(fd):
        vm.fds.close(fd)
        raise QemuError("parameter @fdname must name a socket")
    if protocol == "vnc":
        _add_vnc_client(vm, fd, skipauth)
        return
    vm.fds.close(fd)
    if protocol == "spice":
        raise QemuError("SPICE is not in use", DEVICE_NOT_ACTIVE)
    if protocol == "@dbus-display":
        raise QemuError("D-Bus display is not in use", DEVICE_NOT_ACTIVE)
    chardev = vm.chardevs.find(protocol)
    if chardev is None:
        raise QemuError(f"protocol '{protocol}' is invalid")
    raise QemuError("failed to add client")


def _add_vnc_client(vm: Machine, fd: int, skipauth: bool) -> None:
    from fakeqemu.ui import rfb

    display = _display(vm, None)
    if display is not None and vm.host.is_socket(fd):
        display.add_client(vm.host.channel_for_fd(fd, name="vnc"), rfb.AUTH_NONE if skipauth else None)
    # As in QEMU, what nobody takes stays open.
