# SPDX-License-Identifier: MIT
"""The destination's side of a migration, from `migrate-incoming` to the guest that runs here.

    listen ─ setup ─ connection ─ active ─ load ─┬─ guest started ─ completed ─ SHUT 0
                                                 └─ failed ─ SHUT 1 ─ the process ends, unless exit-on-error is false

QEMU: migration/migration.c (process_incoming_migration_co, process_incoming_migration_bh)
"""

from __future__ import annotations

import errno
import os

from fakeqemu.error import QemuError, StreamError
from fakeqemu.migration import channel as channels
from fakeqemu.migration import multifd, transport
from fakeqemu.migration import state as st
from fakeqemu.migration.stream.multifd_packet import MULTIFD_MAGIC
from fakeqemu.migration.stream.qemu_file import SOCKET, channel_error
from fakeqemu.migration.stream.section import QEMU_VM_FILE_MAGIC
from fakeqemu.system import runstate as rs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fakeqemu.host.channel import Channel, Listener
    from fakeqemu.migration.loadvm import LoadVM
    from fakeqemu.migration.multifd_recv import MultiFDRecv
    from fakeqemu.migration.postcopy_load import PostcopyIncoming
    from fakeqemu.migration.postcopy_preempt_load import PreemptRecv
    from fakeqemu.migration.state import Migration
    from fakeqemu.migration.stream.qemu_file import QEMUFile
    from fakeqemu.migration.tls import Handshake

_MAGIC_SIZE = 4
#: what a connection may be for
_MAIN = "main"
_MULTIFD = "multifd"
#: statuses in which the channel of postcopy-preempt may come
_PREEMPT_STATES = (st.SETUP, st.ACTIVE, st.POSTCOPY_DEVICE, st.POSTCOPY_ACTIVE)


