# SPDX-License-Identifier: MIT
"""What the human monitor's `info` says about the machine.

QEMU: system/runstate-hmp-cmds.c, hw/core/machine-hmp-cmds.c, monitor/hmp-cmds.c
"""

from __future__ import annotations

from fakeqemu.system.cpus import info_cpus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakeqemu.system.machine import Machine

__all__ = ["info_cpus", "info_iothreads", "info_kvm", "info_memdev", "info_memory_size_summary", "info_name",
           "info_status", "info_uuid", "uuid_text"]  # fmt: skip


def uuid_text(uuid: bytes | None) -> str:
    """A UUID in its usual form; zeroes when there is none."""
    digits = (uuid or bytes(16)).hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def info_status(vm: Machine) -> str:
    state = vm.runstate
    text = "VM status: running" if state.running else "VM status: paused"
    if not state.running and state.state != "paused":
        text += f" ({state.state})"
    return text + "\r\n"


def info_name(vm: Machine) -> str:
    return "" if vm.name is None else f"{vm.name}\r\n"


def info_uuid(vm: Machine) -> str:
    return uuid_text(vm.uuid) + "\r\n"


def info_kvm(vm: Machine) -> str:
    return f"kvm support: {'enabled' if vm.kvm_enabled else 'disabled'}\r\n"


def info_memory_size_summary(vm: Machine) -> str:
    base = 0 if vm.board is None else vm.board.ram_size
    return f"base memory: {base}\r\nplugged memory: 0\r\n"


def info_memdev(vm: Machine) -> str:
    from fakeqemu.system.hostmem import query_memdev

    lines = []
    for entry in query_memdev(vm):
        lines.append(f"memory backend: {entry['id']}\r\n")
        lines.append(f"  size:  {entry['size']}\r\n")
        for name in ("merge", "dump", "prealloc", "share"):
            lines.append(f"  {name}: {'true' if entry[name] else 'false'}\r\n")
        if "reserve" in entry:
            lines.append(f"  reserve: {'true' if entry['reserve'] else 'false'}\r\n")
        lines.append(f"  policy: {entry['policy']}\r\n")
        lines.append(f"  host nodes: {_ranges(entry['host-nodes'])}\r\n")
    lines.append("\r\n")
    return "".join(lines)


def _ranges(numbers: list[int]) -> str:
    return ",".join(str(number) for number in numbers)


def info_iothreads(vm: Machine) -> str:
    from fakeqemu.system.iothread import query_iothreads

    lines = []
    for entry in query_iothreads(vm):
        lines.append(f"{entry['id']}:\r\n")
        lines.append(f"  thread_id={entry['thread-id']}\r\n")
        for name in ("poll-max-ns", "poll-grow", "poll-shrink", "aio-max-batch"):
            lines.append(f"  {name}={entry[name]}\r\n")
    return "".join(lines)
