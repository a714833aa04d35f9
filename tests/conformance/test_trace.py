# SPDX-License-Identifier: MIT
"""Trace events: which there are, how they are switched, and the lines that they print, beside a real QEMU."""

from __future__ import annotations

import re
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.record.capture_vm import ACCEL, CaptureVm, Emulator
from fakeqemu.testing.emulator import Emulator as QmpEmulator
from fakeqemu.testing.emulator import short_directory
from tests.conformance._real import need_real_qemu
from tests.interop._machines import OURS, REAL, start, stderr_of

pytestmark = pytest.mark.real_qemu
Act = Callable[[QmpEmulator], Awaitable[None]]
VERSIONS = ["11.1", "10.0", "7.2"]

GET, SET = "trace-event-get-state", "trace-event-set-state"
QUESTIONS: list[tuple[str, dict[str, Any]]] = [
    (GET, {"name": "migrate_s*"}),
    (GET, {"name": "migrate_set_state"}),
    (GET, {"name": "migrate_set_stat?"}),
    (GET, {"name": "nosuch"}),
    (GET, {"name": "nosuch*"}),
    (GET, {"name": ""}),
    (GET, {"name": "-migrate_set_state"}),
    (SET, {"name": "migrate_s*", "enable": True}),
    (SET, {"name": "migrate_send_rp_message", "enable": False}),
    (SET, {"name": "nosuch", "enable": True}),
    (SET, {"name": "nosuch", "enable": True, "ignore-unavailable": True}),
    (SET, {"name": "nosuch*", "enable": False}),
    (GET, {"name": "migrate_s*"}),
    (GET, {"name": "guest_*"}),
    (GET, {"name": "guest_*", "vcpu": 0}),
    (GET, {"name": "guest_cpu_reset", "vcpu": 5}),
    (GET, {"name": "migrate_set_state", "vcpu": 0}),
    (SET, {"name": "guest_cpu_reset", "vcpu": 1, "enable": True}),
    (GET, {"name": "guest_*"}),
    (GET, {"name": "guest_*", "vcpu": 0}),
    (GET, {"name": "guest_*", "vcpu": 1}),
    (SET, {"name": "migrate_s*", "vcpu": 1, "enable": True}),
    (SET, {"name": "migrate_set_state", "vcpu": 1, "enable": True}),
    (SET, {"name": "guest_cpu_reset", "enable": False}),
    (GET, {"name": "guest_*"}),
]

#: not migration_bitmap_sync_*: 11.1 has its last look before it begins RAM's last section, ours within; no one else can tell
PATTERNS = (
    "migrate_*", "migration_return*", "migration_thread*", "migration_completion*", "qemu_savevm*", "savevm_*",
    "vmstate_down*", "runstate*", "vm_state*",
)  # fmt: skip
#: disks have an entry of their own for their bitmaps, which ours have not; and that last look
_NOT_HERE = re.compile("idstr=dirty-bitmap|final=1")

ASKED_AGAIN = 200

#: what happens to be there: times, and addresses that objects of ours do not have
_CHANGES = ((re.compile(r"downtime=\d+"), "downtime=N"), (re.compile(r"=(0x[0-9a-f]{6,}|\(nil\))"), "=P"))


def replies(command: list[str], expected: list[Any] | None = None) -> list[Any]:
    """What is answered. A real one's vCPU takes its switches over when it gets to run: it is asked again for a while."""
    with Emulator(command) as emulator, CaptureVm(emulator, ["-machine", "q35", "-smp", "2", "-S", *ACCEL]) as vm:
        answers = []
        for number, request in enumerate(QUESTIONS):
            answer = (request, vm.message(*request))
            left = ASKED_AGAIN if request[0] == GET else 0
            while expected is not None and left and answer != expected[number]:
                answer = (request, vm.message(*request))
                left -= 1
            answers.append(answer)
        return answers


LINES = (
    "info trace-events migrate_se*", "trace-event migrate_send* on", "info trace-events migrate_se*", "trace-event nosuch on",
    "trace-event nosuch* on", "trace-event migrate_set_state", "trace-event migrate_set_state maybe", "trace-event",
    "trace-event migrate_set_state on 7", "info trace-events migrate_set_state 7", "info trace-events nosuch",
    "info trace-events nosuch*", "info trace-events a b c", "log trace:migrate_set_state", "info trace-events migrate_set*",
    "log none", "log nosuch", "log", "log op", "log trace:nosuch", "log trace:nosuch,trace:-migrate_set_state",
    "logfile /nosuch/x", "info trace-events migrate_set*", "logfile",
)  # fmt: skip


