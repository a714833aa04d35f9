# SPDX-License-Identifier: MIT
"""/machine: the properties of a machine type, with the checks that QEMU makes.

Most properties are what the profile says of the type; those with a rule of their own are defined here. They are the same
whether `-machine`, `-m` and `-smp` set them or `qom-set` does.

QEMU: hw/core/machine.c, hw/i386/pc.c, hw/i386/x86-common.c
"""

from __future__ import annotations

from fakeqemu.error import NotEmulated, QemuError
from fakeqemu.qom.object import Object
from fakeqemu.qom.properties import bad_enum, check_typed, wrong_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.qom.object import Property
    from fakeqemu.system.board import Board
    from fakeqemu.system.hostmem import HostMemoryBackend
    from fakeqemu.system.machine import Machine

GIB = 1 << 30
MAX_FIRMWARE = 16 << 20
#: devices that a PC can be told to boot from
BOOT_DEVICES = "abcdnp"
#: enumerations whose default differs from "auto"
_ENUM_DEFAULTS = {"vmport": "on", "x-south-bridge": "PIIX3"}
_LISTS = ("cxl-fmw", "sgx-epc", "smp-cache")
_CACHES = ("l1d", "l1i", "l2", "l3")


class MachineObject(Object):
    """The object at /machine."""

    __slots__ = ("_boot", "board")

    def __init__(self, vm: Machine, board: Board) -> None:
        super().__init__(vm, board.type_name)
        self.board = board
        self._boot: dict[str, Any] = {}
        if board.family in ("pc", "q35"):
            self._boot = {"order": "cad"}
        elif vm.compat.boot_order_always:
            self._boot = {"order": ""}

    # The type's properties come from the profile; here is what they do.

    def read(self, prop: Property) -> Any:
        reader = _READERS.get(prop.name)
        if reader is not None and prop.get is None:
            return reader(self)
        return super().read(prop)

    def _type_default(self, prop: Property) -> Any:
        if prop.name in _ENUM_DEFAULTS and prop.name not in self._values:
            return _ENUM_DEFAULTS[prop.name]
        if prop.type == "OnOffAuto":
            return "auto"
        if prop.type in ("SgxEPC", "CXLFixedMemoryWindow"):
            return []
        return super()._type_default(prop)

    def _type_properties(self) -> list[dict[str, Any]]:
        known = self.vm.profile.get("qom-properties", self.type_name, None)
        if isinstance(known, list):
            return known
        # A type that could not be asked (its instance asserts): what a machine of it showed.
        record = self.vm.profile.get("qom-tree", self.board.tree_variant())["machine"][1]
        return [{"name": name, "type": entry[0]} for name, entry in record.items()]

    def _type_property(self, name: str) -> dict[str, Any] | None:
        known = self.vm.profile.named_properties(self.type_name)
        return known.get(name) if known else next((x for x in self._type_properties() if x["name"] == name), None)

    def stock_writable(self, name: str, type: str) -> bool:
        if type.startswith("link<"):
            return name in ("acpi-device", "memory-backend", "confidential-guest-support", "rtc_state")
        return True

    def check_settable(self, prop: Property) -> None:
        # Aliases of properties of the board's devices answer as those.
        if prop.name == "rtc-time":
            raise QemuError("Property 'mc146818rtc.date' is not writable")
        if prop.name == "pcspk-audiodev" and self.vm.phase != "preconfig":
            raise QemuError(
                "Attempt to set property 'audiodev' on anonymous device (type 'isa-pcspk') after it was realized"
            )

    def _store(self, prop: Property, value: Any) -> None:
        if prop.name in _LISTS and not isinstance(value, list):
            raise wrong_type(prop.name, "array")
        if prop.name in _LISTS:
            self.check_list(value, prop.name)
        checker = _CHECKERS.get(prop.name)
        if checker is not None:
            value = checker(self, value)
        if prop.name not in _READERS:
            super()._store(prop, value)

    def set_str(self, name: str, text: str) -> None:
        if name in ("boot", "memory", "smp", "smp-cache", "sgx-epc", "cxl-fmw"):
            self._writable_property(name)
            raise wrong_type(name, "array" if name in _LISTS else "object")
        super().set_str(name, text)

    def option(self, name: str, default: Any) -> Any:
        """What somebody set a property to, else `default`: nothing is read for it."""
        return self._values.get(name, default)

    # --- memory backend -------------------------------------------------------------------------------

    def memory_backend(self) -> HostMemoryBackend | None:
        """What `memory-backend=` names, None when it was not given."""
        target = self._values.get("memory-backend")
        return target if isinstance(target, Object) else None  # type: ignore[return-value]

    def use_memory_backend(self, backend: HostMemoryBackend) -> None:
        self._values["memory-backend"] = backend

    # --- structures -----------------------------------------------------------------------------------

    def read_memory(self) -> dict[str, int]:
        board = self.board
        config = {"size": board.ram_size}
        if board.maxram_size != board.ram_size or board.ram_slots:
            config["max-size"] = board.maxram_size
        if board.ram_slots:
            config["slots"] = board.ram_slots
        return config

    def check_memory(self, value: Any) -> None:
        members = {"size": "size", "max-size": "size", "slots": "uint64"}
        self.board.set_memory(_check_members("memory", value, members))

    def read_smp(self) -> dict[str, int]:
        return self.board.smp.as_qapi(self.vm.compat)

    def check_smp(self, value: Any) -> None:
        names = ("cpus", "maxcpus", "sockets", "cores", "threads", *self.vm.compat.smp_levels.split())
        self.board.set_smp_config(_check_members("smp", value, dict.fromkeys(names, "int")))

    def read_boot(self) -> dict[str, Any]:
        return dict(self._boot)

    def check_boot(self, value: Any) -> None:
        members = {
            "order": "string", "once": "string", "menu": "bool", "splash": "string", "splash-time": "int",
            "reboot-timeout": "int", "strict": "bool",
        }  # fmt: skip
        config = _check_members("boot", value, members)
        for name in ("order", "once"):
            if name in config and self.board.family in ("pc", "q35", "microvm", "none"):
                _check_boot_devices(config[name])
        self._boot.update(config)

    def read_smp_cache(self) -> list[dict[str, str]]:
        return [{"cache": name, "topology": "default"} for name in _CACHES]

    def read_rtc_time(self) -> dict[str, int]:
        return rtc_time(self.vm)

    # --- rules ----------------------------------------------------------------------------------------

    def check_max_ram_below_4g(self, value: int) -> int:
        if value > 4 * GIB:
            raise QemuError(f"Machine option 'max-ram-below-4g={value}' expects size less than or equal to 4G")
        if value < 1 << 20:
            self.vm.error_report(
                f"warning: Only {value} bytes of RAM below the 4GiB boundary,BIOS may not work with less than 1MiB"
            )
        return value

    def check_max_fw_size(self, value: int) -> int:
        if value > MAX_FIRMWARE:
            raise QemuError(
                f"User specified max allowed firmware size {value} is greater than 16MiB. "
                f"If combined {self.vm.compat.machine_firmware_word} size "
                "exceeds 16MiB the system may not boot, or experience intermittentstability issues."
            )
        return value

    def check_oem_id(self, value: str) -> str:
        if len(value) > 6:
            raise QemuError("User specified x-oem-id value is bigger than 6 bytes in size")
        return value

    def check_oem_table_id(self, value: str) -> str:
        if len(value) > 8:
            raise QemuError("User specified x-oem-table-id value is bigger than 8 bytes in size")
        return value

    def check_smbios_type(self, value: str) -> str:
        if value not in ("32", "64", "auto"):
            raise bad_enum("smbios-entry-point-type", value)
        return value

    def check_nvdimm_persistence(self, value: str) -> str:
        if value not in ("cpu", "mem-ctrl"):
            raise QemuError(f"-machine nvdimm-persistence={value}: unsupported option")
        return value

    def check_list(self, value: Any, name: str) -> Any:
        """Lists that configure hardware which is not here: only an empty one does what it says."""
        if value and not isinstance(value[0], dict):
            raise wrong_type(f"{name}[0]", "object")
        if value:
            raise NotEmulated(f"{self.type_name}: this list is not emulated")
        return value

    def check_memory_encryption(self, value: str) -> str:
        if self.vm.qom.lookup(value, "confidential-guest-support")[0] is None:
            raise QemuError(f"No such memory encryption object '{value}'")
        return value

    def check_phandle_start(self, value: int) -> int:
        # kept in a C int
        value &= 0xFFFFFFFF
        return value - (1 << 32) if value >= 1 << 31 else value


