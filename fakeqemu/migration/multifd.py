# SPDX-License-Identifier: MIT
"""The source's multifd channels: N connections beside the main one, each with a task that sends a packet at a time.

    RAM (multifd_ram), devices ── send() ──► next idle channel, round robin ──► mig/src/send_0 ... mig/src/send_N-1
                                  sync() ──► a SYNC packet on each: what was sent before is in place before what comes after

Who takes the next packet: from the channel after the one that took the last, the first that is idle. Where that stands
outlives a migration, and the next one may have fewer channels. QEMU reads the parameter multifd-channels again and again on
the way, though a change while a migration runs breaks it. Here it is the number of channels that were opened; whether that is
latched, or read wherever it is needed, compat.migration_multifd_count_read says, and `Scheduler.count_reads` how often it was.

The first error of any channel ends the migration: it is kept, all channels and the main one are broken, and `cleanup` waits
for every task.

QEMU: migration/multifd.c (multifd_send*)
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.host.sync import Cancelled
from fakeqemu.migration import channel as channels
from fakeqemu.migration import multifd_compress
from fakeqemu.migration.stream import multifd_packet as mp
from fakeqemu.migration.stream.multifd_packet import RamPacket
from fakeqemu.migration.stream.qemu_file import SOCKET, channel_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from fakeqemu.host.channel import Channel
    from fakeqemu.host.sync import Task
    from fakeqemu.migration.outgoing import Outgoing
    from fakeqemu.system.machine import Machine

    Buffers = Sequence[bytes | memoryview]

LATCHED = "latched"


def wanted(vm: Machine) -> bool:
    """Whether a migration has channels of its own for its pages."""
    return vm.migration.options.on("multifd")


def to_file(vm: Machine) -> bool:
    """Whether the channels put pages to their places in a file: without packets, and so without words of their own."""
    return vm.migration.options.on("mapped-ram")


def flushes_each_section(vm: Machine) -> bool:
    """Whether every section of the RAM ends with a barrier, and no word in the stream asks for one."""
    if not vm.compat.migration_multifd_flush_word:
        return True
    return bool(vm.migration.settings.get("multifd-flush-after-each-section"))


class Scheduler:
    """Which channel takes a packet, and how often the number of channels was read to find out."""

    __slots__ = ("_latched", "channels", "count_reads", "next")

    def __init__(self, channels: int, *, position: int = 0, latched: bool = True) -> None:
        """`position`: where an earlier migration stopped, which may have had more channels."""
        self.channels = channels
        self.next = position
        self.count_reads = 0
        self._latched = latched

    def _read_count(self) -> int:
        """The number of channels, read at one of the places where it is needed."""
        self.count_reads += 1
        return self.channels

    def pick(self, idle: Callable[[int], bool]) -> int:
        """The first idle channel from `next` on; one must be.

        QEMU: multifd_send
        """
        n = self._read_count()
        channel = self.next % n
        for _ in range(self.channels):
            if idle(channel):
                self.next = (channel + 1) % (n if self._latched else self._read_count())
                return channel
            channel = (channel + 1) % (n if self._latched else self._read_count())
        raise AssertionError("no channel is idle")

    def everyone(self) -> range:
        """All channels, for a barrier: one loop asks them, a second one waits for them."""
        n = self._read_count()
        if not self._latched:
            seen = 0
            while seen < n:  # the rest of the first loop
                seen += 1
                n = self._read_count()
            seen = 0
            while seen < self._read_count():
                seen += 1
        return range(n)


class Payload:
    """The pages of one packet: of one block, at most PACKET_PAGES."""

    __slots__ = ("block", "data", "normal", "pages", "pages_offset", "zero")

    def __init__(self, block: str, pages_offset: int = 0) -> None:
        self.block = block
        #: where the block's pages begin in a file
        self.pages_offset = pages_offset
        self.pages = 0
        self.normal: list[tuple[int, int]] = []
        self.zero: list[tuple[int, int]] = []
        #: the bytes of the normal pages
        self.data: list[bytes | memoryview] = []


class DeviceState:
    """A part of a device's state, which travels in a packet of its own; `idstr` and `instance_id` are those of its section."""

    __slots__ = ("data", "idstr", "instance_id")

    def __init__(self, idstr: str, instance_id: int, data: bytes) -> None:
        assert data, "an empty part would be refused"
        self.idstr = idstr
        self.instance_id = instance_id
        self.data = data


