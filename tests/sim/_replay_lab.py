# SPDX-License-Identifier: MIT
"""What stood around the emulators when transcripts were recorded: a relay that can be cut, descriptors handed over."""

from __future__ import annotations

import json
import os
from typing import Any

from fakeqemu.error import QemuError
from fakeqemu.host.clock import NS_PER_MS


class Lab:
    """Relays connections, and can cut them."""

    def __init__(self, world: Any, name: str, home: str) -> None:
        self._world = world
        self._name = name
        self._home = home
        self._is_real = home != "/tmp"
        #: whether a connection was broken
        self.has_cut = False
        #: whether a connection is passed on late
        self.is_slow = False
        #: whether the recording is about a cut
        self.cuts = name.startswith("cut-")
        self.host = world.host("lab")
        self._channels: list[Any] = []
        #: where somebody connects, and where it goes on
        self._targets: dict[str, dict[str, Any]] = {}
        #: ports in the recording, and ours
        self._ports: dict[str, str] = {}
        #: the last port that an emulator of ours listened at
        self._last_port = ""
        self._pair: list[Any] = []
        self.host.listen({"type": "unix", "path": f"{home}/mute"}, lambda _near: None, backlog=16)
        for name in ("t", "rt"):
            self._relay_at({"type": "unix", "path": f"{home}/{name}"}, {"type": "unix", "path": f"{home}/d"})

    # --- relay -----------------------------------------------------------------------------------------

    def _relay_at(self, address: dict[str, Any], target: dict[str, Any]) -> Any:
        key = address.get("path") or address["port"]
        self._targets[key] = target
        return self.host.listen(address, lambda near: self._accepted(near, key), backlog=16)

    def _accepted(self, near: Any, key: str) -> None:
        self.host.start(self._relay(near, key), "relay")

    async def _relay(self, near: Any, key: str) -> None:
        if self.is_slow:
            await self.host.clock.sleep(100 * NS_PER_MS)
        try:
            far = await self.host.connect(self._targets[key])
        except QemuError:
            near.close()
            return
        self._channels += [near, far]
        back = self.host.start(self._pump(far, near), "back")
        await self._pump(near, far)
        await back.join()
        near.close()
        far.close()

    async def _pump(self, source: Any, sink: Any) -> None:
        try:
            while data := await source.read(65536):
                await sink.write(data)
            sink.shutdown("write")
        except OSError:
            source.shutdown()
            sink.shutdown()

    def cut_if_due(self) -> None:
        """A recording that is about a cut does not say where it was: let something go over the connection first."""
        if self.cuts and self._channels:
            self._world.run_for(150 * NS_PER_MS)
            self._world.run_ready()  # what was sent has arrived
            self.cut()

    def cut(self) -> None:
        """Break all connections."""
        self.has_cut = True
        for channel in self._channels:
            channel.shutdown()
        self._channels.clear()

    # --- addresses -------------------------------------------------------------------------------------

    def learn(self, recorded: dict[str, Any], ours: dict[str, Any]) -> None:
        """The port that the recorded one listened at, and ours."""
        for theirs, mine in zip(recorded.get("socket-address", ()), ours.get("socket-address", ()), strict=False):
            if "port" in theirs and "port" in mine:
                self._ports[theirs["port"]] = self._last_port = mine["port"]

    def translate(self, request: dict[str, Any]) -> dict[str, Any]:
        """A request with ports of ours; one at which no emulator listened was the relay's."""
        text = json.dumps(request)
        uri = request.get("arguments", {}).get("uri", "")
        command, _, address = str(uri).partition(":127.0.0.1:")
        if command == "tcp" and request["execute"] == "migrate" and len(address) == 5 and self._last_port:
            if address not in self._ports:
                target = {"type": "inet", "host": "127.0.0.1", "port": self._last_port}
                self._ports[address] = address
                self._relay_at({"type": "inet", "host": "127.0.0.1", "port": address}, target)
        for theirs, mine in self._ports.items():
            text = text.replace(f':{theirs}"', f':{mine}"').replace(f'"{theirs}"', f'"{mine}"')
        if request.get("execute") == "migrate-recover":
            self._targets[f"{self._home}/rt"] = {"type": "unix", "path": str(uri).partition(":")[2]}
        result: dict[str, Any] = json.loads(text)
        return result

    def bring(self, stream: bytes, path: str) -> None:
        """Connect to a destination and send it this; then the source is gone."""
        self.host.start(self._bring(stream, path), "bring")

    async def _bring(self, stream: bytes, path: str) -> None:
        channel = await self.host.connect({"type": "unix", "path": path})
        try:
            await channel.write(stream)
            channel.shutdown("write")
            while await channel.read(65536):
                pass
        except OSError:
            pass
        channel.close()

    # --- files and descriptors -------------------------------------------------------------------------

    def file_size(self, path: str) -> int:
        if not self._is_real:
            return len(self._world.files.contents[path])
        self._world.await_programs()
        return os.stat(path).st_size

    def remove(self, path: str) -> None:
        """Memory is empty when an emulator starts."""
        if self._is_real and os.path.exists(path):
            os.unlink(path)

    def descriptors(self, side: Any, request: dict[str, Any]) -> list[int]:
        """What rides on a request: numbers of descriptors of the client's."""
        command = request.get("execute")
        if command == "getfd" and self._name in ("fd-pipe", "fd-socketpair"):
            if not self._pair:
                self._pair = list(reversed(os.pipe())) if self._name == "fd-pipe" else self._world.socketpair()
            return [self._pair[0 if side.name == "src" else 1]]
        if self._name == "fd-set" and command in ("getfd", "add-fd"):
            count = len(self._pair)
            self._pair.append(f"{self._home}/given{count}")
            return [os.open(self._pair[-1], os.O_CREAT | (os.O_WRONLY if count == 2 else os.O_RDWR), 0o600)]
        return []
