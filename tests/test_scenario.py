# SPDX-License-Identifier: MIT
"""`-fake scenario=FILE` of an emulator: what is wrong ends the start, what kills ends the process."""

import subprocess
import sys
from pathlib import Path

from fakeqemu.testing.emulator import start_process
from fakeqemu.testing.pair import Pair


def test_a_wrong_scenario_ends_the_start(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text('[[rules]]\nwhere = "vmstate_load"\nfail = "EOOPS"\n')
    command = [sys.executable, "-m", "fakeqemu", "-machine", "none", "-display", "none", "-fake", f"scenario={path}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert f"scenario '{path}': line 3: rules[0].fail: an error is written as the name of an errno" in ended.stderr


async def test_a_destination_that_is_killed_is_gone_and_the_source_runs_on(tmp_path: Path) -> None:
    path = tmp_path / "kill.toml"
    path.write_text('[[rules]]\nwhere = "vmstate_load"\nmatch = { id = "timer" }\nkill = true\n')
    source = await start_process(tmp_path, "source", "-machine", "none")
    destination = await start_process(
        tmp_path, "destination", "-machine", "none", "-incoming", "defer", "-fake", f"scenario={path}"
    )
    try:
        pair = Pair(source, destination, uri=f"unix:{tmp_path}/m.sock")
        await pair.prepare()
        await pair.capabilities(return_path=True)
        await pair.start()
        await source.wait_status("failed")
        assert (await source.execute("query-status"))["status"] == "running"
        assert destination.process is not None
        assert await destination.process.wait() == -9
    finally:
        await source.stop()
        await destination.stop()


def test_a_start_without_scenario_loads_no_pydantic() -> None:
    code = (
        "import sys; sys.argv = ['fakeqemu', '--version']\n"
        "from fakeqemu import cli\n"
        "sys.stdout.write(str([m for m in sys.modules if m.startswith(('pydantic', 'fakeqemu.scenario', 'fakeqemu.faults'))]))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "[]"
