# SPDX-License-Identifier: MIT
"""The commands about types: what the profile says, in QEMU's words."""

from __future__ import annotations

import json

import pytest

from fakeqemu.error import DEVICE_NOT_FOUND, QemuError
from fakeqemu.qom import qmp_cmds
from fakeqemu.system.machine import Machine


def names(listed: list[dict[str, object]]) -> list[object]:
    return [entry["name"] for entry in listed]


def test_types_by_what_they_implement(none: Machine) -> None:
    assert names(qmp_cmds.qmp_qom_list_types(none, implements="iothread")) == ["iothread"]
    assert qmp_cmds.qmp_qom_list_types(none, implements="nosuch") == []
    with_abstract = qmp_cmds.qmp_qom_list_types(none, implements="rng-backend", abstract=True)
    assert {"name": "rng-backend", "parent": "object", "abstract": True} in with_abstract
    assert "rng-backend" not in names(qmp_cmds.qmp_qom_list_types(none, implements="rng-backend"))


def test_only_types_of_a_single_interface_are_interfaces(none: Machine) -> None:
    shown = names(qmp_cmds.qmp_qom_list_types(none, implements="interface"))
    assert "memory-backend-ram" in shown  # user-creatable alone
    assert "virtio-blk-pci" not in shown  # both kinds of PCI


def test_unknown_and_abstract_types(none: Machine) -> None:
    with pytest.raises(QemuError) as unknown:
        qmp_cmds.qmp_qom_list_properties(none, typename="nosuch")
    assert (unknown.value.cls, unknown.value.desc) == (DEVICE_NOT_FOUND, "Class 'nosuch' not found")
    with pytest.raises(QemuError, match=r"^Device 'nosuch' not found$"):
        qmp_cmds.qmp_device_list_properties(none, typename="nosuch")
    for name in ("pci-device", "iothread"):
        with pytest.raises(QemuError, match=r"^Parameter 'typename' expects a non-abstract device type$"):
            qmp_cmds.qmp_device_list_properties(none, typename=name)


def test_properties_of_a_type_are_the_profiles_text(none: Machine) -> None:
    listed = json.loads(qmp_cmds.qmp_qom_list_properties(none, typename="secret").data)
    assert {"name": "keyid", "type": "string"} in listed


def test_several_objects_at_once(q35: Machine) -> None:
    (found,) = qmp_cmds.qmp_qom_list_get(q35, paths=["/objects/pc.ram"])
    values = {entry["name"]: entry.get("value") for entry in found["properties"]}
    assert values["size"] == 128 << 20
    assert values["pc.ram[0]"] == "/objects/pc.ram/pc.ram[0]"
    with pytest.raises(QemuError, match=r"^Device '/nosuch' not found$"):
        qmp_cmds.qmp_qom_list_get(q35, paths=["/objects", "/nosuch"])
