# SPDX-License-Identifier: MIT
"""Short migrations of each kind on the simulated host, made to go wrong, and what has to hold afterwards."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from fakeqemu.error import QemuError
from fakeqemu.faults.injector import Action, Close, Corrupt, Fail, Injector, Kill, Rule, Stall
from fakeqemu.host.clock import NS_PER_MS, NS_PER_S
from fakeqemu.hw.vfio import fsm
from fakeqemu.hw.vfio.hostmodel import HostFunction, HostModel
from fakeqemu.hw.vfio.vendor import Arcs, MigrationFeatures
from fakeqemu.migration import qmp_cmds
from fakeqemu.sim.world import SimStalled, SimWorld
from fakeqemu.system.ramblock import RAMBlock
from fakeqemu.testing.sim_machine import SimMachine
from tests.sim._state_device import StateDevice
from tests.sim._tls import use_certificates

if TYPE_CHECKING:
    from fakeqemu.host.channel import Channel

PAGES = 128
PATIENCE_NS = 30 * NS_PER_S
DEVICE_STATES = ("vfio_migration_set_state", "fake_vfio_arc", "vfio_pci_reset")
#: one of each class: where it can be done is a matter of the class
_ACTIONS = (Fail(), Kill(), Stall(), Close(), Corrupt())
ENDED = ("none", "completed", "failed", "cancelled")


@dataclass(frozen=True)
class Kind:
    """One way to migrate. A new way is one more line of `KINDS`."""

    name: str
    profile: str = "11.1"
    uri: str = "unix:/tmp/migration"
    capabilities: tuple[str, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    fake: dict[str, str] = field(default_factory=dict)
    vfio: int = 0
    guest_runs: bool = True
    #: what the source is told when its status becomes that
    told: dict[str, str] = field(default_factory=dict)
    #: bytes a second that the guest dirties
    dirty_rate: int = 0
    #: one byte of one page changes before each look at what is dirty
    byte_changes: bool = False
    #: both machines have it
    uuid: bytes | None = None
    #: the memory is a file that both have
    shared: bool = False
    #: channels are encrypted, by certificates
    tls: bool = False
    #: a device sends its state on multifd channels
    state_device: bool = False
    #: (postcopy) the link breaks when the guest runs there
    breaks: bool = False
    #: every point is tried, not a sample of them
    thorough: bool = False

    @property
    def return_path(self) -> bool:
        return "return-path" in self.capabilities or "postcopy-ram" in self.capabilities

    @property
    def copies(self) -> bool:
        """Whether the guest goes on where it is, and what is saved is a copy of it."""
        return "background-snapshot" in self.capabilities


_RP = ("return-path",)
_SLOW = {"max-bandwidth": 1 << 20}
_DELTAS = {**_SLOW, "downtime-limit": 20}
_THROTTLED = {"max-bandwidth": 1 << 20, "downtime-limit": 20, "cpu-throttle-initial": 60, "cpu-throttle-increment": 30}
_ACK = ("return-path", "switchover-ack")
_CONTINUE = {"pre-switchover": "migrate-continue"}

KINDS = [
    *(Kind(f"plain-{profile}", profile, thorough=True) for profile in ("7.2", "10.0", "11.1")),
    *(Kind(f"return-path-{p}", p, capabilities=_RP, thorough=True) for p in ("7.2", "10.0", "11.1")),
    # transports
    Kind("tcp", uri="tcp:127.0.0.1:4444", capabilities=_RP),
    Kind("fd", uri="fd:mig", capabilities=_RP, thorough=True),
    Kind("fd-7.2", "7.2", uri="fd:mig"),
    Kind("exec", uri="exec:relay", thorough=True),
    Kind("exec-10.0", "10.0", uri="exec:relay"),
    Kind("file", uri="file:/tmp/saved", thorough=True),
    Kind("file-offset-10.0", "10.0", uri="file:/tmp/saved,offset=4096"),
    Kind("mapped-ram", uri="file:/tmp/saved", capabilities=("mapped-ram",), thorough=True),
    Kind("mapped-ram-10.0", "10.0", uri="file:/tmp/saved", capabilities=("mapped-ram",)),
    Kind("fdset", uri="file:/dev/fdset/1"),
    Kind("mapped-ram-multifd", uri="file:/tmp/saved", capabilities=("mapped-ram", "multifd")),
    # the guest
    Kind("paused", guest_runs=False, capabilities=_RP),
    Kind("paused-7.2", "7.2", guest_runs=False),
    Kind("busy", dirty_rate=512 << 10, parameters={"max-bandwidth": 1 << 20, "downtime-limit": 50}, capabilities=_RP),
    Kind("model", fake={"ram": "model"}, capabilities=_RP),
    # capabilities and parameters
    Kind("limited", parameters={**_SLOW, "downtime-limit": 20}, capabilities=_RP),
    Kind("pause-before", capabilities=("return-path", "pause-before-switchover"), told=_CONTINUE, thorough=True),
    Kind("pause-before-7.2", "7.2", capabilities=("pause-before-switchover",), told=_CONTINUE),
    Kind("xbzrle", capabilities=("return-path", "xbzrle"), parameters=_DELTAS, dirty_rate=256 << 10, byte_changes=True),
    Kind("xbzrle-10.0", "10.0", capabilities=("xbzrle",), parameters=_DELTAS, dirty_rate=256 << 10),
    Kind("xbzrle-7.2", "7.2", capabilities=("xbzrle",), parameters=_DELTAS, dirty_rate=256 << 10, byte_changes=True),
    Kind("validate-uuid", capabilities=("validate-uuid",), uuid=bytes(range(16))),
    Kind("ignore-shared", capabilities=("x-ignore-shared",), shared=True),
    Kind("release-ram", capabilities=("release-ram", "postcopy-ram")),
    Kind("zero-pages-sent", parameters={"zero-page-detection": "none"}),
    Kind("late-block-activate", capabilities=("late-block-activate",)),
    Kind("auto-converge", capabilities=("return-path", "auto-converge"), dirty_rate=2 << 20, parameters=_THROTTLED),
    Kind("snapshot", uri="file:/tmp/saved", capabilities=("background-snapshot",)),
    Kind("snapshot-10.0", "10.0", uri="file:/tmp/saved", capabilities=("background-snapshot",), dirty_rate=1 << 20),
    # multifd
    Kind("multifd", capabilities=("return-path", "multifd"), parameters={"multifd-channels": 3}),
    Kind("multifd-10.0", "10.0", capabilities=("return-path", "multifd"), parameters={"multifd-channels": 2}),
    Kind("multifd-7.2", "7.2", capabilities=("multifd",), parameters={"multifd-channels": 2}),
    Kind("multifd-zlib", capabilities=("multifd",), parameters={"multifd-channels": 1, "multifd-compression": "zlib"}),
    Kind("multifd-state", capabilities=("multifd",), parameters={"multifd-channels": 2}, state_device=True),
    Kind("multifd-zstd", capabilities=("multifd",), parameters={"multifd-channels": 2, "multifd-compression": "zstd"}),
    *(
        Kind(f"multifd-{how}-zeroes", capabilities=("multifd",), parameters={"zero-page-detection": how})
        for how in ("none", "legacy")
    ),
    # TLS
    Kind("tls", uri="tcp:127.0.0.1:4444", capabilities=_RP, tls=True),
    Kind("tls-10.0", "10.0", tls=True),
    Kind("tls-multifd", capabilities=("return-path", "multifd"), parameters={"multifd-channels": 2}, tls=True),
    # devices
    Kind("vfio", vfio=2, capabilities=_RP),
    Kind("vfio-next", "next", vfio=1),
    Kind("vfio-10.0", "10.0", vfio=1, capabilities=_RP),
    *(Kind(f"vfio-ack-{profile}", profile, vfio=1, capabilities=_ACK) for profile in ("10.0", "11.1")),
]


class Relay:
    """A program on a host of its own: what one process writes to it, the other one reads."""

    def __init__(self, world: SimWorld) -> None:
        self._host = world.host("relay")
        self._reader: Channel | None = None

    def read_by(self, _argv: list[str], channel: Channel) -> None:
        self._reader = channel

    def written_by(self, _argv: list[str], channel: Channel) -> None:
        reader, self._reader = self._reader, None
        if reader is None:
            channel.close()
        else:
            self._host.start(self._copy(channel, reader), "relay")

    def nobody_writes(self) -> None:
        """The one who was to write did not come so far: it ends for the other one as well."""
        if self._reader is not None:
            self._reader.close()

    async def _copy(self, source: Channel, destination: Channel) -> None:
        try:
            while data := await source.read(65536):
                await destination.write(data)
        except OSError:
            pass  # one of them is gone: so is this
        finally:
            source.close()
            destination.close()


class Run:
    """One migration of a kind, with an injector on each side."""

    def __init__(self, kind: Kind, seed: int | str = 0) -> None:
        self.kind = kind
        self.world = SimWorld(seed)
        #: whether bytes are changed on their way: nobody looks at the content then
        self.changed = False
        self._relay: Relay | None = None
        self.source = self._machine("source")
        self.destination = self._machine("destination")
        if kind.guest_runs:
            self.source.execute("cont")
        self.source.vm.guest.set_dirty_rate(kind.dirty_rate)
        self.destination.vm.runstate.set("inmigrate")
        wanted = [{"capability": name, "state": True} for name in ("events", *kind.capabilities)]
        for side in (self.source, self.destination):
            side.execute("migrate-set-capabilities", capabilities=wanted)
            if kind.parameters:
                side.execute("migrate-set-parameters", **kind.parameters)
        if kind.tls:
            use_certificates(self.source, self.destination)
        self.fds = {side.host.name: side.host.open_fds() for side in (self.source, self.destination)}
        self._connect()
        self.injectors = {side.host.name: Injector(side.vm) for side in (self.source, self.destination)}
        for side in (self.source, self.destination):
            side.events.clear()
        #: replies that were errors: by side
        self.refused: dict[str, str] = {}
        #: what the source's status was, one after the other
        self.statuses: list[str] = []
        self.source.vm.trace.watch(self._moved, "migrate_set_state")
        if kind.byte_changes:
            self.source.vm.trace.watch(self._change_byte, "migration_bitmap_sync_start")
        #: behind how many of the source's points it said goodbye on an encrypted channel: the next one is of the goodbye
        self.goodbyes: list[int] = []
        self.source.vm.trace.watch(self._says_goodbye, "qio_channel_tls_bye_start")

    def _machine(self, name: str) -> SimMachine:
        kind = self.kind
        board = "q35" if kind.vfio else "none"
        machine = SimMachine(self.world, name=name, profile=kind.profile, board=board, fake=kind.fake)
        machine.vm.uuid = kind.uuid
        if kind.vfio:
            flags = fsm.FLAG_STOP_COPY | fsm.FLAG_P2P | fsm.FLAG_PRE_COPY
            machine.vm.hardware = HostModel([])
            for index in range(kind.vfio):
                features = MigrationFeatures(
                    flags, dma_logging=True, arcs=Arcs(NS_PER_MS), initial_bytes=1000, stop_copy_bytes=3000
                )
                function = HostFunction(f"0000:3b:00.{index + 1}", group=40 + index, migration=features)
                machine.vm.hardware.functions[function.name] = function
                machine.device_add("vfio-pci", id=f"vf{index}", host=function.name)
        else:
            block = RAMBlock("ram", PAGES * 4096)
            block.share = block.named_file = kind.shared
            machine.vm.ram_blocks.append(block)
            if kind.state_device:
                StateDevice(machine.vm)
            if name == "source":
                block.write_pages(16, b"".join(bytes((1 + page % 255,)) * 4096 for page in range(64)))
        return machine

    def _connect(self) -> None:
        """What the two have between them before they migrate."""
        if self.kind.uri.startswith("fd:"):
            for side, end in zip((self.source, self.destination), self.world.network.pair(), strict=True):
                side.vm.dispatcher.monitors[0].named_fds[self.kind.uri[3:]] = side.host.install(end)  # getfd
        elif self.kind.uri.startswith("file:/dev/fdset/"):
            for side in (self.source, self.destination):
                file = self.world.files.open("/tmp/saved", os.O_RDWR | os.O_CREAT)
                side.vm.fds.add(side.host.install(file), int(self.kind.uri.rpartition("/")[2]))
                self.fds[side.host.name] = side.host.open_fds()  # the set stays
        elif self.kind.uri.startswith("exec:"):
            self._relay = Relay(self.world)
            self.destination.host.programs["/bin/sh"] = self._relay.read_by
            self.source.host.programs["/bin/sh"] = self._relay.written_by

    def _moved(self, _event: str, fields: dict[str, Any]) -> None:
        status = fields["new_state"]
        self.statuses.append(status)
        command = self.kind.told.get(status)
        if command is not None:
            self.world.call_soon(lambda: self._tell(command, status))

    def _change_byte(self, _event: str, _fields: dict[str, Any]) -> None:
        if self.source.vm.runstate.running:
            block = self.source.vm.ram_blocks[0]
            at = (PAGES - 1) * 4096
            block.guest_write(at, bytes(((block.read(at, 1)[0] + 1) % 256,)))

    def _says_goodbye(self, _event: str, _fields: dict[str, Any]) -> None:
        self.goodbyes.append(self.injectors["source"].passed)

    def _tell(self, command: str, status: str) -> None:
        """What a tool does that hears of the status; what comes too late is refused."""
        function = getattr(qmp_cmds, f"qmp_{command.replace('-', '_')}")
        try:
            function(self.source.vm, **({"state": status} if command == "migrate-continue" else {}))
        except QemuError:
            pass

    def go(self) -> None:
        """Start on both sides, and let time pass until nothing is left to happen."""
        if self.kind.uri.startswith("file:"):
            self._begin(self.source, "migrate")
            self.settle()
            if self.source_status == "completed":
                self._begin(self.destination, "migrate-incoming")
        else:
            self._begin(self.destination, "migrate-incoming")
            self._begin(self.source, "migrate")
            if self._relay is not None:
                self._relay.nobody_writes()
        self.settle()

    def _begin(self, side: SimMachine, command: str) -> None:
        if not side.host.killed:
            try:
                side.execute(command, uri=self.kind.uri)
            except QemuError as err:
                self.refused[side.host.name] = err.desc
            except EOFError:
                return  # it has died of the command
            if self.kind.uri.startswith("fd:"):
                self._give_back_fd(side)

    def _give_back_fd(self, side: SimMachine) -> None:
        """As a tool does whose command was refused: a descriptor that was not taken is still there."""
        if side.host.name in self.refused:
            try:
                side.execute("closefd", fdname=self.kind.uri[3:])
            except QemuError:
                pass  # it was taken before the refusal

    def settle(self) -> None:
        """Let time pass until nothing is left to happen; what does not converge is cancelled."""
        try:
            self.world.run_until_idle(PATIENCE_NS)
        except SimStalled:
            if self.source.host.killed or any(injector.stalled() for injector in self.injectors.values()):
                return  # only a timer goes on
            assert self.source_status == "active", self.source_status
            self.source.execute("migrate_cancel")
            self.world.run_until_idle(PATIENCE_NS)

    def give_up_waiting(self) -> None:
        """What a tool does with a migration that does not move: a changed length has both sides wait for each other."""
        if not self.source.host.killed and self.source_status not in ENDED:
            self.source.execute("migrate_cancel")
            self.settle()

    # --- what is found afterwards ---------------------------------------------------------------------

    @property
    def source_status(self) -> str:
        return self.source.vm.migration.state

    @property
    def destination_status(self) -> str:
        incoming = self.destination.vm.migration.incoming
        return "none" if incoming is None else incoming.state

    def alive(self, side: SimMachine) -> bool:
        """Whether its guest is in use here: it runs, or is paused after it came or because it was."""
        if side.host.killed or side.vm.exit_status:
            return False
        state = side.vm.runstate.state
        if not self.kind.guest_runs:
            # 7.2 forgets what a paused guest was when a migration fails that had switched over; it can be continued all the same.
            forgotten = side.vm.compat.migration_paused_guest_forgotten and self.source_status in (
                "failed",
                "cancelled",
            )
            return state in ("paused", "prelaunch") or (state == "postmigrate" and forgotten and side is self.source)
        # A byte that was changed may say that it sleeps, which a guest does that is in use.
        return bool(side.vm.runstate.running) or (self.changed and state == "suspended")

    def check(self) -> None:
        """What holds after every migration, however it went. Raises AssertionError."""
        for side in (self.source, self.destination):
            if side.host.killed:
                continue
            assert side.vm.bugs == 0, side.host.log_lines
            if not self._still_listens(side):
                assert side.host.tasks == [], [task.name for task in side.host.tasks]
            assert not side.vm.bql.locked
        if not self.source.host.killed:
            assert self.source_status in ENDED, self.source_status
        self._check_story()
        self._check_who_runs()
        self._check_devices()
        self._check_content()
        self._check_nothing_open()

    def _check_story(self) -> None:
        """The source's statuses end as its release has them, and each was told."""
        if self.source.host.killed:
            return
        early = self.source.vm.compat.migration_failing_state
        ends = {"failed": ["failing", "failed"] if early else ["failed"], "cancelled": ["cancelling", "cancelled"]}
        wanted = ends.get(self.source_status, [])
        assert self.statuses[len(self.statuses) - len(wanted) :] == wanted, self.statuses
        if not early:
            assert "failing" not in self.statuses
        told = [data["status"] for _, name, data in self.source.events if name == "MIGRATION"]
        assert told == self.statuses

    def _check_devices(self) -> None:
        """The source has its devices back when its guest is still its own, and they let themselves be asked."""
        refusing = any(one.point in DEVICE_STATES for one in self.injectors["source"].injected)
        if self.kind.vfio and not refusing and not self.source.host.killed and self.alive(self.source):
            states = [one.migration.device_state for one in self.source.vm.vfio.devices if one.migration is not None]
            assert states == ["running"] * self.kind.vfio

    def _still_listens(self, side: SimMachine) -> bool:
        """Whether this is a destination to which not all channels have come."""
        return side is self.destination and self.destination_status == "setup"

    def _check_who_runs(self) -> None:
        here, there = self.alive(self.source), self.alive(self.destination)
        if self.source.host.killed or self.destination.host.killed:
            return
        completed = self.source_status == "completed"
        if self.kind.copies:
            assert here or not self.kind.guest_runs or self._was_left_paused()
            return
        assert here == (not completed), f"source {self.source_status}, {self.source.vm.runstate.state}"
        if completed and not there:
            # Nobody listens to the destination without a return path: the source thinks that all is well.
            assert not self.kind.return_path
            waiting = "setup" if "destination" in self.refused else "failed"  # in 11.1 a refused one stays there
            assert self.destination_status in ("none", "failed", waiting)
        if not completed and there:
            # The last message got lost, or came too late: the one case in which two generals cannot agree. A connection cut
            # just before SHUT has both sides running on real 11.1.2, 10.0.13 and 7.2.22 as well.
            # Without a return path it is the description behind the last section that got lost, which nobody needs: both
            # sides of 11.1.2, 10.0.13 and 7.2.22 run then (tests/conformance/test_cut_description.py).
            late = "STOP" in self.source.event_names() or not self.kind.guest_runs
            assert self.kind.return_path or late, f"source {self.source_status}"
            assert self.destination_status == "completed"

    def _was_left_paused(self) -> bool:
        """Whether a snapshot failed before its memory was frozen: the guest stays as it was stopped for that."""
        source = self.source
        freezing = [name for name in source.event_names() if name in ("STOP", "RESUME")] == ["STOP"]
        return self.source_status == "failed" and freezing and source.vm.runstate.state == "paused"

    def _check_content(self) -> None:
        """What has arrived is what was sent."""
        kind = self.kind
        if self.changed or kind.vfio or kind.shared or kind.copies or "release-ram" in kind.capabilities:
            return
        if self.source_status == "completed" and self.destination_status == "completed":
            sent, arrived = (side.vm.ram_blocks[0].read_pages(0, PAGES) for side in (self.source, self.destination))
            assert bytes(sent) == bytes(arrived)

    def _check_nothing_open(self) -> None:
        for side in (self.source, self.destination):
            if side.host.killed or self._still_listens(side):
                continue
            now = side.host.open_fds()
            assert now == self.fds[side.host.name], f"{side.host.name}: descriptors {now}"


