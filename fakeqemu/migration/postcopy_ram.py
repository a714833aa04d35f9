# SPDX-License-Identifier: MIT
"""The source's side of postcopy: the guest leaves first, its memory follows.

    migrate-start-postcopy ─ stop ─ DISCARD what changed since it was sent ─ PACKAGED { LISTEN, FULL ..., RUN } ─┐
    ┌────────────────────────────────────────────────────────────────────────────────────────────────────────────┘
    └─ PART: pages, those first that the destination asks for (REQ_PAGES) ─ END, EOF ─ SHUT ─ completed
         │ the link breaks
         └─ postcopy-paused ─ migrate resume=true ─ bitmaps ─ RESUME ─ PART ...         (postcopy_recover)

Until the destination's word that the package was loaded (where the release waits for it, as postcopy-device) the guest may
still go on here when something fails. From then on it cannot: whatever fails pauses the migration.

QEMU: postcopy_start and migration_completion_postcopy in migration/migration.c, ram_postcopy_send_discard_bitmap
"""

from __future__ import annotations

from struct import Struct

from fakeqemu.error import QemuError
from fakeqemu.migration import state as st
from fakeqemu.migration.outgoing import GivenUp
from fakeqemu.migration.postcopy_recover import SourceRecovery
from fakeqemu.migration.savevm import SaveVM
from fakeqemu.migration.stream import section
from fakeqemu.migration.stream.qemu_file import QEMUFile
from fakeqemu.migration.stream.ram_page import TARGET_PAGE_BITS, TARGET_PAGE_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.migration.outgoing import Outgoing
    from fakeqemu.migration.ram import RAMHandlers
    from fakeqemu.system.machine import Machine
    from fakeqemu.system.ramblock import RAMBlock

#: ranges in one DISCARD
MAX_DISCARDS_PER_COMMAND = 12
#: the PING whose PONG says that the package was loaded
PING_PACKAGED_LOADED = 0x42

_RANGE = Struct(">QQ")


def advise_payload(vm: Machine) -> bytes:
    """What POSTCOPY_ADVISE says: all page sizes of the RAM, and the target's."""
    sizes = 0
    for block in vm.ram_blocks:
        sizes |= block.page_size
    return _RANGE.pack(sizes, TARGET_PAGE_SIZE)


