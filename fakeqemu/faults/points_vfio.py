# SPDX-License-Identifier: MIT
"""Fault points of VFIO devices.

QEMU: hw/vfio/migration*.c.
"""

from __future__ import annotations

from fakeqemu.faults.point import READS, WRITES, Point, point

POINTS: tuple[Point, ...] = (
    point("fake_vfio_query_migration_flags", "both", "os", "", "device", "asking whether a device can migrate",
          connected=False),
    point("vfio_query_stop_copy_size", "source", "os", "", "device", "asking how much STOP_COPY will produce"),
    point("vfio_query_precopy_size", "source", "os", "", "device", "asking how much there is to precopy"),
    point("vfio_save_setup", "source", "qemu", "{device}: Failed to allocate migration data buffer", "device",
          "the buffer for a device's data", flow=WRITES),
    point("vfio_save_block", "source", "os", "", "device", "reading a device's data", flow=WRITES),
    point("vfio_save_device_config_state", "source", "qemu", "{device}: Failed to save config space: {error}", "device",
          "saving a device's config space", flow=WRITES),
    point("vfio_load_state_device_data", "destination", "os", "", "device", "writing a device's data"),
    point("vfio_load_device_config_state_start", "destination", "stream",
          "{device}: Failed to load device config space: {error}", "device", "loading a device's config space", flow=READS),
    point("vfio_migration_set_state", "both", "os", "", "device to", "asking a device for a state", waits=True),
    point("fake_vfio_arc", "both", "os", "", "device from_state to_state", "one arc on the way to a state", waits=True),
    point("vfio_pci_reset", "both", "os", "", "device", "resetting a device"),
)  # fmt: skip
