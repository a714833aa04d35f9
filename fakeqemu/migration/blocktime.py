# SPDX-License-Identifier: MIT
"""For how long vCPUs stood still, waiting for pages, on the destination of a postcopy migration.

Two generations of the accounting, after the compat row `blocktime_engine`:

    ArrayEngine   one address for each vCPU, milliseconds; each placed page is compared with all of them; a second fault of a
                  vCPU overwrites the first; other threads are not counted
    HashEngine    faults by page address, nanoseconds; a placed page is one look-up, plus one step for each fault that waits
                  for it; other threads are counted apart; the waits are sorted into 24 classes

Both know the clock only as a function, so that a test can turn it by hand. `steps` counts what a placed page costs.

QEMU: migration/postcopy-ram.c (blocktime_context_new, mark_postcopy_blocktime_begin and _end)
"""

from __future__ import annotations

from fakeqemu.host.clock import NS_PER_MS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

#: classes of the distribution: class N is for waits of 2^N to 2^(N+1)-1 microseconds
BUCKETS = 24
#: the index that stands for a thread that is no vCPU
NO_VCPU = -1
_UINT32 = 0xFFFFFFFF


class BlocktimeEngine:
    """What both generations have in common."""

    __slots__ = ("_down", "_now_ns", "_threads", "_trace", "all_total", "steps", "vcpu_count", "vcpu_total", "vcpus")

    def __init__(self, threads: Sequence[int], now_ns: Callable[[], int], trace: Callable[..., None]) -> None:
        """`threads`: the host threads of the vCPUs, in their order, as they are now; one added later is no vCPU here."""
        self._threads = {tid: index for index, tid in enumerate(threads)}
        self._now_ns = now_ns
        self._trace = trace
        self.vcpus = len(threads)
        self.vcpu_total = [0] * self.vcpus
        self.vcpu_count = [0] * self.vcpus
        self.all_total = 0
        #: comparisons or look-ups made for pages that were placed
        self.steps = 0
        self._down = 0

    @property
    def down(self) -> int:
        """vCPUs that wait now."""
        return self._down

    @property
    def pending(self) -> int:
        """Faults that wait now."""
        raise NotImplementedError

    def begin(self, address: int, thread: int) -> None:
        """A thread begins to wait for a page that has not come yet; 0 stands for a thread that the kernel did not tell."""
        raise NotImplementedError

    def end(self, address: int) -> None:
        """A page was placed, whether somebody waits for it or not."""
        raise NotImplementedError

    def end_run(self, address: int, pages: int, page_size: int) -> None:
        """Consecutive pages were placed: as `end` for each of them."""
        if not self.pending:
            self.steps += pages * self._idle_steps()
            return
        for page in range(pages):
            self.end(address + page * page_size)

    def _idle_steps(self) -> int:
        """What a placed page costs that nobody waits for."""
        raise NotImplementedError

    def report(self) -> dict[str, Any]:
        """The members of query-migrate."""
        raise NotImplementedError


