# SPDX-License-Identifier: MIT
"""What the kernel of the destination does for a postcopy: tell of pages that are missing, and put them in place.

    ADVISE    can the kernel do it?  every block is emptied
    DISCARD   a range is emptied
    LISTEN    descriptor, event, each block registered, pages to assemble in
    pages     copied or zeroed into place, which wakes who waits
    end       each block given back

There is no such kernel here: every call succeeds, unless a fault is injected. Then it fails as the call of a real host does:
a line on stderr, and what becomes of the load. That is also how a real one ends that has no descriptor left.

QEMU: migration/postcopy-ram.c, util/userfaultfd.c, ram_block_discard_range in system/physmem.c
"""

from __future__ import annotations

import errno
import os

from fakeqemu.error import StreamError
from fakeqemu.migration.stream.ram_page import TARGET_PAGE_BITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.migration.loadvm import LoadFault, LoadVM
    from fakeqemu.system.machine import Machine
    from fakeqemu.system.ramblock import RAMBlock

#: where the first block would lie in the process: page addresses of faults count from here
_FIRST_ADDRESS = 0x7F0000000000
#: where a page is assembled before it is put in place
_TEMPORARY_PAGE = 0x7EFFFFFF0000


def address(vm: Machine, block: RAMBlock, page: int) -> int:
    """The address of a page in the process."""
    at = _FIRST_ADDRESS
    for other in vm.ram_blocks:
        if other is block:
            break
        at += other.used_length
    return at + (page << TARGET_PAGE_BITS)


def advise(load: LoadVM) -> None:
    """See whether the kernel can do it; raises LoadFault.

    QEMU: postcopy_ram_supported_by_host
    """
    vm = load.vm
    try:
        vm.faults.check("loadvm_postcopy_handle_advise")
    except OSError as err:
        why = os.strerror(err.errno or errno.EIO)
        old = f"{vm.compat.migration_userfault_words}: {why}"
        raise load.fault(errno.EPERM, f"Userfaultfd not available: {why}", old=[old]) from None


def empty(load: LoadVM) -> None:
    """Nothing that a block may hold is of use; raises LoadFault.

    QEMU: postcopy_ram_incoming_init
    """
    vm = load.vm
    for block in vm.ram_blocks:
        length = block.used_length
        try:
            vm.faults.check("postcopy_init_range", block=block.idstr)
        except OSError as err:
            _say_not_discarded(vm, block, 0, length, err)
            chain = f"Postcopy RAM incoming init failed: failed to discard RAM block {block.idstr} len={length}"
            raise load.fault(errno.EPERM, chain, old=[]) from None


def discard(load: LoadVM, block: RAMBlock, start: int, length: int) -> None:
    """Empty a range; raises LoadFault."""
    try:
        load.vm.faults.check("ram_discard_range", block=block.idstr)
    except OSError as err:
        _say_not_discarded(load.vm, block, start, length, err)
        raise not_discarded(load, block.idstr, err.errno or errno.EIO) from None
    block.zero_pages(start >> TARGET_PAGE_BITS, length >> TARGET_PAGE_BITS)


def not_discarded(load: LoadVM, idstr: str, number: int) -> LoadFault:
    """A range could not be emptied, which was said."""
    return load.fault(number, f"Failed to discard RAM range {idstr}: -{number}", old=[])


def _say_not_discarded(vm: Machine, block: RAMBlock, start: int, length: int, err: OSError) -> None:
    function = vm.compat.migration_discard_function
    vm.error_report(
        f"{function}: Failed to discard range {block.idstr}:{start:x} +{length:x} ({-(err.errno or errno.EIO)})"
    )


def listen(load: LoadVM) -> None:
    """From now on the kernel tells of pages that are missing; raises LoadFault.

    QEMU: postcopy_ram_incoming_setup
    """
    vm = load.vm
    try:
        vm.faults.check("loadvm_postcopy_handle_listen")
    except OSError as err:
        raise _no_setup(load, err, "postcopy_ram_incoming_setup: Failed to open userfault fd: %s") from None
    try:
        vm.faults.check("fake_userfault_event_fd")
    except OSError as err:
        raise _no_setup(load, err, "postcopy_ram_incoming_setup: Opening userfault_event_fd: %s") from None
    for block in vm.ram_blocks:
        try:
            vm.faults.check("postcopy_ram_enable_notify", block=block.idstr)
        except OSError as err:
            lines = ("ram_block_enable_notify userfault register: %s", "ram_block_enable_notify failed")
            raise _no_setup(load, err, *lines) from None
    try:
        vm.faults.check("fake_postcopy_temp_pages_setup")
    except OSError as err:
        raise _no_setup(load, err, "postcopy_temp_pages_setup: Failed to map postcopy_tmp_pages[0]: %s") from None
    vm.trace("postcopy_ram_enable_notify")


def _no_setup(load: LoadVM, err: OSError, *lines: str) -> LoadFault:
    for line in lines:
        load.vm.error_report(line.replace("%s", os.strerror(err.errno or errno.EIO)))
    return load.fault(errno.EPERM, "Failed to setup incoming postcopy RAM blocks", old=[])


def copy(vm: Machine, block: RAMBlock, first: int, data: memoryview) -> None:
    """Put pages in place; raises StreamError."""
    try:
        vm.faults.check("postcopy_place_page", block=block.idstr)
    except OSError as err:
        where = f"dst_addr={address(vm, block, first):#x} src_addr={_TEMPORARY_PAGE:#x}"
        raise _not_placed(vm, "uffd_copy_page", where, block, err) from None
    block.write_pages(first, data)


def zero(vm: Machine, block: RAMBlock, first: int, n: int) -> None:
    """Put pages of zeroes in place; raises StreamError."""
    try:
        vm.faults.check("postcopy_place_page_zero", block=block.idstr)
    except OSError as err:
        raise _not_placed(vm, "uffd_zero_page", f"addr={address(vm, block, first):#x}", block, err) from None
    block.zero_pages(first, n)


def _not_placed(vm: Machine, function: str, where: str, block: RAMBlock, err: OSError) -> StreamError:
    number = err.errno or errno.EIO
    vm.error_report(f"{function}() failed: {where} length={block.page_size} mode=0 errno={number}")
    failure = StreamError("")
    failure.errno = number
    return failure


def end(vm: Machine) -> None:
    """All pages are there: the kernel need not look any more. Where it does not let go, that is only said."""
    for block in vm.ram_blocks:
        try:
            vm.faults.check("postcopy_cleanup_range", block=block.idstr)
        except OSError as err:
            vm.error_report(f"cleanup_range: userfault unregister {os.strerror(err.errno or errno.EIO)}")
            return
