# SPDX-License-Identifier: MIT
"""A recorded tree of objects, made to fit the machine that we are.

The profile's trees are of machines with one CPU and 128 MB, looked at over one monitor. Here

- what is not the board's is left out: the containers of user-made objects, chardevs and devices fill from our model;
- devices after the CPUs move up by the number of further CPUs, and every path that leads to them follows;
- sizes and addresses that were the recorded machine's memory become ours.

QEMU: hw/i386/pc.c (pc_memory_init), hw/core/qdev.c (unattached devices are numbered as they come)
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.qom.registry import Record
    from fakeqemu.system.board import Board

GIB = 1 << 30
#: containers that the model fills, by path
_OURS = ("/objects", "/chardevs", "/machine/peripheral", "/machine/peripheral-anon")
_UNATTACHED = "/machine/unattached/device["
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
    sizes = {
        "/machine/unattached/ram-below-4g[0]": {"size": low},
        "/machine/i440fx": {"below-4g-mem-size": low, "pci-hole-start": low},
        "/machine/q35": {"below-4g-mem-size": low, "pci-hole-start": low},
        "/machine/q35/mch/tseg-blackhole[0]": {"addr": low},
        "/machine/q35/mch/tseg-window[0]": {"addr": low},
    }
    return _Adapter(len(board.cpus) - 1 if board.cpus else 0, sizes).object("", record)


class _Adapter:
    __slots__ = ("_further_cpus", "_values")

    def __init__(self, further_cpus: int, values: dict[str, dict[str, Any]]) -> None:
        self._further_cpus = further_cpus
        self._values = values

    def object(self, path: str, record: Record) -> Record:
        if path in _OURS:
            return _CONTAINER
        ours = self._values.get(path)
        result: Record = {}
        for name, entry in record.items():
            kind = entry[0]
            if kind.startswith("child<"):
                below = f"{path}/{name}"
                result[self._name(path, name)] = [kind, self.object(below, entry[1])]
            elif ours is not None and name in ours:
                result[name] = [kind, ours[name]]
            elif self._further_cpus and len(entry) > 1 and isinstance(entry[1], str):
                result[name] = [kind, self._path(entry[1])]
            else:
                result[name] = entry
        return result

    def _name(self, path: str, name: str) -> str:
        if not self._further_cpus or path != "/machine/unattached" or not name.startswith("device["):
            return name
        return self._path(f"{path}/{name}")[len(path) + 1 :]

    def _path(self, path: str) -> str:
        """A path with the number of an unattached device moved up, but for the first CPU's."""
        if not path.startswith(_UNATTACHED):
            return path
        number, bracket, rest = path[len(_UNATTACHED) :].partition("]")
        if number == "0" or not number.isdigit():
            return path
        return f"{_UNATTACHED}{int(number) + self._further_cpus}{bracket}{rest}"