class SendChannel:
    """One connection and the packet that waits for it."""

    __slots__ = (
        "_channel", "_compression", "_id", "_multifd", "_packets", "_pages", "_wake", "created", "has_sent_pages", "payload",
        "sync_wanted", "task",
    )  # fmt: skip

    #: how error texts call the channel
    kind = SOCKET

    def __init__(self, multifd: MultiFDSend, channel_id: int) -> None:
        self._multifd = multifd
        self._id = channel_id
        self._channel: Channel | None = None
        self._compression = multifd_compress.compression(multifd.vm.migration.options, sending=True)
        self._wake: Any = None
        #: what has gone out
        self._packets = self._pages = 0
        #: connected, and its first packet sent
        self.created = False
        self.payload: Payload | DeviceState | None = None
        self.sync_wanted = False
        #: whether bytes of pages went out since the last barrier
        self.has_sent_pages = False
        self.task: Task | None = None

    @property
    def idle(self) -> bool:
        return self.created and self.payload is None

    def wake(self) -> None:
        """Something is to be done: look."""
        if self._wake is not None:
            self._wake.set_result()

    async def run(self, address: dict[str, Any]) -> None:
        """The task `mig/src/send_N`."""
        multifd = self._multifd
        vm = multifd.vm
        vm.trace("multifd_send_thread_start", id=self._id)
        try:
            self._channel = await self._open(address)
            await self._introduce()
            self.created = True
            multifd.changed()
            await self._serve()
        except OSError as err:
            multifd.fail(QemuError(channel_error(f"Unable to write to {self.kind}", err)))
        except QemuError as err:
            multifd.fail(err)
        except Cancelled:
            if not multifd.ending:
                raise
        finally:
            vm.trace("multifd_send_thread_end", id=self._id, packets=self._packets, pages=self._pages)
            channel, self._channel = self._channel, None
            if channel is not None:
                try:
                    await self._goodbye(channel)
                finally:
                    channels.close(vm, address, channel)

    def check_setup(self) -> None:
        """What compresses is there; raises QemuError.

        QEMU: MultiFDMethods.send_setup
        """
        self._compression.check_setup(self._multifd.vm, self._id)

    async def _open(self, address: dict[str, Any]) -> Channel:
        """Connect; raises QemuError."""
        vm, name = self._multifd.vm, f"migration-multifd-send-{self._id}"
        shown = channels.shown_address(address)
        await vm.faults.pass_through("multifd_new_send_channel_async", id=self._id, address=shown)
        return await channels.connect(vm, address, name, further=channels.MULTIFD)

    async def _introduce(self) -> None:
        """Say who we are."""
        multifd = self._multifd
        assert self._channel is not None
        await multifd.vm.faults.pass_through("multifd_send_thread_start", id=self._id)
        first = mp.pack_init(multifd.vm.uuid or bytes(16), self._id)
        await self._channel.write(first)
        if multifd.vm.compat.migration_multifd_init_counted:
            multifd.stats.multifd_bytes += len(first)

    async def _goodbye(self, channel: Channel) -> None:
        """An encrypted channel ends with a word of its own."""
        if self.created and not channel.can_peek:
            from fakeqemu.migration import tls

            await tls.say_goodbye(self._multifd.vm, channel)

    async def _serve(self) -> None:
        multifd = self._multifd
        while not multifd.ending or (self.payload is not None and not multifd.broken):
            if self.payload is not None:
                if isinstance(self.payload, DeviceState):
                    await self._send_device_state(self.payload)
                else:
                    await self._send(self.payload)
                self.payload = None
                multifd.changed()
            elif self.sync_wanted:
                await self._send_sync()
                self.sync_wanted = False
                multifd.changed()
            else:
                self._wake = multifd.vm.host.future()
                await self._wake
                self._wake = None

    async def _send(self, payload: Payload) -> None:
        """QEMU: multifd_send_thread, multifd_send_fill_packet"""
        if payload.data:
            self._compression.check_pack(self._multifd.vm, self._id)
        data = self._compression.pack(payload.data) if payload.data else ()
        self.has_sent_pages = self.has_sent_pages or bool(payload.data)
        packet = RamPacket(
            self._compression.flag,
            number=self._multifd.next_number(),
            next_packet_size=sum(map(len, data)),
            block=payload.block,
            normal=payload.normal,
            zero=payload.zero,
        )
        await self._write(packet, data)

    async def _send_device_state(self, part: DeviceState) -> None:
        """QEMU: multifd_device_state_send_prepare"""
        multifd = self._multifd
        await multifd.vm.faults.pass_through("fake_multifd_device_state_send", id=self._id, idstr=part.idstr)
        packet = mp.DevicePacket(part.idstr, part.instance_id, len(part.data))
        assert self._channel is not None
        await self._channel.write(packet.pack(), part.data)
        self._packets += 1
        multifd.stats.multifd_bytes += mp.DEVICE_PACKET_SIZE + len(part.data)

    async def _send_sync(self) -> None:
        allocated = 0 if self._multifd.vm.compat.migration_multifd_sync_allocates_none else mp.PACKET_PAGES
        packet = RamPacket(mp.MULTIFD_FLAG_SYNC, allocated=allocated, number=self._multifd.next_number())
        await self._write(packet, ())

    async def _write(self, packet: RamPacket, data: Buffers) -> None:
        multifd, channel = self._multifd, self._channel
        assert channel is not None
        vm = multifd.vm
        vm.trace(
            "multifd_send_fill", id=self._id, packet_num=packet.number, flags=packet.flags,
            next_packet_size=packet.next_packet_size,
        )  # fmt: skip
        await vm.faults.pass_through("multifd_send_fill", id=self._id, packet_num=packet.number)
        await channel.write(packet.pack(), *data)
        self._packets += 1
        self._pages += packet.normal_pages
        multifd.stats.multifd_bytes += mp.RAM_PACKET_SIZE + packet.next_packet_size

    def shutdown(self) -> None:
        """Break the connection, made or in the making."""
        if self._channel is not None:
            self._channel.shutdown()
        elif self.task is not None:
            self.task.cancel()
        self.wake()


