# SPDX-License-Identifier: MIT
"""The destination's multifd channels: each has a task that reads packets and puts their pages in place.

    connection ── first bytes ──┬─ QEVM: the main channel                 (incoming)
                                └─ 11223344: first packet, id ──► mig/dst/recv_id

Loading begins when the main channel and all others are there. A barrier (`sync`) lets the main task wait until every channel
has come to its SYNC packet, and holds a channel there until all have.

An error of a packet is kept and breaks the channels; the source hears of it, and when the main channel ends because of
that, the load fails with the error that was kept. Where the main task waits in a barrier just then, it fails at once:
QEMU waits for ever.

QEMU: migration/multifd.c (multifd_recv*)
"""

from __future__ import annotations

from fakeqemu.error import QemuError, StreamError
from fakeqemu.migration import multifd, multifd_compress, multifd_ram
from fakeqemu.migration.stream import multifd_packet as mp
from fakeqemu.migration.stream.qemu_file import READ_SIZE, SOCKET, channel_error
from fakeqemu.migration.stream.ram_page import TARGET_PAGE_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fakeqemu.host.channel import Channel
    from fakeqemu.host.sync import Task
    from fakeqemu.system.machine import Machine

_UNEXPECTED_END = "Unexpected end-of-file before all data were read"
_END_AFTER_HEADER = "multifd: unexpected EOF after packet header"


class Reader:
    """Bytes of one channel, in pieces whose sizes are known."""

    __slots__ = ("_channel", "_rest")

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        #: what was read ahead
        self._rest = b""

    async def take(self, size: int, *, ahead: int = 0, may_end: bool = False, words: str = _UNEXPECTED_END) -> bytes:
        """Exactly `size` bytes; b"" at the end when it `may_end` here. Raises StreamError: with `words` when not one is there.

        Up to `ahead` bytes are read in the same call when they are there already. Memory is taken for what comes, not for what
        is announced.
        """
        parts = [self._rest[:size]] if self._rest else []
        self._rest = self._rest[size:]
        missing = size - sum(map(len, parts))
        while missing > 0:
            try:
                chunk = await self._channel.read(min(max(missing, ahead), READ_SIZE))
            except OSError as err:
                raise StreamError(channel_error(f"Unable to read from {SOCKET}", err)) from None
            if not chunk:
                if may_end and not parts:
                    return b""
                raise StreamError(_UNEXPECTED_END if parts else words)
            if len(chunk) > missing:
                self._rest = chunk[missing:]
                chunk = chunk[:missing]
            parts.append(chunk)
            missing -= len(chunk)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def fill(self, buffer: memoryview) -> None:
        """Exactly as many bytes as the buffer has; raises StreamError."""
        found = len(self._rest[: len(buffer)])
        buffer[:found] = self._rest[:found]
        self._rest = self._rest[found:]
        while found < len(buffer):
            try:
                count = await self._channel.read_into(buffer[found:])
            except OSError as err:
                raise StreamError(channel_error(f"Unable to read from {SOCKET}", err)) from None
            if not count:
                raise StreamError(_UNEXPECTED_END)
            found += count


class BadChannel(StreamError):
    """A connection that cannot become a channel. `line` is what is printed of it."""

    def __init__(self, desc: str, line: str) -> None:
        super().__init__(desc)
        self.line = line


