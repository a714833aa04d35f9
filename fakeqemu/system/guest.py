# SPDX-License-Identifier: MIT
"""What the guest does with its memory: nothing, unless told to dirty pages at a rate.

What was dirtied is a function of the time that the guest ran, worked out when somebody asks (`sync`): no ticker. Pages
are dirtied one after the other through a working set, again and again, so that a stretch of time costs a few runs. Where
vCPUs are measured or limited one by one, each does its share of that (system/dirty_ring).

Settings (`-fake`):

    guest.dirty-rate=SIZE    bytes a second, with QEMU's suffixes (64M); default 0
    guest.working-set=SIZE   how much memory, from address 0 on, it goes round in; default all of it
    guest.touch-rate=SIZE    bytes a second that it only looks at, which counts while memory is still to come (postcopy);
                             default: the dirty rate
    guest.other-faults=N     per cent of that, looked at by threads of the emulator

QEMU: the guest
"""

from __future__ import annotations

from fakeqemu.error import QemuError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fakeqemu.system.dirty_ring import VcpuRings
    from fakeqemu.system.machine import Machine
    from fakeqemu.system.ramblock import RAMBlock

_SUFFIXES = {"B": 0, "K": 10, "M": 20, "G": 30, "T": 40, "P": 50, "E": 60}
_NS_PER_S = 1_000_000_000


class Guest:
    """The guest of one machine. `started` and `stopped` are called by the run state."""

    __slots__ = (
        "_credit", "_position", "_since_ns", "_touch_rate", "_vm", "dirty_bytes_per_s", "on_start",
        "other_faults", "rings", "running", "throttle", "working_set",
    )  # fmt: skip

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self.running = False
        self.dirty_bytes_per_s = 0
        #: bytes of memory in use, None for all of it
        self.working_set: int | None = None
        self._touch_rate: int | None = None
        self.other_faults = 0
        #: told when the guest starts to run
        self.on_start: Callable[[], None] | None = None
        self._since_ns = 0
        self._position = 0
        self._credit = 0  # bytes x ns not yet turned into pages
        #: per cent of the time for which a migration has its vCPUs sleep
        self.throttle = 0
        #: its vCPUs with their dirty rings, once somebody measures or limits each
        self.rings: VcpuRings | None = None

    def configure(self, fake: dict[str, str]) -> None:
        """Take the settings that are the guest's; raises QemuError for a value that is no size."""
        if "guest.dirty-rate" in fake:
            self.set_dirty_rate(_size("guest.dirty-rate", fake["guest.dirty-rate"]))
        if "guest.working-set" in fake:
            self.working_set = _size("guest.working-set", fake["guest.working-set"])

        if "guest.touch-rate" in fake:
            self._touch_rate = _size("guest.touch-rate", fake["guest.touch-rate"])
        if "guest.other-faults" in fake:
            self.other_faults = _size("guest.other-faults", fake["guest.other-faults"])

    @property
    def touch_rate(self) -> int:
        """Bytes of memory that it looks at in a second."""
        return self.dirty_bytes_per_s if self._touch_rate is None else self._touch_rate

    def set_dirty_rate(self, bytes_per_s: int, working_set: int | None = None) -> None:
        """From now on dirty memory at this rate."""
        self.sync()
        self.dirty_bytes_per_s = bytes_per_s
        if working_set is not None:
            self.working_set = working_set

    def set_throttle(self, percentage: int) -> None:
        """From now on its vCPUs sleep for this share of the time; 0 for not at all."""
        self.sync()
        self.throttle = percentage

    def started(self) -> None:
        self.running = True
        self._since_ns = self._vm.host.clock.now_ns()
        if self.on_start is not None:
            self.on_start()

    def stopped(self) -> None:
        self.sync()
        self.running = False

    def sync(self, *, reap: bool = False) -> int:
        """Do what the guest did since the last look; returns the number of pages it dirtied. `reap`: empty dirty rings."""
        if not self.running:
            return 0
        from fakeqemu.system.ramblock import PAGE_SIZE

        now_ns = self._vm.host.clock.now_ns()
        if self.rings is None:
            self._credit += (now_ns - self._since_ns) * self.dirty_bytes_per_s * (100 - self.throttle) // 100
        else:
            self._credit += self.rings.run(
                now_ns - self._since_ns, self.dirty_bytes_per_s * (100 - self.throttle) // 100
            )
            if reap:
                self.rings.reap()
        self._since_ns = now_ns
        pages, self._credit = divmod(self._credit, _NS_PER_S * PAGE_SIZE)
        return self._dirty(pages) if pages else 0

    def _dirty(self, pages: int) -> int:
        blocks = self.working_blocks()
        total = sum(n for _, n in blocks)
        if not total:
            return 0
        at = self._position % total
        self._position = at + pages
        left = min(pages, total)
        done = left
        while left:
            start = 0
            for block, n in blocks:
                if start <= at < start + n:
                    length = min(left, start + n - at)
                    block.guest_dirties(at - start, length)
                    at += length
                    left -= length
                    if not left:
                        break
                start += n
            if at >= total:
                at = 0
        return done

    def working_blocks(self) -> list[tuple[RAMBlock, int]]:
        """The blocks that it goes round in, and how many pages of each."""
        from fakeqemu.system.ramblock import PAGE_SIZE

        left = self.working_set
        result: list[tuple[RAMBlock, int]] = []
        for block in self._vm.ram_blocks:
            n = block.pages if left is None else min(block.pages, left // PAGE_SIZE)
            if n:
                result.append((block, n))
            if left is not None:
                left -= n * PAGE_SIZE
        return result


def _size(name: str, text: str) -> int:
    number, shift = text, 0
    if text and text[-1].upper() in _SUFFIXES:
        number, shift = text[:-1], _SUFFIXES[text[-1].upper()]
    if not number.isdigit():
        raise QemuError(f"-fake {name}={text}: a size such as 64M is expected")
    return int(number) << shift
