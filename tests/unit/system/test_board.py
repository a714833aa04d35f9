# SPDX-License-Identifier: MIT
"""Machine types, memory, CPUs: what -machine, -m, -smp and -cpu make, and the words in which they are refused."""

from __future__ import annotations

import pytest

from fakeqemu.error import NotEmulated, QemuError
from fakeqemu.system.board import create_board

from .conftest import MakeMachine

MIB, GIB = 1 << 20, 1 << 30


def test_aliases_and_the_default_type(make_machine: MakeMachine) -> None:
    vm = make_machine()
    assert create_board(vm, "q35").name == "pc-q35-11.1"
    assert create_board(make_machine()).name == "pc-i440fx-11.1"
    assert create_board(make_machine(profile="7.2"), "pc").type_name == "pc-i440fx-7.2-machine"


@pytest.mark.parametrize(
    ("profile", "text"), [("11.1", 'unsupported machine type: "foo"'), ("7.2", "unsupported machine type")]
)
def test_an_unknown_type_is_refused(make_machine: MakeMachine, profile: str, text: str) -> None:
    with pytest.raises(QemuError) as refused:
        create_board(make_machine(profile=profile), "foo")
    assert refused.value.desc == text
    assert refused.value.hint == "Use -machine help to list supported machines"


def test_a_type_that_we_have_no_board_for_is_said_to_be_not_emulated(make_machine: MakeMachine) -> None:
    with pytest.raises(NotEmulated):
        create_board(make_machine(), "isapc")


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"size": 64 * MIB, "slots": 2}, "slots specified but no max-size"),
        (
            {"size": 64 * MIB, "slots": 2, "max-size": 32 * MIB},
            "invalid value of maxmem: maximum memory size (0x2000000) "
            "must be at least the initial memory size (0x4000000)",
        ),
        (
            {"size": 64 * MIB, "slots": 1, "max-size": 64 * MIB},
            "invalid value of maxmem: memory slots were specified but maximum memory size (0x4000000) "
            "is equal to the initial memory size (0x4000000)",
        ),
    ],
)
def test_impossible_memory_is_refused(make_machine: MakeMachine, config: dict[str, int], text: str) -> None:
    board = create_board(make_machine(), "q35")
    with pytest.raises(QemuError) as refused:
        board.set_memory(config)
    assert refused.value.desc == text


def test_memory_comes_in_steps_of_8_kib(make_machine: MakeMachine) -> None:
    board = create_board(make_machine(), "none")
    board.set_memory({"size": 1})
    assert board.ram_size == 8192


def test_the_board_makes_itself_a_memory_backend(make_machine: MakeMachine) -> None:
    vm = make_machine("q35", memory=64 * MIB)
    assert [block.idstr for block in vm.ram_blocks] == ["pc.ram"]
    assert vm.ram_blocks[0].used_length == 64 * MIB
    assert vm.qom.resolve("/objects/pc.ram").get("size") == 64 * MIB
    assert vm.qom.resolve("/machine").get("memory-backend") == "/objects/pc.ram"


def test_none_has_no_memory_unless_asked_for(make_machine: MakeMachine) -> None:
    assert make_machine("none").ram_blocks == []
    assert make_machine("none", memory=8 * MIB).ram_blocks[0].idstr == "ram"


def test_memory_backend_must_be_there_and_of_the_right_size(make_machine: MakeMachine) -> None:
    from fakeqemu.system.user_creatable import object_add

    vm = make_machine()
    board = create_board(vm, "q35")
    board.set_option("memory-backend", "m")
    with pytest.raises(QemuError, match=r"^Memory backend 'm' not found$"):
        board.resolve_memdev()
    object_add(vm, {"qom-type": "memory-backend-ram", "id": "m", "size": 32 * MIB})
    board.resolve_memdev()
    assert board.ram_size == 32 * MIB  # without -m the backend decides
    board.set_memory({"size": 64 * MIB})
    with pytest.raises(QemuError, match=r"^Machine memory size does not match the size of the memory backend$"):
        board.init()


def test_no_cpu_without_a_board_for_it(make_machine: MakeMachine) -> None:
    board = create_board(make_machine(), "none")
    board.set_cpu("qemu64")
    with pytest.raises(QemuError, match=r"^apic-id property was not initialized properly$"):
        board.init()


