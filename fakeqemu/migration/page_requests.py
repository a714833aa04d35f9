# SPDX-License-Identifier: MIT
"""What a destination asks its source for: pages, the rest of them after a pause, to go on.

A source listens to all of that whenever it has a return path, with or without postcopy, and finds fault as QEMU does:
releases that keep an error of the return path keep these words, older ones print others.

QEMU: migrate_handle_rp_* and postcopy_resume_handshake in migration/migration.c, ram_save_queue_pages and
ram_dirty_bitmap_reload in migration/ram.c
"""

from __future__ import annotations

from struct import Struct

from fakeqemu.error import QemuError
from fakeqemu.migration import state as st
from fakeqemu.migration.received_bitmap import BITMAP_ENDING, bitmap_size, missing_runs
from fakeqemu.migration.stream import return_path as rp
from fakeqemu.migration.stream.ram_page import TARGET_PAGE_BITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.migration.outgoing import Outgoing
    from fakeqemu.migration.stream.qemu_file import QEMUFile
    from fakeqemu.system.ramblock import RAMBlock

_REQUEST = Struct(">QI")


class Refused(QemuError):
    """A message is no good. `old` is what releases print that keep no error of a return path."""

    def __init__(self, desc: str, old: str) -> None:
        super().__init__(desc)
        self.old = old


