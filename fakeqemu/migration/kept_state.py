# SPDX-License-Identifier: MIT
"""State of devices that we do not model, told apart with the description that its own stream brings.

A FULL section has no length. That of a device which is only known from a capture (`StockState`) is mostly as it was captured,
in size or at least in shape; where its footer stands behind that, it is taken at once, so that a fault in what follows is found
when it comes. It may be in another shape: a subsection that the captured machine did not send, an array of another length. What
it is then the stream tells at its end, behind EOF. So at the first such section all that is still to come is waited for and
looked through:

    FULL ... FULL  00  06 be32 n { JSON }
                   └── found: these words say how long each body is

The bytes stay in the file's buffer and are then read section by section as ever. Where there is no description (a
postcopy package, `suppress-vmdesc`, a stream that breaks off) the captured one serves; and where it does not fit, the section
is one up to its footer, behind which another section of this machine, a command or the end of the stream has to stand.

A shape that the machine itself decides is another matter: places for CPUs, of which here are fewer or more, are a fault. Such a
section is read as this machine would have it, and its footer missed.

QEMU: scripts/analyze-migration.py
"""

from __future__ import annotations

import json
from struct import Struct

from fakeqemu.host.sync import run_sync
from fakeqemu.migration import further_cpus
from fakeqemu.migration.register import StockState
from fakeqemu.migration.stream import vmdesc
from fakeqemu.migration.stream.qemu_file import QEMUFile, c_string
from fakeqemu.migration.stream.section import (
    QEMU_VM_COMMAND,
    QEMU_VM_EOF,
    QEMU_VM_SECTION_FOOTER,
    QEMU_VM_SECTION_FULL,
    QEMU_VM_VMDESCRIPTION,
    has_footers,
)
from fakeqemu.migration.stream.vmstate import LoadError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.migration.register import SaveStateEntry
    from fakeqemu.system.machine import Machine

