# SPDX-License-Identifier: MIT
"""Consoles: the pictures that a machine's display adapters make, and which of them a name means.

An adapter has one console, some (virtio-gpu) one for each of their outputs. As no guest draws, all of them show the same:
nothing. What a machine has is looked up in the tree when somebody asks; a console is not an object of its own here.

QEMU: ui/console.c
"""

from __future__ import annotations

from fakeqemu.error import DEVICE_NOT_FOUND, QemuError
from fakeqemu.hw.core.qdev import all_devices
from fakeqemu.hw.core.tree import main_system_bus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.hw.core.qdev import DeviceState
    from fakeqemu.system.machine import Machine

#: of a screen whose guest has not set another
WIDTH, HEIGHT = 640, 480

#: types that have a picture; the virtio-gpu-device within others is not theirs to show
_ADAPTERS = (
    "VGA", "ati-vga", "bochs-display", "cirrus-vga", "isa-cirrus-vga", "isa-vga", "qxl", "qxl-vga", "ramfb", "secondary-vga",
    "sm501", "virtio-gpu-pci", "virtio-gpu-gl-pci", "virtio-gpu-rutabaga-pci", "virtio-vga",
    "virtio-vga-gl", "virtio-vga-rutabaga", "vhost-user-gpu-pci", "vhost-user-vga", "vmware-svga",
)  # fmt: skip
#: beginnings of those that may have several outputs, and can be told the size that a viewer would like
_MODERN = ("virtio-", "vhost-user-")


class DisplaySurface:
    """A picture: rows of pixels of 32 bits. Without `data` it is black."""

    __slots__ = ("data", "height", "width")

    def __init__(self, width: int = WIDTH, height: int = HEIGHT) -> None:
        self.width = width
        self.height = height
        self.data: bytearray | None = None

    def pixels(self, x: int, y: int, width: int, height: int) -> bytes:
        """The pixels of a rectangle, row after row."""
        if self.data is None:
            return bytes(4 * width * height)
        rows = (4 * (self.width * (y + row) + x) for row in range(height))
        return b"".join(self.data[start : start + 4 * width] for start in rows)


class QemuConsole:
    """One output of one display adapter; without a device the screen of a machine that has none."""

    __slots__ = ("device", "surface")

    def __init__(self, device: DeviceState | None) -> None:
        self.device = device
        self.surface = DisplaySurface()

    @property
    def takes_size(self) -> bool:
        """Whether the adapter can be told the size that a viewer would like."""
        return self.device is not None and self.device.type_name.startswith(_MODERN)


def default_console(vm: Machine) -> QemuConsole:
    """The first one there is."""
    adapters = [device for device in _devices(vm) if device.type_name in _ADAPTERS]
    return QemuConsole(adapters[-1] if adapters else None)  # the walk meets the youngest first


def console_of_device(vm: Machine, name: str, head: int) -> QemuConsole:
    """The console behind an output of a device; raises QemuError.

    QEMU: qemu_console_lookup_by_device_name
    """
    device = next((device for device in _devices(vm) if device.id == name), None)
    if device is None:
        raise QemuError(f"Device '{name}' not found", DEVICE_NOT_FOUND)
    if head >= _outputs(device):
        raise QemuError(f"Device {name} (head {head}) is not bound to a QemuConsole")
    return QemuConsole(device)


def _outputs(device: DeviceState) -> int:
    if device.type_name not in _ADAPTERS:
        return 0
    if device.type_name.startswith(_MODERN):
        return int(device.get("max_outputs"))
    return 1


def _devices(vm: Machine) -> list[DeviceState]:
    bus = main_system_bus(vm)
    return [] if bus is None else all_devices(bus)