class HashEngine(BlocktimeEngine):
    """The accounting from 10.1 on."""

    __slots__ = ("_last_begin", "_pending", "_vcpu_now", "buckets", "other_count", "other_total")

    def __init__(self, threads: Sequence[int], now_ns: Callable[[], int], trace: Callable[..., None]) -> None:
        super().__init__(threads, now_ns, trace)
        #: page address -> (since when, vCPU), newest first
        self._pending: dict[int, list[tuple[int, int]]] = {}
        self._vcpu_now = [0] * self.vcpus
        self._last_begin = 0
        self.buckets = [0] * BUCKETS
        self.other_count = 0
        self.other_total = 0
        for tid, index in self._threads.items():
            trace("postcopy_blocktime_tid_cpu_map", cpu=index, tid=tid)

    @property
    def pending(self) -> int:
        return sum(map(len, self._pending.values()))

    def begin(self, address: int, thread: int) -> None:
        if not thread:
            return
        now = self._now_ns()
        cpu = self._threads.get(thread, NO_VCPU)
        if cpu != NO_VCPU:
            self.vcpu_count[cpu] += 1
            if not self._vcpu_now[cpu]:
                self._down += 1
                self._last_begin = now
            self._vcpu_now[cpu] += 1
        else:
            self.other_count += 1
        self._pending.setdefault(address, []).insert(0, (now, cpu))
        exists = len(self._pending[address]) > 1
        self._trace("postcopy_blocktime_begin", addr=address, time=now, cpu=cpu, exists=exists)

    def end(self, address: int) -> None:
        self.steps += 1
        faults = self._pending.pop(address, None)
        if faults is None:
            return
        now = self._now_ns()
        affected = others = 0
        for start, cpu in faults:
            self.steps += 1
            elapsed = now - start
            self.buckets[bucket_of(elapsed)] += 1
            if cpu == NO_VCPU:
                self.other_total += elapsed
                others += 1
            else:
                self._vcpu_now[cpu] -= 1
                if not self._vcpu_now[cpu]:
                    self.vcpu_total[cpu] += elapsed
                    affected += 1
            left = 0 if cpu == NO_VCPU else self._vcpu_now[cpu]
            self._trace("postcopy_blocktime_end_one", cpu=cpu, left_faults=left)
        if affected and self._down == self.vcpus:
            self.all_total += now - self._last_begin
        self._down -= affected
        self._trace("postcopy_blocktime_end", addr=address, time=now, affected_cpus=affected, affected_non_cpus=others)

    def _idle_steps(self) -> int:
        return 1

    def report(self) -> dict[str, Any]:
        total, count = sum(self.vcpu_total), sum(self.vcpu_count)
        return {
            "postcopy-blocktime": self.all_total // NS_PER_MS & _UINT32,
            "postcopy-vcpu-blocktime": [one // NS_PER_MS & _UINT32 for one in self.vcpu_total],
            "postcopy-latency": _average(total + self.other_total, count + self.other_count),
            "postcopy-latency-dist": list(self.buckets),
            "postcopy-vcpu-latency": [_average(t, n) for t, n in zip(self.vcpu_total, self.vcpu_count, strict=True)],
            "postcopy-non-vcpu-latency": _average(self.other_total, self.other_count),
        }


class ArrayEngine(BlocktimeEngine):
    """The accounting up to 10.0."""

    __slots__ = ("_addresses", "_born_ns", "_last_begin", "_starts")

    def __init__(self, threads: Sequence[int], now_ns: Callable[[], int], trace: Callable[..., None]) -> None:
        super().__init__(threads, now_ns, trace)
        self._born_ns = now_ns()
        #: what each vCPU waits for, and since when; None and 0 when it does not
        self._addresses: list[int | None] = [None] * self.vcpus
        self._starts = [0] * self.vcpus
        self._last_begin = 0

    @property
    def pending(self) -> int:
        return sum(address is not None for address in self._addresses)

    def _now_ms(self) -> int:
        # 0 means that nobody waits.
        return max(1, (self._now_ns() - self._born_ns) // NS_PER_MS & _UINT32)

    def begin(self, address: int, thread: int) -> None:
        cpu = self._threads.get(thread, NO_VCPU) if thread else NO_VCPU
        if cpu == NO_VCPU:
            return
        if self._addresses[cpu] is None:
            self._down += 1
        self._last_begin = self._starts[cpu] = self._now_ms()
        self._addresses[cpu] = address
        self.vcpu_count[cpu] += 1
        self._trace("mark_postcopy_blocktime_begin", addr=address, time=self._last_begin, cpu=cpu, received=0)

    def end(self, address: int) -> None:
        affected = 0
        all_down = False
        now = self._now_ms()
        for cpu in range(self.vcpus):
            self.steps += 1
            if self._addresses[cpu] != address or not self._starts[cpu]:
                continue
            self._addresses[cpu] = None
            self.vcpu_total[cpu] += now - self._starts[cpu] & _UINT32
            affected += 1
            all_down = all_down or self._down == self.vcpus
        if all_down:
            self.all_total += now - self._last_begin & _UINT32
        self._down -= affected
        self._trace("mark_postcopy_blocktime_end", addr=address, time=now if affected else 0, affected_cpu=affected)

    def end_run(self, address: int, pages: int, page_size: int) -> None:
        if getattr(self._trace, "watched", False):  # each page is traced, whether somebody waits for it or not
            for page in range(pages):
                self.end(address + page * page_size)
        else:
            super().end_run(address, pages, page_size)

    def _idle_steps(self) -> int:
        return self.vcpus

    def report(self) -> dict[str, Any]:
        return {"postcopy-blocktime": self.all_total, "postcopy-vcpu-blocktime": list(self.vcpu_total)}


ENGINES: dict[str, type[BlocktimeEngine]] = {"array": ArrayEngine, "hash": HashEngine}


def bucket_of(elapsed_ns: int) -> int:
    """The class of the distribution for a wait."""
    us = elapsed_ns // 1000
    return min(BUCKETS - 1, us.bit_length() - 1) if us else 0


def _average(total: int, count: int) -> int:
    return total // count if count else 0


# --- for people -----------------------------------------------------------------------------------------

_UNITS = ("us", "ms", "sec")
_PER_LINE = 10


def compact_text(info: dict[str, Any]) -> str:
    """What `info migrate -a` of 10.1 and later adds."""
    if "postcopy-blocktime" not in info:
        return ""
    text = f"Postcopy Blocktime (ms): {info['postcopy-blocktime']}\n"
    text += "Postcopy vCPU Blocktime (ms):\n" + _bracketed(info["postcopy-vcpu-blocktime"])
    if "postcopy-latency" in info:
        text += f"Postcopy Latency (ns): {info['postcopy-latency']}\n"
        text += f"Postcopy non-vCPU Latency (ns): {info['postcopy-non-vcpu-latency']}\n"
        text += "Postcopy vCPU Latencies (ns):\n" + _bracketed(info["postcopy-vcpu-latency"])
        text += "Postcopy Latency Distribution:\n"
        for bucket, count in enumerate(info["postcopy-latency-dist"]):
            text += f"  [ {_bound(bucket)} - {_bound(bucket + 1)} ]: {count:>10}\n"
    return text


def _bracketed(values: list[int]) -> str:
    lines = [", ".join(map(str, values[at : at + _PER_LINE])) for at in range(0, len(values), _PER_LINE)]
    return " [" + ",\n  ".join(lines) + "]\n"


def _bound(bucket: int) -> str:
    value, unit = 1 << bucket, 0
    while value > 1000 and unit < len(_UNITS) - 1:
        value, unit = value // 1000, unit + 1
    return f"{value} {_UNITS[unit]}".rjust(8)


def old_text(info: dict[str, Any]) -> str:
    """What `info migrate` of releases up to 10.0 adds: the list sorted, runs merged."""
    if "postcopy-blocktime" not in info:
        return ""
    text = f"postcopy blocktime: {info['postcopy-blocktime']}\n"
    return text + f"postcopy vcpu blocktime: {_ranges(info['postcopy-vcpu-blocktime'])}\n"


def _ranges(values: list[int]) -> str:
    runs: list[list[int]] = []
    for value in sorted(set(values)):
        if runs and runs[-1][1] == value - 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
