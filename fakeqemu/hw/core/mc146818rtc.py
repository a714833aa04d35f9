# SPDX-License-Identifier: MIT
"""The clock of a PC: a stock device whose date goes on.

QEMU: hw/rtc/mc146818rtc.c
"""

from __future__ import annotations

from fakeqemu.hw.core.stock import StockDevice
from fakeqemu.system.machine_object import rtc_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.qom.object import Property


class MC146818RTC(StockDevice):
    """The real-time clock."""

    __slots__ = ()

    def read(self, prop: Property) -> Any:
        return rtc_time(self.vm) if prop.name == "date" else super().read(prop)
