# SPDX-License-Identifier: MIT
"""The human monitor's commands about displays.

QEMU: ui/ui-hmp-cmds.c
"""

from __future__ import annotations

from fakeqemu.error import NotEmulated, QemuError
from fakeqemu.ui import qmp_cmds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.system.machine import Machine

_PROTOCOLS = ("vnc", "spice")
_CONNECTED = ("fail", "disconnect", "keep")
_READ_ONLY_MODES = ("retain", "read-only", "read-write")


def info_vnc(vm: Machine, _flags: list[str]) -> str:
    servers = qmp_cmds.qmp_query_vnc_servers(vm)
    return "".join(map(_info, servers)) or "None\n"


def _info(info: dict[str, Any]) -> str:
    text = f"{info['id']}:\n"
    for server in info["server"]:
        text += f"  Server: {_place(server)}\n    Auth: {_auth(server)}\n"
    for client in info["clients"]:
        text += (
            f"  Client: {_place(client)}\n    x509_dname: {client.get('x509_dname', 'none')}\n    sasl_username: none\n"
        )
    if not info["server"]:
        text += f"  Auth: {_auth(info)}\n"
    if "display" in info:
        text += f"  Display: {info['display']}\n"
    return text


def _auth(info: dict[str, Any]) -> str:
    return f"{info['auth']} (Sub: {info.get('vencrypt', 'none')})"


def _place(info: dict[str, Any]) -> str:
    return f"{info['host']}:{info['service']} ({info['family']})"


def set_password(
    vm: Machine, *, protocol: str, password: str, display: str | None = None, connected: str = "keep"
) -> str:
    _check_word(protocol, _PROTOCOLS)
    _check_word(connected, _CONNECTED)
    try:
        qmp_cmds.qmp_set_password(vm, protocol=protocol, password=password, connected=connected, display=display)
    except QemuError as error:
        return _password_error(vm, display, error)
    return ""


def expire_password(vm: Machine, *, protocol: str, time: str, display: str | None = None) -> None:
    _check_word(protocol, _PROTOCOLS)
    qmp_cmds.qmp_expire_password(vm, protocol=protocol, time=time, display=display)


def change(
    vm: Machine,
    *,
    device: str,
    target: str,
    force: bool = False,  # noqa: ARG001 - of no use here
    arg: str | None = None,
    read_only: str | None = None,
) -> str:
    """Of what can be changed there is the password of VNC alone; disks are not emulated."""
    if device != "vnc":
        if read_only is not None:
            _check_word(read_only, _READ_ONLY_MODES)
        raise NotEmulated("The human monitor command change is not emulated, but for VNC passwords")
    start = "Error: " if vm.compat.hmp_change_vnc_error_marked else ""
    if read_only is not None:
        return f"{start}Parameter 'read-only-mode' is invalid for VNC\n"
    if target not in ("passwd", "password"):
        return f"{start}Expected 'password' after 'vnc'\n"
    if arg is None:
        if vm.dispatcher.current is None:
            raise NotEmulated("The human monitor's prompt for a password is not emulated")
        return "terminal does not support password prompting\n"
    try:
        qmp_cmds.set_vnc_password(vm, None, arg)
    except QemuError as error:
        return _password_error(vm, None, error)
    return ""


def _check_word(word: str, known: tuple[str, ...]) -> None:
    if word not in known:
        raise QemuError(f"invalid parameter value: {word}")


def _password_error(vm: Machine, name: str | None, error: QemuError) -> str:
    """The error, with the hint as QEMU prints it: older releases in front, newer ones behind and without a line end."""
    if error.hint:
        return f"Error: {error.desc}\n{error.hint}"
    text = f"Error: {error.desc}\n"
    found = vm.has_part("vnc") and vm.vnc.find(name) is not None
    if found and error.desc == "Could not set password":
        text = "If you want use passwords please enable password auth using '-vnc ${dpy},password'.\n" + text
    return text