class MultiFDSend:
    """All channels of one outgoing migration."""

    __slots__ = (
        "_changed",
        "_channels",
        "_lock",
        "_number",
        "_outgoing",
        "broken",
        "ending",
        "error",
        "scheduler",
        "stats",
        "vm",
    )

    def __init__(self, outgoing: Outgoing) -> None:
        vm = self.vm = outgoing.vm
        self._outgoing = outgoing
        self.stats = outgoing.mig.stats
        self.scheduler = Scheduler(
            outgoing.mig.options.get("multifd-channels"),
            position=outgoing.mig.multifd_next_channel,
            latched=vm.compat.migration_multifd_count_read == LATCHED,
        )
        self._channels = [_kind_of_channel(vm)(self, i) for i in range(self.scheduler.channels)]
        self._changed = vm.host.event()
        self._lock = vm.host.lock()
        self._number = 0
        #: the channels are to stop, well or not; in the first case when what they have is sent
        self.ending = False
        self.broken = False
        self.error: QemuError | None = None

    async def setup(self, address: dict[str, Any]) -> None:
        """Connect all channels to where the main one went; raises QemuError.

        QEMU: multifd_send_setup
        """
        for i, channel in enumerate(self._channels):
            channel.task = self._outgoing.mig.start(channel.run(address), f"mig/src/send_{i}")
        for channel in self._channels:
            while not channel.created:
                await self._wait()
        for channel in self._channels:
            channel.check_setup()

    async def send(self, payload: Payload | DeviceState) -> None:
        """Hand a packet to a channel, as soon as one is idle; raises QemuError when one has failed."""
        async with self._lock:
            while not any(channel.idle for channel in self._channels):
                await self._wait()
            self._check()
            channel = self._channels[self.scheduler.pick(lambda i: self._channels[i].idle)]
            channel.payload = payload
            channel.wake()

    async def sync(self) -> None:
        """A SYNC packet on each channel, behind what was handed to it; returns when all are sent.

        QEMU: multifd_send_sync_main
        """
        self.vm.faults.check("multifd_send_sync_main")
        self.vm.trace("multifd_send_sync_main", packet_num=self._number)
        asked = [self._channels[i] for i in self.scheduler.everyone()]
        for i, channel in enumerate(asked):
            self.vm.trace("multifd_send_sync_main_signal", id=i)
            channel.sync_wanted = True
            channel.wake()
        for i, channel in enumerate(asked):
            self.vm.trace("multifd_send_sync_main_wait", id=i)
            while channel.sync_wanted:
                await self._wait()
        self._check()
        if self.vm.migration.options.on("zero-copy-send"):
            self._count_copies(asked)

    def _count_copies(self, channels: list[SendChannel]) -> None:
        """(zero-copy-send) Bytes to the same machine are copied all the same, which a flush of each channel finds out."""
        self.stats.missed_zero_copy += sum(channel.has_sent_pages for channel in channels)
        for channel in channels:
            channel.has_sent_pages = False

    def next_number(self) -> int:
        """The number of a packet, counted over all channels."""
        self._number += 1
        return self._number - 1

    def _check(self) -> None:
        if self.error is not None:
            raise self.error
        if self.ending:
            raise QemuError("Channel error: Input/output error")

    async def _wait(self) -> None:
        """Until some channel has got on; raises QemuError when one has failed."""
        self._check()
        await self._changed.wait()
        self._check()

    def changed(self) -> None:
        """A channel has got on: whoever waits for that looks again."""
        self._changed.set()
        self._changed.clear()

    # --- the end --------------------------------------------------------------------------------------

    def fail(self, error: QemuError) -> None:
        """A channel has met an error: the migration ends with the first one."""
        if self.ending:
            return
        self.error = error
        self._outgoing.channel_failed(error)
        self.shutdown()

    def shutdown(self) -> None:
        """Stop at once: break all connections."""
        self.ending = self.broken = True
        for channel in self._channels:
            channel.shutdown()
        self.changed()

    def yank(self) -> None:
        """Break all connections; what the tasks meet then is an error like any other."""
        for channel in self._channels:
            channel.shutdown()

    async def cleanup(self) -> None:
        """Stop when what was handed over is sent, and wait for all tasks."""
        self.ending = True
        self._outgoing.mig.multifd_next_channel = self.scheduler.next
        for channel in self._channels:
            channel.wake()
        for channel in self._channels:
            if channel.task is not None:
                await channel.task.wait()
        self.vm.trace("fake_multifd_count_reads", reads=self.scheduler.count_reads)


def _kind_of_channel(vm: Machine) -> type[SendChannel]:
    if not to_file(vm):
        return SendChannel
    from fakeqemu.migration.multifd_file import FileSendChannel

    return FileSendChannel
