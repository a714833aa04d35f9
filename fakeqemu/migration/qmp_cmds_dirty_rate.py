# SPDX-License-Identifier: MIT
"""Commands about the dirty rate, QMP's and the human monitor's.

QEMU: migration/dirtyrate.c
"""

from __future__ import annotations

from fakeqemu.migration.dirtyrate import DIRTY_BITMAP, DIRTY_RING, PAGE_SAMPLING
from fakeqemu.monitor.registry import qmp_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.system.machine import Machine


@qmp_command
def qmp_calc_dirty_rate(
    vm: Machine,
    *,
    calc_time: int,
    calc_time_unit: str = "second",
    sample_pages: int | None = None,
    mode: str = PAGE_SAMPLING,
) -> None:
    """Measure from now on for a while; the result is asked for with query-dirty-rate."""
    vm.dirty_rate.calc(calc_time, calc_time_unit, sample_pages, mode)


@qmp_command
def qmp_query_dirty_rate(vm: Machine, *, calc_time_unit: str = "second") -> dict[str, Any]:
    """The last measurement, or how far it is."""
    return vm.dirty_rate.info(calc_time_unit)


# --- HMP --------------------------------------------------------------------------------------------------


def hmp_calc_dirty_rate(
    vm: Machine, *, second: int, dirty_ring: bool = False, dirty_bitmap: bool = False, sample_pages_per_GB: int = -1
) -> str:
    """The human monitor's calc_dirty_rate."""
    if not second:
        return "Incorrect period length specified!\n"
    if dirty_ring and dirty_bitmap:
        return "Either dirty ring or dirty bitmap can be specified!\n"
    mode = DIRTY_BITMAP if dirty_bitmap else DIRTY_RING if dirty_ring else PAGE_SAMPLING
    vm.dirty_rate.calc(second, "second", None if sample_pages_per_GB == -1 else sample_pages_per_GB, mode)
    return (
        f"Starting dirty rate measurement with period {second} seconds\n"
        "[Please use 'info dirty_rate' to check results]\n"
    )


def info_dirty_rate(vm: Machine, flags: list[str] | None = None) -> str:  # noqa: ARG001
    """The text of `info dirty_rate`. That the start time is said to be in ms is QEMU's word."""
    info = vm.dirty_rate.info("second")
    text = f"Status: {info['status']}\nStart Time: {info['start-time']} (ms)\n"
    if info["mode"] == PAGE_SAMPLING:
        text += f"Sample Pages: {info['sample-pages']} (per GB)\n"
    rate = f"{info['dirty-rate']} (MB/s)" if "dirty-rate" in info else "(not ready)"
    vcpus = "".join(
        f"vcpu[{vcpu['id']}], Dirty rate: {vcpu['dirty-rate']} (MB/s)\n" for vcpu in info.get("vcpu-dirty-rate", ())
    )
    return f"{text}Period: {info['calc-time']} (sec)\nMode: {info['mode']}\nDirty rate: {rate}\n{vcpus}"
