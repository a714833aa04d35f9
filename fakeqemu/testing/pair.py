# SPDX-License-Identifier: MIT
"""Two emulators, the second waiting for the first: what a migration needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fakeqemu.testing.emulator import Emulator


@dataclass(slots=True)
class Pair:
    """`source` runs (or waits, with -S); `destination` was started with `-incoming defer`. Both send MIGRATION events."""

    source: Emulator
    destination: Emulator
    uri: str

    async def prepare(self) -> None:
        """Switch MIGRATION events on, on both sides."""
        for vm in (self.source, self.destination):
            await self.set_capabilities(vm, events=True)

    @staticmethod
    async def set_capabilities(vm: Emulator, **capabilities: bool) -> None:
        """`return_path=True` sets the capability `return-path`, and so on."""
        states = [{"capability": name.replace("_", "-"), "state": on} for name, on in capabilities.items()]
        await vm.execute("migrate-set-capabilities", {"capabilities": states})

    async def capabilities(self, **capabilities: bool) -> None:
        """Set capabilities on both sides."""
        for vm in (self.source, self.destination):
            await self.set_capabilities(vm, **capabilities)

    async def parameters(self, parameters: Mapping[str, object]) -> None:
        """Set migration parameters on both sides."""
        for vm in (self.source, self.destination):
            await vm.execute("migrate-set-parameters", parameters)

    async def start(self) -> None:
        """Let the destination listen and the source go; returns as soon as QEMU's `migrate` does."""
        await self.destination.execute("migrate-incoming", {"uri": self.uri})
        await self.source.execute("migrate", {"uri": self.uri})

    async def migrate(self, timeout: float = 60) -> dict[str, Any]:
        """Migrate and wait for both sides to say `completed`; returns the source's `query-migrate`.

        Raises AssertionError with the reason when either side fails.
        """
        await self.start()
        await self.source.wait_status("completed", timeout=timeout)
        await self.destination.wait_status("completed", timeout=timeout)
        result: dict[str, Any] = await self.source.execute("query-migrate")
        return result
