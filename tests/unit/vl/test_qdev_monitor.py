# SPDX-License-Identifier: MIT
"""Plugging in and out. The texts are those of QEMU 11.1 where nothing else is said."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.error import QemuError
from fakeqemu.system.cpus import query_cpus_fast
from fakeqemu.system.machine import Machine
from fakeqemu.vl import qdev_monitor
from tests.unit._boards import board, plug, refusal

RNG = "virtio-rng-pci"


def ready(profile: str = "11.1", name: str = "q35") -> Machine:
    """A machine that stands, with a port, USB, SCSI and serial ports on a q35."""
    vm = board(profile, name)
    if name == "q35":
        plug(vm, "pcie-root-port", id="rp", chassis=1)
        plug(vm, "qemu-xhci", id="usb")
        plug(vm, "virtio-scsi-pci", id="scsi")
        plug(vm, "virtio-serial-pci", id="ser")
    vm.phase = "ready"
    return vm


def events(vm: Machine) -> list[tuple[str, Any]]:
    """What is emitted from now on."""
    heard: list[tuple[str, Any]] = []
    vm.emit = lambda event, data=None: heard.append((event, data))  # type: ignore[method-assign]
    return heard


def deletion(vm: Machine, name: str) -> str:
    with pytest.raises(QemuError) as refused:
        qdev_monitor.device_del(vm, name)
    return refused.value.desc


# --- types, buses, ids ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("driver", "text"),
    [
        ("nosuch", "'nosuch' is not a valid device model name"),
        ("", "'' is not a valid device model name"),
        ("iothread", "'iothread' is not a valid device model name"),
        ("PCI", "'PCI' is not a valid device model name"),
        ("pci-device", "Parameter 'driver' expects a non-abstract device type"),
        ("mch", "Parameter 'driver' expects a pluggable device type"),
        ("fw_cfg_mem", "Parameter 'driver' expects a pluggable device type"),
        ("usb-mouse", "No 'usb-bus' bus found for device 'usb-mouse'"),
        ("virtio-rng-device", "No 'virtio-bus' bus found for device 'virtio-rng-device'"),
        ("virtio-blk", "drive property not set"),  # another name of virtio-blk-pci
    ],
)
def test_not_every_type_can_be_made(driver: str, text: str) -> None:
    assert refusal(board(), driver) == text


def test_a_driver_is_needed() -> None:
    for arguments in ({}, {"driver": 1}, {"driver": None}, {"id": "x"}):
        with pytest.raises(QemuError, match="Parameter 'driver' is missing"):
            qdev_monitor.device_add(board(), arguments, from_json=True, hotplug=False)


@pytest.mark.parametrize(
    ("path", "text", "hint"),
    [
        ("", "Bus '' not found", ""),
        ("nosuch", "Bus 'nosuch' not found", ""),
        (
            "/x",
            "Device 'x' not found",
            'devices at "main-system-bus": "ps2-mouse", "ps2-kbd", "hpet", "ioapic", "q35-pcihost", "fw_cfg_io", "kvmvapic"',
        ),
        ("/q35-pcihost/nosuch", "Bus 'nosuch' not found", 'child buses at "q35-pcihost": "pcie.0"'),
        (
            "/q35-pcihost/pcie.0/nosuch",
            "Device 'nosuch' not found",
            'devices at "pcie.0": "ICH9-SMB", "ich9-ahci", "ICH9-LPC", "mch"',
        ),
        ("pcie.0/mch", "Device 'mch' has no child bus", ""),
        (
            "pcie.0/ich9-ahci",
            "Device 'ich9-ahci' has multiple child buses",
            'child buses at "ich9-ahci": "ide.5", "ide.4", "ide.3", "ide.2", "ide.1", "ide.0"',
        ),
        ("main-system-bus", "Device 'virtio-rng-pci' can't go on System bus", ""),
        ("pcie.0/ICH9-LPC", "Device 'virtio-rng-pci' can't go on ISA bus", ""),
    ],
)
def test_a_bus_that_is_none_is_refused_with_what_there_is(path: str, text: str, hint: str) -> None:
    with pytest.raises(QemuError) as refused:
        plug(board(), RNG, bus=path)
    assert (refused.value.desc, refused.value.hint) == (text, hint)


@pytest.mark.parametrize("path", ["rp", "rp/", "pcie.0/rp", "/q35-pcihost/pcie.0/rp/rp"])
def test_a_bus_has_a_name_and_paths(path: str) -> None:
    vm = ready()
    bus = plug(vm, RNG, bus=path).parent_bus
    assert bus is not None
    assert bus.name == "rp"


def test_an_id_is_an_identifier_and_given_once() -> None:
    vm = ready()
    for bad in ("a b", "a/b", "café", "1a", ""):
        assert refusal(vm, RNG, bus="rp", id=bad) == f"Invalid qdev ID '{bad}'"
    assert refusal(vm, RNG, bus="rp", id="rp", nosuch=1) == "Duplicate device ID 'rp'"
    assert plug(vm, "usb-mouse", id=5).path == "/machine/peripheral-anon/device[0]"


def test_properties_are_judged_in_the_order_of_qemus_dictionary() -> None:
    assert refusal(board(), RNG, zzz=1, aaa=2) == "Property 'virtio-rng-pci.aaa' not found"


def test_a_refused_device_leaves_its_id_free() -> None:
    vm = board()
    refusal(vm, RNG, id="r", nosuch=1)
    assert vm.qom.peripheral.child("r") is None
    plug(vm, RNG, id="r")


def test_globals_come_before_the_devices_own() -> None:
    vm = board()
    vm.globals.append((RNG, "period", "5"))
    assert plug(vm, RNG).get("period") == 5
    assert plug(vm, RNG, period=6).get("period") == 6
    vm.globals.append(("pci-device", "romsize", "x"))
    assert refusal(vm, RNG) == "can't apply global pci-device.romsize=x: Parameter 'romsize' expects uint64"


def test_an_old_machine_type_gives_its_devices_old_values() -> None:
    old, new = board(name="pc-q35-7.2"), board()
    key = "x-pcie-err-unc-mask"
    assert plug(old, "e1000e").get(key) is False
    assert plug(new, "e1000e").get(key) is True


# --- while the machine runs -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "driver", "bus", "text"),
    [
        ("11.1", RNG, None, "Bus 'pcie.0' does not support hotplugging"),
        ("11.1", "VGA", "rp", "Device 'VGA' does not support hotplugging"),
        ("11.1", "VGA", None, "Device 'VGA' does not support hotplugging"),
        ("7.2", "VGA", "rp", "Parameter 'driver' expects a pluggable device type"),
        ("11.1", "isa-serial", None, "Bus 'isa.0' does not support hotplugging"),
        ("11.1", "vmcoreinfo", None, "Device 'vmcoreinfo' does not support hotplugging"),
        ("11.1", "nvme-subsys", None, "Device 'nvme-subsys' can not be hotplugged on this machine"),
        ("11.1", "virtio-rng-device", None, "A 'virtio-bus' bus was found but is full"),
        ("10.0", "virtio-rng-device", None, "No 'virtio-bus' bus found for device 'virtio-rng-device'"),
    ],
)
def test_not_everything_is_hotplugged_everywhere(profile: str, driver: str, bus: str | None, text: str) -> None:
    assert refusal(ready(profile), driver, **({} if bus is None else {"bus": bus})) == text


def test_a_usb_device_goes_at_once() -> None:
    vm = ready()
    plug(vm, "usb-mouse", id="m")
    heard = events(vm)
    qdev_monitor.device_del(vm, "m")
    assert heard == [("DEVICE_DELETED", {"device": "m", "path": "/machine/peripheral/m"})]
    assert deletion(vm, "m") == "Device 'm' not found"
    plug(vm, "usb-mouse", id="m")


def test_a_device_without_id_goes_by_its_path() -> None:
    vm = ready()
    plug(vm, "usb-mouse")
    heard = events(vm)
    qdev_monitor.device_del(vm, "/machine/peripheral-anon/device[0]")
    assert heard == [("DEVICE_DELETED", {"path": "/machine/peripheral-anon/device[0]"})]


def test_a_hub_takes_along_what_is_plugged_into_it() -> None:
    vm = ready()
    plug(vm, "usb-hub", id="hub", port="2")
    plug(vm, "usb-kbd", id="kbd", port="2.1")
    heard = events(vm)
    qdev_monitor.device_del(vm, "hub")
    assert [data["device"] for _, data in heard] == ["kbd", "hub"]
    plug(vm, "usb-kbd", id="kbd", port="2")


def test_a_pci_device_waits_for_the_guest_or_a_reset() -> None:
    vm = ready()
    plug(vm, RNG, id="r", bus="rp")
    heard = events(vm)
    qdev_monitor.device_del(vm, "r")
    assert heard == []
    assert deletion(vm, "r") == "Device r is already in the process of unplug"
    vm.on_reset.notify("host-qmp-system-reset")
    vm.host.world.run_until_idle()  # type: ignore[attr-defined]
    assert heard == [
        ("DEVICE_DELETED", {"path": "/machine/peripheral/r/virtio-backend"}),
        ("DEVICE_DELETED", {"device": "r", "path": "/machine/peripheral/r"}),
    ]
    plug(vm, RNG, id="r", bus="rp")


def test_the_guest_can_let_go() -> None:
    vm = ready()
    device = plug(vm, RNG, id="r", bus="rp")
    qdev_monitor.device_del(vm, "r")
    qdev_monitor.guest_ejects(device)
    assert vm.qom.peripheral.child("r") is None
    assert deletion(vm, "r") == "Device 'r' not found"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nosuch", "Device 'nosuch' not found"),
        ("", " is not a device"),
        ("/machine", "/machine is not a device"),
        ("/machine/q35/pcie.0", "/machine/q35/pcie.0 is not a device"),
        ("/machine/q35", "Bus 'main-system-bus' does not support hotplugging"),
        ("/machine/unattached/device[2]", "Bus 'pcie.0' does not support hotplugging"),
        ("rp", "Bus 'pcie.0' does not support hotplugging"),
    ],
)
def test_not_everything_can_be_taken_out(name: str, text: str) -> None:
    assert deletion(ready(), name) == text


def test_7_2_words_it_otherwise() -> None:
    assert deletion(ready("7.2"), "/machine") == "/machine is not a hotpluggable device"


# --- numbers that run out ---------------------------------------------------------------------------------


def test_serial_ports_have_numbers() -> None:
    vm = ready()
    plug(vm, "virtserialport", nr=1)
    assert refusal(vm, "virtserialport", nr=1) == "virtio-serial-bus: A port already exists at id 1"
    assert refusal(vm, "virtserialport", nr=1000) == (
        "virtio-serial-bus: Out-of-range port id specified, max. allowed: 30"
    )
    assert refusal(vm, "virtserialport", nr=0).startswith("Port number 0 on virtio-serial devices reserved")
    assert [plug(vm, driver).get("nr") for driver in ("virtserialport", "virtconsole", "virtconsole")] == [2, 0, 3]


def test_scsi_devices_have_places() -> None:
    vm = ready()
    assert refusal(vm, "scsi-cd", **{"scsi-id": 1000}) == "bad scsi device id: 1000"
    assert refusal(vm, "scsi-cd", lun=20000) == "bad scsi device lun: 20000"
    assert refusal(vm, "scsi-cd", channel=3) == "bad scsi channel id: 3"
    assert [plug(vm, "scsi-cd").get("scsi-id") for _ in range(2)] == [0, 1]
    plug(vm, "scsi-cd", id="cd", lun=3, **{"scsi-id": 4})
    assert refusal(vm, "scsi-cd", lun=3, **{"scsi-id": 4}) == "lun already used by 'cd'"


def test_usb_ports_run_out() -> None:
    vm = ready()
    plug(vm, "usb-tablet", port="1")
    assert refusal(vm, "usb-mouse", port="1") == "usb port 1 (bus usb.0) not found (in use?)"
    assert refusal(vm, "usb-mouse", port="9") == "usb port 9 (bus usb.0) not found (in use?)"
    assert plug(vm, "usb-mouse").port == "2"


@pytest.mark.parametrize(
    ("driver", "text"),
    [
        ("virtio-balloon-pci", "Only one balloon device is supported"),
        ("vmcoreinfo", "at most one vmcoreinfo device is permitted"),
        ("pvpanic", "duplicate fw_cfg file name: etc/pvpanic-port"),
    ],
)
def test_a_machine_takes_one_of_these(driver: str, text: str) -> None:
    vm = board()
    plug(vm, driver)
    assert refusal(vm, driver) == text


def test_a_chardev_has_one_user_and_is_free_again() -> None:
    vm = ready()
    vm.chardevs.add("c", {"type": "null", "data": {}})
    plug(vm, "virtserialport", id="p", chardev="c")
    assert refusal(vm, "virtserialport", chardev="c") == (
        "Property 'virtserialport.chardev' can't take value 'c': chardev 'c' is already in use"
    )
    qdev_monitor.device_del(vm, "p")
    plug(vm, "virtserialport", chardev="c")


def test_what_no_record_tells_is_not_emulated() -> None:
    vm = board()
    vm.chardevs.add("c", {"type": "null", "data": {}})
    text = "vhost-user-fs-pci: not emulated with these properties"
    assert refusal(vm, "vhost-user-fs-pci", chardev="c", tag="t") == text
    assert refusal(vm, "vhost-user-fs-pci", tag="t") == "missing chardev"


# --- CPUs -------------------------------------------------------------------------------------------------

CPU = "qemu64-x86_64-cpu"


def add_cpu(vm: Machine, driver: str = CPU, **properties: Any) -> Any:
    options = {"driver": driver, **{name.replace("_", "-"): value for name, value in properties.items()}}
    return qdev_monitor.device_add(vm, options, from_json=True, hotplug=True)


@pytest.mark.parametrize(
    ("properties", "text"),
    [
        ({}, "CPU socket-id is not set"),
        ({"socket_id": 5}, "Invalid CPU socket-id: 5 must be in range 0:1"),
        ({"socket_id": 1}, "CPU core-id is not set"),
        ({"socket_id": 1, "core_id": 7}, "Invalid CPU core-id: 7 must be in range 0:1"),
        ({"socket_id": 1, "core_id": 0}, "CPU thread-id is not set"),
        ({"socket_id": 1, "core_id": 0, "thread_id": 3}, "Invalid CPU thread-id: 3 must be in range 0:0"),
        ({"socket_id": 1, "core_id": 0, "thread_id": 0, "die_id": 3}, "Invalid CPU die-id: 3 must be in range 0:0"),
        ({"socket_id": 0, "core_id": 0, "thread_id": 0}, "CPU[0] with APIC ID 0 exists"),
        ({"nosuch": 1}, "Property 'qemu64-x86_64-cpu.nosuch' not found"),
        ({"driver": "EPYC-x86_64-cpu"}, "Invalid CPU type, expected cpu type: 'qemu64-x86_64-cpu'"),
    ],
)
def test_a_cpu_needs_a_free_place(properties: dict[str, Any], text: str) -> None:
    vm = four_places()
    with pytest.raises(QemuError) as refused:
        add_cpu(vm, **properties)
    assert refused.value.desc == text
    assert vm.board is not None
    assert len(vm.board.cpus) == 1


def four_places(profile: str = "11.1") -> Machine:
    """A machine with one CPU and three free places."""
    vm = board(profile, smp={"cpus": "1", "maxcpus": "4", "sockets": "2", "cores": "2", "threads": "1"})
    vm.phase = "ready"
    return vm


def test_a_cpu_is_there_once_it_is_plugged() -> None:
    vm = four_places()
    add_cpu(vm, id="c", socket_id=1, core_id=0, thread_id=0)
    add_cpu(vm, socket_id=0, core_id=1, thread_id=0)
    shown = [(cpu["cpu-index"], cpu["qom-path"]) for cpu in query_cpus_fast(vm)]
    assert shown == [
        (0, "/machine/unattached/device[0]"),
        (2, "/machine/peripheral/c"),
        (1, "/machine/peripheral-anon/device[0]"),
    ]
    with pytest.raises(QemuError, match="with APIC ID 2 exists"):
        add_cpu(vm, socket_id=1, core_id=0, thread_id=0)


def test_a_cpu_stays_unless_the_guest_lets_it_go() -> None:
    vm = four_places()
    add_cpu(vm, id="c", socket_id=1, core_id=0, thread_id=0)
    qdev_monitor.device_del(vm, "c")
    qdev_monitor.device_del(vm, "c")
    assert vm.qom.peripheral.child("c") is not None
    assert deletion(vm, "/machine/unattached/device[0]") == "Boot CPU is unpluggable"
    old = four_places("10.0")
    add_cpu(old, id="c", socket_id=1, core_id=0, thread_id=0)
    assert deletion(old, "c") == "acpi: device unplug request for not supported device type: qemu64-x86_64-cpu"
