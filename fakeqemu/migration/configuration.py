# SPDX-License-Identifier: MIT
"""The configuration section: the machine type, and what must be the same on both sides.

    be32 length, machine type
    [configuration/target-page-bits]  [configuration/capabilities]  [configuration/uuid]

QEMU: migration/savevm.c (vmstate_configuration)
"""

from __future__ import annotations

from fakeqemu.migration.stream.qemu_file import c_string
from fakeqemu.migration.stream.section import CONFIGURATION_CAPABILITIES, signed32
from fakeqemu.migration.stream.vmstate import LoadError, PostLoadError, VMStateDescription, load_state
from fakeqemu.migration.stream.vmstate_fields import buffer_from, custom, uint8, uint32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.migration.stream.qemu_file import QEMUFile
    from fakeqemu.migration.stream.vmstate import Field
    from fakeqemu.system.machine import Machine

_TARGET_PAGE_BITS = 12


def is_sent(vm: Machine) -> bool:
    """Whether streams have the section: what a side sends, and what it waits for."""
    return vm.migration.settings.get("send-configuration") is not False


def listed_capabilities(vm: Machine) -> list[str]:
    """The capabilities that a stream of ours lists: those that must be the same on both sides."""
    return [name for name in CONFIGURATION_CAPABILITIES if vm.savevm.capability(name)]


def sent_uuid(vm: Machine) -> bytes | None:
    """The UUID that a stream of ours carries, None for none."""
    return vm.uuid if vm.savevm.capability("validate-uuid") else None


def describe(vm: Machine, machine_type: str) -> dict[str, Any]:
    """The section as the description at the end of a stream has it."""
    described: dict[str, Any] = {
        "vmsd_name": "configuration",
        "version": 1,
        "fields": [_field("len", "uint32", 4), _field("name", "buffer", len(machine_type.encode()))],
    }
    subsections: list[dict[str, Any]] = []
    listed = listed_capabilities(vm)
    if listed:
        fields = [
            _field("caps_count", "uint32", 4),
            _field("capabilities", "capability", 1 + len(listed[0]), len(listed)),
        ]
        subsections.append({"vmsd_name": "configuration/capabilities", "version": 1, "fields": fields})
    if sent_uuid(vm) is not None:
        fields = [_field("uuid.data", "uint8", 1, 16)]
        subsections.append({"vmsd_name": "configuration/uuid", "version": 1, "fields": fields})
    if subsections:
        described["subsections"] = subsections
    return described


def _field(name: str, kind: str, size: int, array_length: int = 1) -> dict[str, Any]:
    if array_length == 1:
        return {"name": name, "type": kind, "size": size}
    return {"name": name, "array_len": array_length, "type": kind, "size": size}


class Configuration:
    """What came in. `load` checks it against the machine."""

    __slots__ = ("_vm", "capabilities", "caps_count", "len", "name", "target_page_bits", "uuid")

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self.len = 0
        self.name = b""
        self.target_page_bits = _TARGET_PAGE_BITS
        self.caps_count = 0
        self.capabilities: list[str] = []
        self.uuid: dict[str, list[int]] = {"data": [0] * 16}

    async def load(self, f: QEMUFile) -> None:
        """Read the section; raises LoadError."""
        await load_state(f, self._description(), self, 0)

    def _description(self) -> VMStateDescription:
        async def get_capability(f: QEMUFile) -> str:
            name = await f.take_counted_string()
            self._vm.faults.check("fake_get_capability", name=name)
            if name not in self._vm.migration.options.capabilities:
                text = f"Received unknown capability {name}"
                raise LoadError(text, old_lines=[text])
            return name

        def unused_put(_f: QEMUFile, _value: Any) -> None:
            raise AssertionError

        def sub(name: str, *fields: Field, **hooks: Any) -> VMStateDescription:
            return VMStateDescription(f"configuration/{name}", 1, 1, fields, **hooks)

        listed = custom("capabilities", "capability", 0, unused_put, get_capability, count_from="caps_count")
        return VMStateDescription(
            "configuration",
            1,
            0,
            (uint32("len"), buffer_from("name", "len")),
            subsections=(
                sub("target-page-bits", uint32("target_page_bits")),
                sub("capabilities", uint32("caps_count"), listed),
                sub("uuid", uint8("uuid.data", count=16), post_load=lambda _state, _version: self._check_uuid()),
            ),
            post_load=lambda _state, _version: self._check(),
        )

    def _check(self) -> None:
        assert self._vm.board is not None
        name, local_name = c_string(self.name), self._vm.board.name
        self._vm.faults.check("fake_configuration_post_load", name=name, local=local_name)
        if name != local_name:
            text = f"Machine type received is '{name}' and local is '{local_name}'"
            raise PostLoadError(text, in_chain=True)
        if self.target_page_bits != _TARGET_PAGE_BITS:
            bits = signed32(self.target_page_bits)
            text = f"Received TARGET_PAGE_BITS is {bits} but local is {_TARGET_PAGE_BITS}"
            raise PostLoadError(text, in_chain=True)
        self._vm.faults.check("fake_configuration_validate_capabilities", capability=CONFIGURATION_CAPABILITIES[0])
        for capability in CONFIGURATION_CAPABILITIES:
            local = self._vm.migration.options.on(capability)
            remote = capability in self.capabilities
            if local != remote:
                word = ("off", "on")
                line = f"Capability {capability} is {word[local]}, but received capability is {word[remote]}"
                self._vm.error_report(line)
                raise PostLoadError("Failed to validate capabilities", in_chain=True, said=False)

    def _check_uuid(self) -> None:
        data = bytes(self.uuid["data"])
        received = format_uuid(data)
        local = self._vm.uuid
        self._vm.faults.check("fake_vmstate_uuid_post_load", received=received)
        if local is None:
            text = f"UUID is received {received}, but local uuid isn't set"
            self._vm.error_report(f"warning: {text}")
        elif local != data:
            raise PostLoadError(f"UUID received is {received} and local is {format_uuid(local)}")


def format_uuid(data: bytes) -> str:
    """16 bytes as 8-4-4-4-12 digits."""
    text = data.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