@pytest.mark.parametrize(
    ("cpu", "text"),
    [
        ("nosuch", "unable to find CPU model 'nosuch'"),
        ("", "-cpu option cannot be empty"),
        ("host", "CPU model 'host' requires KVM or HVF"),
        ("qemu64,avx=x", "can't apply global qemu64-x86_64-cpu.avx=x: Parameter 'avx' expects 'on' or 'off'"),
        ("qemu64,foo", "can't apply global qemu64-x86_64-cpu.foo=on: Property 'qemu64-x86_64-cpu.foo' not found"),
        ("max,+foo,-bar", "Property 'max-x86_64-cpu.foo' not found"),
    ],
)
def test_a_wrong_cpu_is_refused(make_machine: MakeMachine, cpu: str, text: str) -> None:
    board = create_board(make_machine(), "q35")

    def start() -> None:
        board.set_cpu(cpu)
        board.init()

    with pytest.raises(QemuError) as refused:
        start()
    assert refused.value.desc == text


def test_cpus_have_threads_and_places(make_machine: MakeMachine) -> None:
    from fakeqemu.system.cpus import query_cpus_fast, query_hotpluggable_cpus

    vm = make_machine("q35", smp={"cpus": "3", "maxcpus": "4", "sockets": "2"})
    shown = query_cpus_fast(vm)
    assert [cpu["props"] for cpu in shown] == [
        {"thread-id": 0, "core-id": 0, "socket-id": 0},
        {"thread-id": 0, "core-id": 1, "socket-id": 0},
        {"thread-id": 0, "core-id": 0, "socket-id": 1},
    ]
    assert len({cpu["thread-id"] for cpu in shown}) == 3
    # The APIC of the first CPU makes a device between the first and the second.
    assert [cpu["qom-path"][-9:] for cpu in shown] == ["device[0]", "device[2]", "device[3]"]
    places = query_hotpluggable_cpus(vm)
    assert [place.get("qom-path", "")[-9:] for place in places] == ["", "device[3]", "device[2]", "device[0]"]


def test_the_recorded_tree_follows_cpus_and_memory(make_machine: MakeMachine) -> None:
    vm = make_machine("q35", memory=4 * GIB, smp={"cpus": "2"})
    qom = vm.qom
    assert qom.resolve("/machine/unattached/device[1]").type_name == "kvmvapic"
    assert qom.resolve("/machine/unattached/device[3]").type_name == "ICH9-LPC"
    assert qom.resolve("/machine").get("acpi-device") == "/machine/unattached/device[3]"
    assert qom.resolve("/machine/unattached/device[2]/lapic").get("id") == 1
    assert qom.resolve("/machine/unattached/ram-below-4g[0]").get("size") == 2 * GIB
    assert qom.resolve("/machine/unattached/ram-above-4g[0]").get("size") == 2 * GIB


def test_a_start_reads_no_tree(make_machine: MakeMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    from fakeqemu.system.board import Board

    def no_tree(self: Board) -> None:
        raise AssertionError("the tree was read")

    monkeypatch.setattr(Board, "tree_record", no_tree)
    vm = make_machine("q35", memory=64 * MIB, smp={"cpus": "2"})
    with pytest.raises(AssertionError, match="the tree was read"):
        vm.qom.resolve("/machine/q35")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("usb", "x", "Parameter 'usb' expects 'on' or 'off'"),
        ("vmport", "x", "Parameter 'vmport' does not accept value 'x'"),
        ("max-ram-below-4g", "x", "Parameter 'max-ram-below-4g' expects size"),
        (
            "max-ram-below-4g",
            "5G",
            "Machine option 'max-ram-below-4g=5368709120' expects size less than or equal to 4G",
        ),
        ("nosuch", "1", "Property 'pc-q35-11.1-machine.nosuch' not found"),
        ("unattached", "x", "Property 'pc-q35-11.1-machine.unattached' is not writable"),
        ("boot", "c", "Invalid parameter type for 'boot', expected: object"),
        ("x-oem-id", "123456789", "User specified x-oem-id value is bigger than 6 bytes in size"),
    ],
)
def test_a_wrong_machine_option_is_refused(make_machine: MakeMachine, name: str, value: str, text: str) -> None:
    board = create_board(make_machine(), "q35")
    with pytest.raises(QemuError) as refused:
        board.set_option(name, value)
    assert refused.value.desc == text


def test_options_show_in_the_object(make_machine: MakeMachine) -> None:
    vm = make_machine("q35")
    assert vm.board is not None
    vm.board.set_option("usb", "on")
    machine = vm.qom.resolve("/machine")
    assert machine.get("usb") is True
    assert machine.get("boot") == {"order": "cad"}
    with pytest.raises(QemuError, match=r"^Boot device 'c' was given twice$"):
        machine.set("boot", {"order": "cc"})
