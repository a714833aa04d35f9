# SPDX-License-Identifier: MIT
"""What the fixtures promise, for both kinds of emulator."""

import json
from typing import TYPE_CHECKING

import pytest
from qemu.qmp import ExecuteError

from fakeqemu.error import QemuError
from fakeqemu.testing.emulator import EmulatorFailed

if TYPE_CHECKING:
    from fakeqemu.testing.pytest_plugin import StartEmulator, StartPair

both_kinds = pytest.mark.parametrize("in_process", [False, True], ids=["process", "in process"])
Q35 = ("-machine", "q35", "-m", "32", "-nodefaults")


@both_kinds
async def test_a_connected_client_is_handed_over(fakeqemu: "StartEmulator", in_process: bool) -> None:
    vm = await fakeqemu(*Q35, "-name", "guest=mine", profile="10.0", in_process=in_process)
    assert (await vm.execute("query-name"))["name"] == "mine"
    assert (await vm.execute("query-version"))["qemu"]["major"] == 10
    await vm.execute("stop")
    assert await vm.wait_event("STOP")
    assert "paused" in await vm.hmp("info status")


@both_kinds
async def test_the_conversation_is_kept_with_both_directions(fakeqemu: "StartEmulator", in_process: bool) -> None:
    vm = await fakeqemu("-machine", "none", in_process=in_process)
    with pytest.raises(ExecuteError):
        await vm.execute("query-status", {"bogus": 1})
    entries = [json.loads(line) for line in vm.transcript_path.read_text().splitlines()]
    assert [entry["kind"] for entry in entries[:2]] == ["open", "<"]
    times = [entry["t"] for entry in entries]
    assert times == sorted(times)
    asked = next(e for e in entries if e["kind"] == ">" and "bogus" in e["text"])
    answer = entries[entries.index(asked) + 1]
    assert "Parameter 'bogus' is unexpected" in answer["text"]
    assert "bogus" in vm.conversation()


async def test_a_start_that_fails_says_why(fakeqemu: "StartEmulator") -> None:
    with pytest.raises(EmulatorFailed, match="unsupported machine type") as failure:
        await fakeqemu("-machine", "nosuch")
    assert failure.value.status == 1
    with pytest.raises(QemuError, match="unsupported machine type"):
        await fakeqemu("-machine", "nosuch", in_process=True)


@both_kinds
async def test_a_pair_migrates(fakeqemu_pair: "StartPair", in_process: bool) -> None:
    pair = await fakeqemu_pair(*Q35, in_process=in_process)
    await pair.capabilities(return_path=True)
    result = await pair.migrate()
    assert result["status"] == "completed"
    if in_process:
        assert [vm.machine.bugs for vm in (pair.source, pair.destination)] == [0, 0]
    assert (await pair.source.execute("query-status"))["status"] == "postmigrate"
    assert (await pair.destination.execute("query-status"))["status"] == "running"


async def test_a_migration_that_fails_raises_its_reason(fakeqemu_pair: "StartPair") -> None:
    pair = await fakeqemu_pair(source=("-machine", "none", "-m", "8"), destination=("-machine", "none", "-m", "16"))
    await pair.capabilities(return_path=True)
    with pytest.raises(AssertionError, match="migration failed"):
        await pair.migrate()
    assert (await pair.source.execute("query-status"))["status"] == "running"


async def test_the_model_of_a_machine_in_process_is_in_view(fakeqemu: "StartEmulator") -> None:
    vm = await fakeqemu(*Q35, in_process=True)
    assert vm.machine.runstate.running
    assert vm.machine.bugs == 0
    process = await fakeqemu("-machine", "none")
    with pytest.raises(LookupError):
        _ = process.machine
