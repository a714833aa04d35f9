# SPDX-License-Identifier: MIT
"""Devices without their RAM, to a file and back, as Xen's toolstack does it.

The file is a stream of FULL sections alone, without configuration and description. It is loaded as any stream is, so that
QEMU refuses its own files, for the configuration that they lack; and ends with an abort of the process in any case, for
which an error stands here.

QEMU: qmp_xen_save_devices_state and qmp_xen_load_devices_state in migration/savevm.c
"""

from __future__ import annotations

import os

from fakeqemu.error import QemuError
from fakeqemu.migration.savevm import SaveVM, assemble, globals_of
from fakeqemu.migration.stream import section
from fakeqemu.migration.stream.qemu_file import FILE, QEMUFile
from fakeqemu.system import runstate as rs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.host.channel import Channel
    from fakeqemu.system.machine import Machine


async def save(vm: Machine, filename: str) -> None:
    """Stop the guest, write its devices, let it go on; raises QemuError. Call with the BQL held."""
    assemble(vm)
    was_running = vm.runstate.running
    await vm.runstate.vm_stop(rs.SAVE_VM)
    _store_running(vm)
    try:
        channel = _open(vm, filename, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, "create")
        try:
            f = QEMUFile(channel, FILE)
            section.put_header(f)
            await SaveVM(vm, f).save_devices()
            f.put_byte(section.QEMU_VM_EOF)
            await f.flush()
        except QemuError as err:
            raise QemuError(f"saving Xen device state failed: {err.desc}") from None
        finally:
            channel.close()
    finally:
        if was_running:
            await vm.runstate.vm_start()


def _store_running(vm: Machine) -> None:
    """What is loaded elsewhere is to run, whatever the guest does here."""
    state = globals_of(vm)
    state.store()
    state.size = len(rs.RUNNING) + 1
    state.runstate = rs.RUNNING.encode().ljust(len(state.runstate), b"\0")


async def load(vm: Machine, filename: str) -> None:
    """Read devices into a guest that does not run; raises QemuError."""
    if vm.runstate.running:
        raise QemuError("Cannot update device state while vm is running")
    from fakeqemu.migration.loadvm import LoadFault, LoadVM

    channel = _open(vm, filename, os.O_RDONLY, "open")
    load = LoadVM(vm, QEMUFile(channel, FILE), _no_return_path)
    try:
        await load.run()
    except LoadFault as fault:
        reason = f": {fault.desc}" if vm.compat.migration_error_chain else ""
        raise QemuError(f"loading Xen device state failed{reason}") from None
    finally:
        await load.cleanup()
        channel.close()


async def _no_return_path(_kind: int, _data: bytes) -> None:
    raise QemuError("a file has no return path")


def _open(vm: Machine, filename: str, flags: int, verb: str) -> Channel:
    try:
        return vm.host.open_channel(filename, flags, 0o660, name="migration-xen-save-state")
    except OSError as err:
        words = f"Could not {verb} '{filename}'" if vm.compat.migration_file_words else f"Unable to open {filename}"
        raise QemuError(f"{words}: {os.strerror(err.errno or 0)}") from None
