# SPDX-License-Identifier: MIT
"""`make demo`: both migrations arrive, and it is seen what they were made of."""

import re
import subprocess
import sys
from pathlib import Path


def test_demo(tmp_path: Path) -> None:
    result = subprocess.run(
        [str(Path(sys.executable).parent / "fakeqemu"), "demo"],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("source       setup → active → device → completed") == 2
    assert result.stdout.count("destination  setup → active → completed") == 2
    times = re.search(r"downtime: (\d+) ms one after the other, (\d+) ms in parallel", result.stdout)
    assert times is not None
    # eight devices of two arcs on the source, three on the destination, 50 ms each: no load makes a wait shorter
    serial, parallel = int(times[1]), int(times[2])
    assert serial >= 8 * 250
    assert 250 <= parallel < serial
