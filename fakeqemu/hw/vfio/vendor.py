# SPDX-License-Identifier: MIT
"""The make-believe silicon behind a VFIO device, with its variant driver in the kernel.

A driver walks the arcs of `fsm`, each taking its latency on the host's clock, and keeps the two kinds of session:

    saving     pre-copy data: `initial` bytes once, then what the device dirties while it works; after the arc to
               STOP_COPY the rest of the state and the end
    loading    takes the bytes back; leaving RESUMING applies them, and bad or short data breaks the device there

The data is make-believe, but not arbitrary: a header names the kind of device and the state that travels, a trailer counts
and checks all bytes, so a destination that got anything else notices, and afterwards holds the source's state
(`internal`).

Failures come from the description of the device (`Arcs.failures`) or from the machine's fault points.

Linux: drivers/vfio/pci/mlx5, include/uapi/linux/vfio.h
"""

from __future__ import annotations

import errno
import os
import struct
from binascii import crc32

from fakeqemu.host.clock import NS_PER_S
from fakeqemu.host.sync import Future
from fakeqemu.hw.vfio import fsm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from random import Random

    from fakeqemu.host.host import Host
    from fakeqemu.system.machine import Machine

_HEADER = struct.Struct(">8sIIQQ")  # magic, version, kind of device, internal state, 0
_TRAILER = struct.Struct(">8sQIIQ")  # magic, bytes before it, their CRC, 0, 0
_HEADER_MAGIC = b"FAKEVFIO"
_TRAILER_MAGIC = b"FAKE-END"
_PATTERN_SIZE = 4096

#: a latency that never ends by itself; see `VendorDriver.release`
STUCK_NS = -1


def os_error(number: int) -> OSError:
    """The OSError that the kernel's answer -`number` becomes."""
    return OSError(number, os.strerror(number))


class DeviceBroken(OSError):
    """A failed arc after which the device is in ERROR, not where the last good arc ended."""


class Arcs:
    """How long arcs take and which ones fail; an arc is written `running>running-p2p`."""

    __slots__ = ("broken", "default_ns", "failures", "jitter", "latency_ns")

    def __init__(
        self,
        default_ns: int = 0,
        latency_ns: dict[str, int] | None = None,
        jitter: float = 0.0,
        failures: dict[str, int] | None = None,
        broken: tuple[str, ...] = (),
    ) -> None:
        self.default_ns = default_ns
        self.latency_ns = latency_ns or {}
        #: up to this fraction of a latency is added, drawn anew for each arc
        self.jitter = jitter
        #: arc -> errno
        self.failures = failures or {}
        #: failing arcs that leave the device in ERROR
        self.broken = broken


class MigrationFeatures:
    """What a device can do for migration. `flags` 0: it has no migration feature at all."""

    __slots__ = (
        "arcs",
        "dirty_bytes_per_s",
        "dma_logging",
        "errno",
        "flags",
        "initial_bytes",
        "precopy_v2",
        "stop_copy_bytes",
    )

    def __init__(
        self,
        flags: int = 0,
        *,
        precopy_v2: bool = False,
        dma_logging: bool = False,
        initial_bytes: int = 1 << 20,
        dirty_bytes_per_s: int = 0,
        stop_copy_bytes: int = 1 << 20,
        arcs: Arcs | None = None,
        query_errno: int = errno.ENOTTY,
    ) -> None:
        self.flags = flags
        self.precopy_v2 = precopy_v2
        self.dma_logging = dma_logging
        self.initial_bytes = initial_bytes
        self.dirty_bytes_per_s = dirty_bytes_per_s
        self.stop_copy_bytes = stop_copy_bytes
        self.arcs = arcs or Arcs()
        #: what asking a device without the feature gives: ENOTTY where the kernel knows nothing of it
        self.errno = query_errno


class DataSession:
    """A data descriptor, as QEMU holds it: for reading while saving, for writing while loading."""

    __slots__ = ("closed", "ended")

    def __init__(self) -> None:
        #: the device left the session; nothing more can be read or written
        self.ended = False
        #: the user gave the descriptor back
        self.closed = False

    def close(self) -> None:
        self.closed = True


