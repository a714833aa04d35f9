# SPDX-License-Identifier: MIT
"""What the human monitor's `info` says about CPUs, memory and iothreads. Lines end in a plain newline.

QEMU: hw/core/machine-hmp-cmds.c, monitor/hmp-cmds.c
"""

from __future__ import annotations

from fakeqemu.system import cpus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.system.machine import Machine


def uuid_text(uuid: bytes | None) -> str:
    """A UUID in its usual form; zeroes when there is none."""
    digits = (uuid or bytes(16)).hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def info_cpus(vm: Machine, _flags: list[str]) -> str:
    """The CPUs; the first is the one that the monitor looks at."""
    lines = []
    for cpu in cpus.cpus_of(vm):
        mark = "*" if cpu.index == 0 else " "
        model = f" model={cpu.type_name.removesuffix(cpus.CPU_SUFFIX)}" if vm.compat.info_cpus_model else ""
        lines.append(f"{mark} CPU #{cpu.index}: thread_id={cpu.tid}{model}\n")
    return "".join(lines)


def info_kvm(vm: Machine, _flags: list[str]) -> str:
    return f"kvm support: {'enabled' if vm.kvm_enabled else 'disabled'}\n"


def info_memory_size_summary(vm: Machine, _flags: list[str]) -> str:
    base = 0 if vm.board is None else vm.board.ram_size
    return f"base memory: {base}\nplugged memory: 0\n"


def info_memdev(vm: Machine, _flags: list[str]) -> str:
    from fakeqemu.system.hostmem import query_memdev

    lines = []
    for entry in query_memdev(vm):
        lines.append(f"memory backend: {entry['id']}\n  size:  {entry['size']}\n")
        for name in ("merge", "dump", "prealloc", "share", "reserve"):
            lines.append(f"  {name}: {'true' if entry[name] else 'false'}\n")
        lines.append(f"  policy: {entry['policy']}\n  host nodes: {_ranges(entry['host-nodes'])}\n")
    return "".join(lines) + "\n"


def _ranges(numbers: list[int]) -> str:
    """Ascending numbers as QEMU prints lists of them: `0-2,5`."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def info_iothreads(vm: Machine, _flags: list[str]) -> str:
    from fakeqemu.system.iothread import query_iothreads

    lines = []
    for entry in query_iothreads(vm):
        lines.append(f"{entry['id']}:\n  thread_id={entry['thread-id']}\n")
        for name in ("poll-max-ns", "poll-grow", "poll-shrink", "poll-weight", "aio-max-batch"):
            if name in entry:
                lines.append(f"  {name}={entry[name]}\n")
    return "".join(lines)
