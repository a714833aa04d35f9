# SPDX-License-Identifier: MIT
"""The make-believe host: PCI functions, the driver bound to each, IOMMU groups. The real /sys is never looked at.

The default host (another one: `-fake host=FILE`, see `hostfile`):

    0000:3b:00.0                 network card, its physical function: in use by the host (mlx5_core), group 40
    0000:3b:00.1 to 0000:3b:01.7 fifteen virtual functions with a variant driver: STOP_COPY, P2P, PRE_COPY, DMA logging,
                                 every arc 50 ms, 1 MiB before and 64 KiB after the stop; groups 41 to 55
    0000:5e:00.0                 storage controller without migration support, group 60
    0000:86:00.1, 0000:86:00.2   accelerators that can STOP_COPY only (no P2P, no PRE_COPY), arcs 30 ms, groups 61, 62
    0000:86:00.3                 the same with PRE_COPY, without P2P, group 63
    0000:86:00.4                 P2P without PRE_COPY, group 64
    0000:86:00.5                 as the virtual functions, but nobody can track its DMA, group 65
    0000:af:00.0                 storage controller in use by the host (nvme), group 70
    0000:af:00.1                 no IOMMU group
    0000:af:00.2                 its group's node is used by another process, group 71
    0000:af:00.3                 no group node at all, group 72
    0000:af:00.4                 a group node that may not be opened, group 73
    0000:d8:00.0, 0000:d8:00.1   one group (80), the second one in use by the host (snd_hda_intel)
    c2f1b3de-9c3f-4a57-8d0e-52d6b7a1e0f4   a mediated device without migration support, group 90

QEMU: hw/vfio/pci.c reads the same from sysfs
"""

from __future__ import annotations

import errno

from fakeqemu.host.clock import NS_PER_MS
from fakeqemu.hw.vfio import fsm
from fakeqemu.hw.vfio.vendor import Arcs, MigrationFeatures

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.system.machine import Machine

    #: vendor, device, subsystem vendor, subsystem
    PCIIds = tuple[int, int, int, int]

#: drivers that give a function to user space
VFIO_DRIVERS = ("vfio-pci", "mlx5_vfio_pci", "hisi_acc_vfio_pci", "nvgrace_gpu_vfio_pci", "vfio_mdev")

STOP_COPY_P2P_PRE_COPY = fsm.FLAG_STOP_COPY | fsm.FLAG_P2P | fsm.FLAG_PRE_COPY


class HostFunction:
    """One PCI function (or mediated device) of the host."""

    __slots__ = (
        "bar_sizes",
        "class_code",
        "device_id",
        "driver",
        "group",
        "group_errno",
        "mdev",
        "migration",
        "name",
        "reset_works",
        "revision",
        "subsystem_id",
        "subsystem_vendor_id",
        "vendor_id",
    )

    def __init__(
        self,
        name: str,
        *,
        group: int | None,
        driver: str | None = "vfio-pci",
        ids: PCIIds = (0x15B3, 0x101E, 0x15B3, 0x0058),
        class_code: int = 0x020000,
        revision: int = 0,
        bar_sizes: tuple[int, ...] = (0x100000,),
        migration: MigrationFeatures | None = None,
        mdev: bool = False,
        group_errno: int = 0,
        reset_works: bool = True,
    ) -> None:
        #: PCI address (`0000:3b:00.1`), or the uuid of a mediated device
        self.name = name
        self.group = group
        #: None: no driver is bound
        self.driver = driver
        self.vendor_id, self.device_id, self.subsystem_vendor_id, self.subsystem_id = ids
        self.class_code = class_code
        self.revision = revision
        self.bar_sizes = bar_sizes
        self.migration = migration or MigrationFeatures()
        self.mdev = mdev
        #: what opening /dev/vfio/GROUP fails with, 0: nothing
        self.group_errno = group_errno
        self.reset_works = reset_works

    @property
    def usable(self) -> bool:
        """Whether a driver that gives it to user space is bound."""
        return self.driver is not None and (self.driver in VFIO_DRIVERS or "vfio" in self.driver)

    def sysfs_path(self) -> str:
        return f"/sys/bus/{'mdev' if self.mdev else 'pci'}/devices/{self.name}"