class PageRequests:
    """The requests of one connection."""

    __slots__ = ("_last_block", "_outgoing", "_vm")

    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing
        self._vm = outgoing.vm
        #: the block of the last request: the next may leave the name away
        self._last_block: RAMBlock | None = None

    async def message(self, kind: int, data: bytes, f: QEMUFile) -> None:
        """Pages, bitmaps and the acknowledgement of a resume; raises QemuError."""
        if kind == rp.MIG_RP_MSG_REQ_PAGES:
            await self._request(None, data)
        elif kind == rp.MIG_RP_MSG_REQ_PAGES_ID:
            await self._request(_name_of_request(data), data[: _REQUEST.size])
        elif kind == rp.MIG_RP_MSG_RECV_BITMAP:
            await self._reload_bitmap(data, f)
        else:
            self._resume_ack(rp.be32(data))

    # --- pages ----------------------------------------------------------------------------------------

    async def _request(self, name: str | None, data: bytes) -> None:
        start, length = _REQUEST.unpack(data)
        vm, outgoing = self._vm, self._outgoing
        vm.trace("migrate_handle_rp_req_pages", rbname=name or "", start=start, len=length)
        old = f"migrate_handle_rp_req_pages: Misaligned page request, start: {start:x} len: {length}"
        try:
            await vm.faults.pass_through("migrate_handle_rp_req_pages", start=f"{start:x}", len=length)
        except QemuError as err:
            raise Refused(err.desc, old) from None
        if (start | length) & (1 << TARGET_PAGE_BITS) - 1:
            raise Refused(
                f"MIG_RP_MSG_REQ_PAGES: Misaligned page request, start:{start:x} len: {length}",
                old,
            )
        outgoing.mig.stats.postcopy_requests += 1
        block = self._block_of_request(name)
        vm.trace("ram_save_queue_pages", rbname=block.idstr, start=start, len=length)
        if start + length - 1 >= block.used_length:
            text = f"request overrun%s start={start:x} len={length:x} blocklen={block.used_length:x}"
            raise Refused("MIG_RP_MSG_REQ_PAGES " + text % ",", "ram_save_queue_pages " + text % "")
        first, n = start >> TARGET_PAGE_BITS, length >> TARGET_PAGE_BITS
        if n and outgoing.postcopy is not None:  # before that they go in their own time
            await outgoing.postcopy.requested(block, first, n)

    def _block_of_request(self, name: str | None) -> RAMBlock:
        if name is None:
            if self._last_block is None:
                raise Refused(
                    "MIG_RP_MSG_REQ_PAGES has no previous block", "ram_save_queue_pages no previous block"
                )  # fmt: skip
            return self._last_block
        block = self._find(name)
        if block is None:
            raise Refused(f"MIG_RP_MSG_REQ_PAGES has no block '{name}'", f"ram_save_queue_pages no block '{name}'")
        self._last_block = block
        return block

    def _find(self, name: str) -> RAMBlock | None:
        for block in self._vm.ram_blocks:
            if block.idstr == name:
                return block
        return None

    # --- a recovery -----------------------------------------------------------------------------------

    async def _reload_bitmap(self, data: bytes, f: QEMUFile) -> None:
        """A block's bitmap: what the destination lacks is what is left to send."""
        if not data:
            raise Refused("MIG_RP_MSG_RECV_BITMAP missing block name", "source_return_path_thread: missing block name")
        name = _c_string(data[1 : 1 + data[0]])
        block = self._find(name)
        if block is None:
            raise Refused(
                f"MIG_RP_MSG_RECV_BITMAP has invalid block name '{name}'",
                f"migrate_handle_rp_recv_bitmap: invalid block name '{name}'",
            )
        mig, postcopy = self._outgoing.mig, self._outgoing.postcopy
        self._vm.trace("ram_dirty_bitmap_reload_begin", rbname=name)
        try:
            await self._vm.faults.pass_through("ram_dirty_bitmap_reload_begin", rbname=name)
        except QemuError as err:
            raise _bad_bitmap(err.desc) from None
        if mig.state != st.POSTCOPY_RECOVER or postcopy is None:
            raise _bad_bitmap(f"Reload bitmap in incorrect state {mig.state}", f"incorrect state {mig.state}")
        size, wanted = await f.take_uint(8), bitmap_size(block.pages)
        if size != wanted:
            raise _bad_bitmap(f"ramblock '{name}' bitmap size mismatch (0x{size:x} != 0x{wanted:x})")
        bitmap = await f.take(size)
        ending = await f.take_uint(8)
        if f.end is not None:
            size_and_found = f"(size 0x{size:x}, got: 0x{len(bitmap):x})"
            raise _bad_bitmap(
                f"read bitmap failed for ramblock '{name}': {size_and_found}",
                f"read bitmap failed for ramblock '{name}': -{f.end.errno} {size_and_found}",
            )
        if ending != BITMAP_ENDING:
            raise _bad_bitmap(f"ramblock '{name}' end mark incorrect: 0x{ending:x}")
        self._vm.trace("ram_dirty_bitmap_reload_complete", rbname=name)
        postcopy.recovery.bitmap_came(block, missing_runs(bitmap, block.pages))

    def _resume_ack(self, value: int) -> None:
        """The destination is ready to go on."""
        self._vm.trace("source_return_path_thread_resume_ack", v=value)
        text = f"illegal resume_ack value {value}"
        try:
            self._vm.faults.check("source_return_path_thread_resume_ack", v=value)
        except QemuError as err:
            raise Refused(err.desc, f"migrate_handle_rp_resume_ack: {err.desc}") from None
        if value != rp.RESUME_ACK_VALUE:
            raise Refused(text, f"migrate_handle_rp_resume_ack: {text}")
        if self._outgoing.postcopy is not None:
            self._outgoing.postcopy.recovery.resume_ack_came()


def cut_short(kind: int, found: int, wanted: int) -> QemuError:
    """The connection has ended within a message."""
    return QemuError(f"Failed reading data for message 0x{kind:04x} read {found} expected {wanted}")


async def data_of(f: QEMUFile, kind: int, length: int) -> bytes:
    """What belongs to a message's header; raises QemuError."""
    data = await f.take(length)
    if len(data) < length:
        raise cut_short(kind, len(data), length)
    return data


def _name_of_request(data: bytes) -> str:
    size = _REQUEST.size
    expected = size + 1 + (data[size] if len(data) > size else 0)
    if len(data) != expected:
        raise QemuError(f"Req_Page_id with length {len(data)} expecting {expected}")
    return _c_string(data[size + 1 :])


def _bad_bitmap(text: str, old: str = "") -> Refused:
    return Refused(text, f"ram_dirty_bitmap_reload: {old or text}")


def _c_string(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "backslashreplace")
