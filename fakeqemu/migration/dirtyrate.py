# SPDX-License-Identifier: MIT
"""How fast the guest dirties its memory, measured for a while: `calc-dirty-rate`, `query-dirty-rate`.

    page-sampling   pages are drawn at random, so many for each GiB; how many of them have changed at the end?
    dirty-bitmap    all pages that were written to. Only KVM tells: a TCG QEMU measures 0 MB/s whatever its guest does
                    (seen on 11.1.2 and 10.0.13), so it does here. Refused where there is a dirty ring
    dirty-ring      for each vCPU; needs KVM with a dirty ring (`-accel kvm,dirty-ring-size=N`)

A measurement costs a page set and one timer: what was dirtied is asked for when the time is over. 7.2 under TCG crashes when
it is asked for dirty-bitmap or dirty-ring; here it measures as the later ones do, or refuses.

QEMU: migration/dirtyrate.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.host.clock import NS_PER_MS, NS_PER_S
from fakeqemu.system.dirty_ring import mib_per_s
from fakeqemu.system.ramblock import PageRuns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from random import Random
    from typing import Any

    from fakeqemu.system.machine import Machine
    from fakeqemu.system.ramblock import RAMBlock

UNSTARTED, MEASURING, MEASURED = "unstarted", "measuring", "measured"
PAGE_SAMPLING, DIRTY_RING, DIRTY_BITMAP = "page-sampling", "dirty-ring", "dirty-bitmap"

#: milliseconds of each unit
UNITS = {"second": 1000, "millisecond": 1}
MIN_CALC_TIME_MS, MAX_CALC_TIME_MS = 50, 60000
DEFAULT_SAMPLE_PAGES, MIN_SAMPLE_PAGES, MAX_SAMPLE_PAGES = 512, 128, 16384
#: smaller blocks are not sampled
MIN_BLOCK_BYTES = 128 << 10
#: more pages than this are not drawn one by one: their number that is dirty comes from the normal distribution
_DRAWN_ONE_BY_ONE = 4096


class DirtyRate:
    """The measurement of one machine: the last one, or the one that goes on (`vm.dirty_rate`)."""

    __slots__ = (
        "_logs",
        "_pages",
        "_random",
        "_since_ns",
        "_vm",
        "calc_time_ms",
        "mode",
        "rate",
        "sample_pages",
        "start_s",
        "status",
        "vcpu_rates",
    )

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self._random: Random | None = None
        self.status = UNSTARTED
        self.mode = PAGE_SAMPLING
        #: when it began, and for how long it measures or has measured
        self.start_s = 0
        self.calc_time_ms = 0
        #: for each GiB
        self.sample_pages = 0
        #: MB/s; -1 when there was nothing to sample
        self.rate = -1
        #: number of each vCPU -> MB/s, in the mode dirty-ring
        self.vcpu_rates: dict[int, int] = {}
        self._since_ns = 0
        #: number of each vCPU -> pages that it ever wrote to, when it began
        self._pages: dict[int, int] = {}
        #: pages that were written to since it began
        self._logs: list[tuple[RAMBlock, PageRuns]] = []

    def calc(self, calc_time: int, unit: str, sample_pages: int | None, mode: str) -> None:
        """Begin to measure; raises QemuError."""
        if self.status == MEASURING:
            raise QemuError("the dirty rate is already being measured.")
        calc_time_ms = calc_time * UNITS[unit]
        self._check(calc_time_ms, sample_pages, mode)
        self.status, self.mode, self.rate = MEASURING, mode, -1
        self.calc_time_ms = calc_time_ms
        self.sample_pages = DEFAULT_SAMPLE_PAGES if sample_pages is None else sample_pages
        clock = self._vm.host.clock
        self._since_ns = clock.now_ns()
        now_ns = clock.wall_ns() if self._vm.compat.dirty_rate_wall_clock else self._since_ns
        self.start_s = now_ns // NS_PER_S
        self._vm.trace("dirtyrate_set_state", new_state=MEASURING)
        if mode == DIRTY_RING:
            self._begin_rings()
        self._vm.guest.sync()
        self._logs = [(block, PageRuns()) for block in self._vm.ram_blocks]
        for block, log in self._logs:
            block.logs.append(log)
        clock.call_at(self._since_ns + calc_time_ms * NS_PER_MS, self._end)

    def _check(self, calc_time_ms: int, sample_pages: int | None, mode: str) -> None:
        compat = self._vm.compat
        if compat.dirty_rate_milliseconds:
            if not MIN_CALC_TIME_MS <= calc_time_ms <= MAX_CALC_TIME_MS:
                limits = f"[{MIN_CALC_TIME_MS}ms, {MAX_CALC_TIME_MS}ms]"
                raise QemuError(f"Calculation time is out of range {limits}.")
        elif not 1000 <= calc_time_ms <= MAX_CALC_TIME_MS:
            raise QemuError(f"calc-time is out of range[1, {MAX_CALC_TIME_MS // 1000}].")
        if sample_pages is not None:
            if compat.dirty_rate_samples_refused and mode != PAGE_SAMPLING:
                raise QemuError("sample-pages is used only in page-sampling mode")
            if mode == DIRTY_RING:
                raise QemuError("either sample-pages or dirty-ring can be specified.")
            if not MIN_SAMPLE_PAGES <= sample_pages <= MAX_SAMPLE_PAGES:
                raise QemuError(f"sample-pages is out of range[{MIN_SAMPLE_PAGES}, {MAX_SAMPLE_PAGES}].")
        if mode == (DIRTY_BITMAP if self._vm.dirty_ring_size else DIRTY_RING):
            raise QemuError(f"mode {mode} is not enabled, use other method instead.")

    def _end(self) -> None:
        vm = self._vm
        vm.guest.sync(reap=True)
        self.calc_time_ms = (vm.host.clock.now_ns() - self._since_ns) // NS_PER_MS
        for block, log in self._logs:
            block.logs.remove(log)
        measure = {PAGE_SAMPLING: self._from_samples, DIRTY_BITMAP: self._from_bitmap, DIRTY_RING: self._from_rings}
        self.rate = measure[self.mode]()
        self._logs = []
        self.status = MEASURED
        vm.trace("dirtyrate_calculate", dirtyrate=self.rate)
        vm.trace("dirtyrate_set_state", new_state=MEASURED)

    def _from_bitmap(self) -> int:
        pages = sum(log.count for _, log in self._logs) if self._vm.kvm_enabled else 0
        return mib_per_s(pages, self.calc_time_ms, exact=self._vm.compat.dirty_rate_fractions)

    def _begin_rings(self) -> None:
        rings = self._vm.dirty_limits.rings
        rings.look_for_vcpus()
        rings.start_logging()
        rings.start_reaper()
        self._pages = {vcpu.index: vcpu.pages for vcpu in rings.vcpus}

    def _from_rings(self) -> int:
        from fakeqemu.system.dirtylimit import rates_of

        rings = self._vm.dirty_limits.rings
        rings.stop_reaper()
        self.vcpu_rates = rates_of(self._vm, self._pages, self.calc_time_ms)
        rings.stop_logging()
        return sum(self.vcpu_rates.values())

    def _from_samples(self) -> int:
        samples = dirty = size_mb = 0
        for block, log in self._logs:
            if block.used_length < MIN_BLOCK_BYTES:
                continue
            n = block.used_length * self.sample_pages >> 30
            samples += n
            dirty += self._dirty_of(n, block, log)
            size_mb += block.used_length >> 20
        return dirty * size_mb * 1000 // (samples * self.calc_time_ms) if samples else -1

    def _dirty_of(self, n: int, block: RAMBlock, log: PageRuns) -> int:
        """How many of `n` pages that were drawn from the block are dirty."""
        if not n or not log.count:
            return 0
        if self._random is None:
            self._random = self._vm.host.random("dirtyrate")
        last = block.pages - 1  # QEMU never draws the last page
        if n <= _DRAWN_ONE_BY_ONE:
            return sum(self._random.randrange(last) in log for _ in range(n))
        share = min(1.0, log.count / block.pages)
        return max(0, min(n, round(self._random.gauss(n * share, (n * share * (1 - share)) ** 0.5))))

    def info(self, unit: str) -> dict[str, Any]:
        """The reply of query-dirty-rate, its time in `unit`."""
        info: dict[str, Any] = {"status": self.status}
        measured = self.status == MEASURED
        # 0 says that no pages were sampled
        info["sample-pages"] = 0 if measured and self.mode != PAGE_SAMPLING else self.sample_pages
        if measured:
            info["dirty-rate"] = self.rate
            if self.mode == DIRTY_RING:
                info["vcpu-dirty-rate"] = [{"id": i, "dirty-rate": rate} for i, rate in self.vcpu_rates.items()]
        info["mode"] = self.mode
        if self._vm.compat.dirty_rate_milliseconds:
            info["calc-time-unit"] = unit
        info["start-time"] = self.start_s
        info["calc-time"] = self.calc_time_ms // UNITS[unit]
        self._vm.trace("query_dirty_rate_info", new_state=self.status)
        return info
