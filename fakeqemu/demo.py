# SPDX-License-Identifier: MIT
"""`fakeqemu demo`: a VM with eight vfio-pci devices migrates between two emulators, and one sees what its downtime is made of.

Two emulator processes are started with QEMU's command line, the real `qemu.qmp` client drives them over real sockets. The
first run changes the devices' states one after the other, as released QEMUs do; the second with
`x-migration-parallel-states=on`. What is printed comes from the emulators' own events and replies.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fakeqemu.testing.emulator import Emulator, start_process
from fakeqemu.testing.pair import Pair

#: virtual functions of the default host (hw/vfio/hostmodel.py), which need 50 ms for each arc
DEVICES = 8
ARC_MS = 50
#: eight devices would give 8; what RAM and the emulators themselves need is the rest
EXPECTED_RATIO = 6

#: how a state is drawn
SHADES = {
    "running": "█",
    "running-p2p": "▓",
    "pre-copy": "▒",
    "pre-copy-p2p": "░",
    "stop-copy": "·",
    "stop": " ",
    "resuming": "·",
}


@dataclass(slots=True)
class Run:
    """What one migration showed."""

    parallel: bool
    downtime_ms: int = 0
    total_ms: int = 0
    transferred: int = 0
    statuses: dict[str, list[str]] = field(default_factory=dict)
    states: dict[str, dict[str, list[tuple[float, str]]]] = field(default_factory=dict)
    final: dict[str, str] = field(default_factory=dict)

    @property
    def arrived(self) -> bool:
        """Whether the guest runs on the destination and nowhere else."""
        return self.final == {"source": "postmigrate", "destination": "running"}


def device_arguments(parallel: bool) -> list[str]:
    """The eight `-device` options of both sides."""
    arguments = []
    for number in range(DEVICES):
        function = number + 1  # 00.0 is the physical function, which the host uses
        address = f"0000:3b:{function // 8:02x}.{function % 8}"
        options = f"vfio-pci,host={address},id=vf{number},migration-events=on"
        arguments += ["-device", f"{options},x-migration-parallel-states={'on' if parallel else 'off'}"]
    return arguments


async def migrate(directory: Path, parallel: bool) -> Run:
    """One migration from start to end."""
    run = Run(parallel)
    machine = ["-machine", "q35", "-m", "64", "-nodefaults", *device_arguments(parallel)]
    source = await start_process(directory, f"source-{parallel}", *machine, profile="next")
    destination = await start_process(
        directory, f"destination-{parallel}", *machine, "-incoming", "defer", profile="next"
    )
    try:
        pair = Pair(source, destination, f"unix:{directory}/migrate-{parallel}.sock")
        await pair.prepare()
        await pair.capabilities(return_path=True)
        await pair.parameters({"downtime-limit": 10_000})
        result = await pair.migrate()
        run.downtime_ms, run.total_ms = result["downtime"], result["total-time"]
        run.transferred = result["ram"]["transferred"]
        for side, vm in (("source", source), ("destination", destination)):
            run.final[side] = (await vm.execute("query-status"))["status"]
            collect(run, side, vm)
    finally:
        await source.stop()
        await destination.stop()
    return run


def collect(run: Run, side: str, vm: Emulator) -> None:
    """Take status changes and device states from the events of one side."""
    run.statuses[side] = [e["data"]["status"] for e in vm.events if e["event"] == "MIGRATION"]
    states: dict[str, list[tuple[float, str]]] = {f"vf{n}": [] for n in range(DEVICES)}
    for event in vm.events:
        if event["event"] == "VFIO_MIGRATION":
            data = event["data"]
            states[data["device-id"]].append((seconds(event), data["device-state"]))
    run.states[side] = states


def seconds(event: dict[str, Any]) -> float:
    stamp = event["timestamp"]
    return float(stamp["seconds"] + stamp["microseconds"] / 1e6)


def draw(states: dict[str, list[tuple[float, str]]], begin: float, end: float, columns: int) -> list[str]:
    """One line a device: its state in each of `columns` slices of time."""
    lines = []
    for device, changes in states.items():
        cells = []
        for column in range(columns):
            at = begin + (end - begin) * (column + 0.5) / columns
            state = "running"
            for when, new in changes:
                # an event says that a state is reached; "-prepare" only that it will be asked for
                if when <= at and not new.endswith("-prepare"):
                    state = new
            cells.append(SHADES[state])
        lines.append(f"  {device}  {''.join(cells)}")
    return lines


def report(run: Run, columns: int) -> str:
    """The run for people."""
    title = f"x-migration-parallel-states={'on' if run.parallel else 'off'}"
    lines = [f"── {title} " + "─" * max(0, columns - len(title) + 3)]
    lines += [f"  {side:11}  {' → '.join(statuses)}" for side, statuses in run.statuses.items()]
    starts = {
        "source": first(run.states["source"], "pre-copy-p2p-prepare"),
        "destination": first(run.states["destination"], "running-p2p"),
    }
    begin = starts["source"] - 0.1
    end = max(when for changes in run.states["destination"].values() for when, _ in changes) + 0.1
    for side in ("source", "destination"):
        lines += ["", f"  {side}, {round((end - begin) * 1000)} ms around the switchover"]
        lines += draw(run.states[side], begin, end, columns)
    lines += [
        "",
        f"  downtime {run.downtime_ms} ms, total {run.total_ms} ms, {run.transferred} bytes sent",
        "",
    ]
    return "\n".join(lines)


def first(states: dict[str, list[tuple[float, str]]], wanted: str) -> float:
    return min(when for changes in states.values() for when, state in changes if state == wanted)


async def demo() -> int:
    """Both runs and their comparison; the exit status."""
    columns = max(40, min(100, shutil.get_terminal_size().columns - 8))
    print(
        f"A q35 VM with {DEVICES} vfio-pci devices, {ARC_MS} ms for each arc of their state machine, migrates twice.\n"
    )
    with tempfile.TemporaryDirectory(prefix="fakeqemu-demo-") as folder:
        runs = [await migrate(Path(folder), parallel) for parallel in (False, True)]
    for run in runs:
        print(report(run, columns))
    legend = "  ".join(f"{shade} {state}" for state, shade in SHADES.items() if state not in ("stop", "resuming"))
    print(f"  {legend} (also resuming)\n")
    serial, parallel = runs
    ratio = serial.downtime_ms / max(1, parallel.downtime_ms)
    print(
        f"downtime: {serial.downtime_ms} ms one after the other, {parallel.downtime_ms} ms in parallel: ratio {ratio:.1f}"
    )
    for run in runs:
        if not run.arrived:
            print(f"the guest is not on the destination alone: {run.final}", file=sys.stderr)
            return 1
    print("both guests run on their destination, and nowhere else")
    if ratio < EXPECTED_RATIO:
        print(f"(expected is {EXPECTED_RATIO} and more: this machine has other things to do)")
    return 0


def main(argv: list[str] | None = None) -> int:
    if argv:
        print("usage: fakeqemu demo", file=sys.stderr)
        return 0 if argv[0] in ("-h", "--help") else 2
    return asyncio.run(demo())
