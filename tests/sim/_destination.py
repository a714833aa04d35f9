# SPDX-License-Identifier: MIT
"""A destination of ours in the simulation, a stream that comes to it, and what becomes of it."""

from __future__ import annotations

from typing import Any

from fakeqemu.sim.world import SimWorld
from fakeqemu.system.ramblock import RAMBlock
from fakeqemu.testing.sim_machine import SimMachine
from tests.migration.damage import ENDS, HUNG, Outcome, told
from tests.migration.streams import MIB as BYTES_OF_A_MIB
from tests.migration.streams import Case

ADDRESS = "/tmp/destination"


class Destination:
    """One destination. `send` brings it a stream, `outcome` says what a recording of a real QEMU says."""

    def __init__(self, case: Case, profile: str) -> None:
        self.world = SimWorld()
        self.machine = SimMachine(self.world, name="destination", profile=profile)
        self.vm = self.machine.vm
        if case.mib:
            self.vm.ram_blocks.append(RAMBlock("ram", case.mib * BYTES_OF_A_MIB))
        if case.uuid:
            self.vm.uuid = bytes.fromhex(case.uuid.replace("-", ""))
        self.vm.runstate.set("inmigrate")
        wanted = [{"capability": name, "state": True} for name in ("events", *case.capabilities)]
        self.machine.execute("migrate-set-capabilities", capabilities=wanted)
        self._asks = self.vm.compat.migration_exit_on_error
        self._descriptors = self.machine.host.open_fds()
        arguments: dict[str, Any] = {"exit_on_error": False} if self._asks else {}
        self.machine.execute("migrate-incoming", uri=f"unix:{ADDRESS}", **arguments)
        self._answers = b""

    def send(self, data: bytes) -> None:
        """Bring the stream, and let time pass until nothing happens any more."""
        host = self.world.host("source")

        async def bring() -> None:
            channel = await host.connect({"type": "unix", "path": ADDRESS})
            try:
                if data:
                    await channel.write(data)
                channel.shutdown("write")
            except OSError:
                pass
            try:
                while chunk := await channel.read(65536):
                    self._answers += chunk
            except OSError:
                pass
            channel.close()

        host.start(bring(), "source")
        self.world.run_until_idle()

    @property
    def outcome(self) -> Outcome:
        """In the words of `damage.real_outcome`."""
        vm, events = self.vm, [[name, data] for _, name, data in self.machine.events]
        if events[-1] not in ENDS:
            return {"end": HUNG}
        result: Outcome = {}
        if vm.exit_status:
            result["exit"] = vm.exit_status
        else:
            result["query-migrate"] = told(self.machine.execute("query-migrate"))
            result["query-status"] = self.machine.execute("query-status")["status"]
        result["answers"] = self._answers.hex()
        result["events"] = events
        result["stderr"] = [_readable(line.replace(ADDRESS, "PATH")) for line in self.machine.host.log_lines]
        return result

    def leftovers(self) -> list[str]:
        """What should not be there any more: bugs that were met, tasks, descriptors."""
        left = [f"bug: {line}" for line in self.machine.host.log_lines] if self.vm.bugs else []
        left += [f"task {task.name}" for host in self.world.hosts for task in host.tasks]
        left += [f"descriptor {fd}" for fd in self.machine.host.open_fds() if fd not in self._descriptors]
        return left


def outcome_here(case: Case, profile: str) -> Outcome:
    """What becomes of the stream at a machine of ours; AssertionError when anything is left behind."""
    destination = Destination(case, profile)
    destination.send(case.data)
    left = destination.leftovers()
    assert not left, f"{case.name}: {left}"
    return destination.outcome


def _readable(line: str) -> str:
    """As a terminal shows it: bytes that are no text are replaced."""
    return line.encode("utf-8", "surrogateescape").decode(errors="replace")