class RecvChannel:
    """One connection and its task."""

    __slots__ = (
        "_buffer",
        "_compression",
        "_multifd",
        "_reader",
        "_released",
        "at_sync",
        "channel",
        "ended",
        "number",
        "task",
    )

    def __init__(self, multifd: MultiFDRecv, number: int, channel: Channel) -> None:
        self._multifd = multifd
        self.number = number
        self.channel = channel
        self._reader = Reader(channel)
        self._compression = multifd_compress.compression(multifd.vm.migration.options, sending=False)
        self._released = multifd.vm.host.event()
        #: what travels with a packet's header comes here
        self._buffer = bytearray()
        #: it has read a SYNC packet and waits
        self.at_sync = False
        #: its connection has ended
        self.ended = False
        self.task: Task | None = None

    async def run(self) -> None:
        """The task `mig/dst/recv_N`."""
        vm = self._multifd.vm
        vm.trace("multifd_recv_thread_start", id=self.number)
        packets = 0
        try:
            while await self._packet():
                packets += 1
        except StreamError as err:
            self._multifd.fail(err)
        except OSError as err:  # of the memory's file
            self._multifd.fail(StreamError(f"multifd {self.number}: {err.strerror}"))
        finally:
            self.ended = True
            self._multifd.changed()
            vm.trace("multifd_recv_thread_end", id=self.number, packets=packets)

    async def _packet(self) -> bool:
        """Read a packet and do what it says; False at the end. Raises StreamError."""
        vm = self._multifd.vm
        early = vm.compat.migration_multifd_packet_words == "early"
        head = await self._reader.take(mp.HEADER.size, ahead=mp.RAM_PACKET_SIZE, may_end=True)
        if not head:
            return False
        flags = mp.check_header(head, early_words=early)
        if flags & mp.MULTIFD_FLAG_DEVICE_STATE and vm.compat.migration_multifd_device_state:
            await self._device_state(head, flags)
            return True
        rest = await self._reader.take(mp.RAM_PACKET_SIZE - len(head), words=_END_AFTER_HEADER)
        packet = mp.parse_ram(head + rest, early_words=early)
        vm.trace(
            "multifd_recv_unfill", id=self.number, packet_num=packet.number, flags=flags,
            next_packet_size=packet.next_packet_size,
        )  # fmt: skip
        vm.faults.check("multifd_recv_unfill", id=self.number, packet_num=packet.number)
        if packet.normal or packet.zero:
            await self._pages(packet)
        if flags & mp.MULTIFD_FLAG_SYNC:
            await self._sync()
        return True

    async def _pages(self, packet: mp.RamPacket) -> None:
        multifd_ram.find_block(self._multifd.vm, packet)
        method = packet.flags & mp.MULTIFD_FLAG_COMPRESSION_MASK
        if method != self._compression.flag:
            raise StreamError(
                f"multifd {self.number}: flags received {method:x} flags expected {self._compression.flag:x}"
            )  # fmt: skip
        size = packet.normal_pages * TARGET_PAGE_SIZE
        data: bytes | memoryview = b""
        if size:
            wire_size = self._compression.wire_size(packet.next_packet_size, size, self.number)
            if len(self._buffer) < wire_size:
                self._buffer = bytearray(wire_size)
            wire = memoryview(self._buffer)[:wire_size]
            await self._reader.fill(wire)
            self._compression.check_unpack(self._multifd.vm, self.number)
            data = self._compression.unpack(wire, size, self.number)
        self._multifd.place(self._multifd.vm, packet, data)

    async def _device_state(self, head: bytes, flags: int) -> None:
        rest = await self._reader.take(mp.DEVICE_PACKET_SIZE - len(head))
        packet = mp.parse_device(head + rest)
        data = await self._reader.take(packet.next_packet_size)
        await self._multifd.load_device_state(packet, data)
        if flags & mp.MULTIFD_FLAG_SYNC:
            raise StreamError("multifd: received SYNC device state packet")

    async def _sync(self) -> None:
        """Wait until all channels are here and the main task goes on."""
        self._multifd.vm.trace("multifd_recv_sync_main_signal", id=self.number)
        self.at_sync = True
        self._multifd.changed()
        while self.at_sync and not self._multifd.ending:
            await self._released.wait()
            self._released.clear()

    def release(self) -> None:
        """The barrier opens."""
        self.at_sync = False
        self._released.set()

    def shutdown(self) -> None:
        self.channel.shutdown()
        self._released.set()

    def close(self) -> None:
        self.channel.close()


