# SPDX-License-Identifier: MIT
"""How many CPUs, and how they are nested: `-smp` and the machine property `smp`.

    drawers > books > sockets > dies > clusters > modules > cores > threads

A machine has some of these levels; the others are 1. What is left out is worked out from what is given: cores first
(sockets first on machine types before 6.2), threads last. The product must be `maxcpus`.

QEMU: hw/core/machine-smp.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.qapi.cutils import NumberError, parse_int64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.qapi.compat import Compat

#: outermost first, in the order of texts
LEVELS = ("drawers", "books", "sockets", "dies", "clusters", "modules", "cores", "threads")
#: levels that every machine has
ALWAYS = ("sockets", "cores", "threads")
#: the order in which unsupported levels are refused
_REFUSED_IN_ORDER = ("modules", "clusters", "dies", "books", "drawers")
#: board family -> levels beyond those
SUPPORTED: dict[str, tuple[str, ...]] = {
    "pc": ("dies", "modules"),
    "q35": ("dies", "modules"),
    "microvm": (),
    "none": (),
}


class SmpTopology:
    """The CPUs of one machine: how many at the start, how many at most, and every level's count."""

    __slots__ = ("cpus", "levels", "maxcpus")

    def __init__(self, cpus: int = 1, maxcpus: int = 1, levels: dict[str, int] | None = None) -> None:
        self.cpus = cpus
        self.maxcpus = maxcpus
        self.levels: dict[str, int] = dict.fromkeys(LEVELS, 1)
        if levels is not None:
            self.levels.update(levels)

    def __getattr__(self, name: str) -> int:
        if name in LEVELS:
            return self.levels[name]
        raise AttributeError(name)

    def as_qapi(self, compat: Compat) -> dict[str, int]:
        """As `qom-get` of the property `smp` shows it."""
        known = ("sockets", "cores", "threads", *compat.smp_levels.split())
        return {"cpus": self.cpus, **{k: n for k, n in self.levels.items() if k in known}, "maxcpus": self.maxcpus}

    def ids(self, index: int) -> dict[str, int]:
        """Where CPU `index` sits, as QAPI's CpuInstanceProperties names it."""
        threads, cores = self.levels["threads"], self.levels["cores"]
        modules, dies = self.levels["modules"], self.levels["dies"]
        props = {"thread-id": index % threads, "core-id": index // threads % cores}
        if modules > 1:
            props["module-id"] = index // (threads * cores) % modules
        if dies > 1:
            props["die-id"] = index // (threads * cores * modules) % dies
        props["socket-id"] = index // (threads * cores * modules * dies)
        return props

    def apic_id(self, index: int) -> int:
        """The APIC id of CPU `index`: each level in as many bits as it needs."""
        value = shift = 0
        for level in ("threads", "cores", "modules", "dies"):
            count = self.levels[level]
            value |= index % count << shift
            index //= count
            shift += (count - 1).bit_length()
        return value | index << shift


def from_text(compat: Compat, options: dict[str, str]) -> dict[str, int]:
    """The members of `-smp` as numbers; raises QemuError."""
    known = ("cpus", "maxcpus", *ALWAYS, *compat.smp_levels.split())
    config = {}
    for name, text in options.items():
        if name not in known:
            continue
        try:
            config[name] = parse_int64(text)
        except NumberError:
            raise QemuError(f"Parameter 'smp.{name}' expects integer") from None
    for name in options:
        if name not in known:
            raise QemuError(f"Parameter 'smp.{name}' is unexpected")
    return config


def parse_config(
    config: dict[str, Any], *, family: str, machine: str, max_cpus: int, prefer_sockets: bool, compat: Compat
) -> tuple[SmpTopology, str | None]:
    """The topology that an SMPConfiguration means, and a warning to print; raises QemuError.

    `family` is the board's (SUPPORTED), `machine` its name for error texts.
    """
    warning = None
    if any(value == 0 for value in config.values()):
        if compat.smp_zero_refused:
            raise QemuError("Invalid CPU topology: CPU topology parameters must be greater than zero")
        warning = "Deprecated CPU topology (considered invalid): CPU topology parameters must be greater than zero"
    given = {name: config.get(name, 0) & 0xFFFFFFFF for name in LEVELS}
    cpus, maxcpus = config.get("cpus", 0) & 0xFFFFFFFF, config.get("maxcpus", 0) & 0xFFFFFFFF
    known = compat.smp_levels.split()
    supported = [level for level in SUPPORTED[family] if level in known]
    for level in _REFUSED_IN_ORDER:
        if level not in supported and given[level] > 1:
            raise QemuError(f"{level} {compat.smp_unsupported_text} by this machine's CPU topology")
    for level in _REFUSED_IN_ORDER:
        given[level] = given[level] or 1
    _fill_in(given, cpus, maxcpus, prefer_sockets)
    total = 1
    for level in LEVELS:
        total *= given[level]
    maxcpus = maxcpus or cpus or total
    cpus = cpus or maxcpus
    shown = [level for level in LEVELS if level in ALWAYS or level in supported]
    text = " * ".join(f"{level} ({given[level]})" for level in shown)
    if total != maxcpus:
        raise QemuError(
            f"Invalid CPU topology: product of the hierarchy must match maxcpus: {text} != maxcpus ({maxcpus})"
        )
    if maxcpus < cpus:
        raise QemuError(
            "Invalid CPU topology: maxcpus must be equal to or greater than smp: "
            f"{text} == maxcpus ({maxcpus}) < smp_cpus ({cpus})"
        )
    if maxcpus > max_cpus:
        raise QemuError(
            f"Invalid SMP CPUs {_signed(maxcpus)}. The max CPUs supported by machine '{machine}' is {max_cpus}"
        )
    return SmpTopology(cpus, maxcpus, given), warning


def _fill_in(given: dict[str, int], cpus: int, maxcpus: int, prefer_sockets: bool) -> None:
    """Put numbers where there are none, as far as they follow from the others."""
    around = given["drawers"] * given["books"] * given["dies"] * given["clusters"] * given["modules"]
    if not cpus and not maxcpus:
        for level in ALWAYS:
            given[level] = given[level] or 1
        return
    total = maxcpus or cpus
    if prefer_sockets:
        if not given["sockets"]:
            given["cores"] = given["cores"] or 1
            given["threads"] = given["threads"] or 1
            given["sockets"] = total // (around * given["cores"] * given["threads"])
        elif not given["cores"]:
            given["threads"] = given["threads"] or 1
            given["cores"] = total // (around * given["sockets"] * given["threads"])
    elif not given["cores"]:
        given["sockets"] = given["sockets"] or 1
        given["threads"] = given["threads"] or 1
        given["cores"] = total // (around * given["sockets"] * given["threads"])
    elif not given["sockets"]:
        given["threads"] = given["threads"] or 1
        given["sockets"] = total // (around * given["cores"] * given["threads"])
    if not given["threads"]:
        given["threads"] = total // (around * given["sockets"] * given["cores"])


def _signed(number: int) -> int:
    return number - (1 << 32) if number >= 1 << 31 else number
