# SPDX-License-Identifier: MIT
"""Each scenario that comes with us does what it says, between two machines on the simulated host."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from fakeqemu.error import QemuError
from fakeqemu.host.clock import NS_PER_MS, NS_PER_S
from fakeqemu.hw.vfio import fsm
from fakeqemu.hw.vfio.hostmodel import HostFunction, HostModel
from fakeqemu.hw.vfio.vendor import Arcs, MigrationFeatures
from fakeqemu.scenario import library, library_cli
from fakeqemu.scenario.load import load
from fakeqemu.scenario.runner import Runner
from fakeqemu.sim.world import SimWorld
from fakeqemu.system.ramblock import RAMBlock
from fakeqemu.testing.sim_machine import SimMachine

MIB = 1 << 20
URI = "unix:/tmp/scenario"


class Pair:
    """A source whose guest uses all of its memory, and a destination; `name` is played on one of them."""

    def __init__(
        self,
        name: str,
        side: str = "source",
        *,
        board: str = "none",
        postcopy: bool = False,
        answered: bool = True,
        mib: int = 16,
    ) -> None:
        self.world = SimWorld(seed=name)
        self._board, self._mib = board, mib
        self.source, self.destination = self._machine("source"), self._machine("destination")
        ram = self.source.vm.ram_blocks[0]
        ram.guest_dirties(0, ram.pages)
        self.source.execute("cont")
        self.destination.vm.runstate.set("inmigrate")
        names = ["events", *(["return-path"] if answered else []), *(["postcopy-ram"] if postcopy else [])]
        for one in (self.source, self.destination):
            one.execute("migrate-set-capabilities", capabilities=[{"capability": n, "state": True} for n in names])
            one.events.clear()
        path = library.path_of(name)
        assert path is not None
        played = self.source if side == "source" else self.destination
        self.runner = Runner(played.vm, load(path))

    def _machine(self, name: str) -> SimMachine:
        machine = SimMachine(self.world, name=name, profile="11.1", board=self._board)
        machine.vm.ram_blocks.append(RAMBlock("ram", self._mib * MIB))
        return machine

    def begin(self, uri: str = URI) -> None:
        if uri == URI:
            self.destination.execute("migrate-incoming", uri=uri)
        self.source.execute("migrate", uri=uri)

    def migrate(self, uri: str = URI) -> None:
        self.begin(uri)
        self.world.run_until_idle()

    @property
    def status(self) -> str:
        return self.source.vm.migration.state

    @property
    def arrived(self) -> str:
        incoming = self.destination.vm.migration.incoming
        return "none" if incoming is None else incoming.state

    @property
    def error(self) -> str:
        error = self.source.vm.migration.error
        return "" if error is None else error.desc

    def still_here(self) -> bool:
        return self.source.vm.runstate.running and not self.destination.vm.runstate.running

    def moved(self) -> bool:
        return self.destination.vm.runstate.running and not self.source.vm.runstate.running

    def seconds(self) -> float:
        return float(self.source.execute("query-migrate")["total-time"]) / 1000


def never_converges() -> None:
    pair = Pair("never-converges", mib=64)
    pair.source.execute("migrate-set-parameters", max_bandwidth=32 * MIB)
    pair.begin()
    remaining = []
    for _ in range(50):
        pair.world.run_for(200 * NS_PER_MS)
        remaining.append(pair.source.execute("query-migrate")["ram"]["remaining"])
    assert pair.status == "active"
    assert pair.source.execute("query-migrate")["ram"]["dirty-sync-count"] > 3
    assert 2 < sum(later > earlier for earlier, later in pairwise(remaining)) < 45
    pair.source.execute("migrate-set-parameters", downtime_limit=2000)
    pair.world.run_until_idle()
    assert pair.moved()


def calms_down() -> None:
    pair = Pair("calms-down", mib=64)
    pair.source.execute("migrate-set-parameters", max_bandwidth=32 * MIB)
    pair.migrate()
    assert pair.moved()
    assert 10 < pair.seconds() < 14


def silent_monitor() -> None:
    pair = Pair("silent-monitor")
    for _ in range(2):
        pair.source.execute("query-migrate")
    pair.source.execute("query-migrate")
    assert pair.source.host.clock.now_ns() == 300 * NS_PER_S


def slow_replies() -> None:
    pair = Pair("slow-replies")
    pair.source.execute("query-status")
    pair.source.execute("query-name")
    assert pair.source.host.clock.now_ns() == 4 * NS_PER_S


def source_exits_early() -> None:
    pair = Pair("source-exits-early")
    pair.migrate()
    assert pair.source.host.killed
    assert [data["status"] for _, name, data in pair.source.events if name == "MIGRATION"][-1] == "device"


def source_dies() -> None:
    pair = Pair("source-dies")
    pair.migrate()
    assert pair.source.host.killed
    assert pair.arrived == "failed"


def destination_dies() -> None:
    pair = Pair("destination-dies", "destination")
    pair.migrate()
    assert pair.destination.host.killed
    assert (pair.status, pair.still_here()) == ("failed", True)


def destination_dies_late() -> None:
    pair = Pair("destination-dies-late", "destination")
    pair.migrate()
    assert pair.destination.host.killed
    assert (pair.status, pair.still_here()) == ("failed", True)
    assert "STOP" in pair.source.event_names()


def slow_switchover() -> None:
    pair = Pair("slow-switchover")
    pair.begin()
    pair.world.run_for(5 * NS_PER_S)
    assert pair.status == "device"
    pair.source.execute("migrate_cancel")
    pair.world.run_until_idle()
    assert (pair.status, pair.still_here()) == ("cancelled", True)


def connection_refused() -> None:
    pair = Pair("connection-refused")
    pair.migrate()
    assert pair.error == "Failed to connect to '/tmp/scenario': Connection refused"
    pair.source.execute("migrate", uri=URI)
    pair.world.run_until_idle()
    assert pair.moved()


def no_route() -> None:
    pair = Pair("no-route")
    pair.migrate()
    assert pair.error == "Failed to connect to '/tmp/scenario': No route to host"
    assert pair.source.host.clock.now_ns() == 30 * NS_PER_S


def link_breaks() -> None:
    pair = Pair("link-breaks")
    pair.migrate()
    assert (pair.status, pair.error) == ("failed", "Unable to write to socket: Connection reset by peer")
    assert pair.still_here()


def thin_link() -> None:
    pair = Pair("thin-link")
    pair.begin()
    pair.world.run_until_idle(600 * NS_PER_S)
    assert pair.moved()
    assert pair.seconds() > 16 * MIB / 10_000_000


def flipped_bit() -> None:
    pair = Pair("flipped-bit", "destination")
    pair.migrate()
    assert pair.arrived == "failed"
    assert pair.still_here()


def disk_full() -> None:
    pair = Pair("disk-full", answered=False)
    pair.migrate("file:/tmp/saved")
    assert (pair.status, pair.error) == ("failed", "Unable to write to file: No space left on device")
    assert pair.still_here()


def postcopy_breaks() -> None:
    pair = Pair("postcopy-breaks", "destination", postcopy=True)
    pair.source.execute("migrate-set-parameters", max_bandwidth=8 * MIB, max_postcopy_bandwidth=8 * MIB)
    pair.begin()
    pair.source.execute("migrate-start-postcopy")
    for number in range(2):
        pair.world.run_until(lambda: pair.status == pair.arrived == "postcopy-paused")
        pair.destination.execute("migrate-recover", uri=f"unix:/tmp/again{number}")
        pair.source.execute("migrate", uri=f"unix:/tmp/again{number}", resume=True)
    pair.world.run_until_idle()
    assert (pair.status, pair.arrived) == ("completed", "completed")


def postcopy_source_dies() -> None:
    pair = Pair("postcopy-source-dies", postcopy=True)
    pair.source.execute("migrate-set-parameters", max_bandwidth=8 * MIB, max_postcopy_bandwidth=8 * MIB)
    pair.begin()
    pair.source.execute("migrate-start-postcopy")
    pair.world.run_until_idle()
    assert pair.source.host.killed
    assert pair.arrived == "postcopy-paused"


def device_refuses() -> None:
    pair = Pair("device-refuses", board="q35")
    for machine in (pair.source, pair.destination):
        features = MigrationFeatures(fsm.FLAG_STOP_COPY | fsm.FLAG_P2P, dma_logging=True, arcs=Arcs(NS_PER_MS))
        machine.vm.hardware = HostModel([])
        machine.vm.hardware.functions["0000:3b:00.1"] = HostFunction("0000:3b:00.1", group=40, migration=features)
        machine.device_add("vfio-pci", id="vf0", host="0000:3b:00.1")
    pair.migrate()
    assert (pair.status, pair.still_here()) == ("failed", True)
    migration = pair.source.vm.vfio.devices[0].migration
    assert migration is not None
    assert migration.device_state == "running"


def stuck_in_setup() -> None:
    pair = Pair("stuck-in-setup")
    pair.begin()
    pair.world.run_for(50 * NS_PER_S)
    assert pair.status == "setup"
    pair.world.run_until_idle()
    assert pair.moved()


def some_fail() -> None:
    pair = Pair("some-fail")
    pair.source.execute("migrate-set-parameters", max_bandwidth=MIB)
    pair.migrate()
    assert (pair.status, pair.error) == ("failed", "Channel error: Input/output error")


def guest_panics() -> None:
    pair = Pair("guest-panics")
    pair.source.vm.actions["panic"] = "pause"
    pair.migrate()
    assert pair.source.event_names().count("GUEST_PANICKED") == 1
    assert pair.status == "completed"
    assert pair.destination.vm.runstate.state == "guest-panicked"


def guest_powers_off() -> None:
    pair = Pair("guest-powers-off")
    pair.begin()
    pair.world.run_for(NS_PER_S)
    assert ("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"}) in [event[1:] for event in pair.source.events]
    assert pair.source.vm.quit_requested


def guest_reboots() -> None:
    pair = Pair("guest-reboots")
    pair.migrate()
    assert "RESET" in pair.source.event_names()
    assert pair.moved()


def dead_on_arrival() -> None:
    pair = Pair("dead-on-arrival", "destination")
    pair.destination.vm.actions["panic"] = "pause"
    pair.migrate()
    assert pair.status == "completed"
    assert pair.destination.vm.runstate.state == "guest-panicked"
    assert pair.destination.event_names()[-2:] == ["GUEST_PANICKED", "STOP"]


STORIES: dict[str, Callable[[], None]] = {
    one.__name__.replace("_", "-"): one
    for one in (
        never_converges, calms_down, silent_monitor, slow_replies, source_exits_early, source_dies, destination_dies,
        destination_dies_late, slow_switchover, connection_refused, no_route, link_breaks, thin_link, flipped_bit,
        disk_full, postcopy_breaks, postcopy_source_dies, device_refuses, stuck_in_setup, some_fail, guest_panics,
        guest_powers_off, guest_reboots, dead_on_arrival,
    )
}  # fmt: skip


@pytest.mark.parametrize("name", library.names())
def test_a_scenario_does_what_it_says(name: str) -> None:
    STORIES[name]()


def test_they_are_found_by_name_and_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert load("link-breaks").name == "link-breaks"
    with pytest.raises(QemuError, match="No such file"):
        load("link-mends")
    assert library_cli.main([]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == library.names()
    assert library_cli.main(["thin-link"]) == 0
    assert "bandwidth" in capsys.readouterr().out
    assert library_cli.main(["link-mends"]) == 1
    for name in library.names():
        model = load(name)
        assert model.name == name
        assert model.description.endswith(("For: source.", "For: destination.", "For: either."))
