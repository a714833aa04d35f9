# SPDX-License-Identifier: MIT
"""VFIO devices: host hardware handed to a guest, and how its state moves with the VM.

    hostmodel   the make-believe host: PCI functions, IOMMU groups, drivers      (hostfile: the same from a file)
    fsm         the kernel's states of a device and the way from one to another
    vendor      the make-believe silicon and its variant driver: time, sizes, data, failures
    device      VFIODevice: an opened device; what QEMU asks of the kernel
    pci         vfio-pci: properties, config space, errors of realizing
    config_state  ... and the config space in the stream
    dirty_log   what devices write to memory while it is sent
    migration   its SaveVMHandlers, its run state handlers, its blockers
    parallel    launch and join of transitions side by side

QEMU: hw/vfio/; Linux: drivers/vfio/
"""
