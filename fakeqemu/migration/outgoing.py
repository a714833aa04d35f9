# SPDX-License-Identifier: MIT
"""The source's side of a migration, from `migrate` to `completed`.

    checks ─ setup ─ connect ─ header ─ START ─ active ─┬─ PART, PART, ...          passes while the guest runs
                                                        └─ low enough? ─ stop ─ END ─ FULL ─ (return path) ─ completed

The loop steps by events: the end of a pass, the end of a window of the bandwidth limit, a command, a fault. Whatever goes
wrong ends in `give_up`: first error kept, status failed or cancelled, guest running again where it ran.

QEMU: migration/migration.c (migration_thread)
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.host.sync import Cancelled
from fakeqemu.migration import channel as channels
from fakeqemu.migration import multifd
from fakeqemu.migration import state as st
from fakeqemu.migration.giving_up import close, give_up, report_broken_off
from fakeqemu.migration.multifd import MultiFDSend
from fakeqemu.migration.ram import RAMHandlers
from fakeqemu.migration.rate import RateWindow
from fakeqemu.migration.register import PRECOPY_DONE, PRECOPY_SETUP
from fakeqemu.migration.return_path import ReturnPath
from fakeqemu.migration.savevm import RAM, SaveVM
from fakeqemu.migration.stats import INT64_MAX
from fakeqemu.migration.stream import section
from fakeqemu.migration.stream.qemu_file import QEMUFile
from fakeqemu.migration.switchover import Switchover
from fakeqemu.migration.switchover_ack import SwitchoverAck
from fakeqemu.system import runstate as rs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fakeqemu.host.channel import Channel
    from fakeqemu.host.sync import Future, Task
    from fakeqemu.migration.postcopy_preempt import PreemptSend
    from fakeqemu.migration.postcopy_ram import PostcopySource
    from fakeqemu.migration.register import Pending
    from fakeqemu.migration.state import Migration
    from fakeqemu.system.machine import Machine

#: statuses in which the failure of a channel is told before the main task tells it
_SAID_BY_CHANNELS = (st.SETUP, st.ACTIVE, st.PRE_SWITCHOVER, st.DEVICE)

# What the loop does next.
_ITERATE, _COMPLETE, _POSTCOPY = "iterate", "complete", "postcopy"

#: what an empty PART puts: nothing was there to send
_EMPTY_PART_BYTES = 64


class GivenUp(Exception):
    """The migration ends, and there is no error to keep: migrate_cancel, or one that was only printed."""


class _Unsaid(GivenUp):
    """The return path has failed in a release that keeps no error of it."""


class Outgoing:
    """One outgoing migration."""

    __slots__ = (
        "_connecting", "_kick", "_ram", "_task", "address", "f", "mig", "multifd", "postcopy", "preempt", "rate",
        "return_path", "savevm", "switchover", "switchover_ack", "told_failed_in", "vm",
    )  # fmt: skip

    def __init__(self, vm: Machine) -> None:
        self.vm = vm
        self.mig: Migration = vm.migration
        self.f: QEMUFile | None = None
        self.address: dict[str, Any] = {}
        self._connecting = False
        self._task: Task | None = None
        #: what is written; set when the channel is there
        self.savevm: SaveVM | None = None
        self.return_path: ReturnPath | None = None
        #: channels for pages beside the main one
        self.multifd: MultiFDSend | None = None
        #: a channel for pages that the destination waits for
        self.preempt: PreemptSend | None = None
        #: the second half of a migration whose guest leaves first
        self.postcopy: PostcopySource | None = None
        self.switchover = Switchover(self)
        self.switchover_ack = SwitchoverAck(vm)
        #: (before 11.0) the status in which a channel failed, as long as that is not over
        self.told_failed_in = ""
        #: ends a wait of the loop early
        self._kick: Future | None = None
        model = vm.fake.get("ram") == "model"
        self.rate = RateWindow(self, model=model)
        self._ram = self._ram_handlers(model=model)

    def _ram_handlers(self, *, model: bool) -> RAMHandlers:
        if not model:
            return RAMHandlers(self)
        from fakeqemu.migration.ram_model import ModelRAMHandlers

        return ModelRAMHandlers(self)

    # --- beginning ------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A new migration is set up: counters and error of the last one are forgotten."""
        mig = self.mig
        mig.clear_error()
        mig.outgoing = self
        mig.continue_event.clear()
        mig.postcopy_wanted = False
        mig.stats.begin(self.vm.host.clock.now_ns(), mig.options.get("downtime-limit"))
        mig.set_state(st.SETUP)
        self.vm.yank.register_instance(st.YANK_INSTANCE)
        self.vm.yank.register_function(st.YANK_INSTANCE, self._yank)

    def start(self, address: dict[str, Any]) -> None:
        """Open the channel, now or in the background, and go; raises QemuError when it cannot be opened."""
        self.address = address
        if channels.is_background(address):
            self._task = self.mig.start(self._connect_and_run(), "mig/src/main")
        else:
            channel = channels.open_now(self.vm, address)
            self._task = self.mig.start(self._connect_and_run(channel), "mig/src/main")

    def refuse(self, error: QemuError | None) -> None:
        """The migration ends before it began to send; None for a reason that is not kept."""
        mig = self.mig
        if error is not None and not isinstance(error, channels.UnknownProtocol):
            mig.set_error(error)
        if mig.state == st.CANCELLING:
            mig.set_state(st.CANCELLED)
        elif mig.state != st.CANCELLED:
            if self.vm.compat.migration_failing_state:
                mig.set_state(st.FAILING)
            mig.set_state(st.FAILED)
        self.unregister_yank()

    async def _connect_and_run(self, opened: Channel | None = None) -> None:
        self._connecting = True
        try:
            if opened is None:
                channel = await channels.connect(self.vm, self.address)
                if self.mig.options.on("zero-copy-send") and self.address["type"] != "inet":
                    channel.close()
                    raise QemuError("Zero copy send feature not detected in host kernel")
            else:
                channel = await channels.secure(self.vm, self.address, opened)
        except QemuError as err:
            if not self.vm.compat.migration_failing_state:
                # What is opened at once fails in the command: printed without the program's name.
                (self.vm.error_report if opened is None else self.vm.host.log_plain)(err.desc)
                if err.hint:
                    self.vm.host.log_plain(err.hint)
            await self.turn()
            self.refuse(err)
            return
        except Cancelled:
            if self.mig.state == st.CANCELLING:
                self.mig.set_state(st.CANCELLED)
            elif self.mig.state != st.CANCELLED:
                raise
            self.unregister_yank()
            return
        finally:
            self._connecting = False
        await self._run_later(channel)

    async def _run_later(self, channel: Channel) -> None:
        await self.turn()  # the command is answered first
        await self._run(channel)

    async def turn(self) -> None:
        """Let others have their turn."""
        await self.vm.host.turn()

    # --- the story ------------------------------------------------------------------------------------

    async def _run(self, channel: Channel) -> None:
        """QEMU: migration_thread"""
        f = self.f = QEMUFile(channel, channels.kind_of(self.address, channel))
        self.savevm = SaveVM(self.vm, f)
        ram = self.vm.savevm.find(RAM, 0)
        assert ram is not None
        ram.handlers = self._ram
        stats = self.mig.stats
        stats.stream_bytes = lambda: f.flushed
        try:
            self.check()
            await self._setup(self.savevm)
            if self.mig.options.on("background-snapshot"):
                await self._run_snapshot(self.savevm)
            else:
                await self._run_passes(self.savevm)
        except GivenUp:
            await give_up(self, None)
        except QemuError as err:
            await give_up(self, err)
        except Exception as err:  # a bug of ours: said loudly, and the guest goes on all the same
            self.vm.report_bug(err, "mig/src/main")
            await give_up(self, QemuError(f"Internal error: {err!r}"))
        else:
            if self.mig.options.on("x-colo"):
                from fakeqemu.migration.colo_primary import ColoPrimary

                await ColoPrimary(self).run()
            else:
                await self._completed()

    async def _setup(self, savevm: SaveVM) -> None:
        assert self.f is not None
        await self.vm.faults.pass_through("migration_call_notifiers", event=PRECOPY_SETUP)
        await self.vm.savevm.notify(PRECOPY_SETUP)
        postcopy = self.mig.options.on("postcopy-ram")
        if self.mig.options.on("return-path") or postcopy:
            self.vm.faults.check("open_return_path_on_source")
            self.return_path = ReturnPath(self)
            self.return_path.open()
        if self.mig.options.on("postcopy-preempt"):
            from fakeqemu.migration.postcopy_preempt import PreemptSend

            self.preempt = PreemptSend(self)
            self.preempt.main_connected()
        if multifd.wanted(self.vm):
            self.multifd = MultiFDSend(self)
            await self.multifd.setup(self.address)
        savevm.put_header()
        if self.return_path is not None:
            savevm.put_command(section.MIG_CMD_OPEN_RETURN_PATH)
            savevm.put_command(section.MIG_CMD_PING, (1).to_bytes(4, "big"))
        if postcopy:
            from fakeqemu.migration.postcopy_ram import advise_payload

            savevm.put_command(section.MIG_CMD_POSTCOPY_ADVISE, advise_payload(self.vm))
        if self.mig.options.on("x-colo") and self.vm.compat.migration_colo_announced:
            savevm.put_command(section.MIG_CMD_ENABLE_COLO)
        failure: Exception | None = None
        try:
            await savevm.setup()
        except QemuError as err:
            failure = err
            if err is self.f.write_error and self.vm.compat.migration_setup_error_words:
                failure = QemuError("ram_save_setup failed: Input/output error")
            elif not self._is_kept(err):
                self.vm.error_report(err.desc)
                failure = GivenUp()
        stats = self.mig.stats
        now_ns = self.vm.host.clock.now_ns()
        stats.setup_ns = now_ns - stats.start_ns
        self.check_cancelled()
        if self.mig.state == st.SETUP:  # no channel has failed
            self.mig.set_state(st.ACTIVE)
        self.rate.open(now_ns)
        if failure is not None:
            raise failure
        self.vm.trace("migration_thread_setup_complete")

    async def _next_step(self, savevm: SaveVM) -> str:
        """Look at what is left: whether the rest can go while the guest is stopped, or after it has left.

        QEMU: migration_iteration_run
        """
        self.check_cancelled()
        compat, stats = self.vm.compat, self.mig.stats
        pending = savevm.pending_estimate()
        self.switchover_ack.asked(pending)
        stats.pending = pending.total
        threshold = self.rate.threshold_bytes()
        self._trace_pending(pending, threshold)
        before_stop = pending.total - pending.postcopy
        low = before_stop <= threshold if compat.migration_pending_equal else pending.total < threshold
        if low:
            pending = await savevm.pending_exact()
            self.switchover_ack.asked(pending)
            stats.pending = pending.total
            self._trace_pending(pending, threshold, exact=True)
            if compat.migration_expected_downtime_exact:
                bandwidth = self.rate.switchover_bandwidth()
                stats.expected_downtime_ms = pending.total // bandwidth if bandwidth else INT64_MAX
        if not self.switchover_ack.allows_switchover():
            return _ITERATE
        complete = pending.total == 0 or pending.total < threshold
        if complete:
            self.vm.trace("migration_thread_low_pending", pending=pending.total)
        wanted = self.mig.postcopy_wanted and pending.total - pending.postcopy <= threshold
        if wanted and (compat.migration_postcopy_first or not complete):
            return _POSTCOPY
        return _COMPLETE if complete else _ITERATE

    def _trace_pending(self, pending: Pending, threshold: int, *, exact: bool = False) -> None:
        """What a look at what is left has found, in the events that releases have for it."""
        trace, size, postcopy = self.vm.trace, pending.total, pending.postcopy
        if not exact:
            trace("migrate_pending", size=size, max=threshold, pre=size - postcopy, compat=0, post=postcopy)
        trace(
            "migrate_pending_exact" if exact else "migrate_pending_estimate",
            size=size,
            pre=size - postcopy,
            post=postcopy,
        )
        trace(
            "qemu_savevm_query_pending", exact=exact, final=False, precopy=pending.precopy, stopcopy=pending.stopcopy,
            postcopy=postcopy, total=size, new_acks=pending.acks, all_acks=self.switchover_ack.pending,
        )  # fmt: skip

    async def _run_passes(self, savevm: SaveVM) -> None:
        while (step := await self._next_step(savevm)) == _ITERATE:
            await self._iterate()
        if step == _POSTCOPY:
            await self._run_postcopy(savevm)
            return
        try:
            await self.switchover.stop_guest()
            await self._complete(savevm)
        except QemuError:
            if self.vm.compat.migration_switchover_errors == "none":
                raise GivenUp from None
            raise

    def _is_kept(self, error: QemuError) -> bool:
        """Whether what a section's owner failed with becomes error-desc; that of a channel always does."""
        return self.vm.compat.migration_switchover_errors != "none" or error is self.f.write_error  # type: ignore[union-attr]

    async def _run_snapshot(self, savevm: SaveVM) -> None:
        from fakeqemu.migration.background_snapshot import BackgroundSnapshot

        await BackgroundSnapshot(self, self._ram).run(savevm)

    async def _run_postcopy(self, savevm: SaveVM) -> None:
        from fakeqemu.migration.postcopy_ram import PostcopySource

        self.postcopy = PostcopySource(self, savevm, self._ram)
        await self.postcopy.run()

    async def save_parts(self, exceeded: Callable[[], bool], *, postcopy: bool = False) -> bool:
        """One PART of those who have something to send; True when nobody has anything left. Raises QemuError."""
        assert self.savevm is not None
        try:
            finished = await self.savevm.iterate(exceeded, postcopy=postcopy)
        except QemuError as err:
            cancelled = self.mig.state == st.CANCELLING
            if cancelled:
                report_broken_off(self, err)
            number = -1 if self.multifd is not None and self.multifd.error is not None else -5
            if str(number) in self.vm.compat.migration_save_errors_printed.split():
                entry = self.savevm.iterating or self.vm.savevm.find(RAM, 0)
                assert entry is not None
                name = f"{entry.section_id}({entry.idstr})"
                self.vm.error_report(f"failed to save SaveStateEntry with id(name): {name}: {number}")
            if cancelled:
                raise GivenUp from None
            raise
        self.check()
        return finished

    async def _iterate(self) -> None:
        before = self.rate.bytes_sent()
        try:
            await self.save_parts(self.rate.exceeded)
        except QemuError as err:
            if not self._is_kept(err):
                raise GivenUp from None
            raise
        self.rate.measure()
        idle = self.rate.bytes_sent() - before <= _EMPTY_PART_BYTES
        if idle or self.rate.exceeded():
            await self.rate.next_window(idle=idle)
        else:
            await self.turn()

    async def _complete(self, savevm: SaveVM) -> None:
        assert self.f is not None
        says_where = self.vm.compat.migration_switchover_errors == "own"
        savevm.put_switchover_start()
        await savevm.complete_iterable("Failed to save iterable device state: " if says_where else "")
        try:
            first = self.vm.compat.migration_blocks_given_first
            await savevm.complete_non_iterable(None if first else self.switchover.give_blocks_away)
        except QemuError as err:
            if err is self.f.write_error and says_where:
                raise err.prefixed("Failed to flush QEMUFile: ") from None
            raise
        self.check()
        if self.return_path is not None:
            await self.return_path.finish()
        stats = self.mig.stats
        stats.end_downtime(self.vm.host.clock.now_ns())
        self.vm.trace("vmstate_downtime_checkpoint", checkpoint="src-downtime-end")
        self.check_cancelled()

    async def _completed(self) -> None:
        vm, mig = self.vm, self.mig
        assert self.savevm is not None
        mig.stats.complete(vm.host.clock.now_ns())
        mig.set_state(st.COMPLETED)
        async with vm.bql:
            if not mig.options.on("background-snapshot"):
                vm.runstate.set(rs.POSTMIGRATE)
            await self.savevm.cleanup()
            await vm.savevm.notify(PRECOPY_DONE)
        await close(self)

    # --- the end --------------------------------------------------------------------------------------

    def unregister_yank(self) -> None:
        """There is nothing to break any more."""
        self.vm.yank.unregister_function(st.YANK_INSTANCE, self._yank)
        self.vm.yank.unregister_instance(st.YANK_INSTANCE)

    def _yank(self) -> None:
        if self.f is not None:
            self.f.shutdown()
        if self.multifd is not None:
            self.multifd.yank()
        if self.preempt is not None:
            self.preempt.shutdown()

    def cancelled(self) -> None:
        """The status is `cancelling` now: make whatever waits go on."""
        if self._connecting and self._task is not None:
            self._task.cancel()
        if self.f is not None:
            self.f.shutdown()
        if self.multifd is not None:
            self.multifd.shutdown()
        if self.preempt is not None:
            self.preempt.shutdown()
        self.mig.continue_event.set()
        self.kick()

    def channel_failed(self, error: QemuError) -> None:
        """Break the main channel for this reason, unless there was one: another channel has broken, or `migrate-pause`."""
        self.mig.set_error(error)
        if self.mig.state in _SAID_BY_CHANNELS:
            if self.vm.compat.migration_failing_state:
                self.mig.set_state(st.FAILING)
            elif not self.told_failed_in:
                self.told_failed_in = self.mig.state
                self.mig.set_state(st.FAILED)
        # One half of a pair does not break with the other one: the next checkpoint finds out.
        if self.f is not None and self.mig.state != st.COLO:
            if self.f.write_error is None:
                self.f.write_error = error
            self.f.shutdown()
        self.kick()

    def check_cancelled(self) -> None:
        """Raise when migrate_cancel was there."""
        if self.mig.state == st.CANCELLING:
            raise GivenUp

    def check(self) -> None:
        """Raise what has gone wrong meanwhile; what the return path has found is looked at when all was sent."""
        self.check_cancelled()
        if self.f is not None and self.f.write_error is not None:
            raise self.f.write_error
        if self.preempt is not None:
            self.preempt.check()

    def failure_of_return_path(self) -> Exception:
        """What to raise when the return path has failed: its error, or none in releases that only print it."""
        if self.f is not None and self.f.write_error is not None:
            return self.f.write_error
        return self.mig.error or _Unsaid()

    # --- waiting --------------------------------------------------------------------------------------

    @property
    def remaining_pages(self) -> int:
        return self._ram.remaining_pages

    async def wait_until(self, deadline_ns: int) -> None:
        """Wait for a time, or for `kick`; raises what has gone wrong meanwhile."""
        await self._wait_for_kick(deadline_ns)
        self.rate.measure()
        self.check()

    async def sleep_until(self, deadline_ns: int) -> None:
        """Wait for a time, or until a channel has failed."""
        assert self.f is not None
        while self.f.write_error is None and self.vm.host.clock.now_ns() < deadline_ns:
            await self._wait_for_kick(deadline_ns)

    async def _wait_for_kick(self, deadline_ns: int) -> None:
        self._kick = self.vm.host.future()
        timer = self.vm.host.clock.call_at(deadline_ns, self._kick.set_result)
        try:
            await self._kick
        finally:
            timer.cancel()
            self._kick = None

    def kick(self) -> None:
        """Something changed: whoever waits for a time looks again."""
        if self._kick is not None:
            self._kick.set_result()
