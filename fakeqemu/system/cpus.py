# SPDX-License-Identifier: MIT
"""vCPUs: objects with a place in the topology and a thread that tools can see.

No guest code runs: a vCPU's thread is idle. `-cpu` is checked against the profile (models, feature names, values).

QEMU: system/cpus.c, target/i386/cpu.c, hw/i386/x86-common.c, accel/tcg/tcg-accel-ops-mttcg.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.qom.object import Object
from fakeqemu.qom.properties import check_typed, parse_text
from fakeqemu.system.board_tree import cpu_device_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.host.host import HostThread
    from fakeqemu.qom.object import Property
    from fakeqemu.qom.registry import Record
    from fakeqemu.system.board import Board
    from fakeqemu.system.machine import Machine

CPU_SUFFIX = "-x86_64-cpu"
#: models that need hardware virtualization
_HARDWARE_MODELS = ("host",)
#: properties whose recorded values hold for every model, though they have no default
_OF_ANY_MODEL = ("hotpluggable", "hotplugged", "hv-vendor-id", "lbr-fmt", "lbr_fmt", "memory", "parent_bus", "realized")
#: the model whose values the profile's trees show
RECORDED_MODEL = "qemu64" + CPU_SUFFIX


class X86CPU(Object):
    """One vCPU."""

    __slots__ = ("features", "index", "place", "thread")

    def __init__(self, vm: Machine, type_name: str) -> None:
        super().__init__(vm, type_name)
        self.index = -1
        #: socket-id, core-id, thread-id, ...
        self.place: dict[str, int] = {}
        self.features: dict[str, Any] = {}
        self.thread: HostThread | None = None

    def plug(self, index: int, board: Board) -> None:
        """Take the place of CPU `index` and start its thread."""
        self.index = index
        self.place = board.smp.ids(index)
        self._values.update(self.place)
        self._values["apic-id"] = board.smp.apic_id(index)
        for name in ("die-id", "module-id"):
            self._values.setdefault(name, 0)
        if board.smp.cores * board.smp.threads > 1:
            self._values.update(dict.fromkeys(("ht", "cmp-legacy", "cmp_legacy"), True))
        self._values["realized"] = True
        self._values.update(self.features)
        self.thread = self.vm.host.thread(f"CPU {index}/TCG")

    def read(self, prop: Property) -> Any:
        if prop.name == "crash-information":
            raise QemuError("No crash occurred")
        if prop.name == "unavailable-features":
            return []
        return super().read(prop)

    def attach_record(self, record: Record) -> None:
        if self.type_name != RECORDED_MODEL:
            # What another model has in common: settings, which have defaults, but not features, model numbers and names.
            settings = {known["name"] for known in self._type_properties() if "default-value" in known}
            record = {
                name: entry if name in settings or name in _OF_ANY_MODEL or entry[0].startswith("child<") else entry[:1]
                for name, entry in record.items()
            }
            for known in self._type_properties():
                record.setdefault(known["name"], [known["type"]])
        super().attach_record(record)

    def unparented(self) -> None:
        if self.thread is not None:
            self.thread.stop()

    def check_settable(self, prop: Property) -> None:
        if prop.name == "realized":
            return
        raise QemuError(
            f"Attempt to set property '{prop.name}' on anonymous device (type '{self.type_name}') after it was realized"
        )

    def stock_writable(self, name: str, type: str) -> bool:
        return not type.startswith("link<") and name not in ("hotplugged", "hotpluggable")


def parse_cpu(vm: Machine, text: str) -> tuple[str, list[tuple[str, str | bool]]]:
    """The QOM type and the features of `-cpu TEXT`; raises QemuError for an unknown model."""
    if not text:
        raise QemuError("-cpu option cannot be empty")
    model, *features = text.split(",")
    type_name = model + CPU_SUFFIX
    if not vm.profile.is_type(type_name) or vm.profile.is_abstract(type_name):
        raise QemuError(f"unable to find CPU model '{model}'")
    if model in _HARDWARE_MODELS and not vm.kvm_enabled:
        raise QemuError(f"CPU model '{model}' requires KVM or HVF")
    parsed: list[tuple[str, str | bool]] = []
    for feature in features:
        if feature[:1] in ("+", "-"):
            parsed.append((feature[1:], feature[0] == "+"))
        elif feature:
            name, equals, value = feature.partition("=")
            parsed.append((name.replace("_", "-"), value if equals else "on"))
    return type_name, parsed


def apply_features(vm: Machine, type_name: str, features: list[tuple[str, str | bool]]) -> dict[str, Any]:
    """The values of properties that features set, checked; raises QemuError.

    `name=value` is a global of the type and fails as one; `+name` and `-name` set the object afterwards.
    """
    types = {entry["name"]: entry["type"] for entry in _cpu_properties(vm, type_name)}
    values: dict[str, Any] = {}
    for name, value in features:
        if isinstance(value, str):
            try:
                values[name] = parse_text(_type_of(types, type_name, name), name, value)
            except QemuError as err:
                raise err.prefixed(f"can't apply global {type_name}.{name}={value}: ") from None
    for name, value in features:
        if isinstance(value, bool):
            values[name] = check_typed(_type_of(types, type_name, name), name, value)
    return values


def _type_of(types: dict[str, str], type_name: str, name: str) -> str:
    if name not in types:
        raise QemuError(f"Property '{type_name}.{name}' not found")
    return types[name]


def _cpu_properties(vm: Machine, type_name: str) -> list[dict[str, Any]]:
    known = vm.profile.qom_properties(type_name)
    return known if isinstance(known, list) else []


def create_cpus(vm: Machine, board: Board) -> list[X86CPU]:
    """Make the CPUs that are there at the start, as the first devices below /machine/unattached."""
    assert board.cpu_type is not None
    values = apply_features(vm, board.cpu_type, board.cpu_features) if board.cpu_features else {}
    cpus = []
    for index in range(board.smp.cpus):
        cpu = X86CPU(vm, board.cpu_type)
        cpu.features = values
        vm.qom.unattached.add_child(f"device[{cpu_device_number(index)}]", cpu)
        cpu.plug(index, board)
        cpus.append(cpu)
    return cpus


# --- what monitors show -----------------------------------------------------------------------------------


def query_cpus_fast(vm: Machine) -> list[dict[str, Any]]:
    """CpuInfoFast of every CPU."""
    shown = []
    for cpu in [] if vm.board is None else vm.board.cpus:
        entry: dict[str, Any] = {
            "cpu-index": cpu.index,
            "qom-path": cpu.path,
            "thread-id": cpu.thread.tid if cpu.thread is not None else 0,
            "props": dict(cpu.place),
            "target": "x86_64",
        }
        if vm.compat.cpus_fast_qom_type:
            entry["qom-type"] = cpu.type_name
        shown.append(entry)
    return shown


def query_hotpluggable_cpus(vm: Machine) -> list[dict[str, Any]]:
    """HotpluggableCPU of every place, the last first; raises QemuError where CPUs cannot be plugged."""
    board = vm.board
    if board is None or not board.entry["hotpluggable-cpus"]:
        raise QemuError("machine does not support hot-plugging CPUs")
    here = {cpu.index: cpu for cpu in board.cpus}
    shown = []
    for index in reversed(range(board.smp.maxcpus)):
        entry: dict[str, Any] = {"props": board.smp.ids(index), "vcpus-count": 1, "type": board.cpu_type}
        if index in here:
            entry["qom-path"] = here[index].path
        shown.append(entry)
    return shown


def info_cpus(vm: Machine) -> str:
    """`info cpus`; the first CPU is the one that monitors look at."""
    lines = []
    for cpu in [] if vm.board is None else vm.board.cpus:
        mark = "*" if cpu.index == 0 else " "
        model = f" model={cpu.type_name.removesuffix(CPU_SUFFIX)}" if vm.compat.info_cpus_model else ""
        tid = cpu.thread.tid if cpu.thread is not None else 0
        lines.append(f"{mark} CPU #{cpu.index}: thread_id={tid}{model}\r\n")
    return "".join(lines)
