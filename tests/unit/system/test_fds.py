# SPDX-License-Identifier: MIT
"""Descriptors by name and in sets."""

from __future__ import annotations

import os

import pytest

from fakeqemu.error import QemuError

from .conftest import MakeMachine


def null(flags: int = os.O_RDWR) -> int:
    return os.open("/dev/null", flags)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_a_name_holds_one_descriptor_and_is_taken_once(make_machine: MakeMachine) -> None:
    fds = make_machine(files=True).fds
    first, second = null(), null()
    fds.put_named("x", first)
    fds.put_named("x", second)
    assert not is_open(first)
    assert fds.take_named("x") == second
    with pytest.raises(QemuError, match=r"^File descriptor named 'x' has not been found$"):
        fds.take_named("x")
    with pytest.raises(QemuError, match=r"^File descriptor named 'x' not found$"):
        fds.close_named("x")
    os.close(second)


def test_a_name_is_no_number(make_machine: MakeMachine) -> None:
    fd = null()
    with pytest.raises(QemuError, match=r"^Parameter 'fdname' expects a name not starting with a digit$"):
        make_machine(files=True).fds.put_named("1x", fd)
    assert not is_open(fd)


def test_sets_are_shown_highest_first(make_machine: MakeMachine) -> None:
    fds = make_machine(files=True).fds
    for number in (9, 3, None):
        fds.add(null(), number)
    assert [group["fdset-id"] for group in fds.query()] == [9, 3, 0]
    with pytest.raises(QemuError, match=r"^Parameter 'fdset-id' expects a non-negative value$"):
        fds.add(null(), -1)


def test_a_set_is_opened_by_access_mode_and_outlives_its_descriptors(make_machine: MakeMachine) -> None:
    vm = make_machine("none", files=True)
    fds = vm.fds
    reader, writer = null(os.O_RDONLY), null(os.O_WRONLY)
    fds.add(reader, 1, "r")
    fds.add(writer, 1)
    duplicate = fds.open_path("/dev/fdset/1", os.O_WRONLY)
    assert duplicate not in (reader, writer)
    assert not os.get_inheritable(duplicate)
    with pytest.raises(PermissionError):
        fds.open_fdset(1, os.O_RDWR)
    with pytest.raises(FileNotFoundError):
        fds.open_fdset(2, os.O_RDONLY)
    fds.remove(1)
    assert not is_open(reader)
    assert fds.query() == [{"fdset-id": 1, "fds": []}]
    os.close(duplicate)
    fds.release(duplicate)
    assert fds.query() == []
    with pytest.raises(QemuError, match=r"^File descriptor named 'fdset-id:1' not found$"):
        fds.remove(1)
    with pytest.raises(QemuError, match=r"^File descriptor named 'fdset-id:1, fd:3' not found$"):
        fds.remove(1, 3)


def test_old_releases_close_only_while_the_guest_runs(make_machine: MakeMachine) -> None:
    vm = make_machine("none", profile="7.2", files=True)
    fd = null()
    vm.fds.add(fd, 1)
    vm.fds.remove(1)
    assert is_open(fd)
    vm.runstate.set("running")
    vm.fds.last_monitor_gone()
    assert not is_open(fd)
    assert vm.fds.query() == []
