# SPDX-License-Identifier: MIT
"""Multifd channels of a file in which every page has its place (mapped-ram): each has a description of the file of its own.

    source       packet of pages ── round robin ──► mig/src/send_N ── pwrite at the pages' places
    destination  main task reads bitmaps ── job: where, how much ── round robin ──► mig/dst/recv_N ── pread ── memory

Nothing but pages goes over them: no first packet, no headers, no SYNC; a barrier only waits until all are done. With
direct-io their descriptions bypass the cache of the host (the main channel's does not): then memory, size and place of
each transfer are multiples of a page.

QEMU: migration/file.c, migration/multifd.c (multifd_recv), migration/multifd-nocomp.c
"""

from __future__ import annotations

import os

from fakeqemu.error import QemuError, StreamError
from fakeqemu.migration import channel as channels
from fakeqemu.migration.multifd import LATCHED, Payload, Scheduler, SendChannel
from fakeqemu.migration.multifd_recv import MultiFDRecv
from fakeqemu.migration.stream.multifd_packet import PACKET_PAGES
from fakeqemu.migration.stream.qemu_file import FILE, strerror
from fakeqemu.migration.stream.ram_page import TARGET_PAGE_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.host.channel import Channel
    from fakeqemu.host.sync import Task
    from fakeqemu.system.machine import Machine
    from fakeqemu.system.ramblock import RAMBlock

#: what a destination reads in one go
LOAD_PAGES = 256


def _open(vm: Machine, address: dict[str, Any], flags: int, name: str) -> Channel:
    if vm.migration.options.get("direct-io"):
        flags |= os.O_DIRECT
    return channels.open_further(vm, address, flags, name)


def _aligned(pages: int) -> memoryview:
    """Memory that begins with a page, as O_DIRECT wants it."""
    import mmap

    return memoryview(mmap.mmap(-1, pages * TARGET_PAGE_SIZE))


class FileSendChannel(SendChannel):
    """A description of the file, and the pages that wait for it."""

    __slots__ = ("_buffer",)

    kind = FILE

    async def _open(self, address: dict[str, Any]) -> Channel:
        vm = self._multifd.vm
        channel = _open(vm, address, os.O_WRONLY, "migration-file-outgoing")
        self._buffer = _aligned(PACKET_PAGES) if vm.migration.options.get("direct-io") else None
        return channel

    async def _introduce(self) -> None:
        """A file needs no first packet."""

    async def _send(self, payload: Payload) -> None:
        """QEMU: file_write_ramblock_iov"""
        multifd, channel = self._multifd, self._channel
        assert channel is not None
        await multifd.vm.faults.pass_through("fake_file_write_ramblock_iov", id=self._id)
        for (first, n), data in zip(payload.normal, payload.data, strict=True):
            size = n * TARGET_PAGE_SIZE
            if self._buffer is not None:
                self._buffer[:size] = data
                data = self._buffer[:size]
            await channel.write_at(payload.pages_offset + first * TARGET_PAGE_SIZE, data)
            multifd.stats.multifd_bytes += size

    async def _send_sync(self) -> None:
        """What was handed over before is written by now."""


class Job:
    """Pages of a block, and where they lie in the file."""

    __slots__ = ("block", "first", "n", "offset")

    def __init__(self, block: RAMBlock, first: int, n: int, offset: int) -> None:
        self.block = block
        self.first = first
        self.n = n
        self.offset = offset