def printed(command: list[str]) -> list[Any]:
    with Emulator(command) as emulator, CaptureVm(emulator, ["-machine", "none", *ACCEL]) as vm:
        return [(line, vm.hmp(line)) for line in LINES]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_human_monitor_switches_them_too(version: str) -> None:
    ours = [sys.executable, "-m", "fakeqemu", "-fake", f"profile={version}"]
    assert printed(ours) == printed(need_real_qemu(version))


@pytest.mark.parametrize("kind", [OURS, REAL])
@pytest.mark.parametrize("option", ["-trace", "-D", "logfile"])
async def test_lines_go_into_a_file(tmp_path: Path, kind: str, option: str) -> None:
    directory = short_directory(tmp_path)
    log = directory / "log"
    log.write_text("old\n")
    file = {"-trace": ["-trace", f"file={log}"], "-D": ["-D", str(log)], "logfile": []}[option]
    vm = await start(kind, directory, "vm", "-machine", "none", "-S", "-trace", "runstate_set", *file)
    try:
        if option == "logfile":
            assert await vm.hmp(f"logfile {log}") == ""
        await vm.execute("cont")
    finally:
        await vm.stop()
    assert log.read_text() == "runstate_set current_run_state 6 (prelaunch) new_state 9 (running)\n"
    assert "runstate_set" not in stderr_of(vm)


@pytest.mark.parametrize("version", VERSIONS)
def test_events_are_found_and_switched(version: str) -> None:
    ours = [sys.executable, "-m", "fakeqemu", "-fake", f"profile={version}"]
    answers = replies(ours)
    assert answers == replies(need_real_qemu(version), answers)


async def migrate_to_nowhere(vm: QmpEmulator) -> None:
    await vm.execute("migrate-set-capabilities", {"capabilities": [{"capability": "events", "state": True}]})
    await vm.execute("migrate", {"uri": "exec:cat > /dev/null"})
    await vm.wait_status("completed")
    while (await vm.execute("query-status"))["status"] != "postmigrate":
        pass


async def press_buttons(vm: QmpEmulator) -> None:
    for command in ("stop", "cont", "system_powerdown", "system_reset", "query-status"):
        await vm.execute(command)


async def lines(kind: str, directory: Path, version: str, machine: str, patterns: Sequence[str], act: Act) -> list[str]:
    """What is printed while a machine does something, without what changes."""
    traced = [word for name in patterns for word in ("-trace", name)]
    vm = await start(kind, directory, kind, "-nodefaults", "-machine", machine, *traced, version=version)
    try:
        await act(vm)
    finally:
        await vm.stop()
    text = stderr_of(vm)
    for change, constant in _CHANGES:
        text = change.sub(constant, text)
    return text.splitlines()


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_happens_here_is_said_in_the_same_lines(tmp_path: Path, version: str) -> None:
    directory = short_directory(tmp_path)
    real = await lines(REAL, directory, version, "none", PATTERNS, migrate_to_nowhere)
    ours = await lines(OURS, directory, version, "none", PATTERNS, migrate_to_nowhere)
    emitted = {line.split(" ")[0] for line in ours}
    assert {"migrate_set_state", "runstate_set", "savevm_section_start"} <= emitted
    assert ours == [line for line in real if line.split(" ")[0] in emitted and not _NOT_HERE.search(line)]


@pytest.mark.parametrize("version", VERSIONS)
async def test_commands_and_events_of_qmp_are_told_of(tmp_path: Path, version: str) -> None:
    directory = short_directory(tmp_path)
    patterns = ("monitor_protocol_event_emit", "monitor_qmp_cmd_*_band", "runstate_set")
    real = await lines(REAL, directory, version, "q35", patterns, press_buttons)
    assert await lines(OURS, directory, version, "q35", patterns, press_buttons) == real
    assert {line.split(" ")[0] for line in real} > {"monitor_protocol_event_emit", "runstate_set"}
