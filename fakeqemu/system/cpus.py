# SPDX-License-Identifier: MIT
"""vCPUs: objects with a place in the topology and a thread that tools can see.

No guest code runs: a vCPU's thread is idle. `-cpu` is checked against the profile (models, feature names, values).

QEMU: system/cpus.c, target/i386/cpu.c, hw/i386/x86-common.c, accel/tcg/tcg-accel-ops-mttcg.c
"""

from __future__ import annotations

from fakeqemu.error import NotEmulated, QemuError
from fakeqemu.qom.object import Object
from fakeqemu.qom.properties import check_typed, parse_text

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
VENDOR_LENGTH = 12
MODEL_ID_LENGTH = 48
#: properties that can be set whenever one likes: numbers -> the largest, and others
_LARGEST = {"family": 0xFF + 0xF, "model": 0xFF, "stepping": 0xF, "tsc-frequency": (1 << 63) - 1}
_SETTABLE = ("model-id", "realized", "start-powered-off", "vendor")
_READ_ONLY = (
    "crash-information",
    "feature-words",
    "filtered-features",
    "hotpluggable",
    "hotplugged",
    "unavailable-features",
)
#: features that have a second name
_OTHER_NAMES = {
    "ffxsr": "fxsr-opt",
    "hv-apicv": "hv-avic",
    "i64": "lm",
    "pclmuldq": "pclmulqdq",
    "sse3": "pni",
    "sse4-1": "sse4.1",
    "sse4-2": "sse4.2",
    "xd": "nx",
}
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

    @property
    def tid(self) -> int:
        """The id of its thread, as tools see it."""
        return 0 if self.thread is None else self.thread.tid

    def plug(self, index: int, board: Board) -> None:
        """Take the place of CPU `index` and start its thread."""
        self.index = index
        self.place = board.cpu_place(index)
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
        if prop.name == "feature-words" and (self.features or self.index < 0 or self._values.get("ht")):
            raise NotEmulated(f"The value of property '{self.type_name}.feature-words' is not emulated")
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

    def stock_writable(self, name: str, type: str) -> bool:
        if name == "legacy-memory":
            return False
        return name == "memory" or (not type.startswith("link<") and name not in _READ_ONLY)

    def check_settable(self, prop: Property) -> None:
        name = prop.name
        if name in _SETTABLE or name in _LARGEST or not self._values.get("realized"):
            return
        if prop.type.startswith("link<"):
            raise QemuError(
                f"Attempt to set link property '{name}' on device '(null)' (type '{self.type_name}') after it was realized"
            )
        raise QemuError(
            f"Attempt to set property '{self._real_name(name)}' on anonymous device (type '{self.type_name}') "
            "after it was realized"
        )

    def _real_name(self, name: str) -> str:
        """The property that an old spelling with underscores stands for."""
        if name in _OTHER_NAMES:
            return _OTHER_NAMES[name]
        if "_" in name:
            for other in (name.replace("_", "."), name.replace("_", "-")):
                if self.find_property(other) is not None:
                    return other
        return name

    def set(self, name: str, value: Any) -> None:
        if name in _LARGEST and self.find_property(name) is not None:
            self._values[name] = self._checked_number(name, value)
        else:
            super().set(name, value)

    def _checked_number(self, name: str, value: Any) -> int:
        largest = _LARGEST[name]
        if self.vm.compat.cpu_numbers_unsigned:
            # A frequency is read as a signed number, and then compared as an unsigned one.
            number = int(check_typed("int64" if name == "tsc-frequency" else "uint64", name, value))
            if not 0 <= number <= largest:
                raise QemuError(f"parameter '{name}' can be at most {largest}")
            return number
        number = int(check_typed("int64", name, value))
        if not 0 <= number <= largest:
            raise QemuError(f"Property .{name} doesn't take value {number} (minimum: 0, maximum: {largest})")
        return number

    def _store(self, prop: Property, value: Any) -> None:
        if prop.name == "vendor" and len(value) != VENDOR_LENGTH:
            raise QemuError(self.vm.compat.cpu_vendor_text.replace("VALUE", value))
        if prop.name == "model-id":
            value = value[:MODEL_ID_LENGTH]
        super()._store(prop, value)


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


def cpu_device_number(index: int) -> int:
    """The number of CPU `index` among the unattached devices: the first CPU's APIC makes a device behind it."""
    return index if index == 0 else index + 1


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


def cpus_of(vm: Machine) -> list[X86CPU]:
    """The CPUs that are there."""
    return [] if vm.board is None else vm.board.cpus


def query_cpus_fast(vm: Machine) -> list[dict[str, Any]]:
    """CpuInfoFast of every CPU."""
    shown = []
    for cpu in cpus_of(vm):
        entry: dict[str, Any] = {
            "cpu-index": cpu.index,
            "qom-path": cpu.path,
            "thread-id": cpu.tid,
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
        raise QemuError(vm.compat.cpu_hotplug_refusal)
    here = {cpu.index: cpu for cpu in board.cpus}
    shown = []
    for index in reversed(range(board.smp.maxcpus)):
        entry: dict[str, Any] = {"props": board.cpu_place(index), "vcpus-count": 1, "type": board.cpu_type}
        if index in here:
            entry["qom-path"] = here[index].path
        shown.append(entry)
    return shown
