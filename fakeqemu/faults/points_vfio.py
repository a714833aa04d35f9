# SPDX-License-Identifier: MIT
"""Fault points of VFIO devices.

Without a point:

- vfio_migration_set_state: a data descriptor that is out of sync. It comes of a device that leaves its session by itself.
- vfio_save_prepare, vfio_migration_realize, vfio_block_migration: capabilities, properties and devices that are refused.
  These are checks, and nothing in them can fail.
- vfio_save_setup, vfio_save_complete_precopy, vfio_save_device_config_state: the stream being broken already. It is found
  where it broke (`fake_channel_write`).
- vfio_load_state and its callees: markers that are wrong. `corrupt` at `ram_load_start` or `vmstate_load` makes them.
- vfio_migration_check_overflow, vfio_final_precopy_reinit_check: sizes no make-believe device has, new initial data likewise.
- migration-multifd.c, all of it: device state does not travel on multifd channels; `x-migration-multifd-transfer=on` is refused.
- vfio_viommu_preset, vfio_iommu_map_notify and _dirty_notify, RAM discard listeners, DMA map and unmap, region.c: no IOMMU for
  the guest, no DMA mappings, no mapped regions.
- vfio_device_attach and what it calls (groups, containers, devices that cannot be opened): the host file describes them.
- iommufd.c, cpr*.c: not emulated.

QEMU: hw/vfio/migration.c, migration-multifd.c, listener.c, container*.c, device.c, pci.c.
"""

from __future__ import annotations

from fakeqemu.faults.point import READS, WRITES, Point, point

POINTS: tuple[Point, ...] = (
    point("fake_vfio_query_migration_flags", "both", "os", "", "device", "asking whether a device can migrate",
          connected=False),
    point("fake_vfio_set_precopy_info_v2", "both", "os", "", "device", "asking for sizes that tell of new initial data (11.1)",
          connected=False),
    # what devices write to memory
    point("vfio_device_dirty_tracking_start", "source", "os", "", "device", "beginning to log what a device writes to"),
    point("fake_vfio_set_dirty_page_tracking", "source", "os", "", "flag",
          "switching the container's log, where a device has none (1: on, 2: off)"),
    point("vfio_container_query_dirty_bitmap", "source", "os", "", "device",
          "asking what a device has written to; \"\" is the container"),
    point("fake_vfio_dma_logging_stop", "source", "os", "", "device", "ending a device's log"),
    # the state
    point("vfio_query_stop_copy_size", "source", "os", "", "device", "asking how much STOP_COPY will produce"),
    point("vfio_query_precopy_size", "source", "os", "", "device", "asking how much there is to precopy"),
    point("vfio_save_setup", "source", "qemu", "{device}: Failed to allocate migration data buffer", "device",
          "the buffer for a device's data", flow=WRITES),
    point("vfio_save_block", "source", "os", "", "device", "reading a device's data", flow=WRITES),
    point("vfio_save_device_config_state", "source", "qemu",
          "vfio: Failed to save device config space of {device} - Failed to save state: {error}", "device",
          "saving a device's config space", flow=WRITES),
    point("vfio_load_state_device_data", "destination", "os", "", "device", "writing a device's data"),
    point("vfio_load_device_config_state_start", "destination", "stream",
          "{device}: Failed to load device config space", "device", "loading a device's config space", flow=READS),
    point("vfio_migration_set_state", "both", "os", "", "device to", "asking a device for a state", waits=True),
    point("fake_vfio_arc", "both", "os", "", "device from_state to_state", "one arc on the way to a state", waits=True),
    point("vfio_pci_reset", "both", "os", "", "device", "resetting a device"),
)  # fmt: skip
