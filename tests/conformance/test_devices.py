# SPDX-License-Identifier: MIT
"""A machine with the devices that libvirt gives one, and devices coming and going: ours shows what the real one shows.

Asked over QMP of both: query-pci, info qtree, and every readable property of every device that the command line made.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from fakeqemu.record.capture_vm import CaptureVm, Emulator
from tests.conformance._real import need_real_qemu

VERSIONS = ("7.2", "10.0", "11.1")
Q35 = ["-machine", "q35", "-accel", "tcg", "-m", "64", "-nodefaults", "-S"]
PC = ["-machine", "pc", "-accel", "tcg", "-m", "64", "-nodefaults", "-S"]
READABLE = (
    "bool", "int", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "str", "string", "size",
)  # fmt: skip

PORTS: list[dict[str, Any]] = [
    {
        "driver": "pcie-root-port", "port": 15 + n, "chassis": n, "id": f"pci.{n}", "bus": "pcie.0",
        "addr": f"0x2.0x{n - 1:x}" if n > 1 else "0x2", **({"multifunction": True} if n == 1 else {}),
    }
    for n in range(1, 9)
]  # fmt: skip

LIBVIRT: list[dict[str, Any]] = [
    *PORTS,
    {"driver": "qemu-xhci", "p2": 8, "p3": 8, "id": "usb", "bus": "pci.2", "addr": "0x0"},
    {"driver": "virtio-scsi-pci", "iothread": "iothread1", "id": "scsi0", "bus": "pci.3", "addr": "0x0"},
    {"driver": "virtio-serial-pci", "id": "virtio-serial0", "bus": "pci.4", "addr": "0x0"},
    {"driver": "virtio-net-pci", "id": "net0", "mac": "52:54:00:11:22:33", "bus": "pci.1", "addr": "0x0"},
    {"driver": "virtio-net-pci", "id": "net1", "bus": "pci.5"},
    {"driver": "isa-serial", "chardev": "charserial0", "id": "serial0", "index": 0},
    {
        "driver": "virtserialport", "bus": "virtio-serial0.0", "nr": 1, "chardev": "charchannel0", "id": "channel0",
        "name": "org.qemu.guest_agent.0",
    },
    {"driver": "usb-tablet", "id": "input0", "bus": "usb.0", "port": "1"},
    {"driver": "usb-kbd", "id": "input1", "bus": "usb.0"},
    {"driver": "VGA", "id": "video0", "vgamem_mb": 32, "bus": "pcie.0", "addr": "0x1"},
    {"driver": "ich9-intel-hda", "id": "sound0", "bus": "pcie.0", "addr": "0x1b"},
    {"driver": "virtio-balloon-pci", "id": "balloon0", "bus": "pci.6", "addr": "0x0"},
    {"driver": "virtio-rng-pci", "rng": "objrng0", "id": "rng0", "bus": "pci.7", "max-bytes": 1024, "period": 1000},
    {"driver": "scsi-cd", "bus": "scsi0.0", "channel": 0, "scsi-id": 1, "lun": 0, "device_id": "x", "id": "cd0"},
    {"driver": "vmcoreinfo"},
    {"driver": "pvpanic"},
]  # fmt: skip

BACKENDS = [
    "-object", "iothread,id=iothread1", "-object", "rng-builtin,id=objrng0",
    "-chardev", "null,id=charserial0", "-chardev", "null,id=charchannel0",
]  # fmt: skip


def ours(version: str) -> list[str]:
    return [sys.executable, "-m", "fakeqemu", "-fake", f"profile={version}"]


def add(**arguments: Any) -> tuple[str, dict[str, Any]]:
    return "device_add", arguments


def delete(name: str) -> tuple[str, dict[str, Any]]:
    return "device_del", {"id": name}


def shown(vm: CaptureVm) -> dict[str, Any]:
    """What a tool sees of the devices."""
    seen: dict[str, Any] = {"query-pci": vm("query-pci"), "info qtree": vm.hmp("info qtree").splitlines()}
    for container in ("/machine/peripheral", "/machine/peripheral-anon"):
        children = [entry for entry in vm("qom-list", path=container) if entry["type"].startswith("child<")]
        seen[container] = sorted((entry["name"], entry["type"]) for entry in children)
        for child in children:
            path = f"{container}/{child['name']}"
            listed = vm("qom-list", path=path)
            seen[path] = sorted((entry["name"], entry["type"]) for entry in listed)
            for entry in listed:
                if entry["type"] in READABLE or entry["type"].startswith("link<"):
                    seen[f"{path}.{entry['name']}"] = vm("qom-get", path=path, property=entry["name"])
    return seen


def talk(command: list[str], args: list[str], requests: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """The replies to requests, each followed by what is shown then."""
    with Emulator(command) as emulator, CaptureVm(emulator, args) as vm:
        seen: dict[str, Any] = {"at start": shown(vm)}
        for number, (name, arguments) in enumerate(requests):
            seen[f"{number} {name} {arguments}"] = vm.ask(name, arguments)
        seen["at end"] = shown(vm)
        # A real QEMU tells of a deletion some time after the reply.
        deleted = [x["id"] for name, x in requests if name == "device_del"]
        gone = [name for name in deleted if name not in dict(seen["at end"]["/machine/peripheral"])]
        seen["events"] = []
        while gone:
            event = vm.wait_event("DEVICE_DELETED", 20)
            assert event is not None, f"no DEVICE_DELETED of {gone}"
            seen["events"].append(json.dumps(event["data"]))
            gone = [name for name in gone if name != event["data"].get("device")]
        return seen


def devices(listed: list[dict[str, Any]]) -> list[str]:
    return [word for entry in listed for word in ("-device", json.dumps(entry))]


@pytest.mark.real_qemu
@pytest.mark.parametrize("version", VERSIONS)
def test_a_machine_as_libvirt_writes_it(version: str) -> None:
    args = [*Q35, *BACKENDS, *devices(LIBVIRT)]
    assert talk(ours(version), args, []) == talk(need_real_qemu(version), args, [])


@pytest.mark.real_qemu
@pytest.mark.parametrize("version", VERSIONS)
def test_devices_come_and_go_on_q35(version: str) -> None:
    args = [*Q35, *devices([
        {"driver": "pcie-root-port", "id": "rp1", "chassis": 1},
        {"driver": "pcie-root-port", "id": "rp2", "chassis": 2},
        {"driver": "pcie-root-port", "id": "rp3", "chassis": 3, "hotplug": False},
        {"driver": "qemu-xhci", "id": "usb"},
        {"driver": "virtio-serial-pci", "id": "ser"},
        {"driver": "virtio-scsi-pci", "id": "scsi", "bus": "rp2"},
        {"driver": "pcie-pci-bridge", "id": "pb", "bus": "rp1"},
    ])]  # fmt: skip
    requests = [
        add(driver="usb-mouse", id="m"),
        add(driver="usb-hub", id="h", port="2"),
        add(driver="usb-kbd", id="k", port="2.1"),
        delete("h"),
        add(driver="virtserialport", id="p"),
        add(driver="virtserialport", id="p2", nr=5, name="org.x"),
        add(driver="virtconsole", id="c"),
        delete("p2"),
        add(driver="scsi-cd", id="cd"),
        add(driver="scsi-cd", id="cd2", lun=3, **{"scsi-id": 4}),
        add(driver="scsi-cd", id="cd3", lun=3, **{"scsi-id": 4}),
        delete("cd"),
        add(driver="e1000", id="e", bus="pb"),
        add(driver="e1000", id="e2", bus="pb", addr="5"),
        add(driver="virtio-rng-pci", id="r", bus="rp3"),
        add(driver="virtio-rng-pci", id="r", bus="rp2", addr="0.1"),
        delete("e"),
        delete("e"),
        delete("scsi"),
        delete("pb"),
        delete("usb"),
        ("system_reset", {}),
        add(driver="pcie-root-port", id="late", chassis=9),
        add(driver="virtio-balloon-pci", bus="rp1", id="b"),
        add(driver="virtio-net-pci", bus="rp2", id="n"),
    ]
    assert talk(ours(version), args, requests) == talk(need_real_qemu(version), args, requests)


@pytest.mark.real_qemu
@pytest.mark.parametrize("version", VERSIONS)
def test_devices_come_and_go_on_pc(version: str) -> None:
    # (11.1 does not survive a reset that ejects more than this.)
    args = [*PC, *devices([{"driver": "piix3-usb-uhci", "id": "usb"}])]
    requests = [
        add(driver="virtio-rng-pci", id="r"),
        add(driver="e1000", id="e", addr="9.0"),
        add(driver="e1000", id="e2", addr="9.1"),
        add(driver="isa-serial", id="s"),
        delete("r"),
        ("system_reset", {}),
        add(driver="usb-tablet", id="t"),
        delete("t"),
        add(driver="virtio-net-pci", id="n"),
    ]
    assert talk(ours(version), args, requests) == talk(need_real_qemu(version), args, requests)
