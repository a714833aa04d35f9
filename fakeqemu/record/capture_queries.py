# SPDX-License-Identifier: MIT
"""What the machines of a QEMU answer to every query that changes nothing, over QMP and in the human monitor."""

from __future__ import annotations

import re
from typing import Any

from fakeqemu.record.capture_vm import ACCEL, CaptureVm

# Variant -> command line; `none` ones have no accelerator so that they show QEMU's own choice.
VARIANTS: dict[str, list[str]] = {
    "none": ["-machine", "none", "-S", *ACCEL],
    "none-nodefaults": ["-machine", "none", "-S", *ACCEL, "-nodefaults"],
    "pc": ["-machine", "pc", "-S", *ACCEL],
    "pc-nodefaults": ["-machine", "pc", "-S", *ACCEL, "-nodefaults"],
    "q35": ["-machine", "q35", "-S", *ACCEL],
    "q35-nodefaults": ["-machine", "q35", "-S", *ACCEL, "-nodefaults"],
    "microvm": ["-machine", "microvm", "-S", *ACCEL, "-nodefaults"],
}

# Big, the same everywhere, and tables of their own.
ELSEWHERE = ("query-commands", "query-qmp-schema")
# The same on every machine: asked once.
ONCE = ("query-command-line-options", "query-machines", "query-events", "query-target")
# Queries that are no questions of a client or need something set up first; an answer would be of no use.
NOT_ASKED = ("query-cpu-model-comparison", "query-cpu-model-baseline", "query-cpu-model-expansion")

# As a client would ask when a query needs arguments.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "query-stats": {"target": "vm"},
    "query-acpi-ospm-status": {},
    "query-vm-generation-id": {},
}

HMP_LINES = [
    "help",
    "info",
    "info qtree",
    "info qom-tree",
    "info pci",
    "info version",
    "info status",
    "info cpus",
    "info chardev",
    "info network",
    "info block",
    "info mice",
    "info memory_size_summary",
    "info numa",
    "info hotpluggable-cpus",
    "info qdm",
    "info mtree",
    "info mtree -f",
    "info migrate",
    "info migrate_capabilities",
    "info migrate_parameters",
    "info name",
    "info uuid",
    "info usb",
    "info usbhost",
    "info iothreads",
    "info irq",
    "info pic",
    "info roms",
    "info balloon",
    "info kvm",
    "info accelerators",
    "info snapshots",
    "info vnc",
    "info spice",
    "info tpm",
    "info memdev",
    "info memory-devices",
    "info ramblock",
    "info rocker",
    "info replay",
    "info jit",
    "info dump",
    "info vm-generation-id",
    "info sgx",
    "info sev",
    "info virtio",
    "info block-jobs",
    "info blockstats",
    "info cryptodev",
    "info vcpu_dirty_limit",
    "info dirty_rate",
    "info firmware-log",
]


def capture_queries(vm: CaptureVm, variant: str, known: list[str], *, first: bool) -> dict[str, Any]:
    """`VARIANT/COMMAND` -> its reply, errors included, scrubbed."""
    result = {}
    for name in sorted(known):
        question = name.startswith(("query-", "x-query-")) or name in ("xen-event-list", "qom-list-types")
        if not question or name == "qom-list-types" or name in ELSEWHERE or name in NOT_ASKED:
            continue
        if name in ONCE and not first:
            continue
        answer = vm.ask(name, ARGUMENTS.get(name, {}))
        result[f"{variant}/{name}"] = vm.emulator.scrub(answer)
    return result


def capture_hmp(vm: CaptureVm, variant: str) -> dict[str, str]:
    """`VARIANT/LINE` -> what the human monitor prints."""
    return {f"{variant}/{line}": vm.hmp(line) for line in HMP_LINES}


def capture_hmp_help(vm: CaptureVm) -> dict[str, str]:
    """`help/COMMAND` and `help/info ITEM` -> the help text of each."""
    result = {}
    for text, prefix in ((vm.hmp("help"), ""), (vm.hmp("help info"), "info ")):
        for line in text.splitlines():
            match = re.match(r"(?:info )?([\w|-]+)", line)
            if match:
                for name in filter(None, match.group(1).split("|")):
                    result[f"help/{prefix}{name}"] = vm.hmp(f"help {prefix}{name}")
    return result