class HostModel:
    """The hardware of the host that one machine sees."""

    def __init__(self, functions: list[HostFunction]) -> None:
        self.functions: dict[str, HostFunction] = {function.name: function for function in functions}
        #: names of the functions that this machine has opened
        self.attached: list[str] = []

    def at_path(self, path: str) -> HostFunction | None:
        """The function that a path below /sys names: .../devices/NAME or a longer way to the same."""
        if not path.startswith("/sys/"):
            return None
        function = self.functions.get(path.rstrip("/").rpartition("/")[2])
        if function is not None and path.startswith("/sys/bus/") and path.rstrip("/") != function.sysfs_path():
            return None
        return function

    def group_members(self, group: int) -> list[HostFunction]:
        return [function for function in self.functions.values() if function.group == group]

    def group_node_error(self, group: int) -> int:
        """What opening /dev/vfio/`group` fails with, 0 if it does not. A group that user space was given no member of has
        no node."""
        members = self.group_members(group)
        if not any(member.usable for member in members):
            return errno.ENOENT
        return next((member.group_errno for member in members if member.group_errno), 0)

    def group_is_viable(self, group: int) -> bool:
        """Whether no member is bound to a driver of the host."""
        return all(member.driver is None or member.usable for member in self.group_members(group))


def host_model(vm: Machine) -> HostModel:
    """The host of this machine (`vm.hardware`): from `-fake host=FILE`, else the default one. Raises QemuError."""
    path = vm.fake.get("host")
    if path is None:
        return default_host()
    from fakeqemu.hw.vfio.hostfile import load

    return load(path)


def default_host() -> HostModel:
    """The host that the module's docstring describes."""
    return HostModel([*_network_card(), *_accelerators(), *_unusable(), _mediated()])


def _network_card() -> list[HostFunction]:
    functions = [HostFunction("0000:3b:00.0", group=40, driver="mlx5_core", ids=(0x15B3, 0x101D, 0x15B3, 0x0058))]
    for index in range(1, 16):
        functions.append(
            HostFunction(
                f"0000:3b:{index // 8:02x}.{index % 8}",
                group=40 + index,
                driver="mlx5_vfio_pci",
                migration=MigrationFeatures(
                    STOP_COPY_P2P_PRE_COPY,
                    precopy_v2=True,
                    dma_logging=True,
                    stop_copy_bytes=64 << 10,
                    arcs=Arcs(50 * NS_PER_MS),
                ),
            )
        )
    return functions


def _accelerators() -> list[HostFunction]:
    flag_sets = (
        ("0000:86:00.1", fsm.FLAG_STOP_COPY, True),
        ("0000:86:00.2", fsm.FLAG_STOP_COPY, True),
        ("0000:86:00.3", fsm.FLAG_STOP_COPY | fsm.FLAG_PRE_COPY, True),
        ("0000:86:00.4", fsm.FLAG_STOP_COPY | fsm.FLAG_P2P, True),
        ("0000:86:00.5", STOP_COPY_P2P_PRE_COPY, False),
    )
    return [
        HostFunction(
            name,
            group=61 + index,
            driver="hisi_acc_vfio_pci",
            ids=(0x19E5, 0xA251, 0x19E5, 0),
            class_code=0x120000,
            migration=MigrationFeatures(flags, dma_logging=logging, arcs=Arcs(30 * NS_PER_MS)),
        )
        for index, (name, flags, logging) in enumerate(flag_sets)
    ]


def _unusable() -> list[HostFunction]:
    def nvme(name: str, group: int | None, *, driver: str = "vfio-pci", group_errno: int = 0) -> HostFunction:
        ids = (0x144D, 0xA80A, 0x144D, 0xA801)
        return HostFunction(name, group=group, driver=driver, ids=ids, class_code=0x010802, group_errno=group_errno)

    def sound(name: str, driver: str) -> HostFunction:
        ids = (0x10DE, 0x228B, 0x10DE, 0x1467)
        return HostFunction(name, group=80, driver=driver, ids=ids, class_code=0x040300)

    return [
        nvme("0000:5e:00.0", 60),
        nvme("0000:af:00.0", 70, driver="nvme"),
        nvme("0000:af:00.1", None),
        nvme("0000:af:00.2", 71, group_errno=errno.EBUSY),
        nvme("0000:af:00.3", 72, group_errno=errno.ENOENT),
        nvme("0000:af:00.4", 73, group_errno=errno.EACCES),
        sound("0000:d8:00.0", "vfio-pci"),
        sound("0000:d8:00.1", "snd_hda_intel"),
    ]


def _mediated() -> HostFunction:
    return HostFunction("c2f1b3de-9c3f-4a57-8d0e-52d6b7a1e0f4", group=90, driver="vfio_mdev", mdev=True)
