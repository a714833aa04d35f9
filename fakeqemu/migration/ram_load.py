# SPDX-License-Identifier: MIT
"""The destination's half of the RAM section: pages go where their records say, and nowhere else.

The stream is hostile until proven: every block name, length and offset is checked. What is wrong is printed, as QEMU
does; the reason that travels upwards is only an errno.

QEMU: migration/ram.c (ram_load)
"""

from __future__ import annotations

from fakeqemu.error import StreamError
from fakeqemu.migration.multifd import flushes_each_section
from fakeqemu.migration.register import SaveVMHandlers
from fakeqemu.migration.stream.qemu_file import EndOfStream
from fakeqemu.migration.stream.ram_page import (
    PAGE_RECORD_SIZE,
    RAM_SAVE_FLAG_COMPRESS_PAGE,
    RAM_SAVE_FLAG_CONTINUE,
    RAM_SAVE_FLAG_EOS,
    RAM_SAVE_FLAG_HOOK,
    RAM_SAVE_FLAG_MEM_SIZE,
    RAM_SAVE_FLAG_MULTIFD_FLUSH,
    RAM_SAVE_FLAG_PAGE,
    RAM_SAVE_FLAG_XBZRLE,
    RAM_SAVE_FLAG_ZERO,
    RAM_VERSION,
    TARGET_PAGE_BITS,
    TARGET_PAGE_SIZE,
    WORD,
    ZERO_RECORD_SIZE,
    count_page_records,
    count_zero_records,
)
from fakeqemu.migration.stream.section import signed64
from fakeqemu.system.ramblock import PageRuns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.migration.postcopy_load import PostcopyIncoming
    from fakeqemu.migration.stream.qemu_file import QEMUFile
    from fakeqemu.system.machine import Machine
    from fakeqemu.system.ramblock import RAMBlock

_FLAGS_MASK = TARGET_PAGE_SIZE - 1
_SIZE_MASK = (1 << 64) - 1
_PAGE_FLAGS = RAM_SAVE_FLAG_ZERO | RAM_SAVE_FLAG_PAGE | RAM_SAVE_FLAG_XBZRLE
#: zero pages recognised in one go
_ZERO_RUN = 1 << 15
#: pages put into memory in one go; a system call takes no more than 1024 buffers
_PAGE_RUN = 256


