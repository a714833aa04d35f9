# SPDX-License-Identifier: MIT
"""Chardevs over real files, pipes and terminals."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from fakeqemu.error import QemuError
from fakeqemu.host.clock import NS_PER_S
from fakeqemu.io.host import ProcessHost
from fakeqemu.io.poller import EpollPoller
from fakeqemu.qapi.profile import VersionProfile
from fakeqemu.system.build import new_machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fakeqemu.chardev.char import Chardev
    from fakeqemu.system.machine import Machine


@pytest.fixture
def vm() -> Iterator[Machine]:
    host = ProcessHost()
    vm = new_machine(host, VersionProfile.load("11.1"))
    yield vm
    vm.chardevs.close_all()
    host.close()


def run_until(vm: Machine, goal: Callable[[], bool]) -> None:
    host = vm.host
    assert isinstance(host, ProcessHost)
    assert isinstance(host.poller, EpollPoller)
    late: list[bool] = []
    timer = host.clock.call_at(host.clock.now_ns() + 20 * NS_PER_S, lambda: late.append(True))
    host.poller.run(lambda: goal() or bool(late))
    timer.cancel()
    assert not late


def one_turn(vm: Machine) -> None:
    """What was written goes out."""
    host = vm.host
    assert isinstance(host, ProcessHost)
    assert isinstance(host.poller, EpollPoller)
    host.poller.turn(wait=False)


class Frontend:
    def __init__(self, chardev: Chardev) -> None:
        self.data = b""
        self.events: list[str] = []
        chardev.claim()
        chardev.set_frontend(self._on_data, self.events.append)

    def _on_data(self, data: bytes, _fds: list[int]) -> None:
        self.data += data


def add(vm: Machine, kind: str, **data: Any) -> Chardev:
    return vm.chardevs.add("c", {"type": kind, "data": data})


def test_a_file_is_emptied_or_appended_to(vm: Machine, tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("before ")
    chardev = add(vm, "file", out=str(path), append=True)
    chardev.write(b"after")
    chardev.unparent()
    assert path.read_text() == "before after"
    add(vm, "file", out=str(path)).unparent()
    assert path.read_text() == ""


def test_a_file_can_have_input(vm: Machine, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"from the file")
    frontend = Frontend(add(vm, "file", out=str(tmp_path / "out"), **{"in": str(tmp_path / "in")}))
    run_until(vm, lambda: frontend.events == ["opened", "closed"])
    assert frontend.data == b"from the file"


def test_a_pair_of_pipes(vm: Machine, tmp_path: Path) -> None:
    for end in ("in", "out"):
        os.mkfifo(tmp_path / f"p.{end}")
    chardev = add(vm, "pipe", device=str(tmp_path / "p"))
    frontend = Frontend(chardev)
    with open(tmp_path / "p.in", "wb", buffering=0) as writer, open(tmp_path / "p.out", "rb", buffering=0) as reader:
        writer.write(b"to the machine")
        run_until(vm, lambda: frontend.data == b"to the machine")
        chardev.write(b"from it")
        one_turn(vm)
        assert reader.read(100) == b"from it"
    with pytest.raises(QemuError, match=r"^Could not open '/nosuch': No such file or directory$"):
        vm.chardevs.add("d", {"type": "pipe", "data": {"device": "/nosuch"}})


def test_what_a_front_end_writes_is_logged(vm: Machine, tmp_path: Path) -> None:
    chardev = add(vm, "null", logfile=str(tmp_path / "log"))
    chardev.write(b"said")
    chardev.received(b"heard", [])
    chardev.unparent()
    assert (tmp_path / "log").read_bytes() == b"said"


def test_a_terminal_opens_when_somebody_opens_its_other_end(vm: Machine) -> None:
    chardev = add(vm, "pty")
    frontend = Frontend(chardev)
    name = chardev.opened_result()["pty"]
    assert chardev.filename == f"pty:{name}"
    assert frontend.events == []
    user = os.open(name, os.O_RDWR | os.O_NOCTTY)
    run_until(vm, lambda: frontend.events == ["opened"])
    os.write(user, b"typed")
    run_until(vm, lambda: frontend.data == b"typed")
    chardev.write(b"shown\r\n")
    one_turn(vm)
    assert os.read(user, 100) == b"shown\r\n"
    os.close(user)
    run_until(vm, lambda: frontend.events == ["opened", "closed"])