@cache
def _passes(number: int) -> dict[tuple[str, type[Action]], int]:
    """How many points each side passes where a fault of a class can be made. All goes well, which is tried, once a kind."""
    run = Run(KINDS[number])
    rules = {
        (side, type(action)): injector.add(Rule("*", action, after=sys.maxsize))
        for side, injector in run.injectors.items()
        for action in _ACTIONS
    }
    run.go()
    run.check()
    assert run.source_status == "completed", run.source.execute("query-migrate")
    assert run.alive(run.destination), run.destination.host.log_lines
    return {which: rule.passed for which, rule in rules.items()}


def chosen(kind: Kind, side: str, action: Action, number: int) -> range:
    """At which of the points of a side where `action` can be done to do it: at all (to fail), or at about so many, evenly spread,
    and at others for other kinds. All goes well before, which is tried.
    """
    index = KINDS.index(kind)
    points = _passes(index)[side, type(action)]
    assert points > 0
    if kind.vfio:
        number //= 2  # a machine with devices passes more than a hundred points, and takes its time
    stride = max(1, points // number)
    if kind.thorough:
        stride = 1 if isinstance(action, Fail) else 2  # kinds that are much alike take the others in turns
    return range(index % stride, points, stride)


def side_of(run: Run, name: str) -> SimMachine:
    return run.source if name == "source" else run.destination