class FileRecvChannel:
    """A description of the file, and the job that waits for it."""

    __slots__ = ("_buffer", "_multifd", "_number", "_wake", "channel", "job", "task")

    def __init__(self, multifd: MultiFDFileRecv, number: int, channel: Channel) -> None:
        self._multifd = multifd
        self._number = number
        self._buffer = _aligned(LOAD_PAGES)
        self._wake: Any = None
        self.channel = channel
        self.job: Job | None = None
        self.task: Task | None = None

    def wake(self) -> None:
        """Something is to be done: look."""
        if self._wake is not None:
            self._wake.set_result()

    async def run(self) -> None:
        """The task `mig/dst/recv_N`."""
        multifd = self._multifd
        multifd.vm.trace("multifd_recv_thread_start", id=self._number)
        packets = 0
        try:
            while not multifd.ending:
                if self.job is None:
                    self._wake = multifd.vm.host.future()
                    await self._wake
                    self._wake = None
                    continue
                await self._do(self.job)
                packets += 1
                self.job = None
                multifd.changed()
        except StreamError as err:
            multifd.fail(err)
        except OSError as err:  # of the memory's file
            multifd.fail(StreamError(f"multifd {self._number}: {err.strerror}"))
        finally:
            multifd.vm.trace("multifd_recv_thread_end", id=self._number, packets=packets)

    async def _do(self, job: Job) -> None:
        """QEMU: multifd_file_recv_data"""
        wanted = job.n * TARGET_PAGE_SIZE
        try:
            self._multifd.vm.faults.check("fake_multifd_file_recv_data", id=self._number)
            found = await self.channel.read_at_into(job.offset, self._buffer[:wanted])
        except (OSError, OverflowError) as err:
            number = err.errno if isinstance(err, OSError) else None
            raise StreamError(self._short(-1, wanted) + f"Unable to read from {FILE}: {strerror(number)}") from None
        if found != wanted:
            raise StreamError(self._short(found, wanted))
        job.block.write_pages(job.first, self._buffer[:wanted])

    def _short(self, found: int, wanted: int) -> str:
        return f"multifd recv ({self._number}): read 0x{found & 0xFFFFFFFFFFFFFFFF:x}, expected 0x{wanted:x}"


class MultiFDFileRecv(MultiFDRecv):
    """All channels of an incoming migration that comes from a file; the main task hands out what is to be read."""

    __slots__ = ("_address", "_readers", "_scheduler")

    def __init__(self, vm: Machine, address: dict[str, Any]) -> None:
        """Open the file for each channel; raises QemuError, and then none is open."""
        super().__init__(vm)
        self._address = address
        self._readers: list[FileRecvChannel] = []
        latched = vm.compat.migration_multifd_count_read == LATCHED
        self._scheduler = Scheduler(self._count, latched=latched)
        try:
            for number in range(self._count):
                channel = _open(vm, address, os.O_RDONLY, "migration-file-incoming")
                self._readers.append(FileRecvChannel(self, number, channel))
        except QemuError:
            self._close()
            raise

    def start(self) -> None:
        """The main channel is there too: the tasks may begin."""
        for number, one in enumerate(self._readers):
            self.vm.trace("multifd_recv_new_channel", channel=number)
            one.task = self.vm.migration.start(one.run(), f"mig/dst/recv_{number}")

    def abandon(self) -> None:
        self._close()

    @property
    def complete(self) -> bool:
        return True

    async def load(self, block: RAMBlock, first: int, n: int, offset: int) -> None:
        """Have `n` pages read from `offset`, as soon as a channel is idle; raises StreamError when one has failed.

        QEMU: multifd_recv
        """
        while not any(one.job is None for one in self._readers):
            self._check()
            await self._changed.wait()
        self._check()
        one = self._readers[self._scheduler.pick(lambda i: self._readers[i].job is None)]
        one.job = Job(block, first, n, offset)
        one.wake()

    async def sync(self) -> None:
        """Wait until all jobs are done; raises StreamError."""
        for i in self._scheduler.everyone():
            self.vm.trace("multifd_recv_sync_main_wait", id=i)
            while self._readers[i].job is not None:
                self._check()
                await self._changed.wait()
        self._check()

    def _check(self) -> None:
        if self.error is not None or self.ending:
            raise StreamError("")

    def shutdown(self) -> None:
        self.ending = True
        for one in self._readers:
            one.wake()
        self.changed()

    def yank(self) -> None:
        """A file has no other side to be cut off from."""

    async def cleanup(self) -> None:
        if not self.ending:
            self.shutdown()
        for one in self._readers:
            if one.task is not None:
                await one.task.wait()
        if self._readers:
            self.vm.trace("fake_multifd_count_reads", reads=self._scheduler.count_reads)
        self._close()

    def _close(self) -> None:
        readers, self._readers = self._readers, []
        for one in readers:
            channels.close(self.vm, self._address, one.channel)