class RAMLoadHandlers(SaveVMHandlers):
    """SaveVMHandlers of the entry "ram" of a destination."""

    __slots__ = ("_last_block", "_next_page", "_vm", "postcopy")

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self._last_block: RAMBlock | None = None
        #: from LISTEN on: places pages for a guest that runs, each only once
        self.postcopy: PostcopyIncoming | None = None
        #: behind the last page that came to a guest that runs
        self._next_page = 0

    async def load_setup(self, f: QEMUFile) -> None:  # noqa: ARG002
        for block in self._vm.ram_blocks:
            block.received = PageRuns()

    def load_cleanup(self) -> None:
        for block in self._vm.ram_blocks:
            block.received = None

    async def load_state(self, f: QEMUFile, version_id: int) -> None:
        if version_id != RAM_VERSION:
            raise StreamError("")
        self._vm.faults.check("ram_load_start")
        compat = self._vm.compat
        while True:
            word = await f.take_uint(8) if f.available < 8 else self._next_word(f)
            if f.end is not None and compat.migration_ram_word_checked:
                self._vm.error_report("Getting RAM address failed")
                raise f.end
            flags = word & _FLAGS_MASK
            if flags & RAM_SAVE_FLAG_COMPRESS_PAGE and compat.migration_ram_compression:
                raise self._refusal("Received an unexpected compressed page")
            if flags & _PAGE_FLAGS:
                await self._load_pages(f, word & ~_FLAGS_MASK, flags)
                continue
            kind = flags & ~RAM_SAVE_FLAG_CONTINUE
            if kind == RAM_SAVE_FLAG_EOS:
                if flushes_each_section(self._vm):
                    await self._sync_channels()
                return
            if kind == RAM_SAVE_FLAG_MEM_SIZE:
                await self._load_block_list(f, word & ~_FLAGS_MASK)
            elif kind == RAM_SAVE_FLAG_MULTIFD_FLUSH and self._vm.compat.migration_multifd_flush_word:
                await self._sync_channels()
            else:
                raise self._unknown(flags)

    @staticmethod
    def _next_word(f: QEMUFile) -> int:
        buffer, position = f.buffered()
        word: int = WORD.unpack_from(buffer, position)[0]
        f.skip(8)
        return word

    def _unknown(self, flags: int) -> StreamError:
        if flags & RAM_SAVE_FLAG_HOOK and self._vm.compat.migration_ram_compression:
            return StreamError("")  # a hook of the transport, and this one has none
        return self._refusal(f"Unknown combination of migration flags: 0x{flags:x}")

    async def _sync_channels(self) -> None:
        """All pages that travelled on channels of their own up to here are in place."""
        incoming = self._vm.migration.incoming
        if incoming is not None and incoming.multifd is not None:
            await incoming.multifd.sync()

    def _refusal(self, *lines: str) -> StreamError:
        for line in lines:
            self._vm.error_report(line)
        return StreamError("")

    def fault_check(self, point: str, /, **fields: object) -> None:
        """Where something read can be refused: it is said on stderr, and the load fails."""
        try:
            self._vm.faults.check(point, **fields)
        except StreamError as err:
            raise self._refusal(*err.desc.splitlines()) from None

    # --- START ----------------------------------------------------------------------------------------

    async def _load_block_list(self, f: QEMUFile, total: int) -> None:
        self._last_block = None
        while total:  # lengths that do not add up are not noticed: what follows is taken for another block
            name, length = await f.take_counted_string(), await f.take_uint(8)
            self.fault_check("fake_parse_ramblocks", name=name)
            block = self._find(name)
            if block is None:
                raise self._refusal(f'Unknown ramblock "{name}", cannot accept migration')
            size = -(-length // TARGET_PAGE_SIZE) * TARGET_PAGE_SIZE & _SIZE_MASK
            self.fault_check("fake_qemu_ram_resize", name=name, size=f"{size:x}", local=f"{block.used_length:x}")
            if size != block.used_length:
                self._resize(block, size)
            if self._vm.savevm.capability("postcopy-ram") and block.page_size != TARGET_PAGE_SIZE:
                remote = await f.take_uint(8)
                if remote != block.page_size:
                    raise self._refusal(f"Mismatched RAM page size {name} (local) {block.page_size} != {remote}")
            if self._vm.savevm.capability("x-ignore-shared"):
                self._check_address(block, await f.take_uint(8))
            if self._vm.savevm.capability("mapped-ram"):
                await self._load_mapped(f, block)
            total = total - length & _SIZE_MASK
            if f.end is not None:
                raise f.end
        if self._vm.savevm.capability("mapped-ram"):
            await self._sync_channels()

    def _resize(self, block: RAMBlock, size: int) -> None:
        """Take the source's size of a block that may have any."""
        if not block.resizeable:
            text = f"Size mismatch: {block.idstr}: 0x{size:x} != 0x{block.used_length:x}"
            raise self._refusal(f"{text}: Invalid argument")
        if size > block.max_length:
            text = f"Size too large: {block.idstr}: 0x{size:x} > 0x{block.max_length:x}"
            raise self._refusal(f"{text}: Invalid argument")
        block.used_length = size

    def _check_address(self, block: RAMBlock, address: int) -> None:
        """A block whose pages stay where they are has to be in the same place on both sides."""
        from fakeqemu.migration.ram import is_ignored

        if is_ignored(self._vm, block) and address != block.guest_address:
            text = f"Mismatched GPAs for block {block.idstr} {signed64(address)}!= {signed64(block.guest_address)}"
            raise self._refusal(text)

    async def _load_mapped(self, f: QEMUFile, block: RAMBlock) -> None:
        from fakeqemu.migration.mapped_ram import load_block
        from fakeqemu.migration.multifd_file import MultiFDFileRecv

        channels = None if self._vm.migration.incoming is None else self._vm.migration.incoming.multifd
        try:
            any_page_size = not self._vm.compat.migration_mapped_page_size
            of_pages = channels if isinstance(channels, MultiFDFileRecv) else None
            await load_block(f, block, of_pages, any_page_size=any_page_size)
        except EndOfStream:
            raise
        except StreamError as err:
            raise self._refusal(err.desc) if err.desc else err from None

    def _find(self, name: str) -> RAMBlock | None:
        for block in self._vm.ram_blocks:
            if block.idstr == name:
                return block
        return None

    # --- pages ----------------------------------------------------------------------------------------

    async def _load_pages(self, f: QEMUFile, offset: int, flags: int) -> None:
        if flags & RAM_SAVE_FLAG_CONTINUE:
            block = self._last_block
            lines = ["Ack, bad migration stream!"]
        else:
            name = await f.take_counted_string()
            block = self._find(name)
            lines = [f"Can't find block {name}"]
        if block is None:
            raise self._refusal(*lines, f"Illegal RAM offset {offset:x}")
        self._last_block = block
        if offset >= block.used_length:
            raise self._refusal(f"Illegal RAM offset {offset:x}")
        self.fault_check("ram_load_loop", block=block.idstr, offset=f"{offset:x}")
        page = offset >> TARGET_PAGE_BITS
        kind = flags & ~RAM_SAVE_FLAG_CONTINUE
        if self.postcopy is not None and flags & RAM_SAVE_FLAG_CONTINUE:
            self.postcopy.passed_over(block, self._next_page, page)
        if kind == RAM_SAVE_FLAG_ZERO:
            await self._load_zero(f, block, page)
        elif kind == RAM_SAVE_FLAG_PAGE:
            await self._load_normal(f, block, page)
        elif kind == RAM_SAVE_FLAG_XBZRLE:
            await self._load_xbzrle(f, block, page)
        else:
            raise self._unknown(flags)

    async def _load_normal(self, f: QEMUFile, block: RAMBlock, page: int) -> None:
        """A page, and those behind it as far as they have arrived, in one go."""
        await f.fill(TARGET_PAGE_SIZE)
        buffer, position = f.buffered()
        n = 1 + count_page_records(
            buffer,
            position + TARGET_PAGE_SIZE,
            page + 1,
            min(_PAGE_RUN, block.pages - page) - 1,
            position + f.available,
        )
        view = memoryview(buffer)
        ends = range(position + TARGET_PAGE_SIZE, position + n * PAGE_RECORD_SIZE, PAGE_RECORD_SIZE)
        contents = [view[end - TARGET_PAGE_SIZE : end] for end in ends]
        f.skip((n - 1) * PAGE_RECORD_SIZE + TARGET_PAGE_SIZE)
        if self.postcopy is not None:
            self.postcopy.place(block, page, n, b"".join(contents))
            self._next_page = page + n
            return
        block.write_scattered(page, contents)
        self._received(block, page, n)

    async def _load_zero(self, f: QEMUFile, block: RAMBlock, page: int) -> None:
        fill = await f.get_byte()
        if self._vm.compat.migration_zero_page_fill != "any":
            self.fault_check("fake_handle_zero_page", value=fill)
        if fill:
            if self._vm.compat.migration_zero_page_fill == "any":
                block.write_pages(page, bytes((fill,)) * TARGET_PAGE_SIZE)
                self._received(block, page, 1)
                return
            raise self._refusal(f"Found a zero page with value {fill}")
        # Records of the pages that follow, as far as they have arrived, in one go.
        n = 1
        if f.available >= ZERO_RECORD_SIZE:
            buffer, position = f.buffered()
            n += count_zero_records(
                buffer, position, page + 1, min(_ZERO_RUN, block.pages - page - 1), position + f.available
            )
            f.skip((n - 1) * ZERO_RECORD_SIZE)
        if self.postcopy is not None:
            self.postcopy.place(block, page, n, None)
            self._next_page = page + n
            return
        block.zero_pages(page, n)
        self._received(block, page, n)

    async def _load_xbzrle(self, f: QEMUFile, block: RAMBlock, page: int) -> None:
        """A page as the difference to what is there. QEMU: load_xbzrle"""
        from fakeqemu.migration.stream.xbzrle import ENCODING_FLAG_XBZRLE, decode

        failed = f"Failed to decompress XBZRLE page at {page << TARGET_PAGE_BITS:x}"
        encoding, size = await f.take_uint(1), await f.take_uint(2)
        self.fault_check("fake_load_xbzrle", offset=f"{page << TARGET_PAGE_BITS:x}")
        if encoding != ENCODING_FLAG_XBZRLE:
            raise self._refusal("Failed to load XBZRLE page - wrong compression!", failed)
        if size > TARGET_PAGE_SIZE:
            raise self._refusal("Failed to load XBZRLE page - len overflow!", failed)
        try:
            content = decode(block.read_pages(page), (await f.take(size)).ljust(size, b"\0"))
        except ValueError:
            raise self._refusal("Failed to load XBZRLE page - decode error!", failed) from None
        if f.end is not None:
            raise f.end
        block.write_pages(page, content)
        self._received(block, page, 1)

    def _received(self, block: RAMBlock, page: int, n: int) -> None:
        if block.received is not None:
            block.received.add(page, n)
