# SPDX-License-Identifier: MIT
"""vCPUs with a dirty ring: each has room for the pages that it has written to, and stops when the ring is full.

KVM puts the number of a page into the ring of the vCPU that writes to it first; QEMU takes the numbers out (it *reaps*), and
the next write to the page counts again. A vCPU whose ring is full waits until that is done; one that is limited
(system/dirtylimit) sleeps then. So a limit is kept by what a vCPU sleeps for each ring that it fills.

Nothing is simulated page by page. What the guest does is shared equally among its vCPUs, each in a part of the working set
of its own; how often a ring was full, and how long its vCPU slept, is worked out for the time since the last look. A vCPU
whose part of the working set is smaller than the ring never fills it: that cannot be limited, here as with a real KVM.

The kernel keeps some room for what the processor has not told yet (as on Intel's, with a log of 512 pages of its own).

QEMU: kvm_dirty_ring_reap in accel/kvm/kvm-all.c; Linux: virt/kvm/dirty_ring.c
"""

from __future__ import annotations

from fakeqemu.host.clock import NS_PER_S
from fakeqemu.system.ramblock import PAGE_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.host.clock import Timer
    from fakeqemu.system.machine import Machine

#: entries that a vCPU may not use: KVM's own, and the processor's log
RESERVED = 64 + 512
#: how often QEMU empties all rings when there is no limit to keep
REAP_NS = NS_PER_S
_PAGE_NS = PAGE_SIZE * NS_PER_S
_NS_PER_US = 1000


class VcpuRing:
    """One vCPU and its ring."""

    __slots__ = ("credit", "index", "limited", "pages", "sleep_ns", "throttle_us")

    def __init__(self, index: int) -> None:
        self.index = index
        #: what is in the ring, in bytes x ns
        self.credit = 0
        #: pages that were ever taken out of it
        self.pages = 0
        #: how long it sleeps whenever its ring is full, if it is limited; outlives the limit
        self.throttle_us = 0
        self.limited = False
        #: how long it still sleeps
        self.sleep_ns = 0

    def run(self, ns: int, rate: int, full: int, span: int) -> tuple[int, int]:
        """Write at a rate for a while. `full` is a ring and `span` all that it writes to, in bytes x ns.

        Returns what was written in bytes x ns, and how often the ring was full.
        """
        done = fulls = 0
        while ns:
            if self.sleep_ns:
                step = min(self.sleep_ns, ns)
                self.sleep_ns -= step
                ns -= step
                continue
            if not rate:
                break
            filled_in = -(-(full - self.credit) // rate)
            if span < full or filled_in > ns:
                self.credit = min(self.credit + ns * rate, span)
                done += ns * rate
                break
            done += full - self.credit
            ns -= filled_in
            self.credit = 0
            self.sleep_ns = self.throttle_us * _NS_PER_US if self.limited else 0
            # From here on it is the same again and again.
            cycle = self.sleep_ns + -(-full // rate)
            times = ns // cycle
            ns -= times * cycle
            done += times * full
            fulls += 1 + times
            self.pages += (1 + times) * (full // _PAGE_NS)
        return done, fulls

    def reap(self) -> None:
        """Take out what is in the ring."""
        pages, self.credit = divmod(self.credit, _PAGE_NS)
        self.pages += pages


class VcpuRings:
    """All vCPUs of one machine and their rings: `vm.guest.rings` from the first use on."""

    __slots__ = ("_logging", "_reaper", "_vm", "vcpus")

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        #: in the order of their numbers
        self.vcpus: list[VcpuRing] = []
        self._logging = 0
        self._reaper: Timer | None = None
        self.look_for_vcpus()
        vm.guest.sync()
        vm.guest.rings = self

    def look_for_vcpus(self) -> bool:
        """Take in vCPUs that were plugged, and drop those that are gone; whether there are any such."""
        board = self._vm.board
        # A machine of type none has no vCPU unless asked for; what its guest is said to do is done by a first one.
        indices = sorted(cpu.index for cpu in board.cpus if cpu.index >= 0) if board is not None else []
        indices = indices or [0]
        if indices == [vcpu.index for vcpu in self.vcpus]:
            return False
        known = {vcpu.index: vcpu for vcpu in self.vcpus}
        self.vcpus = [known[index] if index in known else VcpuRing(index) for index in indices]
        return True

    # --- who wants to know ----------------------------------------------------------------------------

    def start_logging(self) -> None:
        """Somebody wants to know what is written to."""
        self._vm.guest.sync()
        self._logging += 1

    def stop_logging(self) -> None:
        """One less does; when it was the last one, the rings stay empty."""
        self._vm.guest.sync()
        self._logging -= 1
        if not self._logging:
            for vcpu in self.vcpus:
                vcpu.credit = 0

    def start_reaper(self) -> None:
        """Empty all rings now and then, as QEMU does that has no limit to keep."""
        clock = self._vm.host.clock
        self._reaper = clock.call_at(clock.now_ns() + REAP_NS, self._reap_all)

    def stop_reaper(self) -> None:
        if self._reaper is not None:
            self._reaper.cancel()
            self._reaper = None

    def _reap_all(self) -> None:
        # The reaper keeps away while there are limits: only what fills its ring sleeps.
        if not self._vm.dirty_limits.in_service:
            self._vm.guest.sync(reap=True)
        self.start_reaper()

    # --- the guest ------------------------------------------------------------------------------------

    def run(self, ns: int, rate: int) -> int:
        """Have the guest write for a while, at that rate in all; returns how much it wrote, in bytes x ns."""
        n = len(self.vcpus)
        share, rest = divmod(rate, n)
        full = (self._vm.dirty_ring_size - RESERVED) * _PAGE_NS
        span = sum(pages for _, pages in self._vm.guest.working_blocks()) // n * _PAGE_NS
        if not self._logging:
            span = 0  # nothing gets into the ring
        total = 0
        for position, vcpu in enumerate(self.vcpus):
            done, fulls = vcpu.run(ns, share + (position < rest), full, span)
            total += done
            if fulls and self._vm.trace.watched:
                self._tell(vcpu, fulls)
        return total

    def _tell(self, vcpu: VcpuRing, times: int) -> None:
        for _ in range(times):
            self._vm.trace("kvm_dirty_ring_full", id=vcpu.index)
            if vcpu.limited and vcpu.throttle_us:
                self._vm.trace("dirtylimit_vcpu_execute", cpu_index=vcpu.index, sleep_time_us=vcpu.throttle_us)

    def reap(self) -> None:
        """Empty all rings."""
        for vcpu in self.vcpus:
            vcpu.reap()


def mib_per_s(pages: int, ms: int, *, exact: bool) -> int:
    """A rate as QEMU works it out; without `exact`, whole MiB are counted before it is divided."""
    if exact:
        return (pages * 1000 * PAGE_SIZE >> 20) // ms
    return (pages * PAGE_SIZE >> 20) * 1000 // ms
