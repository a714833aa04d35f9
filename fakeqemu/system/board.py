# SPDX-License-Identifier: MIT
"""The board: which machine type, how much memory, how many CPUs of which model.

    board = create_board(vm, "q35")            # None: QEMU's default type
    board.set_option("usb", "off")             # -machine usb=off
    board.set_memory({"size": 64 << 20})       # -m
    board.set_smp({"cpus": "2"})               # -smp
    board.set_cpu("max,+avx")                  # -cpu
    board.init()                               # memory and CPUs come to life

Types that run here are the PC family and `none`; what their trees of objects look like is known from the profile
(table `qom-tree`), recorded of a machine with 128 MB and one CPU: what depends on those is put in by `tree_record`.

QEMU: hw/core/machine.c, hw/i386/pc.c, system/vl.c
"""

from __future__ import annotations

from fakeqemu.error import NotEmulated, QemuError
from fakeqemu.system.machine_object import MachineObject
from fakeqemu.system.smp import SmpTopology, from_text, parse_config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.qom.registry import Record
    from fakeqemu.system.cpus import X86CPU
    from fakeqemu.system.default_devices import Layout
    from fakeqemu.system.hostmem import HostMemoryBackend
    from fakeqemu.system.machine import Machine

MIB, GIB = 1 << 20, 1 << 30
DEFAULT_RAM = 128 * MIB
#: machine name before the version -> board family
FAMILIES = {"none": "none", "microvm": "microvm", "pc-i440fx": "pc", "pc-q35": "q35"}
#: QEMU gives memory sizes in this granularity
RAM_ALIGNMENT = 8192
MAX_RAM_SLOTS = 256
#: highest APIC id without x2APIC, which no model under TCG has unless told
MAX_XAPIC_ID = 254


