# SPDX-License-Identifier: MIT
"""Commands of an incoming stream.

QEMU: migration/savevm.c (loadvm_process_command)
"""

from __future__ import annotations

import errno

from fakeqemu.error import StreamError
from fakeqemu.migration import userfault
from fakeqemu.migration.stream import return_path as rp
from fakeqemu.migration.stream import section as s
from fakeqemu.migration.stream.qemu_file import QEMUFile, c_string

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.migration.loadvm import LoadVM

_PAGE_SIZE = 4096
#: the largest package that is taken
_MAX_PACKAGE = 1 << 32
_PAGE_SIZES_LENGTH = 16


async def run_command(load: LoadVM, command: int, length: int) -> bool:
    """Read a command's payload and do what it says; True when nobody is to read on. Raises LoadFault, EndOfStream."""
    known = s.COMMANDS.get(command)
    if command == s.MIG_CMD_SWITCHOVER_START and not load.vm.compat.migration_switchover_start:
        known = None
    if known is None:
        raise load.fault(errno.EINVAL, f"MIG_CMD 0x{command:x} unknown (len 0x{length:x})")
    name, expected = known
    load.vm.trace("loadvm_process_command", com=name, len=length)
    if expected >= 0 and length != expected:
        text = f"{name} received with bad length - expecting {expected}, got {length}"
        raise load.fault(errno.ERANGE, text)
    await load.fault_point("loadvm_process_command", com=name, len=length)
    if command == s.MIG_CMD_OPEN_RETURN_PATH:
        load.open_return_path()
        await load.approval.return_path_opened()
    elif command == s.MIG_CMD_PING:
        value = await load.f.take_uint(4)
        load.fault_check("loadvm_process_command_ping", value=f"{value:x}")
        if not load.return_path_open:
            raise load.fault(errno.EPERM, f"CMD_PING (0x{value:x}) received with no return path")
        await load.send(rp.MIG_RP_MSG_PONG, value.to_bytes(4, "big"))
    elif command == s.MIG_CMD_SWITCHOVER_START:
        for entry in load.vm.savevm.live_entries():
            assert entry.handlers is not None
            try:
                load.vm.faults.check("fake_loadvm_switchover_start", id=entry.idstr)
                await entry.handlers.switchover_start()
            except StreamError as err:
                raise load.fault(err.errno, f"Switchover start failed: -{err.errno}", old=[]) from None
    elif command == s.MIG_CMD_PACKAGED:
        return await _packaged(load)
    elif command == s.MIG_CMD_ENABLE_COLO:
        _enable_colo(load, length)
    else:
        return await _postcopy(load, command, length)
    return False


async def _packaged(load: LoadVM) -> bool:
    size = await load.f.take_uint(4)
    if size > _MAX_PACKAGE:
        raise load.fault(errno.EINVAL, f"Unreasonably large packaged state: {size}")
    package = await load.f.take(size)
    if len(package) < size:
        text = f"CMD_PACKAGED: Buffer receive fail ret={len(package)} length={size}"
        raise load.fault(errno.EAGAIN, text)
    load.vm.trace("loadvm_handle_cmd_packaged_received", ret=len(package))
    await load.fault_point("loadvm_handle_cmd_packaged_received", length=size)
    inside = QEMUFile.over(package)
    inside.faults = load.vm.faults
    quits = await load.over(inside).sections()
    load.vm.trace("loadvm_handle_cmd_packaged_main", ret=int(quits))
    return quits


def _enable_colo(load: LoadVM, length: int) -> None:
    if load.vm.compat.migration_error_chain:
        raise load.fault(errno.EINVAL, f"MIG_CMD 0x{s.MIG_CMD_ENABLE_COLO:x} deprecated (len 0x{length:x})")
    if load.vm.migration.options.on("x-colo"):
        from fakeqemu.migration.colo_secondary import init_copies

        load.is_for_colo = True
        try:
            init_copies(load.vm)
        except StreamError as err:
            raise load.fault(err.errno, err.desc) from None
        return
    text = "ENABLE_COLO command come in migration stream, but x-colo capability is not set"
    raise load.fault(errno.EINVAL, text)


