# SPDX-License-Identifier: MIT
"""Making the guest slower when a migration cannot keep up with it (capabilities auto-converge and dirty-limit).

At a look at the dirty bitmap, once a second at most: were more bytes dirtied since the last time than
`throttle-trigger-threshold` per cent of those that went over the link? When that is so for the second time, the guest is
throttled: by `cpu-throttle-initial` per cent first, then by `cpu-throttle-increment` more each time, never by more than
`max-cpu-throttle`. With `cpu-throttle-tailslow` a step is only as long as it takes to come below the threshold.

A vCPU that is throttled by N per cent sleeps that share of its time; so the guest dirties that much less.

With dirty-limit instead, each vCPU is limited to `vcpu-dirty-limit` MB/s (system/dirtylimit). That stays when the migration
is over, however it ended: nobody but `cancel-vcpu-dirty-limit`, or `migrate_cancel` once more, gives a guest its speed back.

From 9.2 on the bitmap is also looked at when five seconds have passed without that: a pass of a large guest may take hours.
In the releases in which that is a pass of its own, the seconds begin with the first look after the first second; where it is
done silently, with the migration.

QEMU: migration/cpu-throttle.c (system/cpu-throttle.c before), migration_trigger_throttle in migration/ram.c
"""

from __future__ import annotations

from fakeqemu.host.clock import NS_PER_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fakeqemu.host.clock import Timer
    from fakeqemu.system.machine import Machine

CPU_THROTTLE_PCT_MIN, CPU_THROTTLE_PCT_MAX = 1, 99
DIRTY_SYNC_NS = 5 * NS_PER_S
#: how often the guest has to be too fast before something is done
_TIMES_TOO_FAST = 2


class CPUThrottle:
    """The throttle of one outgoing migration."""

    __slots__ = ("_high_count", "_look", "_syncs_before", "_timer", "_transferred_before", "_vm", "percentage")

    def __init__(self, vm: Machine, look: Callable[..., None]) -> None:
        """`look(counted=...)` looks at the dirty bitmap, as a pass of its own or silently."""
        self._vm = vm
        self._look = look
        #: 0 while the guest runs at full speed
        self.percentage = 0
        self._high_count = 0
        self._transferred_before = 0
        self._timer: Timer | None = None
        self._syncs_before = 0

    def begin(self) -> None:
        """The migration begins."""
        if self._vm.compat.migration_throttle_sync == "silent" and self._vm.migration.options.on("auto-converge"):
            self._start_timer()

    def looked(self, dirty_bytes: int) -> None:
        """A second or more has passed in which so many bytes got dirty: throttle, if that is too many.

        QEMU: migration_trigger_throttle
        """
        options, stats = self._vm.migration.options, self._vm.migration.stats
        sent = stats.transferred - self._transferred_before
        self._transferred_before = stats.transferred
        auto_converge = options.on("auto-converge")
        if not auto_converge and not options.on("dirty-limit"):
            return
        if auto_converge and self._vm.compat.migration_throttle_sync == "pass":
            self._start_timer()
        threshold = sent * int(options.get("throttle-trigger-threshold")) // 100
        if dirty_bytes <= threshold:
            return
        self._high_count += 1
        if self._high_count < _TIMES_TOO_FAST:
            return
        self._high_count = 0
        if not auto_converge:
            self._vm.dirty_limits.limit_migrating_guest()
            return
        self._vm.trace("migration_throttle")
        self._slow_down(dirty_bytes, threshold)

    def _slow_down(self, dirty_bytes: int, threshold: int) -> None:
        """QEMU: mig_throttle_guest_down"""
        get = self._vm.migration.options.get
        if not self.percentage:
            self._set(get("cpu-throttle-initial"))
            return
        step: int = get("cpu-throttle-increment")
        if get("cpu-throttle-tailslow"):
            now = 100 - self.percentage
            step = min(int(now - now * (threshold / dirty_bytes)), step)
        self._set(min(self.percentage + step, get("max-cpu-throttle")))

    def _set(self, percentage: int) -> None:
        self._vm.trace("cpu_throttle_set", new_throttle_pct=percentage)
        self.percentage = max(CPU_THROTTLE_PCT_MIN, min(percentage, CPU_THROTTLE_PCT_MAX))
        self._vm.guest.set_throttle(self.percentage)

    def stop(self) -> None:
        """The migration is over, well or not: full speed again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.percentage:
            self.percentage = 0
            self._vm.guest.set_throttle(0)

    # --- looking now and then -------------------------------------------------------------------------

    def _start_timer(self) -> None:
        if self._timer is None:
            self._syncs_before = 0
            self._set_timer()

    def _set_timer(self) -> None:
        clock = self._vm.host.clock
        self._timer = clock.call_at(clock.now_ns() + DIRTY_SYNC_NS, self._tick)

    def _tick(self) -> None:
        """QEMU: cpu_throttle_dirty_sync_timer_tick"""
        stats = self._vm.migration.stats
        # In the first pass everything is sent anyhow.
        if stats.dirty_sync_count > 1 and stats.dirty_sync_count == self._syncs_before:
            self._vm.trace("cpu_throttle_dirty_sync")
            if stats.catch_up is not None:
                stats.catch_up()
            self._look(counted=self._vm.compat.migration_throttle_sync == "pass")
        self._syncs_before = stats.dirty_sync_count
        self._set_timer()
