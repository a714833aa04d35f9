# SPDX-License-Identifier: MIT
"""Pages that follow the guest of a source whose pages only count (`ram=model`).

Of a run of make-believe pages the first and the last are put, as pages of zeroes, and all are counted as what they stand for:

    first page, with the block's name          a run begins
    last page, RAM_SAVE_FLAG_CONTINUE          a destination with ram=model takes what lies between for arrived

Any other destination may ask for what lies between, and gets zeroes. So it is with pages that were only counted before the
guest left: a destination with ram=model takes for arrived what the source does not call stale.

QEMU: migration/ram.c
"""

from __future__ import annotations

from fakeqemu.migration.multifd_ram import IdleMultiFDSink
from fakeqemu.system.ramblock import REAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.migration.outgoing import Outgoing
    from fakeqemu.migration.stream.qemu_file import QEMUFile
    from fakeqemu.system.ramblock import RAMBlock


class CountedSink(IdleMultiFDSink):
    """Puts real pages, and zeroes for all others; counts what those would have been."""

    __slots__ = ("_counted",)

    def __init__(self, outgoing: Outgoing) -> None:
        super().__init__(outgoing)
        #: bytes that were only counted
        self._counted = 0

    async def _sync(self) -> None:
        if self._outgoing.multifd is not None:
            await super()._sync()

    async def put_pages(self, f: QEMUFile, block: RAMBlock, first: int, n: int, kind: str) -> None:
        self._last_block = None
        if kind == REAL:
            await super().put_pages(f, block, first, n, kind)
            return
        if self.is_zero(kind):
            self._stats.duplicate += n
        else:
            self._stats.normal += n
        before = f.bytes_transferred
        self._put_zero(f, block, first, 1)
        if n > 1:
            self._put_zero(f, block, first + n - 1, 1)
        rest = n * self.size_of(kind) - (f.bytes_transferred - before)
        self._counted += rest
        self._stats.model_bytes += rest

    def put_again(self, f: QEMUFile, block: RAMBlock, first: int, n: int) -> None:
        """Pages that were counted long ago and are asked for now."""
        self._last_block = None
        self._put_zero(f, block, first, n)

    def counted(self, f: QEMUFile) -> int:
        return f.bytes_transferred + self._counted
