# SPDX-License-Identifier: MIT
"""The configuration space of a VFIO device in the stream: the description "VFIOPCIDevice".

    parent_obj    PCIDevice 2: its version again, the bytes of the space, the level of each interrupt pin

Bytes that say what device it is must be those of the device here. What is wrong with the others, the device finds out.

QEMU: hw/vfio/pci.c (vfio_pci_load_config), hw/pci/pci.c (vmstate_pci_device)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.error import StreamError
from fakeqemu.migration.stream import vmstate
from fakeqemu.migration.stream.vmstate import LoadError, VMStateDescription
from fakeqemu.migration.stream.vmstate_fields import custom, integer, structure

if TYPE_CHECKING:
    from fakeqemu.hw.pci.config_space import ConfigSpace
    from fakeqemu.migration.stream.qemu_file import QEMUFile
    from fakeqemu.system.machine import Machine

PCI_DEVICE_VERSION = 2
PCI_NUM_PINS = 4

#: ids, revision and class, header type, subsystem
_FIXED_BYTES = (*range(4), *range(8, 12), 14, *range(0x2C, 0x30))


def save(f: QEMUFile, config: ConfigSpace) -> None:
    """Write the state, without a header of its own."""
    f.put_be32(PCI_DEVICE_VERSION)
    f.put_buffer(bytes(config.data))
    for _ in range(PCI_NUM_PINS):
        f.put_be32(0)


async def load(vm: Machine, f: QEMUFile, config: ConfigSpace, name: str) -> None:
    """Read what `save` wrote into `config`; raises StreamError, the reasons being printed."""
    state: dict[str, Any] = {"version_id": PCI_DEVICE_VERSION, "config": bytes(config.data), "irq_state": None}
    member = vm.compat.vfio_pci_vmstate_member
    try:
        await vmstate.load_state(f, _description(vm, member, state["config"]), {member: state}, 1)
    except LoadError as err:
        for line in [*err.lines, err.desc] if vm.compat.migration_error_chain else err.old_lines:
            vm.error_report(line)
        raise StreamError(f"{name}: Failed to load device config space", err.errno) from None
    config.data[:] = state["config"]


def _description(vm: Machine, member: str, own: bytes) -> VMStateDescription:
    async def get_config(f: QEMUFile) -> bytes:
        new = await f.take(len(own))
        if f.end is None:
            _check(new, own)
        return new

    async def get_irq_state(f: QEMUFile) -> None:
        for _ in range(PCI_NUM_PINS):
            level = await f.take_uint(4)
            if level not in (0, 1):
                vm.host.log_plain(f"irq state {level}: must be 0 or 1.")
                raise StreamError("")

    pci = VMStateDescription(
        "PCIDevice", PCI_DEVICE_VERSION, 1, (
            integer("int32", "version_id", le=True),
            custom("config", "pci config", len(own), _never, get_config),
            custom("irq_state", "pci irq state", 4 * PCI_NUM_PINS, _never, get_irq_state),
        ),
    )  # fmt: skip
    return VMStateDescription("VFIOPCIDevice", 1, 1, (structure(member, pci),))


def _never(_f: QEMUFile, _value: Any) -> None:
    raise AssertionError("`save` writes it")


def _check(new: bytes, old: bytes) -> None:
    for at in _FIXED_BYTES:
        if new[at] != old[at]:
            raise StreamError(
                f"Bad config data: i=0x{at:x} read: {new[at]:x} device: {old[at]:x} cmask: ff wmask: 0 w1cmask:0"
            )
