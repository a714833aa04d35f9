# SPDX-License-Identifier: MIT
"""The QMP commands of character devices, and `yank`.

QEMU: chardev/char.c, chardev/char-ringbuf.c, util/yank.c
"""

from __future__ import annotations

from fakeqemu.chardev.backends import RingbufChardev
from fakeqemu.chardev.char import BREAK
from fakeqemu.error import QemuError
from fakeqemu.monitor.registry import qmp_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.system.machine import Machine


@qmp_command
def qmp_query_chardev(vm: Machine) -> list[dict[str, Any]]:
    """Every chardev, with what it is connected to."""
    return [
        {"label": chardev.label, "filename": chardev.filename, "frontend-open": chardev.fe_open}
        for chardev in vm.chardevs.all()
    ]


@qmp_command
def qmp_query_chardev_backends(vm: Machine) -> list[dict[str, Any]]:
    """The kinds of chardev that this QEMU has, emulated here or not."""
    kinds: list[dict[str, Any]] = vm.profile.get("queries", "none/query-chardev-backends")
    return kinds


@qmp_command
def qmp_chardev_add(vm: Machine, *, id: str, backend: dict[str, Any]) -> dict[str, Any]:
    """Make a chardev."""
    if vm.chardevs.find(id) is not None:
        raise QemuError(f"Chardev with id '{id}' already exists")
    return vm.chardevs.add_from_monitor(id, backend).opened_result()


@qmp_command
def qmp_chardev_change(vm: Machine, *, id: str, backend: dict[str, Any]) -> dict[str, Any]:
    """Give a chardev another back end."""
    return vm.chardevs.change(id, backend).opened_result()


@qmp_command
def qmp_chardev_remove(vm: Machine, *, id: str) -> None:
    """Take away a chardev that nobody uses."""
    vm.chardevs.remove(id)


@qmp_command
def qmp_chardev_send_break(vm: Machine, *, id: str) -> None:
    """Send a break to whoever listens to a chardev."""
    vm.chardevs.get(id).send_event(BREAK)


def _ringbuf(vm: Machine, label: str) -> RingbufChardev:
    chardev = vm.chardevs.find(label)
    if chardev is None:
        raise QemuError(f"Device '{label}' not found")
    if not isinstance(chardev, RingbufChardev):
        raise QemuError(f"{label} is not a ringbuf device")
    return chardev


@qmp_command
def qmp_ringbuf_write(vm: Machine, *, device: str, data: str, format: str = "utf8") -> None:
    """Put bytes into a ring, as if the front end had written them."""
    ring = _ringbuf(vm, device)
    ring.write(_from_base64(data) if format == "base64" else data.encode("utf-8", "surrogatepass"))


@qmp_command
def qmp_ringbuf_read(vm: Machine, *, device: str, size: int, format: str = "utf8") -> str:
    """Take the oldest bytes out of a ring."""
    ring = _ringbuf(vm, device)
    if size <= 0:
        raise QemuError("size must be greater than zero")
    taken = ring.take(size)
    if format == "base64":
        from binascii import b2a_base64

        return b2a_base64(taken, newline=False).decode()
    return taken.decode("utf-8", "replace")


def _from_base64(text: str) -> bytes:
    """Bytes of a base64 text, of which the padding may lack; raises QemuError."""
    from binascii import Error, a2b_base64

    plain = text.rstrip("=")
    if not plain.replace("+", "").replace("/", "").replace("\n", "").isalnum() and plain:
        raise QemuError("Base64 data contains invalid characters")
    try:
        return a2b_base64(plain + "=" * (-len(plain) % 4))
    except Error:
        raise QemuError(f"Base64 data '{text}' is not valid") from None


@qmp_command
def qmp_yank(vm: Machine, *, instances: list[dict[str, Any]]) -> None:
    """Break connections that hang."""
    vm.yank.yank(instances)


@qmp_command
def qmp_query_yank(vm: Machine) -> list[dict[str, Any]]:
    """What `yank` could break."""
    return vm.yank.query()
