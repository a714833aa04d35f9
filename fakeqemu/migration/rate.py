# SPDX-License-Identifier: MIT
"""How fast a migration may go, and how fast it goes.

The limit (max-bandwidth) is kept in windows of 100 ms: a window's share used up, the source waits for the next. At the end
of each window what went is measured; that bandwidth, times downtime-limit, is the threshold below which the rest may be
sent while the guest is stopped.

QEMU: migration_update_counters and migration_rate_* in migration/migration.c, migration/migration-stats.c
"""

from __future__ import annotations

from fakeqemu.host.clock import NS_PER_MS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fakeqemu.migration.outgoing import Outgoing

#: length of a window, and the shortest time over which a rate is measured
BUFFER_DELAY_NS = 100 * NS_PER_MS
#: the limit is given for a second, a window is a tenth of it
XFER_LIMIT_RATIO = 10
#: how fast pages that only count go when there is no limit
MODEL_LINK_BYTES_PER_S = 1_250_000_000

#: QEMU does not rest when there is nothing to send: it puts empty PARTs as fast as it can, and takes that for the
#: bandwidth. We rest until the window ends, and count what it would have put: a million PARTs a second of 18 bytes.
_IDLE_LOOP_BYTES_PER_S = 18_000_000
_PAGE_SIZE = 4096
#: below this share of a window, in bytes, batches are as small as QEMU's
_LOW_LIMIT = 1 << 20
#: QEMU's least number of bytes in a window for which it works out an expected downtime
_MIN_TRANSFERRED = 10000


class RateWindow:
    """The windows of one outgoing migration. With `model`, pages only count and rates are what they are set to."""

    __slots__ = (
        "_bytes", "_first_ns", "_options", "_outgoing", "_pages", "_start_ns", "_stats", "_threshold", "_vm", "model",
        "model_burst",
    )  # fmt: skip

    def __init__(self, outgoing: Outgoing, *, model: bool) -> None:
        self._outgoing = outgoing
        self._vm = outgoing.vm
        self._options = outgoing.mig.options
        self._stats = outgoing.mig.stats
        self.model = model
        self._start_ns = 0
        #: when the first window began; how many bytes go in a window of so many, when pages only count
        self._first_ns: int | None = None
        self.model_burst: Callable[[int], int] = lambda room: room
        self._bytes = 0
        self._pages = 0
        #: from the last measurement; 0 while there was none
        self._threshold = 0

    @property
    def counts_put(self) -> bool:
        """Whether what was put counts, sent or not: with a low limit, else nobody sees it."""
        return self._vm.compat.migration_rate_counts_put and self.is_low

    @property
    def is_low(self) -> bool:
        """Whether the share of a window is so small that it matters how many pages go at once."""
        return 0 < self.window_limit() < _LOW_LIMIT

    def bandwidth_limit(self) -> int:
        """Bytes a second that may go, 0 for no limit."""
        if self._outgoing.postcopy is not None and self._outgoing.switchover.stopped:
            return int(self._options.get("max-postcopy-bandwidth"))
        if self._options.on("background-snapshot"):
            return 0
        limit: int = 0 if self._outgoing.switchover.stopped else self._options.get("max-bandwidth")
        return limit

    def window_limit(self) -> int:
        """The share of a window, 0 for no limit."""
        return self.bandwidth_limit() // XFER_LIMIT_RATIO

    def bytes_sent(self) -> int:
        f = self._outgoing.f
        assert f is not None
        on_main = f.bytes_transferred if self.counts_put else f.flushed
        return on_main + self._stats.multifd_bytes + self._stats.preempt_bytes + self._stats.model_bytes

    def room_for(self, size: int) -> int:
        """How many records of a size go until the limit is exceeded, at least one."""
        return max(1, -(-(self._bytes + self.window_limit() - self.bytes_sent()) // size))

    def exceeded(self) -> bool:
        """Whether this window's share was used up."""
        limit = self.window_limit()
        return bool(limit) and not self.model and self.bytes_sent() - self._bytes >= limit

    def open(self, now_ns: int) -> None:
        """A new window begins."""
        self._start_ns = now_ns
        if self._first_ns is None:
            self._first_ns = now_ns
        self._bytes = self.bytes_sent()
        self._pages = self._stats.duplicate + self._stats.normal

    @property
    def window_end_ns(self) -> int:
        return self._start_ns + BUFFER_DELAY_NS

    async def next_window(self, *, idle: bool = False) -> None:
        """Wait for the end of this window; `idle`: nothing is there to send."""
        await self._outgoing.sleep_until(self._start_ns + BUFFER_DELAY_NS)
        self.measure(idle=idle)

    def measure(self, *, idle: bool = False) -> None:
        """Work out rates, when a window has passed, and begin the next."""
        now_ns = self._vm.host.clock.now_ns()
        spent_ns = now_ns - self._start_ns
        if spent_ns < BUFFER_DELAY_NS:
            return
        stats = self._stats
        transferred = self.bytes_sent() - self._bytes
        spent_ms = spent_ns // NS_PER_MS
        if idle and not self.model:
            busy = min(_IDLE_LOOP_BYTES_PER_S, self.bandwidth_limit() or _IDLE_LOOP_BYTES_PER_S)
            transferred = max(transferred, busy * spent_ms // 1000)
        bandwidth = transferred // spent_ms
        self._threshold = self._available(bandwidth) * self._options.get("downtime-limit")
        stats.mbps = transferred * 8.0 / (spent_ms / 1000.0) / 1000 / 1000
        pages = stats.duplicate + stats.normal - self._pages
        stats.pages_per_second = int(pages / (spent_ms / 1000.0))
        if not self._vm.compat.migration_expected_downtime_exact:
            if stats.dirty_pages_rate and transferred > _MIN_TRANSFERRED:
                left = self._outgoing.remaining_pages * _PAGE_SIZE
                stats.expected_downtime_ms = left // bandwidth if bandwidth else 0
        self.open(now_ns)

    def _available(self, measured: int) -> int:
        """Bytes a millisecond at which the rest will go once the guest is stopped."""
        available: int = self._options.get("avail-switchover-bandwidth", 0)
        return available // 1000 if available else measured

    def switchover_bandwidth(self) -> int:
        """Bytes a millisecond at which the rest would go now; 0 while nothing was measured."""
        if self.model:
            return self._model_bandwidth() if self._measured else 0
        limit: int = self._options.get("downtime-limit")
        return self._threshold // limit if limit else 0

    def threshold_bytes(self) -> int:
        """How much may be left for the time that the guest is stopped."""
        if self._options.on("background-snapshot"):
            return 0
        if self.model:
            return self.model_threshold() if self._measured else 0
        return self._threshold

    # --- pages that only count ------------------------------------------------------------------------

    @property
    def first_window_end_ns(self) -> int:
        return (self._first_ns or 0) + BUFFER_DELAY_NS

    @property
    def _measured(self) -> bool:
        """Whether a whole window has passed."""
        now_ns = self._vm.host.clock.now_ns()
        return self._first_ns is not None and now_ns - self._first_ns >= BUFFER_DELAY_NS

    def model_threshold(self) -> int:
        """The threshold once something was measured."""
        threshold: int = self._model_bandwidth() * self._options.get("downtime-limit")
        return threshold

    def _model_bandwidth(self) -> int:
        limit, link = self.window_limit(), MODEL_LINK_BYTES_PER_S // XFER_LIMIT_RATIO
        in_window = self.model_burst(limit) if 0 < limit < link else link
        return self._available(in_window * NS_PER_MS // BUFFER_DELAY_NS)