class Board:
    """What `-machine` chose. `object` is /machine itself."""

    __slots__ = (
        "_layout", "adapter", "alias", "cpu_features", "cpu_type", "cpus", "entry", "family", "maxram_size",
        "memdev_id", "memory_backend", "name", "nodefaults", "object", "omitted", "ports", "ram_size",
        "ram_size_given", "ram_slots", "smp", "type_name", "vm",
    )  # fmt: skip

    def __init__(self, vm: Machine, entry: dict[str, Any], *, nodefaults: bool = False) -> None:
        """`entry` is the type's entry of query-machines."""
        self.vm = vm
        self.entry = entry
        self.name: str = entry["name"]
        self.type_name = f"{self.name}-machine"
        self.alias: str | None = entry.get("alias")
        self.family = FAMILIES.get(self.name) or FAMILIES.get(self.name.rpartition("-")[0]) or ""
        if not self.family:
            raise NotEmulated(f"-machine {self.name}: not emulated")
        #: whether no default device is there
        self.nodefaults = nodefaults
        #: kinds of default devices that are not there, where some are
        self.omitted: list[str] = []
        #: QOM type of the display adapter, where it is not the usual one
        self.adapter: str | None = None
        #: "serial", "parallel" -> (number, label of the character device) of each port, where it is not the usual one
        self.ports: dict[str, list[tuple[int, str]]] = {}
        self._layout: Layout | bool | None = False  # nobody has asked yet
        self.ram_size = 0 if self.family == "none" else DEFAULT_RAM
        self.maxram_size = self.ram_size
        self.ram_slots = 0
        self.ram_size_given = False
        #: `-machine memory-backend=`: looked up by `init`, because objects are made after the machine
        self.memdev_id: str | None = None
        self.smp = SmpTopology()
        #: QOM type of the CPUs; None where the board makes none
        self.cpu_type: str | None = entry.get("default-cpu-type")
        #: -cpu's features as (property, value); a value of True or False was written as +name or -name
        self.cpu_features: list[tuple[str, str | bool]] = []
        self.cpus: list[X86CPU] = []
        #: the memory backend that is the guest's RAM, once `init` has run; None when there is no RAM
        self.memory_backend: HostMemoryBackend | None = None
        self.object = MachineObject(vm, self)

    @property
    def default_ram_id(self) -> str:
        return str(self.entry.get("default-ram-id", ""))

    # --- options --------------------------------------------------------------------------------------

    def set_option(self, name: str, text: str) -> None:
        """Set a property of the machine as `-machine name=text` does; raises QemuError."""
        if name == "memory-backend":
            self.memdev_id = text
            return
        self.object.set_str(name, text)

    def set_memory(self, config: dict[str, Any]) -> None:
        """Take a MemorySizeConfiguration (`size`, `slots`, `max-size`, integers); raises QemuError."""
        size = config.get("size") or (0 if self.family == "none" else DEFAULT_RAM)
        size = -(-size // RAM_ALIGNMENT) * RAM_ALIGNMENT
        slots, max_size = config.get("slots"), config.get("max-size")
        if slots and max_size is None:
            raise QemuError("slots specified but no max-size")
        if max_size is not None:
            if max_size < size:
                raise QemuError(
                    f"invalid value of maxmem: maximum memory size (0x{max_size:x}) "
                    f"must be at least the initial memory size (0x{size:x})"
                )
            if slots and max_size == size:
                raise QemuError(
                    "invalid value of maxmem: memory slots were specified but maximum memory size "
                    f"(0x{max_size:x}) is equal to the initial memory size (0x{size:x})"
                )
        self.ram_size_given = self.ram_size_given or bool(config.get("size"))
        self.ram_size = size
        self.ram_slots = slots or 0
        self.maxram_size = max_size if max_size is not None else size

    def set_smp(self, options: dict[str, str]) -> None:
        """Take `-smp`'s members as text; raises QemuError."""
        self.set_smp_config(from_text(self.vm.compat, options))

    def set_smp_config(self, config: dict[str, Any]) -> None:
        """Take an SMPConfiguration; raises QemuError."""
        self.smp, warning = parse_config(
            config,
            family=self.family,
            machine=self.name,
            max_cpus=self.entry["cpu-max"],
            prefer_sockets=self._older_than((6, 2)),
            compat=self.vm.compat,
        )
        if warning is not None:
            self.vm.error_report(f"warning: {warning}")

    def _older_than(self, version: tuple[int, int]) -> bool:
        """Whether this is a versioned machine type of a release before `version`: a fact about the type, not about us."""
        numbers = self.name.rpartition("-")[2].split(".")
        return len(numbers) == 2 and numbers[0].isdigit() and tuple(int(n) for n in numbers) < version

    def set_cpu(self, text: str) -> None:
        """Take `-cpu MODEL[,FEATURE...]`; raises QemuError for an unknown model or feature."""
        from fakeqemu.system.cpus import parse_cpu

        self.cpu_type, self.cpu_features = parse_cpu(self.vm, text)

    def warn_if_deprecated(self) -> None:
        """Print QEMU's warning about an old machine type: once the options of the machine are known to be good."""
        if self.entry.get("deprecated") and self.vm.compat.machine_deprecation_warned:
            self.vm.error_report(
                f"warning: Machine type '{self.name}' is deprecated: "
                "machines more than 3 years old are subject to deletion after 6 years"
            )

    def cpu_place(self, index: int) -> dict[str, int]:
        """Where CPU `index` sits (CpuInstanceProperties): slots for memory put the whole machine into one NUMA node."""
        place = self.smp.ids(index)
        if self.ram_slots and self.family in ("pc", "q35"):
            place["node-id"] = 0
        return place

    # --- coming to life -------------------------------------------------------------------------------

    def init(self) -> None:
        """Make the guest's memory and CPUs; raises QemuError. After this the machine is there (`phase` "ready" is vl's)."""
        if self.ram_slots > MAX_RAM_SLOTS and self.family in ("pc", "q35"):
            raise QemuError(f"unsupported amount of memory slots: {self.ram_slots}")
        self._warn_about_low_memory()
        self._init_ram()
        self._init_cpus()

    def _warn_about_low_memory(self) -> None:
        """max-ram-below-4g may leave most of the memory above 4 GB, in pages that the host cannot make huge."""
        low = self.object.option("max-ram-below-4g", 0)
        if low and self.ram_size - low > low and low % GIB:
            self.vm.error_report(
                f"warning: There is possibly poor performance as the ram size  (0x{self.ram_size:x}) is more then twice "
                f"the size of max-ram-below-4g ({low}) and max-ram-below-4g is not a multiple of 1G."
            )

    def resolve_memdev(self) -> None:
        """Find what `memory-backend=` names; raises QemuError. Without -m its size is the machine's memory."""
        if self.memdev_id is None:
            return
        target = self.vm.qom.lookup(self.memdev_id, "memory-backend")[0]
        if target is None:
            raise QemuError(f"Memory backend '{self.memdev_id}' not found")
        backend: HostMemoryBackend = target  # type: ignore[assignment]
        if not self.ram_size_given:
            self.ram_size = self.maxram_size = backend.size
        self.object.use_memory_backend(backend)

    def _init_ram(self) -> None:
        self.resolve_memdev()
        backend = self.object.memory_backend()
        if backend is not None:
            if backend.size != self.ram_size:
                raise QemuError("Machine memory size does not match the size of the memory backend")
        elif self.ram_size and self.default_ram_id:
            from fakeqemu.system.hostmem import create_default_memdev

            backend = create_default_memdev(self.vm, self.default_ram_id, self.ram_size)
            self.object.use_memory_backend(backend)
        if backend is not None:
            backend.map_as_ram()
            self.memory_backend = backend

    def _init_cpus(self) -> None:
        if self.cpu_type is None:
            return
        if self.family == "none":
            # The board has no place for the CPU that -cpu asks for.
            raise QemuError("apic-id property was not initialized properly")
        if self.smp.apic_id(self.smp.maxcpus - 1) > MAX_XAPIC_ID:
            text, _, hint = self.vm.compat.x2apic_needed_text.partition("\n")
            raise QemuError(text, hint=hint)
        from fakeqemu.system.cpus import create_cpus

        self.cpus = create_cpus(self.vm, self)

    # --- the recorded tree ----------------------------------------------------------------------------

    def tree_variant(self) -> str:
        """The record of table `qom-tree` (and `queries`) that was taken of this kind of machine."""
        profile = self.vm.profile
        variant = self.family + "-nodefaults"
        return variant if self.nodefaults and profile.has("qom-tree", variant) else self.family

    def tree_record(self) -> Record:
        """What the profile knows of the tree of this board, as it is with our memory and CPUs."""
        from fakeqemu.system.board_tree import adapt

        record = self.vm.profile.get("qom-tree", self.tree_variant())
        layout = self.layout()
        return adapt(self, record if layout is None else layout.tree(record))

    def layout(self) -> Layout | None:
        """Where the devices of the record stand on this board; None where they stand as recorded."""
        if isinstance(self._layout, bool):
            from fakeqemu.system.default_devices import layout_of

            self._layout = layout_of(self)
        return self._layout


def find_machine(vm: Machine, name: str | None) -> dict[str, Any]:
    """The query-machines entry of a name or alias, or of the default type; raises QemuError."""
    profile = vm.profile
    if name is None:
        for key in profile.keys("machines"):
            entry = profile.get("machines", key)
            if isinstance(entry, dict) and entry.get("is-default"):
                return entry
        raise QemuError(
            "No machine specified, and there is no default", hint="Use -machine help to list supported machines"
        )
    name = profile.get("machines", f"alias:{name}", name)
    found = profile.get("machines", name, None)
    if isinstance(found, dict):
        return found
    text = f'unsupported machine type: "{name}"' if vm.compat.machine_error_names_type else "unsupported machine type"
    raise QemuError(text, hint="Use -machine help to list supported machines")


def create_board(vm: Machine, name: str | None = None, *, nodefaults: bool = False) -> Board:
    """Give the machine its board, of the type that `name` (or an alias) means; raises QemuError.

    `vm.board` and /machine are there afterwards; memory and CPUs come with `Board.init`.
    """
    board = Board(vm, find_machine(vm, name), nodefaults=nodefaults)
    vm.board = board
    vm.qom.set_machine(board.object)
    return board
