# SPDX-License-Identifier: MIT
"""What TCG cannot do of what a CPU model wants: QEMU warns of each such feature when it makes a CPU.

Each model is started once, and once one with every feature that can be asked for: that gives the order in which QEMU goes
through the features. The emulator ends by itself, at a device that does not exist.

    order       [[feature, text], ...]: all texts there are, as QEMU orders them
    MODEL       [position in `order`, ...]; models without a warning have no record

QEMU: target/i386/cpu.c (x86_cpu_filter_features)
"""

from __future__ import annotations

import re
from typing import Any

from fakeqemu.record.capture_vm import ACCEL, Emulator

MACHINE = ["-machine", "q35", "-m", "64", "-nodefaults", "-display", "none", "-S", *ACCEL]
END = ["-device", "x-no-such-device"]
_WARNING = re.compile(r"^[^:]*: warning: (TCG doesn't support requested feature: .*)$", re.MULTILINE)
_FEATURE = re.compile(r"(?:\]\.E[A-D]X|\))\.([\w.-]+) \[bit \d+\]$")
_BASE = "qemu64"


def capture_cpu_warnings(emulator: Emulator, cpu_help: str) -> dict[str, Any]:
    """The table `cpu-warnings`; `cpu_help` is what `-cpu help` prints."""
    models, _, flags = cpu_help.partition("Recognized CPUID flags:")
    names = re.findall(r"^(?:x86 |  )([\w.-]+)", models, re.MULTILINE)
    order = _warnings(emulator, ",".join([_BASE, *(f"{flag}=on" for flag in flags.split())]))
    found = {name: texts for name in dict.fromkeys(names) if (texts := _warnings(emulator, name))}
    for texts in found.values():
        for before, text in zip([None, *texts], texts, strict=False):
            if text not in order:
                order.insert(0 if before is None else order.index(before) + 1, text)
    table: dict[str, Any] = {"order": [[_feature(text), text] for text in order]}
    table.update({name: [order.index(text) for text in texts] for name, texts in found.items()})
    return table


def _warnings(emulator: Emulator, cpu: str) -> list[str]:
    stderr: str = emulator.run([*MACHINE, "-cpu", cpu, *END])["stderr"]
    return list(dict.fromkeys(_WARNING.findall(stderr)))


def _feature(text: str) -> str:
    match = _FEATURE.search(text)
    return match[1] if match is not None else ""
