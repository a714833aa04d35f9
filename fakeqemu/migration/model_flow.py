# SPDX-License-Identifier: MIT
"""When bytes that only count (`ram=model`) go over the link: as QEMU would send them, worked out, not waited for.

With a limit of the bandwidth QEMU sends in bursts: batches of pages, as fast as the link takes them, until the share of a
window of 100 ms is used up; then nothing until the next window. The last batch goes beyond the share, so that a little more
goes than was allowed:

    bytes      ┌────┐         ┌────┐         ┌─
               │    │         │    │         │
          ─────┴────┴─────────┴────┴─────────┴─── time
               window 1       window 2

All windows that one run of equal pages fills are one step here, however many.

QEMU: migration_rate_exceeded and ram_save_iterate
"""

from __future__ import annotations

from fakeqemu.host.clock import NS_PER_S
from fakeqemu.migration.rate import BUFFER_DELAY_NS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Burst = Callable[[int], int]

#: so many bytes are flushed, whatever follows
_FLUSHED_BYTES = 32 * 4096
#: never
_NO_END = 1 << 100


class Flow:
    """How far a link has come. Times inside are in parts of a ns: exact for any number of bytes."""

    __slots__ = ("_at", "_held", "_limit", "_rate", "_used", "_window", "parts")

    def __init__(self, now_ns: int, rate: int) -> None:
        """The first window begins now; `rate`: bytes a second that the link takes."""
        self._rate = rate
        self._at = self._window = now_ns * rate
        self._used = 0
        # sent, but not yet counted: the last pages of a run may be too few to be flushed at once
        self._held = 0
        self._limit = 0
        #: how often it went on in a new window
        self.parts = 0

    def set_limit(self, bytes_per_window: int) -> None:
        """The share of a window; 0, or more than the link takes anyway, for none."""
        slower = bytes_per_window * NS_PER_S < self._rate * BUFFER_DELAY_NS
        self._limit = bytes_per_window if slower else 0

    def resume(self, now_ns: int) -> None:
        """There is something to send again, from now on."""
        now = now_ns * self._rate
        self._at = max(self._at, now)
        if not self._exceeded and now - self._window >= BUFFER_DELAY_NS * self._rate:
            self._open(now)

    def copy(self) -> Flow:
        other = Flow(0, self._rate)
        other._at, other._window, other._limit = self._at, self._window, self._limit
        other._used, other._held = self._used, self._held
        return other

    @property
    def limited(self) -> bool:
        return bool(self._limit)

    @property
    def at_ns(self) -> int:
        """When the last byte so far has gone."""
        return -(-self._at // self._rate)

    @property
    def window_end_ns(self) -> int:
        return -(-self._window // self._rate) + BUFFER_DELAY_NS

    @property
    def _exceeded(self) -> bool:
        return bool(self._limit) and self._used >= self._limit

    def _open(self, at: int) -> None:
        self._window = at
        self._at = max(self._at, at)
        self._used = self._held = 0
        self.parts += 1

    def add(self, size: int) -> None:
        """Bytes beside pages, which end a PART: they take no time, but are of the window's share."""
        self._used += self._held + size
        self._held = 0

    def send(self, n: int, size: int, burst: Burst, until_ns: int | None = None, *, batch: int = 1) -> int:
        """Send `n` pages of `size` bytes; returns how many have gone by `until_ns`. What has gone of a page is not lost.

        `burst` tells how many pages go when so many bytes of the share are left: more than fit, by what goes between two
        looks at it; `batch` how many are put at once.
        """
        if not size:
            return n
        until = _NO_END if until_ns is None else until_ns * self._rate
        done = 0
        while done < n:
            if self._exceeded:
                if self._window + BUFFER_DELAY_NS * self._rate > until:
                    break
                self._open(self._window + BUFFER_DELAY_NS * self._rate)
                done += self._full_windows(n - done, size, burst, until)
                continue
            room = n - done
            if self._limit:
                room = min(room, burst(max(1, self._limit - self._used - self._held)))
            fits = min(room, max(0, until - self._at) // (size * NS_PER_S))
            self._at += fits * size * NS_PER_S
            self._count(fits, size, batch)
            done += fits
            if fits < room:
                break
        return done

    def _count(self, n: int, size: int, batch: int) -> None:
        last = n % batch * size
        if n >= batch:
            self._used += self._held
            self._held = 0
        self._used += n * size - last
        self._held += last
        if self._held >= _FLUSHED_BYTES:
            self._used += self._held
            self._held = 0

    def _full_windows(self, n: int, size: int, burst: Burst, until: int) -> int:
        """Pages of windows that are full and over before `until`, in one step; the last of `n` are left."""
        window = BUFFER_DELAY_NS * self._rate
        pages = burst(self._limit)
        if pages * size * NS_PER_S > window:
            return 0
        full = min((n - 1) // pages, (until - self._window) // window)
        if full > 0:
            self._window += full * window
            self._at = max(self._at, self._window)
            self.parts += full
            return full * pages
        return 0