async def _postcopy(load: LoadVM, command: int, length: int) -> bool:
    """Commands of postcopy: refused as QEMU refuses them where there is none."""
    if command == s.MIG_CMD_POSTCOPY_ADVISE:
        await _advise(load, length)
        return False
    postcopy = load.postcopy
    if command == s.MIG_CMD_POSTCOPY_RESUME:
        if postcopy is None or not await postcopy.resume():
            warning = "warning: " if load.vm.compat.migration_error_chain else ""
            load.vm.error_report(f"{warning}loadvm_postcopy_handle_resume: illegal resume received")
        return False
    if command == s.MIG_CMD_RECV_BITMAP:
        await _recv_bitmap(load, length)
        return False
    if postcopy is None:
        raise load.fault(errno.EPERM, f"CMD_{s.COMMANDS[command][0]} in wrong postcopy state (0)")
    if command == s.MIG_CMD_POSTCOPY_RAM_DISCARD:
        await postcopy.discard(load, length)
        return False
    if command == s.MIG_CMD_POSTCOPY_LISTEN:
        await postcopy.listen(load)
        return False
    await postcopy.run(load)
    return True


async def _advise(load: LoadVM, length: int) -> None:
    enabled = load.vm.migration.options.on("postcopy-ram")
    if load.postcopy is not None:
        raise load.fault(errno.EPERM, f"CMD_POSTCOPY_ADVISE in wrong postcopy state ({load.postcopy.phase})")
    if length not in (0, _PAGE_SIZES_LENGTH):
        raise load.fault(errno.EINVAL, f"CMD_POSTCOPY_ADVISE invalid length ({length})")
    if enabled == (length == 0):
        word = "enabled" if enabled else "disabled"
        raise load.fault(errno.EINVAL, f"RAM postcopy is {word} but have {length} byte advise")
    if not enabled:
        return
    userfault.advise(load)
    await _check_page_sizes(load)
    userfault.empty(load)
    incoming = load.vm.migration.incoming
    if incoming is not None:
        from fakeqemu.migration.postcopy_load import PostcopyIncoming

        load.postcopy = incoming.postcopy = PostcopyIncoming(incoming, load)


async def _recv_bitmap(load: LoadVM, length: int) -> None:
    f = load.f
    data = await f.take(size := await f.take_uint(1))
    if not size or len(data) < size:
        text = "failed to read block name"
        raise load.fault(errno.EINVAL, text, old=[f"loadvm_handle_recv_bitmap: {text}"])
    if length != size + 1:
        text = f"invalid payload length ({length})"
        raise load.fault(errno.EINVAL, text, old=[f"loadvm_handle_recv_bitmap: {text}"])
    name = c_string(data)
    for block in load.vm.ram_blocks:
        if block.idstr == name:
            break
    else:
        text = f"block '{name}' not found"
        raise load.fault(errno.EINVAL, text, old=[f"loadvm_handle_recv_bitmap: {text}"])
    load.vm.trace("loadvm_handle_recv_bitmap", block_name=name)
    await load.fault_point("loadvm_handle_recv_bitmap", block_name=name)
    if load.postcopy is None or not await load.postcopy.send_bitmap(block):
        load.vm.error_report("migrate_send_rp_recv_bitmap: MSG_RP_RECV_BITMAP only used for recovery")


async def _check_page_sizes(load: LoadVM) -> None:
    remote = await load.f.take_uint(8)
    remote_target = await load.f.take_uint(8)
    local = 0
    for block in load.vm.ram_blocks:
        local |= block.page_size
    if remote != local:
        raise load.fault(errno.EPERM, f"Postcopy needs matching RAM page sizes (s={remote:x} d={local:x})")
    if remote_target != _PAGE_SIZE:
        sent = s.signed32(remote_target & 0xFFFFFFFF)
        raise load.fault(errno.EPERM, f"Postcopy needs matching target page sizes (s={sent} d={_PAGE_SIZE})")
