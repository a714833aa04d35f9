# SPDX-License-Identifier: MIT
"""A recorded tree of objects, made to fit the machine that we are.

The profile's trees are of machines with one CPU and 128 MB, looked at over one monitor. Here

- what is not the board's is left out: the containers of user-made objects, chardevs and devices fill from our model;
- further CPUs look like the first; devices behind the CPUs move up by their number, and every path that leads to them
  follows;
- sizes and addresses that were the recorded machine's memory become ours.

QEMU: hw/i386/pc.c (pc_memory_init), hw/core/qdev.c (unattached devices are numbered as they come)
"""

from __future__ import annotations

from fakeqemu.system.cpus import cpu_device_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fakeqemu.qom.registry import Record
    from fakeqemu.system.board import Board

GIB = 1 << 30
#: containers that the model fills, by path
_OURS = ("/objects", "/chardevs", "/machine/peripheral", "/machine/peripheral-anon")
UNATTACHED_DEVICE = "/machine/unattached/device["
_FIRST_CPU = "/machine/unattached/device[0]"
_CONTAINER: dict[str, list[Any]] = {"type": ["string", "container"]}

#: memory below 4 GB of a board, when there is more than fits below the PCI hole -> what fits
_LOWMEM = {"pc": 3 * GIB, "q35": 2 * GIB, "microvm": 3 * GIB}
_LOWMEM_LIMIT = {"pc": 0xE0000000, "q35": 0xB0000000, "microvm": 0xC0000000}


def below_4g(board: Board) -> int:
    """How much of the memory lies below 4 GB."""
    limit = _LOWMEM_LIMIT.get(board.family)
    return board.ram_size if limit is None or board.ram_size < limit else _LOWMEM[board.family]


def adapt(board: Board, record: Record) -> Record:
    """The recorded tree as it is on this board; the record itself is left alone."""
    low = below_4g(board)
    high = board.ram_size - low
    hole64 = -(-(4 * GIB + high) // GIB) * GIB
    sizes = {
        "/machine/unattached/ram-below-4g[0]": {"size": low},
        "/machine/i440fx": {
            "below-4g-mem-size": low, "above-4g-mem-size": high, "pci-hole-start": low, **_hole64(hole64, 2 * GIB)
        },
        "/machine/q35": {
            "below-4g-mem-size": low, "above-4g-mem-size": high, "pci-hole-start": low, **_hole64(hole64, 32 * GIB)
        },
        "/machine/q35/mch/tseg-blackhole[0]": {"addr": low},
        "/machine/q35/mch/tseg-window[0]": {"addr": low},
    }  # fmt: skip
    added: dict[str, Record] = {}
    if high and board.family != "none":
        region: Record = {
            "type": ["string", "memory-region"],
            "container": ["link<memory-region>", "/machine/unattached/system[0]"],
            "addr": ["uint64", 4 * GIB],
            "size": ["uint64", high],
            "priority": ["uint32", 0],
        }
        added["/machine/unattached"] = {"ram-above-4g[0]": ["child<memory-region>", region]}
    adapted = _Adapter({cpu.index: board.smp.apic_id(cpu.index) for cpu in board.cpus}, sizes, added).object("", record)
    # Old releases make this container when somebody looks for it, and so did the one that was recorded.
    adapted.pop("objects", None)
    return adapted


def _hole64(start: int, size: int) -> dict[str, int]:
    """The 64-bit PCI hole behind the memory: only where the recorded machine's moved with it."""
    return {"pci-hole64-start": start, "pci-hole64-end": start + size}


class _Adapter:
    """Makes records fit, one object at a time: those below it when they come to life."""

    __slots__ = ("_added", "_apic_ids", "_cpu", "_further_cpus", "_values")

    def __init__(
        self, apic_ids: dict[int, int], values: dict[str, dict[str, Any]], added: dict[str, Record], cpu: int = 0
    ) -> None:
        self._apic_ids = apic_ids
        self._further_cpus = [index for index in apic_ids if index]
        self._values = values
        self._added = added
        self._cpu = cpu  # the CPU whose copy is being made

    def object(self, path: str, record: Record) -> Record:
        if path in _OURS:
            return _CONTAINER
        ours = self._values.get(path)
        result: Record = {}
        for name, entry in record.items():
            kind = entry[0]
            if kind.startswith("child<"):
                below = f"{path}/{name}"
                result[self._name(path, name)] = [kind, self._later(below, entry[1])]
                if below == _FIRST_CPU:
                    self._copy_cpu(result, below, entry)
            elif ours is not None and name in ours:
                result[name] = [kind, ours[name]]
            elif self._further_cpus and len(entry) > 1 and isinstance(entry[1], str):
                result[name] = [kind, self._path(entry[1])]
            else:
                result[name] = entry
        result.update(self._added.get(path, {}))
        return result

    def _later(self, path: str, record: Record) -> Callable[[], Record]:
        return lambda: self.object(path, record)

    def _copy_cpu(self, result: Record, path: str, entry: list[Any]) -> None:
        """Further CPUs look like the first."""
        for index in self._further_cpus:
            # The region of the local APIC is mapped once: the first CPU's.
            values: dict[str, dict[str, Any]] = {
                f"{_FIRST_CPU}/lapic": {"id": self._apic_ids[index]},
                f"{_FIRST_CPU}/lapic/apic-msi[0]": {"container": "", "addr": 0, "priority": 0},
            }
            copied = _Adapter(self._apic_ids, values, {}, index)
            result[f"device[{cpu_device_number(index)}]"] = [entry[0], copied._later(path, entry[1])]

    def _name(self, path: str, name: str) -> str:
        if not self._further_cpus or path != "/machine/unattached" or not name.startswith("device["):
            return name
        return self._path(f"{path}/{name}")[len(path) + 1 :]

    def _path(self, path: str) -> str:
        return moved_path(path, len(self._further_cpus), self._cpu)


def moved_path(path: str, further_cpus: int, cpu: int = 0) -> str:
    """A path on this machine: of CPU number `cpu`, of what stands behind all CPUs, or as it was."""
    if not path.startswith(UNATTACHED_DEVICE):
        return path
    text, bracket, rest = path[len(UNATTACHED_DEVICE) :].partition("]")
    number = int(text)
    if number == 0:
        number = cpu_device_number(cpu)
    elif number > 1:
        number += further_cpus
    return f"{UNATTACHED_DEVICE}{number}{bracket}{rest}"
