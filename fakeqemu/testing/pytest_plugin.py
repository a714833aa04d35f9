# SPDX-License-Identifier: MIT
"""The fixtures `fakeqemu` and `fakeqemu_pair`; loaded by pytest through the entry point of the extra `testing`.

Both are functions to be awaited. Options of QEMU go in as they would stand on its command line; `profile=` chooses which
QEMU it is, `in_process=True` runs the machine in the test's own process, `fake={...}` are further settings of `-fake`.
What was said on the monitors of a test that failed is a section of its report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Mapping
    from pathlib import Path
    from typing import Protocol

    from fakeqemu.testing.emulator import Emulator
    from fakeqemu.testing.pair import Pair

    class StartEmulator(Protocol):
        """The type of the fixture `fakeqemu`."""

        async def __call__(
            self,
            *argv: str,
            profile: str | None = None,
            in_process: bool = False,
            fake: Mapping[str, str] | None = None,
            name: str | None = None,
        ) -> Emulator: ...

    class StartPair(Protocol):
        """The type of the fixture `fakeqemu_pair`."""

        async def __call__(
            self,
            *argv: str,
            profile: str | None = None,
            in_process: bool = False,
            fake: Mapping[str, str] | None = None,
            source: tuple[str, ...] = (),
            destination: tuple[str, ...] = (),
        ) -> Pair: ...


_started = pytest.StashKey["list[Emulator]"]()


@pytest_asyncio.fixture
async def fakeqemu(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StartEmulator]:
    """Start emulators: `vm = await fakeqemu("-machine", "q35")`. All are ended with the test."""
    from fakeqemu.testing.emulator import short_directory, start_in_process, start_process

    emulators: list[Emulator] = request.node.stash.setdefault(_started, [])
    directory = short_directory(tmp_path)

    async def start(
        *argv: str,
        profile: str | None = None,
        in_process: bool = False,
        fake: Mapping[str, str] | None = None,
        name: str | None = None,
    ) -> Emulator:
        starter = start_in_process if in_process else start_process
        vm = await starter(directory, name or f"vm{len(emulators)}", *argv, profile=profile, fake=fake)
        emulators.append(vm)
        return vm

    yield start
    for vm in emulators:
        await vm.stop()


@pytest_asyncio.fixture
async def fakeqemu_pair(fakeqemu: StartEmulator, tmp_path: Path) -> StartPair:
    """Start a source and a destination with the same options: `pair = await fakeqemu_pair("-machine", "q35")`.

    `source` and `destination` are further options of one side. `await pair.migrate()` does the rest.
    """
    from fakeqemu.testing.emulator import short_directory
    from fakeqemu.testing.pair import Pair

    async def start(
        *argv: str,
        profile: str | None = None,
        in_process: bool = False,
        fake: Mapping[str, str] | None = None,
        source: tuple[str, ...] = (),
        destination: tuple[str, ...] = (),
    ) -> Pair:
        options: dict[str, Any] = {"profile": profile, "in_process": in_process, "fake": fake}
        pair = Pair(
            source=await fakeqemu(*argv, *source, name="source", **options),
            destination=await fakeqemu(*argv, *destination, "-incoming", "defer", name="destination", **options),
            uri=f"unix:{short_directory(tmp_path)}/migrate.sock",
        )
        await pair.prepare()
        return pair

    return start


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and call.when == "call":
        for vm in item.stash.get(_started, []):
            report.sections.append((f"conversation of {vm.name}", vm.conversation()))
    return report
