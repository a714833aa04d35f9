# SPDX-License-Identifier: MIT
"""What stood around the emulators when transcripts were recorded: a relay that can be cut, descriptors handed over,
programs that `exec:` runs."""

from __future__ import annotations

import json
from typing import Any

from fakeqemu.host.clock import NS_PER_MS
from fakeqemu.sim.world import SimWorld

#: where sources connect, and where it goes on
RELAYED = {"/tmp/t": "/tmp/d", "/tmp/rt": "/tmp/d"}


class Lab:
    """Relays connections, and can cut them."""

    def __init__(self, world: SimWorld, name: str) -> None:
        self._world = world
        self._name = name
        #: whether a connection was broken
        self.has_cut = False
        self._cuts = name.startswith("cut-")
        self.host = world.host("lab")
        self._channels: list[Any] = []
        self._targets = dict(RELAYED)
        self._ports: dict[str, str] = {}
        for path in RELAYED:
            self._relay_at(path)

    # --- relay -----------------------------------------------------------------------------------------

    def _relay_at(self, path: str) -> None:
        self.host.listen({"type": "unix", "path": path}, lambda near: self._accepted(near, path))

    def _accepted(self, near: Any, path: str) -> None:
        self.host.start(self._relay(near, path), "relay")

    async def _relay(self, near: Any, path: str) -> None:
        far = await self.host.connect({"type": "unix", "path": self._targets[path]})
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

    def cut_if_due(self) -> None:
        """A recording that is about a cut does not say where it was: let something go over the connection first."""
        if self._cuts and self._channels:
            self._world.run_for(150 * NS_PER_MS)
            self.cut()

    def cut(self) -> None:
        """Break all connections; what was sent has arrived."""
        self._world.run_ready()
        self.has_cut = True
        for channel in self._channels:
            channel.shutdown()
        self._channels.clear()

    # --- addresses -------------------------------------------------------------------------------------

    def learn(self, recorded: dict[str, Any], ours: dict[str, Any]) -> None:
        """The port that the recorded one listened at, and ours."""
        for theirs, mine in zip(recorded.get("socket-address", ()), ours.get("socket-address", ()), strict=False):
            if "port" in theirs and "port" in mine:
                self._ports[theirs["port"]] = mine["port"]

    def translate(self, request: dict[str, Any]) -> dict[str, Any]:
        """A request with ports of ours."""
        text = json.dumps(request)
        for theirs, mine in self._ports.items():
            text = text.replace(f':{theirs}"', f':{mine}"').replace(f'"{theirs}"', f'"{mine}"')
        if request.get("execute") == "migrate-recover":
            self._targets["/tmp/rt"] = request["arguments"]["uri"].partition(":")[2]
        result: dict[str, Any] = json.loads(text)
        return result

    # --- descriptors -----------------------------------------------------------------------------------

    def descriptors(self, side: Any, request: dict[str, Any]) -> list[int]:
        """What rides on a request."""
        return []
