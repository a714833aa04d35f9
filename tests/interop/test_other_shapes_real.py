# SPDX-License-Identifier: MIT
"""A real machine whose devices send more than those that we know goes through us into another real one, and runs on.

A network card behind a port of PCI Express is one, a CPU of another model another. How long their sections are the description
at the stream's end tells; where there is none, what stands behind them. Nobody waits for a word that does not come: with a
return path the source waits for ours.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop._machines import OURS, REAL, Start
from tests.interop.test_relay_real import booted, capabilities, migrate, parameters, runs_on, send

pytestmark = pytest.mark.real_qemu

OTHER = (
    "-m",
    "64",
    "-cpu",
    "max",
    "-device",
    "pcie-root-port,id=behind,chassis=1",
    "-device",
    "virtio-net-pci,bus=behind",
)
DESCRIBED = ("-machine", "q35", *OTHER)
UNDESCRIBED = ("-machine", "q35,suppress-vmdesc=on", *OTHER)
VERSIONS = ("11.1", "10.0", "7.2")


@pytest.mark.parametrize("argv", [DESCRIBED, UNDESCRIBED], ids=["described", "undescribed"])
@pytest.mark.parametrize("return_path", [False, True], ids=["plain", "return-path"])
@pytest.mark.parametrize("version", VERSIONS)
async def test_on_one_channel(
    start_any: Start, directory: Path, version: str, return_path: bool, argv: tuple[str, ...]
) -> None:
    first = await start_any(REAL, "first", *argv, version=version)
    ours = await start_any(OURS, "ours", *argv, "-incoming", "defer", version=version)
    second = await start_any(REAL, "second", *argv, "-S", "-incoming", "defer", version=version)
    await capabilities(first, ours, second, events=True, return_path=return_path)
    await booted(first, with_screen=False)
    await migrate(first, ours, f"unix:{directory}/1.mig")
    await migrate(ours, second, f"unix:{directory}/2.mig", running=False)
    await runs_on(first, second, directory)


@pytest.mark.parametrize("argv", [DESCRIBED, UNDESCRIBED], ids=["described", "undescribed"])
async def test_on_many_channels(start_any: Start, directory: Path, argv: tuple[str, ...]) -> None:
    first = await start_any(REAL, "first", *argv)
    ours = await start_any(OURS, "ours", *argv, "-incoming", "defer")
    second = await start_any(REAL, "second", *argv, "-S", "-incoming", "defer")
    await capabilities(first, ours, second, events=True, return_path=True, multifd=True)
    await parameters(first, ours, second, multifd_channels=3)
    await booted(first, with_screen=False)
    await migrate(first, ours, f"unix:{directory}/1.mig")
    await migrate(ours, second, f"unix:{directory}/2.mig", running=False)
    await runs_on(first, second, directory)


@pytest.mark.parametrize("argv", [DESCRIBED, UNDESCRIBED], ids=["described", "undescribed"])
@pytest.mark.parametrize("mapped", [False, True], ids=["stream", "mapped-ram"])
async def test_by_files(start_any: Start, directory: Path, mapped: bool, argv: tuple[str, ...]) -> None:
    first = await start_any(REAL, "first", *argv)
    ours = await start_any(OURS, "ours", *argv, "-incoming", "defer")
    second = await start_any(REAL, "second", *argv, "-S", "-incoming", "defer")
    await capabilities(first, ours, second, events=True, mapped_ram=mapped)
    await booted(first, with_screen=False)
    await send(first, f"file:{directory}/1")
    await ours.execute("migrate-incoming", {"uri": f"file:{directory}/1"})
    await ours.wait_status("completed")
    await send(ours, f"file:{directory}/2")
    await second.execute("migrate-incoming", {"uri": f"file:{directory}/2"})
    await second.wait_status("completed")
    await runs_on(first, second, directory)


@pytest.mark.parametrize("version", VERSIONS)
async def test_in_a_package(start_any: Start, directory: Path, version: str) -> None:
    first = await start_any(REAL, "first", *DESCRIBED, version=version)
    ours = await start_any(OURS, "ours", *DESCRIBED, "-incoming", "defer", version=version)
    second = await start_any(REAL, "second", *DESCRIBED, "-S", "-incoming", "defer", version=version)
    await capabilities(first, ours, events=True, postcopy_ram=True)
    await capabilities(second, events=True)
    await parameters(first, max_bandwidth=1 << 20)
    await booted(first, with_screen=False)
    await ours.execute("migrate-incoming", {"uri": f"unix:{directory}/1.mig"})
    await first.execute("migrate", {"uri": f"unix:{directory}/1.mig"})
    await first.execute("migrate-start-postcopy")
    await first.wait_status("completed")
    await ours.wait_status("completed")
    await capabilities(ours, postcopy_ram=False)
    await migrate(ours, second, f"unix:{directory}/2.mig", running=False)
    await runs_on(first, second, directory)