def rtc_time(vm: Machine) -> dict[str, int]:
    """The guest's clock as a C `struct tm`."""
    from time import gmtime

    now = gmtime(vm.host.clock.wall_ns() // 1_000_000_000)
    return {
        "tm_year": now.tm_year - 1900, "tm_mon": now.tm_mon - 1, "tm_mday": now.tm_mday,
        "tm_hour": now.tm_hour, "tm_min": now.tm_min, "tm_sec": now.tm_sec,
    }  # fmt: skip


def _check_members(name: str, value: Any, members: dict[str, str]) -> dict[str, Any]:
    """A structure whose members are all optional scalars, judged in QEMU's order and words."""
    if not isinstance(value, dict):
        raise wrong_type(name, "object")
    checked = {}
    for member, type_name in members.items():
        if member in value:
            checked[member] = check_typed(type_name, f"{name}.{member}", value[member])
    for member in value:
        if member not in members:
            raise QemuError(f"Parameter '{name}.{member}' is unexpected")
    return checked


def _check_boot_devices(order: str) -> None:
    seen = ""
    for device in order:
        if not "a" <= device <= "p":
            raise QemuError(f"Invalid boot device '{device}'")
        if device in seen:
            raise QemuError(f"Boot device '{device}' was given twice")
        seen += device


_READERS = {
    "memory": MachineObject.read_memory,
    "smp": MachineObject.read_smp,
    "boot": MachineObject.read_boot,
    "smp-cache": MachineObject.read_smp_cache,
    "rtc-time": MachineObject.read_rtc_time,
}
_CHECKERS: dict[str, Any] = {
    "memory": MachineObject.check_memory,
    "smp": MachineObject.check_smp,
    "boot": MachineObject.check_boot,
    "max-ram-below-4g": MachineObject.check_max_ram_below_4g,
    "max-fw-size": MachineObject.check_max_fw_size,
    "x-oem-id": MachineObject.check_oem_id,
    "x-oem-table-id": MachineObject.check_oem_table_id,
    "smbios-entry-point-type": MachineObject.check_smbios_type,
    "nvdimm-persistence": MachineObject.check_nvdimm_persistence,
    "memory-encryption": MachineObject.check_memory_encryption,
    "phandle-start": MachineObject.check_phandle_start,
}
