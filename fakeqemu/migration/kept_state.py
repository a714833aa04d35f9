# SPDX-License-Identifier: MIT
"""State of devices that we do not model, told apart with the description that its own stream brings.

A FULL section has no length, and a device that is only known from a capture (`StockState`) may be in another shape here: a
subsection that the captured machine did not send, an array of another length. The description stands at the end of the
stream, behind EOF. So at the first such section all that is still to come is waited for and looked through:

    FULL ... FULL  00  06 be32 n { JSON }
                   └── found: these words say how long each body is

The bytes stay in the file's buffer and are then read section by section as ever. Where there is no description (a
postcopy package, `suppress-vmdesc`, a stream that breaks off) the captured one serves.

QEMU: scripts/analyze-migration.py
"""

from __future__ import annotations

import json
from struct import Struct

from fakeqemu.migration.register import StockState
from fakeqemu.migration.stream import vmdesc
from fakeqemu.migration.stream.section import QEMU_VM_EOF, QEMU_VM_SECTION_FOOTER, QEMU_VM_VMDESCRIPTION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.migration.register import SaveStateEntry
    from fakeqemu.migration.stream.qemu_file import QEMUFile
    from fakeqemu.system.machine import Machine

_MARK = bytes((QEMU_VM_EOF, QEMU_VM_VMDESCRIPTION))
_HEADER = len(_MARK) + 4
#: marker and section id
_FOOTER = Struct(">BI")
#: state of devices, descriptions included, is not larger than this; what is does not end here
_MAX_SIZE = 1 << 26


class KeptState:
    """The descriptions of one incoming stream. Looks for them when the first section asks."""

    __slots__ = ("_described", "_f", "_vm")

    def __init__(self, vm: Machine, f: QEMUFile) -> None:
        self._vm = vm
        self._f = f
        self._described: dict[tuple[str, int], dict[str, Any]] | None = None

    async def load(self, entry: SaveStateEntry) -> None:
        """Read the body of a section of an entry that is known by bytes only, and keep it.

        Raises StreamError for what no description knows, EndOfStream when bytes are missing.
        """
        assert entry.stock is not None
        if self._described is None:
            self._described = await self._find()
        own = self._described.get((entry.idstr, entry.instance_id))
        desc = entry.stock.desc if own is None else own
        if own is not None and self._ends_as_described(entry, size := vmdesc.described_size(own)):
            body = await self._f.get_buffer(size)
        else:
            body = await vmdesc.consume(self._f, desc)
        entry.stock = StockState.of(body, desc)

    def _ends_as_described(self, entry: SaveStateEntry, size: int) -> bool:
        """Whether the section's footer stands where the stream's own description says: then nobody need look inside."""
        if self._f.available < size + _FOOTER.size:
            return False
        data, at = self._f.buffered()
        return bool(_FOOTER.unpack_from(data, at + size) == (QEMU_VM_SECTION_FOOTER, entry.load_section_id))

    async def _find(self) -> dict[tuple[str, int], dict[str, Any]]:
        if self._suppressed():
            return {}
        # What is there already may be all: the source may wait for our word, and send nothing more.
        f = self._f
        wanted, looked = f.available, 0
        while wanted < _MAX_SIZE:
            ended = len(await f.peek(wanted)) < wanted
            ahead = await f.peek(f.available)
            described, looked = _description_in(ahead, looked)
            if described is not None:
                return described
            if ended:
                f.end = None  # only looked at: what comes before it is to be read yet
                break
            wanted = len(ahead) + 1
        return {}

    def _suppressed(self) -> bool:
        machine = self._vm.qom.machine
        return machine is not None and machine.get("suppress-vmdesc") is True


def _description_in(
    data: bytes, start: int
) -> tuple[dict[tuple[str, int], dict[str, Any]] | None, int]:  # fmt: skip
    """The description that stands whole in `data` at or after `start`, by name and instance of each device.

    Without one: None, and where to go on looking when there is more.
    """
    at = data.find(_MARK, start)
    again = -1
    while at >= 0:
        begin = at + _HEADER
        if begin >= len(data):
            break
        if data[begin] == ord("{"):
            end = begin + int.from_bytes(data[at + len(_MARK) : begin], "big")
            if end <= len(data):
                described = _parse(data[begin:end])
                if described is not None:
                    return described, at
            elif again < 0:
                again = at
        at = data.find(_MARK, at + 1)
    if again < 0:
        again = at if at >= 0 else max(start, len(data) - 1)
    return None, again


def _parse(text: bytes) -> dict[tuple[str, int], dict[str, Any]] | None:
    """A description's devices; None when this is something else."""
    try:
        devices = json.loads(text)["devices"]
        return {(one["name"], one["instance_id"]): one for one in devices if vmdesc.is_sound(one)}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