class PostcopySource:
    """Postcopy of one outgoing migration, from the switch on."""

    __slots__ = ("_ended", "_outgoing", "_package_loaded", "_ram", "_said_loaded", "_savevm", "_vm", "recovery")

    def __init__(self, outgoing: Outgoing, savevm: SaveVM, ram: RAMHandlers) -> None:
        self._outgoing = outgoing
        self._savevm = savevm
        self._ram = ram
        self._vm = outgoing.vm
        self._package_loaded = outgoing.vm.host.event()
        self._said_loaded = False
        #: everything was sent, and without the destination's last word the migration has failed
        self._ended = False
        self.recovery = SourceRecovery(outgoing, ram)

    # --- the story ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """From the switch to the destination's last word. Raises as precopy does while the guest can still go on here."""
        await self._start()
        while True:
            try:
                await self._stream()
            except (QemuError, GivenUp) as err:
                mig = self._outgoing.mig
                if mig.state == st.POSTCOPY_DEVICE and self._said_loaded:  # the guest runs there: it cannot go on here
                    self._guest_runs_there()
                if mig.state in (st.POSTCOPY_DEVICE, st.CANCELLING):
                    raise
                if self._ended:  # both run then: seen on 10.0.13 and 11.1.2
                    self._outgoing.switchover.guest_left = False
                    raise
                await self.recovery.pause(err if isinstance(err, QemuError) else None)
                await self.recovery.wait_until_resumed()
            else:
                break
        self._outgoing.check_cancelled()
        if self._outgoing.mig.options.on("release-ram"):
            self._release_private()
        stats = self._outgoing.mig.stats
        if not stats.downtime_ms:
            stats.end_downtime(self._vm.host.clock.now_ns())

    async def _start(self) -> None:
        """Stop the guest and put everything that its other half needs to run.

        QEMU: postcopy_start
        """
        outgoing, vm, mig = self._outgoing, self._vm, self._outgoing.mig
        if outgoing.return_path is not None and outgoing.return_path.failed:
            raise outgoing.failure_of_return_path()  # nobody would tell that the guest runs there
        if outgoing.preempt is not None:
            await outgoing.preempt.main_answered()
            await outgoing.preempt.establish("postcopy_start: Failed to establish preempt channel")
        if vm.compat.migration_postcopy_prepare:
            await self._savevm.prepare_postcopy()
        vm.trace("postcopy_start")
        await vm.faults.pass_through("postcopy_start")
        outgoing.check()
        active_first = vm.compat.migration_postcopy_active_first
        if active_first:
            mig.set_state(st.POSTCOPY_ACTIVE)
        await outgoing.switchover.stop_guest()
        f = outgoing.f
        assert f is not None
        self._savevm.put_switchover_start()
        await self._savevm.complete_iterable(postcopy=True)
        self._ram.enter_postcopy()
        self._put_discards(f)
        section.put_command(f, section.MIG_CMD_PING, (2).to_bytes(4, "big"))
        package = await self._package()
        outgoing.check()
        vm.trace("postcopy_start_set_run")
        if not active_first:
            waits = vm.compat.migration_postcopy_device_state
            mig.set_state(st.POSTCOPY_DEVICE if waits else st.POSTCOPY_ACTIVE)
        outgoing.rate.open(vm.host.clock.now_ns())
        vm.trace("qemu_savevm_send_packaged")
        await vm.faults.pass_through("qemu_savevm_send_packaged")
        section.put_command(f, section.MIG_CMD_PACKAGED, len(package).to_bytes(4, "big"))
        f.put_buffer(package)
        mig.stats.package_bytes += len(package)
        section.put_command(f, section.MIG_CMD_PING, (4).to_bytes(4, "big"))
        await f.flush()
        outgoing.switchover.guest_left = mig.state == st.POSTCOPY_ACTIVE
        mig.stats.end_downtime(vm.host.clock.now_ns())
        vm.trace("vmstate_downtime_checkpoint", checkpoint="src-downtime-end")
        if mig.options.on("release-ram"):
            self._release_sent()

    def _release_sent(self) -> None:
        """(release-ram) What the destination has is not kept here. QEMU: ram_postcopy_migrated_memory_release"""
        for block, runs in self._ram.dirty_runs():
            at = 0
            for first, n in [*runs, (block.pages, 0)]:
                block.zero_pages(at, first - at)
                at = first + n

    def _release_private(self) -> None:
        """(release-ram) All has gone. Of memory that others may see, QEMU only lets its own mapping go."""
        for block, _ in self._ram.dirty_runs():
            if not block.share:
                block.zero_pages(0, block.pages)

    def _put_discards(self, f: QEMUFile) -> None:
        """Tell which of the pages that were sent are stale by now. QEMU: ram_postcopy_send_discard_bitmap"""
        self._vm.trace("ram_postcopy_send_discard_bitmap")
        for block, runs in self._ram.dirty_runs():
            ranges = list(runs)
            name = block.idstr.encode()
            for at in range(0, len(ranges), MAX_DISCARDS_PER_COMMAND):
                payload = bytearray((0, len(name))) + name + b"\0"
                for first, n in ranges[at : at + MAX_DISCARDS_PER_COMMAND]:
                    payload += _RANGE.pack(first << TARGET_PAGE_BITS, n << TARGET_PAGE_BITS)
                section.put_command(f, section.MIG_CMD_POSTCOPY_RAM_DISCARD, bytes(payload))

    async def _package(self) -> bytes:
        """All device state in one piece, so that the destination can load it while pages come behind."""
        blob = QEMUFile()
        section.put_command(blob, section.MIG_CMD_POSTCOPY_LISTEN)
        await SaveVM(self._vm, blob).save_devices()
        section.put_command(blob, section.MIG_CMD_PING, (3).to_bytes(4, "big"))
        if self._vm.compat.migration_postcopy_device_state:
            section.put_command(blob, section.MIG_CMD_PING, PING_PACKAGED_LOADED.to_bytes(4, "big"))
        section.put_command(blob, section.MIG_CMD_POSTCOPY_RUN)
        return blob.getvalue()

    async def _stream(self) -> None:
        """Send what is left, requested pages first, and wait for the destination's last word."""
        outgoing, rate = self._outgoing, self._outgoing.rate
        while self._more_parts():
            self._notice_loaded()
            await outgoing.save_parts(rate.exceeded, postcopy=True)
            rate.measure()
            if rate.exceeded():
                await outgoing.wait_until(rate.window_end_ns)
            else:
                await outgoing.turn()
                outgoing.check()
        if outgoing.mig.state == st.POSTCOPY_DEVICE:
            await self._package_loaded.wait()
            outgoing.check()
            self._notice_loaded()
        self._vm.trace("migration_completion_postcopy_end")
        await self._vm.faults.pass_through("migration_completion_postcopy_end")
        await self._savevm.complete_postcopy()
        if outgoing.preempt is not None:
            await outgoing.preempt.end()
        outgoing.check()
        assert outgoing.return_path is not None
        self._ended = self._vm.compat.migration_postcopy_last_word
        await outgoing.return_path.finish()
        self._vm.trace("migration_completion_postcopy_end_after_complete")

    def _more_parts(self) -> bool:
        """Whether more is left than goes into END, for which there is no limit of the bandwidth."""
        left = self._ram.remaining_pages
        if self._vm.compat.migration_postcopy_ends_empty:
            return left > 0
        return left > 0 and left * TARGET_PAGE_SIZE >= self._outgoing.rate.threshold_bytes()

    def _notice_loaded(self) -> None:
        mig = self._outgoing.mig
        if mig.state == st.POSTCOPY_DEVICE and self._package_loaded.is_set:
            if self._outgoing.return_path is not None and self._outgoing.return_path.failed:
                raise self._outgoing.failure_of_return_path()
            self._guest_runs_there()

    def _guest_runs_there(self) -> None:
        self._outgoing.mig.set_state(st.POSTCOPY_ACTIVE)
        self._outgoing.switchover.guest_left = True

    # --- the destination's messages -------------------------------------------------------------------

    def pong(self, value: int) -> None:
        """A PONG has come."""
        if value == PING_PACKAGED_LOADED:
            self._vm.trace("source_return_path_thread_postcopy_package_loaded")
            self._said_loaded = True
            self._package_loaded.set()

    def lost(self) -> None:
        """The return path has ended with an error: nobody is to wait for what it would have said."""
        self._package_loaded.set()
        self.recovery.lost()

    async def requested(self, block: RAMBlock, first: int, n: int) -> None:
        """The destination waits for these pages; raises QemuError."""
        if self._outgoing.preempt is None or self._outgoing.preempt.early:
            # QEMU does not wake for it when the limit is reached: it is first in the next window.
            self._ram.request(block, first, n)
        else:
            await self._ram.send_urgent(block, first, n)

    # --- commands -------------------------------------------------------------------------------------

    def resume(self, address: dict[str, Any]) -> None:
        """`migrate` with resume; raises QemuError when the channel cannot be opened at once."""
        self.recovery.resume(address)
