# SPDX-License-Identifier: MIT
"""Limits of the rate at which vCPUs dirty memory: a vCPU that is too fast sleeps whenever its dirty ring is full.

Once a second, or once in `x-vcpu-dirty-limit-period` while a migration with the capability dirty-limit runs, each limited
vCPU is measured. One that is off its limit by more than 25 MB/s is given another time to sleep:

    far off (more than half of the larger one)   by what would have brought it to its limit, had it not slept at all
    else                                         by a tenth of the time in which its ring gets full

That is the time for the fastest rate that was ever seen on any vCPU, and nobody sleeps for more than 99 times of it. A vCPU
that wrote nothing does not sleep any more: with a limit so low that it sleeps through a whole period, it is fast again
afterwards. So is QEMU's.

A machine without KVM's dirty ring (`-accel kvm,dirty-ring-size=N`) has no limits.

QEMU: system/dirtylimit.c (softmmu/dirtylimit.c before), migration_dirty_limit_guest in migration/ram.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.host.clock import NS_PER_MS
from fakeqemu.system.dirty_ring import VcpuRings, mib_per_s
from fakeqemu.system.ramblock import PAGE_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.host.clock import Timer
    from fakeqemu.system.dirty_ring import VcpuRing
    from fakeqemu.system.machine import Machine

PERIOD_MS = 1000
#: MB/s by which a vCPU may be off its limit
TOLERANCE = 25
#: per cent of the larger rate from which on it is far off
FAR_OFF_PCT = 50
#: the largest part of its time that a vCPU sleeps
MAX_SLEEP_PCT = 99


class DirtyLimits:
    """The limits of one machine's vCPUs (`vm.dirty_limits`)."""

    __slots__ = (
        "_began_ns", "_by_migration", "_max_rate", "_pages", "_quotas", "_rates", "_rings", "_timer", "_vm",
    )  # fmt: skip

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self._rings: VcpuRings | None = None
        #: number of a vCPU -> MB/s that it may do; None while nobody is limited
        self._quotas: dict[int, int] | None = None
        #: number of a vCPU -> MB/s, as measured last
        self._rates: dict[int, int] = {}
        #: the fastest that was ever seen
        self._max_rate = 0
        #: the limit that a migration set last
        self._by_migration = 0
        self._timer: Timer | None = None
        self._began_ns = 0
        self._pages: dict[int, int] = {}

    @property
    def in_service(self) -> bool:
        """Whether any vCPU is limited."""
        return self._quotas is not None

    @property
    def rings(self) -> VcpuRings:
        """The vCPUs with their rings; only a machine that has rings may be asked."""
        if self._rings is None:
            self._rings = VcpuRings(self._vm)
        return self._rings

    @property
    def _max_cpus(self) -> int:
        board = self._vm.board
        return 1 if board is None else board.smp.maxcpus

    # --- the commands ---------------------------------------------------------------------------------

    def set(self, rate: int, cpu_index: int | None = None) -> None:
        """Limit one vCPU or all to so many MB/s, 0 for no limit; raises QemuError."""
        if not self._vm.dirty_ring_size:
            raise QemuError("dirty page limit feature requires KVM with accelerator property 'dirty-ring-size' set'")
        self._check(cpu_index, "set")
        if rate:
            self._set(rate, cpu_index)
        else:
            self.cancel(cpu_index)

    def cancel(self, cpu_index: int | None = None) -> None:
        """Give up the limit of one vCPU or of all; raises QemuError. Without a ring nothing is looked at."""
        if not self._vm.dirty_ring_size:
            return
        self._check(cpu_index, "cancel")
        if self._quotas is None:
            return
        self._vm.guest.sync()
        for index in self._indices(cpu_index):
            self._vm.trace("dirtylimit_set_vcpu", cpu_index=index, quota=0)
            self._quotas.pop(index, None)
        self._mark_limited()
        if not self._quotas:
            self._end_service()

    def query(self) -> list[dict[str, Any]]:
        """The limits in force: the reply of query-vcpu-dirty-limit."""
        return [
            {"cpu-index": index, "limit-rate": quota, "current-rate": self._rates.get(index, 0)}
            for index, quota in sorted((self._quotas or {}).items())
        ]

    def _check(self, cpu_index: int | None, verb: str) -> None:
        if cpu_index is not None and not 0 <= cpu_index < self._max_cpus:
            raise QemuError("incorrect cpu index specified")
        if self.in_service and self._is_migrating():
            raise QemuError(f"can't {verb} dirty page rate limit while migration is running")

    def _is_migrating(self) -> bool:
        """Whether a migration is in progress that has limits set."""
        if not self._vm.has_part("migration"):
            return False
        migration = self._vm.migration
        return migration.is_running() and migration.options.on("dirty-limit")

    def _indices(self, cpu_index: int | None) -> range:
        return range(self._max_cpus) if cpu_index is None else range(cpu_index, cpu_index + 1)

    # --- migration ------------------------------------------------------------------------------------

    def limit_migrating_guest(self) -> None:
        """A pass did not converge: limit every vCPU as the parameter vcpu-dirty-limit says.

        QEMU: migration_dirty_limit_guest
        """
        rate = int(self._vm.migration.options.get("vcpu-dirty-limit"))
        if self.in_service and rate == self._by_migration:
            return
        self._by_migration = rate
        if self._vm.dirty_ring_size:  # -global sets the capability without a look at that
            self._set(rate, None)
        self._vm.trace("migration_dirty_limit_guest", dirtyrate=rate)

    def migration_info(self) -> dict[str, Any]:
        """What query-migrate has of the limits."""
        return {
            "dirty-limit-throttle-time-per-round": max(vcpu.throttle_us for vcpu in self.rings.vcpus),
            "dirty-limit-ring-full-time": self._average_ring_full_us(),
        }

    def _average_ring_full_us(self) -> int:
        """QEMU: dirtylimit_ring_full_time"""
        vcpus = self.rings.vcpus if self._vm.guest.running else []
        total = sum(self._rates.get(vcpu.index, 0) for vcpu in vcpus)
        return self._ring_full_us(total // len(vcpus)) if total else 0

    # --- the service ----------------------------------------------------------------------------------

    def _set(self, rate: int, cpu_index: int | None) -> None:
        if self._quotas is None:
            self._begin_service()
        assert self._quotas is not None
        self._vm.guest.sync()
        for index in self._indices(cpu_index):
            self._vm.trace("dirtylimit_set_vcpu", cpu_index=index, quota=rate)
            self._quotas[index] = rate
        self._mark_limited()

    def _mark_limited(self) -> None:
        for vcpu in self.rings.vcpus:
            vcpu.limited = vcpu.index in (self._quotas or {})

    def _begin_service(self) -> None:
        self._quotas = {}
        self._rates = {}
        self._vm.trace("dirtylimit_state_initialize", max_cpus=self._max_cpus)
        self.rings.start_logging()
        self._begin_period()

    def _end_service(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.rings.stop_logging()
        self._quotas = None
        self._vm.trace("dirtylimit_state_finalize")

    def _begin_period(self) -> None:
        vm = self._vm
        period_ms = vm.migration.options.get("x-vcpu-dirty-limit-period") if self._is_migrating() else PERIOD_MS
        if self.rings.look_for_vcpus():
            self._mark_limited()
        self._began_ns = vm.host.clock.now_ns()
        self._pages = {vcpu.index: vcpu.pages for vcpu in self.rings.vcpus}
        self._timer = vm.host.clock.call_at(self._began_ns + period_ms * NS_PER_MS, self._end_period)

    def _end_period(self) -> None:
        vm = self._vm
        vm.guest.sync(reap=True)
        # With a vCPU plugged or unplugged in between, the period counts for nothing.
        if not self.rings.look_for_vcpus():
            ms = (vm.host.clock.now_ns() - self._began_ns) // NS_PER_MS
            self._rates = rates_of(vm, self._pages, ms)
            for vcpu in self.rings.vcpus:
                if vcpu.limited:
                    self._adjust(vcpu)
        self._mark_limited()
        self._begin_period()

    # --- the feedback ---------------------------------------------------------------------------------

    def _adjust(self, vcpu: VcpuRing) -> None:
        """QEMU: dirtylimit_adjust_throttle, dirtylimit_set_throttle"""
        assert self._quotas is not None
        quota, current = self._quotas[vcpu.index], self._rates[vcpu.index]
        low, high = min(quota, current), max(quota, current)
        if high - low <= TOLERANCE:
            return
        if not current:
            vcpu.throttle_us = 0
            return
        full_us = self._ring_full_us(current)
        percentage = (high - low) * 100 // high
        if percentage > FAR_OFF_PCT:
            step = int(full_us * percentage / (100 - percentage))
            self._vm.trace("dirtylimit_throttle_pct", cpu_index=vcpu.index, pct=percentage, time_us=step)
        else:
            step = full_us // 10
        wanted = vcpu.throttle_us + (step if quota < current else -step)
        vcpu.throttle_us = max(0, min(wanted, full_us * MAX_SLEEP_PCT))

    def _ring_full_us(self, rate: int) -> int:
        """In how many us a ring is full at the fastest rate that was seen, this one included.

        QEMU: dirtylimit_dirty_ring_full_time
        """
        self._max_rate = max(self._max_rate, rate)
        size_mib = self._vm.dirty_ring_size * PAGE_SIZE >> 20
        return size_mib * 1_000_000 // self._max_rate if self._max_rate else 0


def rates_of(vm: Machine, before: dict[int, int], ms: int) -> dict[int, int]:
    """Number of each vCPU -> MB/s at which it wrote, from its pages `ms` milliseconds ago.

    QEMU: vcpu_calculate_dirtyrate
    """
    rates = {}
    for vcpu in vm.dirty_limits.rings.vcpus:
        pages = vcpu.pages - before.get(vcpu.index, vcpu.pages)
        rates[vcpu.index] = mib_per_s(pages, ms, exact=vm.compat.dirty_rate_fractions)
        vm.trace("dirtyrate_do_calculate_vcpu", idx=vcpu.index, rate=rates[vcpu.index])
    return rates
