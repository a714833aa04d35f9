# SPDX-License-Identifier: MIT
"""Two simulated machines with nothing special about them, and what they have to say."""

from __future__ import annotations

from typing import Any

from fakeqemu.sim.world import SimWorld
from fakeqemu.system.ramblock import RAMBlock
from fakeqemu.testing.sim_machine import SimMachine

MIB = 1 << 20
URI = "unix:/tmp/migration"
RELEASES = ("7.2", "10.0", "11.1")
MIB_PER_S = MIB


class Pair:
    """A source that runs and a destination that waits, `-machine none` with RAM unless told otherwise."""

    def __init__(
        self, profile: str = "11.1", *, mib: int = 8, board: str = "none", fake: dict[str, str] | None = None
    ) -> None:
        self.world = SimWorld(seed=3)
        self.source = SimMachine(self.world, name="source", profile=profile, board=board, fake=fake)
        self.destination = SimMachine(self.world, name="destination", profile=profile, board=board, fake=fake)
        for side in (self.source, self.destination):
            if board == "none":
                side.vm.ram_blocks.append(RAMBlock("ram", mib * MIB))
        self.source.execute("cont")
        self.destination.vm.runstate.set("inmigrate")
        self.capabilities(events=True)
        self.source.events.clear()

    @property
    def ram(self) -> RAMBlock:
        return self.source.vm.ram_blocks[0]

    def fill(self, pages: int, first: int = 0) -> None:
        """Give the source pages of real bytes."""
        self.ram.write_pages(first, b"".join(bytes((1 + page % 255,)) * 4096 for page in range(pages)))

    def capabilities(self, **states: bool) -> None:
        listed = [{"capability": name.replace("_", "-"), "state": on} for name, on in states.items()]
        for side in (self.source, self.destination):
            side.execute("migrate-set-capabilities", capabilities=listed)

    def start(self) -> None:
        self.destination.execute("migrate-incoming", uri=URI)
        self.source.execute("migrate", uri=URI)

    def until(self, status: str) -> None:
        """Let time pass until the source has this status."""
        self.world.run_until(lambda: self.source.vm.migration.state == status)

    def finish(self) -> dict[str, Any]:
        """Let time pass until nothing is left to happen; the source's query-migrate. Neither side may have met a bug."""
        self.world.run_until_idle()
        assert self.source.vm.bugs == self.destination.vm.bugs == 0, self.source.host.log_lines
        info: dict[str, Any] = self.source.execute("query-migrate")
        return info

    def migrate(self) -> dict[str, Any]:
        self.start()
        return self.finish()


def told(machine: SimMachine) -> list[str]:
    """Events as `status` for MIGRATION, `PASS n`, else their names."""
    names = []
    for _, name, data in machine.events:
        if name == "MIGRATION":
            names.append(data["status"])
        elif name == "MIGRATION_PASS":
            names.append(f"PASS {data['pass']}")
        else:
            names.append(name)
    return names


def status(machine: SimMachine) -> str:
    return str(machine.execute("query-status")["status"])


def recorded(pair: Pair) -> bytes:
    """The bytes that the source sends."""
    host = pair.world.host("recorder")
    data = bytearray()

    def on_channel(channel: Any) -> None:
        async def read() -> None:
            while chunk := await channel.read(65536):
                data.extend(chunk)

        host.start(read(), "recorder")

    host.listen({"type": "unix", "path": "/tmp/migration"}, on_channel)
    pair.source.execute("migrate", uri=URI)
    assert pair.finish()["status"] == "completed"
    return bytes(data)


def loaded(data: bytes, profile: str = "11.1", *, board: str = "none") -> SimMachine:
    """A destination to which these bytes were sent; it must have come to an end, and not by a bug of ours."""
    world = SimWorld(seed=4)
    machine = SimMachine(world, name="destination", profile=profile, board=board)
    if board == "none":
        machine.vm.ram_blocks.append(RAMBlock("ram", 16 * 4096))
    machine.vm.runstate.set("inmigrate")
    arguments = {} if profile == "7.2" else {"exit_on_error": False}
    machine.execute("migrate-incoming", uri=URI, **arguments)
    host = world.host("sender")

    async def send() -> None:
        channel = await host.connect({"type": "unix", "path": "/tmp/migration"})
        try:
            await channel.write(data)
        except OSError:
            pass  # it has seen enough
        channel.close()

    world.run(send())
    world.run_until_idle()
    incoming = machine.vm.migration.incoming
    assert incoming is not None
    assert incoming.state in ("completed", "failed")
    assert machine.vm.bugs == 0, machine.host.log_lines
    assert not machine.host.tasks
    return machine