class SavingSession(DataSession):
    """What a device says of itself, in order."""

    __slots__ = ("_crc", "_driver", "_final_left", "_out", "_produced", "_started_ns", "consumed_dirty", "initial_left")

    def __init__(self, driver: VendorDriver, *, final: bool) -> None:
        super().__init__()
        self._driver = driver
        self._out = b""  # header or trailer that waits to be read
        self._produced = 0
        self._crc = 0
        self._started_ns = driver.host.clock.now_ns()
        self._final_left: int | None = None
        self.consumed_dirty = 0
        self.initial_left = 0 if final else max(driver.features.initial_bytes, _HEADER.size)
        if final:
            self.finish()

    def dirty_left(self) -> int:
        """Bytes dirtied since the session began and not read yet; never more than the device holds."""
        features = self._driver.features
        elapsed = self._driver.host.clock.now_ns() - self._started_ns
        dirtied = elapsed * features.dirty_bytes_per_s // NS_PER_S
        ceiling = max(features.initial_bytes, features.stop_copy_bytes)
        return max(0, min(dirtied - self.consumed_dirty, ceiling))

    def finish(self) -> None:
        """The device has stopped: what is left is known now."""
        rest = self.initial_left + self.dirty_left() + self._driver.features.stop_copy_bytes
        smallest = _TRAILER.size + (0 if self._produced else _HEADER.size)
        self._final_left = max(rest, smallest)
        self.initial_left = 0

    def left(self) -> int:
        """Bytes that STOP_COPY would still produce, as far as is known now."""
        if self._final_left is not None:
            return self._final_left
        return self.initial_left + self.dirty_left() + self._driver.features.stop_copy_bytes

    def read(self, size: int) -> bytes:
        """Up to `size` bytes. Raises OSError(ENOMSG) at a temporary end; b"" is the end for good."""
        if self.ended or self.closed:
            return b""
        if self._final_left is None:
            return self._read_precopy(size)
        return self._read_final(size)

    def _read_precopy(self, size: int) -> bytes:
        if self.initial_left:
            size = min(size, self.initial_left)
            self.initial_left -= size
        else:
            size = min(size, self.dirty_left())
            if size == 0:
                raise os_error(errno.ENOMSG)
            self.consumed_dirty += size
        return self._produce(size)

    def _read_final(self, size: int) -> bytes:
        assert self._final_left is not None
        if self._final_left > _TRAILER.size:
            size = min(size, self._final_left - _TRAILER.size)
            self._final_left -= size
            return self._produce(size)
        if self._final_left == _TRAILER.size:
            self._out = _TRAILER.pack(_TRAILER_MAGIC, self._produced, self._crc, 0, 0)
        size = min(size, self._final_left)
        self._final_left -= size
        data, self._out = self._out[:size], self._out[size:]
        return data

    def _produce(self, size: int) -> bytes:
        """The next `size` bytes before the trailer: the header, then the pattern of this device."""
        start, end = self._produced, self._produced + size
        data = b""
        if start < _HEADER.size:
            data = self._driver.header()[start:end]
            start += len(data)
        data += self._driver.pattern_between(start, end)
        self._produced = end
        self._crc = crc32(data, self._crc)
        return data


class LoadingSession(DataSession):
    """Takes what a saving session gave."""

    __slots__ = ("_checked", "_count", "_crc", "_driver", "_head", "_tail")

    def __init__(self, driver: VendorDriver) -> None:
        super().__init__()
        self._driver = driver
        self._head = b""
        self._tail = b""  # the last bytes seen, which may be the trailer
        self._count = 0
        self._crc = 0
        self._checked = False

    def write(self, data: bytes) -> None:
        """Take all of `data`; raises OSError(EINVAL) when it is from another kind of device."""
        if self.ended or self.closed:
            raise os_error(errno.EBADF)
        if len(self._head) < _HEADER.size:
            self._head += data[: _HEADER.size - len(self._head)]
        if not self._checked and len(self._head) == _HEADER.size:
            magic, version, kind, _, _ = _HEADER.unpack(self._head)
            if (magic, version, kind) != (_HEADER_MAGIC, 1, self._driver.kind):
                raise os_error(errno.EINVAL)
            self._checked = True
        data = self._tail + data
        body, self._tail = data[: -_TRAILER.size], data[-_TRAILER.size :]
        self._crc = crc32(body, self._crc)
        self._count += len(body)

    def loaded(self) -> int | None:
        """The internal state that the complete data describes; None when it is short or broken."""
        if not self._checked or len(self._tail) != _TRAILER.size:
            return None
        magic, count, crc, _, _ = _TRAILER.unpack(self._tail)
        if (magic, count, crc) != (_TRAILER_MAGIC, self._count, self._crc):
            return None
        internal: int = _HEADER.unpack(self._head)[3]
        return internal


