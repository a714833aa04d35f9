# SPDX-License-Identifier: MIT
"""The real host on both pollers, against the contract of all hosts."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from fakeqemu.io.host import ProcessHost
from fakeqemu.io.poller import AsyncioPoller, EpollPoller
from fakeqemu.testing.contract import ChannelContract, ClockContract, HostContract

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from pathlib import Path

PATIENCE_S = 20


class RealWorld:
    """A ProcessHost, its poller and a folder."""

    def __init__(self, host: ProcessHost, folder: Path) -> None:
        self.host = host
        self._folder = folder

    def run(self, coro: Coroutine[Any, Any, Any]) -> Any:
        raise NotImplementedError

    def unix_path(self, name: str) -> str:
        return str(self._folder / name)

    def socketpair(self) -> tuple[int, int]:
        near, far = socket.socketpair()
        return near.detach(), far.detach()

    def pipe(self) -> tuple[int, int]:
        return os.pipe()


class EpollWorld(RealWorld):
    def run(self, coro: Coroutine[Any, Any, Any]) -> Any:
        task = self.host.start(coro, "test")
        late: list[bool] = []
        timer = self.host.clock.call_at(self.host.clock.now_ns() + PATIENCE_S * 10**9, lambda: late.append(True))
        assert isinstance(self.host.poller, EpollPoller)
        self.host.poller.run(lambda: task.done or bool(late))
        timer.cancel()
        assert not late, "stalled"
        return task.result()


class AsyncioWorld(RealWorld):
    def __init__(self, host: ProcessHost, folder: Path, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(host, folder)
        self._loop = loop

    def run(self, coro: Coroutine[Any, Any, Any]) -> Any:
        async def drive() -> Any:
            ended = asyncio.Event()
            task = self.host.start(coro, "test")
            task.add_done_callback(ended.set)
            async with asyncio.timeout(PATIENCE_S):
                await ended.wait()
            return task.result()

        return self._loop.run_until_complete(drive())


class TestEpoll(ClockContract, ChannelContract, HostContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[EpollWorld]:
        host = ProcessHost()
        yield EpollWorld(host, tmp_path)
        host.close()


class TestAsyncio(ClockContract, ChannelContract, HostContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[AsyncioWorld]:
        loop = asyncio.new_event_loop()
        host = ProcessHost(AsyncioPoller(loop))
        yield AsyncioWorld(host, tmp_path, loop)
        host.close()
        loop.close()
