# SPDX-License-Identifier: MIT
"""Counters of an outgoing migration, and what query-migrate makes of them.

Bytes are counted where they are put. Between two events of a migration whose pages only count (`ram=model`), counters are
functions of the time: whoever asks has them brought up to date first (`catch_up`).

QEMU: migration/migration-stats.c, fill_source_migration_info and populate_*_info in migration/migration.c
"""

from __future__ import annotations

from fakeqemu.host.clock import NS_PER_MS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fakeqemu.migration.cpu_throttle import CPUThrottle
    from fakeqemu.migration.state import Migration
    from fakeqemu.migration.xbzrle import XbzrleStats
    from fakeqemu.system.machine import Machine

PAGE_SIZE = 4096
INT64_MAX = (1 << 63) - 1
#: statuses in which query-migrate of a source tells of its progress
RUNNING_STATUSES = (
    "active", "device", "pre-switchover", "postcopy-device", "postcopy-active", "postcopy-paused",
    "postcopy-recover-setup", "postcopy-recover", "cancelling", "failing",
)  # fmt: skip


class MigrationStats:
    """What one outgoing migration counted; `begin` starts again."""

    __slots__ = (
        "_vm", "catch_up", "completed_total_ns", "dirty_pages_rate", "dirty_sync_count", "downtime_bytes",
        "downtime_ns", "downtime_start_ns", "duplicate", "expected_downtime_ms", "mbps", "missed_zero_copy",
        "model_bytes", "multifd_bytes", "normal", "package_bytes", "pages_per_second", "pending", "postcopy_bytes",
        "postcopy_requests", "precopy_bytes", "preempt_bytes", "ram_remaining", "ram_total", "setup_ns", "start_ns",
        "stream_bytes", "throttle", "xbzrle",
    )  # fmt: skip

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        #: brings counters up to the present; set by the RAM of a running migration
        self.catch_up: Callable[[], None] | None = None
        #: bytes of the main channel so far
        self.stream_bytes: Callable[[], int] = lambda: 0
        #: what the cache of xbzrle did, None without it; set when it is made
        self.xbzrle: XbzrleStats | None = None
        self.begin(0, 0)

    def begin(self, now_ns: int, downtime_limit_ms: int) -> None:
        self.start_ns = now_ns
        self.setup_ns = 0
        #: how long it took in all, once it has ended
        self.completed_total_ns: int | None = None
        self.downtime_start_ns = 0
        self.downtime_ns = 0
        self.postcopy_bytes = 0
        self.postcopy_requests = 0
        #: device state that was collected before it was sent: it counts twice
        self.package_bytes = 0
        self.expected_downtime_ms = downtime_limit_ms
        self.ram_total = 0
        #: dirty pages left
        self.ram_remaining: Callable[[], int] = lambda: 0
        self.duplicate = 0
        self.normal = 0
        self.precopy_bytes = 0
        self.downtime_bytes = 0
        #: bytes that were only counted, not put (`ram=model`)
        self.model_bytes = 0
        #: bytes of all multifd channels
        self.multifd_bytes = 0
        #: bytes of the channel for pages that somebody waits for
        self.preempt_bytes = 0
        self.dirty_sync_count = 0
        #: flushes of multifd channels that found bytes copied (zero-copy-send)
        self.missed_zero_copy = 0
        self.dirty_pages_rate = 0
        self.mbps = 0.0
        self.pages_per_second = 0
        #: what is left of everything, in bytes, as of the last look
        self.pending = 0
        self.catch_up = None
        self.stream_bytes = lambda: 0
        #: what slows the guest down
        self.throttle: CPUThrottle | None = None

    @property
    def transferred(self) -> int:
        """ram.transferred: all bytes of all channels."""
        if not self._vm.compat.migration_transferred_all:
            return self.precopy_bytes + self.downtime_bytes + self.multifd_bytes + self.postcopy_bytes
        return self.stream_bytes() + self.multifd_bytes + self.preempt_bytes + self.package_bytes + self.model_bytes

    @property
    def downtime_ms(self) -> int:
        return self.downtime_ns // NS_PER_MS

    def end_downtime(self, now_ns: int) -> None:
        """The guest can run on the other side."""
        self.downtime_ns = now_ns - self.downtime_start_ns

    def total_time_ms(self, now_ns: int) -> int:
        total = self.completed_total_ns if self.completed_total_ns is not None else now_ns - self.start_ns
        return total // NS_PER_MS

    def complete(self, now_ns: int) -> None:
        """The migration has ended well: fix its times and its throughput."""
        self.completed_total_ns = now_ns - self.start_ns
        transfer_ms = self.total_time_ms(now_ns) - self.setup_ns // NS_PER_MS
        self.mbps = self.transferred * 8.0 / transfer_ms / 1000 if transfer_ms else 0.0

    # --- query-migrate --------------------------------------------------------------------------------

    def ram_info(self, *, completed: bool) -> dict[str, Any]:
        """The member `ram`."""
        info: dict[str, Any] = {
            "transferred": self.transferred,
            "total": self.ram_total,
            "duplicate": self.duplicate,
            "normal": self.normal,
            "normal-bytes": self.normal * PAGE_SIZE,
            "mbps": int(self.mbps) if self.mbps == int(self.mbps) else self.mbps,
            "dirty-sync-count": self.dirty_sync_count,
            "dirty-sync-missed-zero-copy": self.missed_zero_copy,
            "postcopy-requests": self.postcopy_requests,
            "page-size": PAGE_SIZE,
            "multifd-bytes": self.multifd_bytes,
            "pages-per-second": self.pages_per_second,
            "precopy-bytes": self.precopy_bytes,
            "downtime-bytes": self.downtime_bytes,
            "postcopy-bytes": self.postcopy_bytes,
            "remaining": 0 if completed else self.ram_remaining() * PAGE_SIZE,
            "dirty-pages-rate": 0 if completed else self.dirty_pages_rate,
        }
        if self._vm.compat.migration_ram_skipped:
            info["skipped"] = 0
        return info