class MultiFDRecv:
    """All channels of one incoming migration."""

    __slots__ = ("_changed", "_channels", "_count", "ending", "error", "on_failure", "place", "vm")

    def __init__(self, vm: Machine) -> None:
        self.vm = vm
        #: read once: what is set meanwhile is for the next migration
        self._count: int = vm.migration.options.get("multifd-channels")
        self._channels: dict[int, RecvChannel] = {}
        self._changed = vm.host.event()
        self.ending = False
        #: the first thing that went wrong
        self.error: StreamError | None = None
        #: puts the pages of a packet where they belong
        self.place: Callable[[Machine, mp.RamPacket, bytes | memoryview], None] = multifd_ram.place
        #: called then, by whom it holds up
        self.on_failure: Callable[[], None] | None = None

    @property
    def complete(self) -> bool:
        """Whether all channels are there."""
        return len(self._channels) == self._count

    def start(self) -> None:
        """All connections are there: loading begins."""

    def abandon(self) -> None:
        """Nobody will come."""

    async def add(self, channel: Channel) -> None:
        """Read a connection's first packet and start its task; raises BadChannel.

        QEMU: multifd_recv_new_channel
        """
        vm = self.vm
        if not channel.can_peek:
            from fakeqemu.migration import tls

            tls.relax_end(vm, channel)
        if not self._channels:
            self._check_setup()
        try:
            data = await Reader(channel).take(mp.INIT_SIZE)
            vm.faults.check("multifd_recv_new_channel")
            channel_id = mp.parse_init(
                data, vm.uuid or bytes(16), self._count, id_words=vm.compat.migration_multifd_id_words
            )
        except StreamError as err:
            line = f"failed to receive packet via multifd channel {len(self._channels)}: {err.desc}"
            raise self._bad(err.desc, line) from None
        if channel_id in self._channels:
            desc = f"multifd: received id '{channel_id}' already setup'"
            raise self._bad(desc, desc)
        vm.trace("multifd_recv_new_channel", channel=channel_id)
        channel.name = f"migration-multifd-recv-{channel_id}"
        one = self._channels[channel_id] = RecvChannel(self, channel_id, channel)
        one.task = vm.migration.start(one.run(), f"mig/dst/recv_{channel_id}")

    def _check_setup(self) -> None:
        """What unpacks is there; raises BadChannel, whose words are only printed.

        QEMU: MultiFDMethods.recv_setup
        """
        unpacks = multifd_compress.compression(self.vm.migration.options, sending=False)
        for number in range(self._count):
            try:
                unpacks.check_load_setup(self.vm, number)
            except StreamError as err:
                raise BadChannel("", err.desc) from None

    def _bad(self, desc: str, line: str) -> BadChannel:
        bad = BadChannel(desc, line)
        if self.error is None:
            self.error = bad
        return bad

    async def sync(self) -> None:
        """Wait until every channel has come to its next SYNC, then let all go on; raises StreamError.

        QEMU: multifd_recv_sync_main
        """
        for one in self._channels.values():
            self.vm.trace("multifd_recv_sync_main_wait", id=one.number)
            while not one.at_sync:
                if self.error is not None or one.ended:
                    raise StreamError("")
                await self._changed.wait()
        for one in self._channels.values():
            one.release()

    async def load_device_state(self, packet: mp.DevicePacket, data: bytes) -> None:
        """Hand a part of a device's state to its owner; raises StreamError."""
        from fakeqemu.migration import multifd_device_state

        await multifd_device_state.load(self.vm, packet.idstr, packet.instance_id, data)

    def changed(self) -> None:
        self._changed.set()
        self._changed.clear()

    def fail(self, error: StreamError) -> None:
        """A channel has met an error: keep the first, break all."""
        if self.error is None and not self.ending:
            self.error = error
            incoming = self.vm.migration.incoming
            if incoming is not None and self.vm.compat.migration_exit_on_error:
                incoming.keep_error(QemuError(error.desc))
            if self.on_failure is not None:
                self.on_failure()
        self.shutdown()

    def shutdown(self) -> None:
        """Break all connections and open the barrier; tasks end."""
        self.ending = True
        for one in self._channels.values():
            one.shutdown()
        self.changed()

    def yank(self) -> None:
        """Break all connections: tasks find them at their end."""
        for one in self._channels.values():
            one.channel.shutdown()

    async def cleanup(self) -> None:
        """Wait for all tasks and close; what has not been read by now is not wanted.

        QEMU: multifd_recv_cleanup
        """
        self.shutdown()
        for one in list(self._channels.values()):
            if one.task is not None:
                await one.task.wait()
            one.close()


def expect(vm: Machine, address: dict[str, Any]) -> MultiFDRecv:
    """What takes the pages of a migration from there; raises QemuError."""
    if not multifd.to_file(vm):
        return MultiFDRecv(vm)
    from fakeqemu.migration.multifd_file import MultiFDFileRecv

    return MultiFDFileRecv(vm, address)