_MARK = bytes((QEMU_VM_EOF, QEMU_VM_VMDESCRIPTION))
_HEADER = len(_MARK) + 4
#: marker and section id
_FOOTER = Struct(">BI")
#: kind, section id and the length of a name
_IDENTITY = 1 + 4 + 1
#: commands that may come between devices or behind them
_COMMANDS = (b"\0\x02", b"\0\x05", b"\0\x0b")
#: state of devices, descriptions included, is not larger than this; what is does not end here
_MAX_SIZE = 1 << 26
#: more CPUs no board of x86 has
_MOST_CPUS = 4096


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
        stock = entry.stock
        assert stock is not None
        if self._described is None:
            size = await self._size_here(entry, stock)
            if size is not None:
                entry.stock = stock.holding(await self._f.get_buffer(size))
                return
            if await self._has_other_places(entry, stock):
                entry.stock = stock.holding(await vmdesc.consume(self._f, stock.desc, stock.fixed))
                return
            self._described = await self._find()
        own = self._described.get((entry.idstr, entry.instance_id))
        if own is None:
            entry.stock = await self._undescribed(entry, stock)
            return
        own = further_cpus.with_places(own, further_cpus.places_of(stock.desc))
        size = vmdesc.described_size(own)
        # What is known of a virtio device holds for one of its size.
        fixed = stock.fixed if size == len(stock.data) else {}
        is_whole = not fixed and self._ends_at(entry, size) and self._has_heads(own, size)
        body = self._f.get_buffer(size) if is_whole else vmdesc.consume(self._f, own, fixed)
        entry.stock = StockState.of(await body, own)

    def _has_heads(self, desc: dict[str, Any], size: int) -> bool:
        """Whether all subsections that are described stand in the body that has come."""
        data, at = self._f.buffered()
        return all(data.find(head, at, at + size) >= 0 for head in vmdesc.subsection_heads(desc))

    async def _undescribed(self, entry: SaveStateEntry, stock: StockState) -> StockState:
        """A section that the stream says nothing of: as this machine would have it, or up to where the next one begins."""
        try:
            size = len(run_sync(vmdesc.consume(QEMUFile.over(self._ahead()), stock.desc, stock.fixed)))
        except LoadError:
            size = -1
        if self._has_footer(entry) and (size < 0 or not self._ends_at(entry, size)):
            found = await self._end_of(entry)
            if found is not None:
                return stock.holding(await self._f.get_buffer(found))
        return stock.holding(await vmdesc.consume(self._f, stock.desc, stock.fixed))

    def _has_footer(self, entry: SaveStateEntry) -> bool:
        return entry.load_section_id >= 0 and has_footers(self._vm.migration.settings)

    async def _end_of(self, entry: SaveStateEntry) -> int | None:
        """The size of the body that has come, or comes: its footer stands before something that a stream goes on with."""
        footer = _FOOTER.pack(QEMU_VM_SECTION_FOOTER, entry.load_section_id)
        looked, ended = 0, False
        while True:
            data, at = self._f.buffered()
            end = at + self._f.available
            found = data.find(footer, at + looked, end)
            while found >= 0:
                follows = self._goes_on(data, found + len(footer), end)
                if follows:
                    return found - at
                if follows is None and not ended:
                    break
                found = data.find(footer, found + 1, end)
            looked = max(0, (found if found >= 0 else end - len(footer)) - at)
            if ended or end - at >= _MAX_SIZE:
                return None
            ended = not await self._f.await_more()

    def _goes_on(self, data: bytes | bytearray, at: int, end: int) -> bool | None:
        """Whether a section, a command or the end of the stream stands there; None when too little has come to tell."""
        if at >= end:
            return None
        if data[at] == QEMU_VM_EOF:
            return None if at + 1 >= end else data[at + 1] == QEMU_VM_VMDESCRIPTION
        if data[at] == QEMU_VM_COMMAND:
            return True if at + 3 <= end and data[at + 1 : at + 3] in _COMMANDS else None if at + 3 > end else False
        if data[at] != QEMU_VM_SECTION_FULL:
            return False
        name = at + _IDENTITY
        if name > end or name + data[name - 1] + 4 > end:
            return None
        idstr = bytes(data[name : name + data[name - 1]])
        instance_id = int.from_bytes(data[name + len(idstr) : name + len(idstr) + 4], "big")
        return self._vm.savevm.find(c_string(idstr), instance_id) is not None

    async def _size_here(self, entry: SaveStateEntry, stock: StockState) -> int | None:
        """The section's size, when it is made as it would be here; None when it is not, or that is not known."""
        if entry.load_version_id != entry.version_id:
            return None
        size = len(stock.data)
        await self._await_ahead(size)
        if self._ends_at(entry, size) and stock.is_made_alike(*self._f.buffered()):
            return size
        # Subsections may be missing: what is there tells. None is there that the captured machine has not sent.
        try:
            size = len(run_sync(vmdesc.consume(QEMUFile.over(self._ahead()), stock.desc, stock.fixed)))
        except LoadError:
            return None
        return size if self._ends_at(entry, size) else None

    async def _has_other_places(self, entry: SaveStateEntry, stock: StockState) -> bool:
        """Whether the section is as here but for the number of CPUs."""
        here = further_cpus.places_of(stock.desc)
        if not here:
            return False
        each = further_cpus.place_size(stock.desc)
        least = len(stock.data) - here * each
        for count in range(1, _MOST_CPUS):
            size = least + count * each
            if self._f.available < size + _FOOTER.size:
                await self._await_ahead(size)
                if self._f.available < size + _FOOTER.size:
                    break
            if count != here and self._ends_at(entry, size):
                return True
        return False

    def _ahead(self) -> bytes:
        data, at = self._f.buffered()
        return bytes(data[at : at + self._f.available])

    async def _await_ahead(self, size: int) -> None:
        """Wait for a body of `size` and its footer, which stay where they are."""
        ended = self._f.end
        if self._f.available < size + _FOOTER.size:
            await self._f.peek(size + _FOOTER.size)
            if ended is None:
                self._f.end = None  # only looked at: what comes before it is to be read yet

    def _ends_at(self, entry: SaveStateEntry, size: int) -> bool:
        """Whether the section's footer stands behind a body of `size`: then nobody need look inside."""
        if self._f.available < size + _FOOTER.size:
            return False
        data, at = self._f.buffered()
        return bool(_FOOTER.unpack_from(data, at + size) == (QEMU_VM_SECTION_FOOTER, entry.load_section_id))

    async def _find(self) -> dict[tuple[str, int], dict[str, Any]]:
        if self._suppressed():
            return {}
        # What is there already may be all: the source may wait for our word, and send nothing more.
        looked, ended = 0, False
        while True:
            data, at = self._f.buffered()
            described, looked = _description_in(data, at, self._f.available, looked)
            if described is not None:
                return described
            if ended or self._f.available >= _MAX_SIZE:
                return {}
            ended = not await self._f.await_more()

    def _suppressed(self) -> bool:
        machine = self._vm.qom.machine
        return machine is not None and machine.get("suppress-vmdesc") is True


def _description_in(
    data: bytes | bytearray, start: int, size: int, looked: int
) -> tuple[dict[tuple[str, int], dict[str, Any]] | None, int]:  # fmt: skip
    """The description that stands whole in the `size` bytes from `start` on, by name and instance of each device. What is in
    the first `looked` of them is known.

    Without one: None, and where to go on looking when there is more.
    """
    stop = start + size
    at = data.find(_MARK, start + looked, stop)
    again = -1
    while at >= 0:
        begin = at + _HEADER
        if begin >= stop:
            break
        if data[begin] == ord("{"):
            end = begin + int.from_bytes(data[at + len(_MARK) : begin], "big")
            if end <= stop:
                described = _parse(bytes(data[begin:end]))
                if described is not None:
                    return described, at - start
            elif again < 0:
                again = at
        at = data.find(_MARK, at + 1, stop)
    if again < 0:
        again = at if at >= 0 else stop - 1
    return None, max(looked, again - start)


def _parse(text: bytes) -> dict[tuple[str, int], dict[str, Any]] | None:
    """A description's devices; None when this is something else."""
    try:
        devices = json.loads(text)["devices"]
        return {(one["name"], one["instance_id"]): one for one in devices if vmdesc.is_sound(one)}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