class VendorDriver:
    """The kernel's side of one device that can migrate."""

    def __init__(self, vm: Machine, name: str, kind: int, features: MigrationFeatures) -> None:
        self.host: Host = vm.host
        self.name = name
        #: 32 bits that tell one kind of device from another
        self.kind = kind
        self.features = features
        self.state = fsm.RUNNING
        self._vm = vm
        self._internal: int | None = None
        self._pattern: bytes | None = None
        self._session: DataSession | None = None
        self._walking = False
        self._stuck: Future | None = None

    def _random(self, purpose: str) -> Random:
        return self.host.random(f"vfio/{self.name}/{purpose}")

    @property
    def internal(self) -> int:
        """What the guest has made of the device, as a number: it travels, and a reset makes another."""
        if self._internal is None:
            self._internal = self._random("internal").getrandbits(64)
        return self._internal

    # data
    def header(self) -> bytes:
        return _HEADER.pack(_HEADER_MAGIC, 1, self.kind, self.internal, 0)

    def pattern_between(self, start: int, end: int) -> bytes:
        """The make-believe bytes at these positions of the device's data."""
        if self._pattern is None:
            self._pattern = self._random("pattern").randbytes(_PATTERN_SIZE)
        first = start % _PATTERN_SIZE
        count = end - start
        return (self._pattern * ((first + count) // _PATTERN_SIZE + 1))[first : first + count]

    # queries
    def stop_copy_size(self) -> int:
        """Bytes that STOP_COPY is expected to produce; raises OSError."""
        self._vm.faults.check("vfio_query_stop_copy_size", device=self.name)
        if isinstance(self._session, SavingSession):
            return self._session.left()
        return self.features.stop_copy_bytes + (
            self.features.initial_bytes if self.features.flags & fsm.FLAG_PRE_COPY else 0
        )

    def precopy_info(self) -> tuple[int, int]:
        """(initial bytes, dirty bytes) still to be read; raises OSError(EINVAL) outside the PRE_COPY states."""
        self._vm.faults.check("vfio_query_precopy_size", device=self.name)
        if self.state not in fsm.PRE_COPYING or not isinstance(self._session, SavingSession):
            raise os_error(errno.EINVAL)
        return self._session.initial_left, self._session.dirty_left()

    # the walk
    async def set_state(self, target: str) -> DataSession | None:
        """Walk to `target`; returns the session that the last arc opened, if it opened one.

        Raises OSError: EINVAL before anything happens where there is no way, else what an arc failed with; the device is
        then where the last good arc ended, or in ERROR.
        """
        hops = fsm.path(self.state, target, self.features.flags)
        assert not self._walking, f"{self.name}: two transitions at once"
        self._walking = True
        try:
            opened = None
            for hop in hops:
                opened = await self._arc(hop)
            return opened
        except DeviceBroken:
            self._leave_session()
            self.state = fsm.ERROR
            raise
        finally:
            self._walking = False

    async def _arc(self, hop: str) -> DataSession | None:
        start = self.state
        self._vm.trace("fake_vfio_arc_begin", name=self.name, from_state=start, to_state=hop)
        await self._vm.faults.pass_through("fake_vfio_arc", device=self.name, from_state=start, to_state=hop)
        await self._take_time(f"{start}>{hop}")
        self._fail_if_described(f"{start}>{hop}")
        opened = self._side_effects(start, hop)
        self.state = hop
        self._vm.trace("fake_vfio_arc_end", name=self.name, from_state=start, to_state=hop)
        return opened

    async def _take_time(self, arc: str) -> None:
        arcs = self.features.arcs
        latency = arcs.latency_ns.get(arc, arcs.default_ns)
        if latency == STUCK_NS:
            self._stuck = self.host.future()
            await self._stuck
        elif latency:
            if arcs.jitter:
                latency += int(latency * arcs.jitter * self._random("jitter").random())
            await self.host.clock.sleep(latency)

    def release(self) -> None:
        """Let a stuck arc go on."""
        if self._stuck is not None:
            self._stuck.set_result()

    def _fail_if_described(self, arc: str) -> None:
        number = self.features.arcs.failures.get(arc)
        if number is not None:
            kind = DeviceBroken if arc in self.features.arcs.broken else OSError
            raise kind(number, os.strerror(number))

    def _side_effects(self, start: str, hop: str) -> DataSession | None:
        if (start, hop) in fsm.OPENS_SAVING:
            self._session = SavingSession(self, final=hop == fsm.STOP_COPY)
            return self._session
        if (start, hop) == fsm.OPENS_LOADING:
            self._internal = 0
            self._session = LoadingSession(self)
            return self._session
        if start in fsm.SAVING and hop == fsm.STOP_COPY:
            assert isinstance(self._session, SavingSession)
            self._session.finish()
        elif start == fsm.RESUMING:
            self._apply_loaded()
        elif start in fsm.SAVING and hop not in fsm.SAVING:
            self._leave_session()
        return None

    def _apply_loaded(self) -> None:
        session = self._session
        assert isinstance(session, LoadingSession)
        loaded = session.loaded()
        if loaded is None:
            raise DeviceBroken(errno.EINVAL, os.strerror(errno.EINVAL))
        self._leave_session()
        self._internal = loaded

    def _leave_session(self) -> None:
        if self._session is not None:
            self._session.ended = True
            self._session = None

    def reset(self) -> None:
        """To RUNNING from anywhere, ERROR included; any session and the internal state are lost. Raises OSError."""
        self._vm.faults.check("vfio_pci_reset", device=self.name)
        if self._walking:
            raise os_error(errno.EBUSY)  # the kernel waits for the transition; nobody here could
        self._leave_session()
        self.state = fsm.RUNNING
        self._internal = None