def query_migrate(mig: Migration) -> dict[str, Any]:
    """The reply of query-migrate: what the destination has to say, then, which counts more, what the source has."""
    vm = mig.vm
    info: dict[str, Any] = mig.incoming.query() if mig.incoming is not None else {}
    told = info.get("error-desc")
    _source_info(mig, info)
    if told is not None:
        info["error-desc"] = told
    reasons = vm.savevm.blocked_reasons(mig.options.mode)
    if reasons:
        info["blocked-reasons"] = reasons
    return info


def _source_info(mig: Migration, info: dict[str, Any]) -> None:
    stats, vm, state = mig.stats, mig.vm, mig.state
    if state == "none":
        return
    info["status"] = state
    if state in RUNNING_STATUSES or state == "completed":
        if stats.catch_up is not None:
            stats.catch_up()
        completed = state == "completed"
        info["total-time"] = stats.total_time_ms(vm.host.clock.now_ns())
        info["setup-time"] = stats.setup_ns // NS_PER_MS
        left = completed or (state.startswith("postcopy") and vm.compat.migration_postcopy_downtime)
        if left:
            info["downtime"] = stats.downtime_ms
        else:
            info["expected-downtime"] = stats.expected_downtime_ms
        if not completed:
            if vm.compat.migration_top_remaining:
                info["remaining"] = stats.pending
        info["ram"] = stats.ram_info(completed=completed)
        if stats.throttle is not None and stats.throttle.percentage:
            info["cpu-throttle-percentage"] = stats.throttle.percentage
        if mig.options.on("dirty-limit") and vm.has_part("dirty_limits") and vm.dirty_limits.in_service:
            info.update(vm.dirty_limits.migration_info())
        if mig.options.on("xbzrle"):
            from fakeqemu.migration.xbzrle import XbzrleStats

            cache = stats.xbzrle or XbzrleStats()
            info["xbzrle-cache"] = cache.info(mig.options.get("xbzrle-cache-size"))
        for add in vm.savevm.info:
            info.update(add())
    if mig.error is not None:
        info["error-desc"] = mig.error.desc
