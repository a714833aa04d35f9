# SPDX-License-Identifier: MIT
"""Memory backends: real files and memfds, what is left of them, and refusals in QEMU's words."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.error import NotEmulated, QemuError
from fakeqemu.system.hostmem import HostMemoryBackend, query_memdev
from fakeqemu.system.ramblock import PAGE_SIZE
from fakeqemu.system.user_creatable import object_add, object_del

from .conftest import MakeMachine


def add(vm: Any, kind: str, **options: Any) -> HostMemoryBackend:
    made = object_add(vm, {"qom-type": f"memory-backend-{kind}", "id": "m", **options})
    assert isinstance(made, HostMemoryBackend)
    return made


def test_a_file_is_made_and_written_through_when_shared(make_machine: MakeMachine, tmp_path: Path) -> None:
    path = tmp_path / "ram"
    vm = make_machine(files=True)
    backend = add(vm, "file", size=3 * PAGE_SIZE, share=True, **{"mem-path": str(path)})
    assert path.stat().st_size == 3 * PAGE_SIZE
    assert backend.block is not None
    backend.block.guest_write(PAGE_SIZE + 7, b"hello")
    assert path.read_bytes()[PAGE_SIZE + 7 :].startswith(b"hello")
    object_del(vm, "m")
    assert path.exists()


def test_a_private_mapping_keeps_what_is_written_to_itself(make_machine: MakeMachine, tmp_path: Path) -> None:
    path = tmp_path / "ram"
    path.write_bytes(b"\1" * 4 * PAGE_SIZE)
    backend = add(make_machine(files=True), "file", size=4 * PAGE_SIZE, **{"mem-path": str(path)})
    block = backend.block
    assert block is not None
    block.guest_write(2 * PAGE_SIZE, b"\2" * PAGE_SIZE)
    block.zero_pages(3, 1)
    assert path.read_bytes() == b"\1" * 4 * PAGE_SIZE
    assert block.read_pages(0, 4) == b"\1" * 2 * PAGE_SIZE + b"\2" * PAGE_SIZE + bytes(PAGE_SIZE)
    assert list(block.runs()) == [(0, 2, "real"), (2, 1, "real"), (3, 1, "zero")]


def test_a_folder_takes_a_file_without_a_name(make_machine: MakeMachine, tmp_path: Path) -> None:
    add(make_machine(files=True), "file", size=PAGE_SIZE, share=True, **{"mem-path": str(tmp_path)})
    assert list(tmp_path.iterdir()) == []


def test_a_memfd_has_the_size_and_is_given_back(make_machine: MakeMachine) -> None:
    before = os.listdir("/proc/self/fd")
    vm = make_machine(files=True)
    backend = add(vm, "memfd", size=2 * PAGE_SIZE)
    assert backend.get("share") is True
    assert backend.block is not None
    backend.block.guest_write(5, b"x")
    assert backend.block.read(5, 1) == b"x"
    object_del(vm, "m")
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize(
    ("kind", "options", "text"),
    [
        ("ram", {"size": 0}, "property 'size' of memory-backend-ram doesn't take value '0'"),
        ("ram", {"size": 1 << 62}, "cannot set up guest memory 'm': Cannot allocate memory"),
        ("ram", {"size": "1M"}, "Parameter 'size' expects uint64"),
        ("ram", {"size": 4096, "policy": "bind"}, "host-nodes must be set for policy bind"),
        ("ram", {"size": 4096, "host-nodes": [1000], "policy": "bind"}, "Invalid host-nodes value: 1000"),
        (
            "ram",
            {"size": 4096, "host-nodes": [0]},
            "host-nodes must be empty for policy default, or you should explicitly specify a policy other than default",
        ),
        ("ram", {"size": 4096, "prealloc": True, "reserve": False}, "'prealloc=on' and 'reserve=off' are incompatible"),
        (
            "file",
            {"size": 4096, "mem-path": "/nosuch/dir/f"},
            "can't open backing store /nosuch/dir/f for guest RAM: No such file or directory",
        ),
        ("file", {"size": 4096, "mem-path": "/dev/null"}, "unable to map backing store for guest RAM: No such device"),
        (
            "memfd",
            {"size": 4097},
            "m backing store size 0x1001 is too small for 'size' option 0x2000 plus 'offset' option 0x0",
        ),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_left(
    make_machine: MakeMachine, kind: str, options: dict[str, Any], text: str
) -> None:
    vm = make_machine(files=True)
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(QemuError) as refused:
        add(vm, kind, **options)
    assert refused.value.desc == text
    assert vm.qom.objects.children == {}
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_file_that_is_too_small_is_not_touched(make_machine: MakeMachine, tmp_path: Path) -> None:
    path = tmp_path / "ram"
    path.write_bytes(b"abc")
    with pytest.raises(QemuError, match="backing store size 0x3 is too small"):
        add(make_machine(files=True), "file", size=PAGE_SIZE, **{"mem-path": str(path)})
    assert path.read_bytes() == b"abc"


def test_huge_pages_are_not_emulated(make_machine: MakeMachine) -> None:
    with pytest.raises(NotEmulated):
        add(make_machine(files=True), "memfd", size=2 << 20, hugetlb=True)


def test_the_guests_memory_cannot_be_deleted_or_changed(make_machine: MakeMachine) -> None:
    vm = make_machine("none", memory=8 << 20)
    with pytest.raises(QemuError, match=r"^Cannot delete host memory backend 'ram' which is mapped$"):
        object_del(vm, "ram")
    backend = vm.qom.resolve("/objects/ram")
    with pytest.raises(QemuError, match=r"^cannot change property size of memory-backend-ram $"):
        backend.set("size", 1)
    with pytest.raises(QemuError, match=r"^cannot change property value$"):
        backend.set("share", True)
    backend.set("merge", False)
    assert query_memdev(vm)[0]["merge"] is False


def test_the_blocks_name_may_be_its_path(make_machine: MakeMachine) -> None:
    backend = add(make_machine(), "ram", size=PAGE_SIZE, **{"x-use-canonical-path-for-ramblock-id": True})
    assert backend.block is not None
    assert backend.block.idstr == "/objects/m"
    assert "\\x2fobjects\\x2fm[0]" in backend.children