class Incoming:
    """One destination: it has one try."""

    __slots__ = (
        "_address",
        "_channel", "_error", "_extra", "_f", "_has_failed", "_listener", "_load", "_mig", "_vm", "accepted", "exit_on_error",
        "handshakes", "listening", "multifd", "postcopy", "preempt", "state",
    )  # fmt: skip

    def __init__(self, mig: Migration) -> None:
        self._mig = mig
        self._vm = mig.vm
        self.state = st.NONE
        self.exit_on_error = True
        #: whether an address was taken: from then on there is no other
        self.accepted = False
        self.listening = False
        self._error: QemuError | None = None
        self._has_failed = False
        self._address: dict[str, Any] = {}
        self._listener: Listener | None = None
        self._channel: Channel | None = None
        #: connections that came while the first one was looked at
        self._extra: list[Channel] = []
        #: of connections whose two sides have not agreed yet
        self.handshakes: list[Handshake] = []
        self._f: QEMUFile | None = None
        self._load: LoadVM | None = None
        #: channels for pages beside the main one
        self.multifd: MultiFDRecv | None = None
        #: the channel for pages that somebody waits for
        self.preempt: PreemptRecv | None = None
        #: set when the source says that it may turn to postcopy
        self.postcopy: PostcopyIncoming | None = None

    @property
    def f(self) -> QEMUFile | None:
        """The main channel's file, once there is one."""
        return self._f

    def set_state(self, new: str, *, always_told: bool = False) -> None:
        """Move to `new`; older releases tell of `setup` with or without the capability `events`."""
        assert new in st.INCOMING_TRANSITIONS[self.state], f"incoming migration status {self.state} -> {new}"
        self.state = new
        self._mig.announce(new, always=always_told)

    def query(self) -> dict[str, Any]:
        """The destination's members of query-migrate."""
        info: dict[str, Any] = {}
        shown = self.state not in (st.NONE, st.SETUP) or (
            self.state == st.SETUP and self._vm.compat.migration_incoming_setup_status
        )
        if shown:
            info["status"] = self.state
        if self._listener is not None:
            info["socket-address"] = [self._listener.address()]
        if self._error is not None:
            info["error-desc"] = self._error.desc
        if self.state == st.COMPLETED and self.postcopy is not None and self.postcopy.blocktime is not None:
            info.update(self.postcopy.blocktime.report())
        return info

    @property
    def has_listener(self) -> bool:
        """Whether connections are waited for: a file, a program or a descriptor is there at once."""
        return self._listener is not None

    # --- connections ----------------------------------------------------------------------------------

    def listen(self, address: dict[str, Any]) -> None:
        """Wait for the source; raises QemuError."""
        if multifd.wanted(self._vm):
            from fakeqemu.migration import multifd_recv

            self.multifd = multifd_recv.expect(self._vm, address)
        if self._mig.options.on("postcopy-preempt"):
            from fakeqemu.migration.postcopy_preempt_load import PreemptRecv

            self.preempt = PreemptRecv(self._vm)
        try:
            self._listener = channels.listen(self._vm, address, self._on_channel)
        except QemuError:
            if self.multifd is not None:
                self.multifd.abandon()
            raise
        self._address = address
        self.accepted = self.listening = True
        self._vm.yank.register_instance(st.YANK_INSTANCE)
        self._vm.yank.register_function(st.YANK_INSTANCE, self._yank)

    def _on_channel(self, channel: Channel) -> None:
        waits = self._channel is None or (self.multifd is not None and not self.multifd.complete)
        if not waits and self.preempt is not None and self.preempt.wanted and self.state in _PREEMPT_STATES:
            self.preempt.add(channel)
            if self._vm.compat.migration_preempt_early:  # later releases may still look at what the first one is
                self._mig.start(self._process_when_ready(), "mig/dst/main")
            return
        if not waits or self.state != st.SETUP:
            self._extra.append(channel)
            if self.state != st.SETUP or self.multifd is not None:
                self._ignore_extra()
            return
        if self.multifd is None:
            self._channel = channel
        elif self._listener is not None:
            self._listener.pause()  # one after the other: what this one is decides about the next
        self._mig.start(self._take_in(channel), "mig/dst/main")

    def _ignore_extra(self) -> None:
        """QEMU comes to further connections when it knows what the first one is."""
        extra, self._extra = self._extra, []
        for channel in extra:
            self._vm.error_report("socket_accept_incoming_migration: Extra incoming migration connection; ignoring")
            channel.close()

    async def _take_in(self, channel: Channel) -> None:
        """Find out what a connection is for; load when all are there."""
        is_pipe = channel.is_pipe and self._address["transport"] != "file"
        if is_pipe and channel.can_peek and not await channel.peek(1):
            return  # QEMU waits for input, and the end of a pipe is none: it stays in setup (seen on 11.1.2)
        kind = await self._identify(channel)
        self._ignore_extra()
        if kind is None:
            await self._refuse(channel, None)
            return
        if kind == _MULTIFD:
            from fakeqemu.migration.multifd_recv import BadChannel

            assert self.multifd is not None
            try:
                await self.multifd.add(channel)
            except BadChannel as err:
                self._vm.error_report(err.line)
                if self._vm.compat.migration_multifd_init_fatal:
                    await self._refuse(channel, err.desc or None)
                    return
                channel.close()
        else:
            self._channel = channel
        if self._listener is not None:
            self._listener.resume()
        await self._process_when_ready()

    async def _process_when_ready(self) -> None:
        """Load when all connections are there that the release wants for it, and it has not begun."""
        early = self.preempt is not None and self._vm.compat.migration_preempt_early
        if self._channel is None or (early and self.preempt is not None and self.preempt.wanted):
            return
        if (self.multifd is None or self.multifd.complete) and self.state == st.SETUP:
            await self._process(self._channel)

    async def refuse(self, channel: Channel) -> None:
        """A connection came, and there is nothing that it could be used with."""
        if self.state == st.SETUP:
            await self._refuse(channel, None)
        else:
            channel.close()

    async def _refuse(self, channel: Channel, desc: str | None) -> None:
        """A connection was no good, which ends the migration before it began to load."""
        if desc is not None:
            self._error = QemuError(desc)
        self.set_state(st.FAILED)
        channel.close()
        if self.multifd is not None:
            await self.multifd.cleanup()
        if self.preempt is not None:
            await self.preempt.close()
        if self._listener is not None:
            self._listener.resume()
        if self._channel is not None:
            self._channel.close()
        self._unregister_yank()
        if self.exit_on_error:
            self._exit()

    async def _process(self, channel: Channel) -> None:
        from fakeqemu.migration.loadvm import LoadFault, LoadVM
        from fakeqemu.migration.stream.qemu_file import QEMUFile

        f = self._f = QEMUFile(channel, channels.kind_of(self._address, channel))
        f.faults = self._vm.faults
        load = self._load = LoadVM(self._vm, f, self._send)
        if load.is_for_colo:
            from fakeqemu.migration.colo_secondary import init_copies

            try:
                init_copies(self._vm)
            except StreamError as err:
                await self._not_begun(QemuError(f"failed to init colo RAM cache: -1: {err.desc}"))
                return
        self.set_state(st.ACTIVE)
        if self.multifd is not None:
            self.multifd.start()
        try:
            await load.run()
        except LoadFault as fault:
            await self.failed(fault.errno, fault.desc)
        except QemuError as err:
            await self.failed(errno.EINVAL, err.desc)
        except Exception as err:  # a bug of ours: said loudly, and the source hears of it
            self._vm.report_bug(err, "mig/dst/main")
            await self.failed(errno.EINVAL, f"Internal error: {err!r}")
        else:
            if self.postcopy is not None and self.postcopy.took_over:
                return
            if load.is_for_colo:
                from fakeqemu.migration.colo_secondary import ColoSecondary

                await ColoSecondary(self, load).run()
            else:
                await self._loaded(load)

    async def _not_begun(self, error: QemuError) -> None:
        """There is a connection, and what it takes to load from it is not there. The status stays `setup`."""
        self.keep_error(error)
        if self.multifd is not None:
            await self.multifd.cleanup()
        self._close()
        if self.exit_on_error:
            self._vm.error_report(error.desc)
            self._exit()

    async def _identify(self, channel: Channel) -> str | None:
        """What a connection is for, by its first bytes where this release looks at them; None for nothing we know.

        QEMU: migration_channel_identify
        """
        compat = self._vm.compat
        by_order = _MAIN if self._channel is None or self.multifd is None else _MULTIFD
        looks = compat.migration_peek_magic or (self.multifd is not None and compat.migration_multifd_peek)
        if not looks or not channel.is_socket or not channel.can_peek:
            return by_order
        try:
            await self._vm.faults.pass_through("migration_set_incoming_channel")
            magic = await channel.peek(_MAGIC_SIZE)
        except OSError as err:
            self._vm.error_report(channel_error(f"Unable to read from {SOCKET}", err))
            return None
        if len(magic) < _MAGIC_SIZE:
            self._vm.error_report("Failed to peek at channel")
            return None
        number = int.from_bytes(magic, "big")
        if number == QEMU_VM_FILE_MAGIC:
            return _MAIN
        if self.multifd is not None and (number == MULTIFD_MAGIC or not compat.migration_peek_magic):
            return _MULTIFD
        self._vm.error_report(f"unknown channel magic: {number}")
        return None

    async def _send(self, kind: int, data: bytes) -> None:
        from fakeqemu.migration.stream import return_path as rp

        assert self._channel is not None
        await self._channel.write(rp.message(kind, data))

    # --- the end --------------------------------------------------------------------------------------

    async def _loaded(self, load: LoadVM) -> None:
        """Everything has come: start the guest, or leave it as it was there."""
        from fakeqemu.migration.savevm import globals_of

        vm = self._vm
        async with vm.bql:
            vm.trace("vmstate_downtime_checkpoint", checkpoint="dst-precopy-bh-enter")
            wanted = globals_of(vm).next_state
            if wanted not in rs.TRANSITIONS[rs.INMIGRATE] and wanted != rs.INMIGRATE:
                # QEMU aborts here.
                text = f"invalid runstate transition: '{rs.INMIGRATE}' -> '{wanted}'"
                vm.error_report(text)
                await self.failed(errno.EINVAL, text)
                return
            vm.announcer.announce_incoming()
            vm.trace("vmstate_downtime_checkpoint", checkpoint="dst-precopy-bh-announced")
            await self._cleanup(load)
            await self.start_guest(wanted)
            vm.trace("vmstate_downtime_checkpoint", checkpoint="dst-precopy-bh-vm-started")
        self.set_state(st.COMPLETED)
        await self._shut(load, 0 if load.complete else 1)
        self._close()

    async def loaded_postcopy(self, load: LoadVM) -> None:
        """All pages have come to a guest that runs already."""
        await self._cleanup(load)
        self.set_state(st.COMPLETED)
        await self._shut(load, 0)
        self._close()

    async def enter_colo(self, load: LoadVM) -> None:
        """(COLO) Everything has come for the first time; the connection stays."""
        self.set_state(st.COLO)
        await load.cleanup()  # other channels stay as well
        if not self._vm.compat.migration_colo_announced:
            await self._shut(load, 0)

    async def leave_colo(self) -> None:
        """(COLO) The guest goes on alone."""
        if self.multifd is not None:
            await self.multifd.cleanup()
        self._close()

    def disconnect(self) -> None:
        """(postcopy) The connection is broken: give it back."""
        assert self._channel is not None
        channels.close(self._vm, self._address, self._channel)

    def listen_again(self, uri: str, on_channel: Callable[[Channel], None]) -> None:
        """(postcopy) Wait for the source at another address; raises QemuError."""
        address = channels.resolve(self._vm.compat, uri, None)
        transport.check(self._vm, address)
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self._listener = channels.listen(self._vm, address, on_channel)
        self._address = address

    def reconnect(self, channel: Channel) -> QEMUFile:
        """(postcopy) Go on over this connection."""
        from fakeqemu.migration.stream.qemu_file import QEMUFile

        self._channel = channel
        self._f = QEMUFile(channel, channels.kind_of(self._address, channel))
        return self._f

    async def send_raw(self, data: bytes) -> None:
        """(postcopy) Bytes that belong to the last message."""
        assert self._channel is not None
        await self._channel.write(data)

    def break_off(self) -> None:
        """Break the connection: whoever reads from it goes on with an error."""
        self._yank()

    async def start_guest(self, wanted: str) -> None:
        """Let the guest go on, or leave it as it was there."""
        state = self._vm.runstate
        goes_on = (rs.RUNNING, rs.SUSPENDED) if self._vm.compat.migration_globalstate_suspended else (rs.RUNNING,)
        if wanted not in goes_on:
            state.set(wanted)
        elif not state.autostart:
            state.set(rs.PAUSED)
        else:
            await state.vm_start()

    async def failed(self, number: int, chain: str) -> None:
        vm = self._vm
        assert self._load is not None
        if self._has_failed:  # a package and the pages behind it are loaded side by side
            return
        self._has_failed = True
        text = f"load of migration failed: {os.strerror(number)}"
        if vm.compat.migration_error_chain and chain:
            text += f": {chain}"
        vm.trace("migrate_error", error_desc=text)
        if vm.compat.migration_exit_on_error:
            self.keep_error(QemuError(text))
            assert self._error is not None
            text = self._error.desc
        await self._cleanup(self._load)
        self._stop_listening()  # who hears of the failure, finds nobody listening
        self.set_state(st.FAILED)
        if vm.compat.migration_exit_on_error:
            await self._shut(self._load, 1)
        self._close()
        if self.exit_on_error:
            vm.error_report(text)
            self._exit()

    def keep_error(self, error: QemuError) -> None:
        """Keep what went wrong; the first error stays, and is what the load fails with."""
        if self._error is None:
            self._error = error

    async def _cleanup(self, load: LoadVM) -> None:
        if self.multifd is not None:
            await self.multifd.cleanup()
        if self.postcopy is not None:
            self.postcopy.cleanup()
        if self.preempt is not None:
            await self.preempt.close()
        await load.cleanup()

    async def _shut(self, load: LoadVM, value: int) -> None:
        """The last word to the source, where it listens."""
        from fakeqemu.migration.stream import return_path as rp

        if load.return_path_open:
            await load.send(rp.MIG_RP_MSG_SHUT, value.to_bytes(4, "big"))
            if value:
                await self._vm.host.turn()  # the source hears this before it finds the connection gone

    def _exit(self) -> None:
        """The process ends with status 1, without a word to monitors."""
        vm = self._vm
        vm.exit_status = 1
        if not vm.quit_requested:
            vm.quit_requested = True
            vm.host.call_soon(lambda: vm.on_shutdown.notify("host-error"))

    def _unregister_yank(self) -> None:
        self._vm.yank.unregister_function(st.YANK_INSTANCE, self._yank)
        self._vm.yank.unregister_instance(st.YANK_INSTANCE)

    def _yank(self) -> None:
        if self._channel is not None:
            self._channel.shutdown()
        if self.multifd is not None:
            self.multifd.yank()
        if self.preempt is not None:
            self.preempt.shutdown()

    def _close(self) -> None:
        if self._channel is not None:
            channels.close(self._vm, self._address, self._channel)
        self._stop_listening()
        for handshake in self.handshakes:
            handshake.break_off()
        self._unregister_yank()

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self.listening = False

    def close(self) -> None:
        """The process ends. The listening socket goes with the host, and its file stays, as with QEMU."""
        if self._channel is not None:
            self._channel.close()
