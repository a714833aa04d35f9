# SPDX-License-Identifier: MIT
"""What a device knows of migration: how to put itself in the stream, and how to forbid it.

A device registers one `SaveStateEntry`: a description of its state (`VMStateDescription`), or `SaveVMHandlers` when its
state is sent while the guest runs. The migration walks the entries in QEMU's order: higher priority first, then in
order of registration. It knows no device, and a device knows of migration only what stands here.

    phase        a live entry is asked                               in the stream
    prepare      save_prepare                                        -
    setup        save_setup                                          START
    iterate      state_pending_estimate, _exact, save_live_iterate   PART
    switchover   save_live_complete_precopy                          END
                 save_complete_precopy_thread, meanwhile             packets of multifd channels
                 save_state                                          FULL
    cleanup      save_cleanup                                        -
    destination  load_setup, load_state, load_state_buffer, switchover_start, load_cleanup

Light: it is loaded before the greeting, as `vm.savevm`.

QEMU: include/migration/register.h, migration/savevm.c, migration/migration.c (blockers)
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.notify import NotifierList

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any, Protocol

    from fakeqemu.migration.stream.qemu_file import QEMUFile
    from fakeqemu.system.machine import Machine

    class DirtyLog(Protocol):
        """Knows what is written to memory beside the guest, while it is sent."""

        def start(self) -> None:
            """Raises QemuError: the migration fails."""

        def sync(self) -> None:
            """A look at what was written."""

        def stop(self) -> None:
            """Also when it was not started."""


# Priorities of entries, low to high.
MIG_PRI_LOW = -1
MIG_PRI_DEFAULT = 0
MIG_PRI_IOMMU = 1
MIG_PRI_PCI_BUS = 2
MIG_PRI_VIRTIO_MEM = 3
MIG_PRI_GICV3_ITS = 4
MIG_PRI_GICV3 = 5
MIG_PRI_APIC = 6

#: events of `SaveRegistry.notifiers`
PRECOPY_SETUP = "setup"
PRECOPY_DONE = "done"
FAILED = "failed"


class Pending:
    """What an entry still has to send, in bytes.

    `precopy` can be sent while the guest runs, `stopcopy` only when it is stopped, `postcopy` also after it has left.
    `acks`: how many want the destination's word, from now on, before the guest is stopped (switchover-ack).
    """

    __slots__ = ("acks", "postcopy", "precopy", "stopcopy")

    def __init__(self, precopy: int = 0, stopcopy: int = 0, postcopy: int = 0, acks: int = 0) -> None:
        self.acks = acks
        self.precopy = precopy
        self.stopcopy = stopcopy
        self.postcopy = postcopy

    @property
    def total(self) -> int:
        return self.precopy + self.stopcopy + self.postcopy

    def add(self, other: Pending) -> None:
        self.acks += other.acks
        self.precopy += other.precopy
        self.stopcopy += other.stopcopy
        self.postcopy += other.postcopy

    def __repr__(self) -> str:
        return f"Pending({self.precopy}, {self.stopcopy}, {self.postcopy})"


class StateSender:
    """What a device sends its state with on multifd channels."""

    __slots__ = ()

    @property
    def should_exit(self) -> bool:
        """Whether the migration has failed: what is still to be sent nobody wants."""
        raise NotImplementedError

    async def send(self, data: bytes) -> None:
        """Send a part of the state, on some channel; raises QemuError. Parts may arrive in any order."""
        raise NotImplementedError


class SaveVMHandlers:
    """State that is sent while the guest runs. Every method does nothing here; override what the device has.

    Saving methods raise QemuError (the text becomes error-desc), loading ones StreamError.
    """

    __slots__ = ()

    #: whether `save_state` writes a FULL section after the iterable part
    has_save_state = False
    #: whether `save_complete_precopy_thread` sends state, where that is supported (`SaveRegistry.sends_device_state`)
    has_save_thread = False
    #: whether `load_state_buffer` takes it
    has_load_state_buffer = False

    def save_prepare(self, vm: Machine) -> None:
        """Refuse a migration before it begins: a QemuError is the reply to `migrate`."""

    async def save_setup(self, f: QEMUFile) -> None:
        """Write the body of the START section."""

    def is_active(self) -> bool:
        """Whether the entry takes part in this migration beyond its START section."""
        return True

    def is_active_iterate(self) -> bool:
        """Whether the entry writes PART sections now; it takes part in all else."""
        return True

    def state_pending_estimate(self) -> Pending:
        """What is left, without asking anybody."""
        return Pending()

    async def state_pending_exact(self) -> Pending:
        """What is left, after finding out (dirty bitmap, kernel)."""
        return self.state_pending_estimate()

    def has_postcopy(self) -> bool:
        """Whether the state can be sent after the guest has left."""
        return False

    async def save_postcopy_prepare(self, f: QEMUFile) -> None:
        """A section between the passes and the stop of the guest, of handlers whose rest goes after it."""

    async def save_live_iterate(self, f: QEMUFile) -> bool:  # noqa: ARG002 - those who override it write
        """Write the body of one PART section; True when nothing is left for now."""
        return True

    async def save_live_complete_precopy(self, f: QEMUFile) -> None:
        """Write the body of the END section; the guest is stopped."""

    async def save_complete_precopy_thread(self, sender: StateSender) -> None:
        """Send state on multifd channels, beside the END sections; the guest is stopped."""

    async def save_state(self, f: QEMUFile) -> None:
        """Write the body of the FULL section, where `has_save_state`."""

    def save_cleanup(self) -> Awaitable[None] | None:
        """Give back what `save_setup` took. Called after the migration has ended, however it ended."""
        return None

    async def load_setup(self, f: QEMUFile) -> None:
        """Get ready to be loaded."""

    async def load_state(self, f: QEMUFile, version_id: int) -> None:
        """Read exactly the body of one section of this entry."""

    async def load_state_buffer(self, data: bytes) -> None:
        """A part of the state has come on a multifd channel, at any time and in any order."""

    def switchover_ack_needed(self) -> bool:
        """Whether the source is to wait until this entry has got its initial data (switchover-ack)."""
        return False

    async def switchover_start(self) -> None:
        """The source has stopped its guest; the last part follows."""

    def load_cleanup(self) -> Awaitable[None] | None:
        """Give back what `load_setup` took."""
        return None


class SaveStateEntry:
    """One entry of the line: who travels under which name. Exactly one of `handlers`, `vmsd`, `stock` is set."""

    __slots__ = (
        "alias_id", "handlers", "idstr", "instance_id", "late", "load_section_id", "load_version_id", "opaque", "priority",
        "section_id", "stock", "turn", "version_id", "vmsd",
    )  # fmt: skip

    def __init__(self, idstr: str, instance_id: int, version_id: int, priority: int = MIG_PRI_DEFAULT) -> None:
        self.idstr = idstr
        self.instance_id = instance_id
        self.version_id = version_id
        self.priority = priority
        #: another instance that is this one in streams of old releases, -1 for none
        self.alias_id = -1
        #: number in our own streams; -1 until the first migration gives it
        self.section_id = -1
        #: whether the machine was complete when it registered, and how many had registered before it, of such or of others
        self.late = False
        self.turn = 0
        self.handlers: SaveVMHandlers | None = None
        self.vmsd: Any = None
        self.opaque: Any = None
        #: a device known only by QEMU's description of it
        self.stock: StockState | None = None
        #: number and version in the stream that is being loaded
        self.load_section_id = -1
        self.load_version_id = 0

    def __repr__(self) -> str:
        return f"<SaveStateEntry {self.idstr} {self.instance_id}>"


class StockState:
    """State known as QEMU captured it: bytes, and the entry of the vmdesc that says what they are.

    A record of a device's state is long, and most machines never migrate: it is read by `read` at the first use.
    """

    __slots__ = ("_data", "_desc", "_fixed", "_marks", "_read", "_text")

    def __init__(self, read: Callable[[], tuple[bytes, dict[str, Any]]]) -> None:
        self._read = read
        self._data: bytes | None = None
        self._desc: dict[str, Any] | None = None
        self._marks: tuple[tuple[int, bytes], ...] | None = None
        self._fixed: dict[tuple[str, str, int], tuple[int, bytes]] | None = None
        self._text: bytes | None = None

    @classmethod
    def of(cls, data: bytes, desc: dict[str, Any]) -> StockState:
        """State that is at hand."""
        return cls(lambda: (data, desc))

    def holding(self, data: bytes) -> StockState:
        """State of the same make with other contents."""
        other = StockState(self._read)
        other._data, other._desc, other._text = data, self._desc, self._text
        return other

    def is_made_alike(self, data: bytes | bytearray, at: int) -> bool:
        """Whether what stands there has its subsections where this state has them, and in them what has to be the same."""
        if self._marks is None:
            from fakeqemu.migration.stream.vmdesc import subsection_heads

            heads = dict.fromkeys(subsection_heads(self.desc, possible=True))
            places = [(place, head) for head in heads for place in _places(self.data, head)]
            self._marks = (*places, *self.fixed.values())
        return all(data.startswith(mark, at + place) for place, mark in self._marks)

    @property
    def fixed(self) -> dict[tuple[str, str, int], tuple[int, bytes]]:
        """Fields that have to be the same where this state comes from: their places and contents (stream/vmdesc.py)."""
        if self._fixed is None:
            from fakeqemu.migration.stream.vmdesc import fixed_fields

            self._fixed = fixed_fields(self.desc, self.data)
        return self._fixed

    @property
    def data(self) -> bytes:
        """The body of the section: as captured, or as it came in last."""
        if self._data is None:
            self._data, desc = self._read()
            self._desc = self._desc or desc
        return self._data

    @data.setter
    def data(self, data: bytes) -> None:
        self._data = data

    @property
    def desc(self) -> dict[str, Any]:
        """What the body is made of."""
        if self._desc is None:
            data, self._desc = self._read()
            self._data = data if self._data is None else self._data
        return self._desc

    @property
    def text(self) -> bytes:
        """The description as a stream has it."""
        if self._text is None:
            from fakeqemu.migration.stream.vmdesc import dumps

            self._text = dumps(self.desc)
        return self._text


def _places(data: bytes, part: bytes) -> list[int]:
    """Where `part` stands in `data`."""
    places, at = [], data.find(part)
    while at >= 0:
        places.append(at)
        at = data.find(part, at + 1)
    return places


class Blocker:
    """A reason against migration, for the modes it names."""

    __slots__ = ("modes", "owner", "text", "unmigratable")

    def __init__(self, owner: object, text: str, modes: tuple[str, ...], unmigratable: str = "") -> None:
        self.owner = owner
        self.text = text
        self.modes = modes
        #: name of a device whose description says that it cannot travel: query-migrate words that otherwise
        self.unmigratable = unmigratable


class SaveRegistry:
    """The entries and blockers of one machine (`vm.savevm`)."""

    __slots__ = (
        "_vm", "approve_switchover", "blockers", "busy", "capability", "dirty_logs", "entries", "info", "notifiers",
        "ready", "report_stream_error", "sends_device_state", "start_load_thread", "turns",
    )  # fmt: skip

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        #: in the order in which they are saved
        self.entries: list[SaveStateEntry] = []
        self.blockers: list[Blocker] = []
        #: how many entries have registered before the machine was complete, and since
        self.turns = [0, 0]
        #: state of devices that is at hand before `entries` want it (migration/board_state.py)
        self.ready: dict[object, StockState] = {}
        #: whether a migration or snapshot runs; set by the migration
        self.busy: Callable[[], bool] | None = None
        #: told (event,) by `notify` at PRECOPY_SETUP, PRECOPY_DONE and FAILED (which stands for cancelled too)
        self.notifiers = NotifierList()
        #: who knows what is written to memory beside the guest: started when the RAM is set up, asked at each look
        self.dirty_logs: list[DirtyLog] = []
        #: what devices add to query-migrate of a source that has begun: each returns members
        self.info: list[Callable[[], dict[str, Any]]] = []
        # What devices may ask of the migration, which puts its own answers here when it is made.
        #: whether a capability is on
        self.capability: Callable[[str], bool] = _no_capability
        #: whether devices may send state on multifd channels
        self.sends_device_state: Callable[[], bool] = _not_at_all
        #: (destination) starts a task of a device, under a name, that the load waits for; StreamError fails it
        self.start_load_thread: Callable[[Coroutine[Any, Any, None], str], None] | None = None
        #: (destination) one device has got its initial data; raises StreamError
        self.approve_switchover: Callable[[], Awaitable[None]] | None = None
        #: takes an error met outside of the stream's own code (in a run state handler): it belongs to the outgoing
        #: stream if there is one (the first error stays), else to the log
        self.report_stream_error: Callable[[QemuError], None] = self._log_error

    def _log_error(self, error: QemuError) -> None:
        self._vm.error_report(error.desc)

    async def notify(self, event: str) -> None:
        """Tell `notifiers`, one after the other; a call-back may return something to wait for (a device changing state)."""
        for callback in self.notifiers:
            waits = callback(event)
            if waits is not None:
                await waits

    # --- entries --------------------------------------------------------------------------------------

    def register_live(
        self, idstr: str, instance_id: int, version_id: int, handlers: SaveVMHandlers, priority: int = MIG_PRI_DEFAULT
    ) -> SaveStateEntry:
        """Register state that is sent while the guest runs; `instance_id` -1 takes the next free one."""
        entry = self._new(idstr, instance_id, version_id, priority)
        entry.handlers = handlers
        return self._insert(entry)

    def register_vmsd(
        self, idstr: str, instance_id: int, vmsd: Any, opaque: Any, priority: int | None = None
    ) -> SaveStateEntry:
        """Register a described device; its state is in `opaque`. `instance_id` -1 takes the next free one.

        One that cannot travel becomes a blocker, where blockers are allowed (QemuError).
        """
        if vmsd.unmigratable:
            self.add_blocker(opaque, f"State blocked by non-migratable device '{idstr}'", unmigratable=idstr)
        entry = self._new(idstr, instance_id, vmsd.version_id, vmsd.priority if priority is None else priority)
        entry.vmsd = vmsd
        entry.opaque = opaque
        return self._insert(entry)

    def register_stock(
        self, idstr: str, instance_id: int, version_id: int, state: StockState, priority: int = MIG_PRI_DEFAULT
    ) -> SaveStateEntry:
        """Register a device known only by bytes and description, as a capture of QEMU has them."""
        entry = self._new(idstr, instance_id, version_id, priority)
        entry.stock = state
        return self._insert(entry)

    def unregister(self, entry: SaveStateEntry) -> None:
        if entry in self.entries:
            self.entries.remove(entry)
            if entry.vmsd is not None and entry.vmsd.unmigratable:
                self.blockers = [
                    b for b in self.blockers if b.owner is not entry.opaque or b.unmigratable != entry.idstr
                ]

    def find(self, idstr: str, instance_id: int) -> SaveStateEntry | None:
        """The entry that a section names.

        Old releases counted some devices by their address (`alias_id`), and wrote no path before a device's name: both are
        understood. QEMU: find_se
        """
        pathless = 0
        for entry in self.entries:
            if entry.idstr == idstr:
                if instance_id in (entry.instance_id, entry.alias_id):
                    return entry
            elif entry.idstr.endswith(idstr) and entry.idstr.rpartition("/")[2] == idstr:
                if instance_id in (pathless, entry.alias_id):
                    return entry
                pathless += 1
        return None

    def live_entries(self) -> list[SaveStateEntry]:
        return [entry for entry in self.entries if entry.handlers is not None]

    def _new(self, idstr: str, instance_id: int, version_id: int, priority: int) -> SaveStateEntry:
        if instance_id < 0:
            instance_id = 1 + max((e.instance_id for e in self.entries if e.idstr == idstr), default=-1)
        # QEMU ends the process here.
        if self.find(idstr, instance_id) is not None:
            raise QemuError(
                f"savevm_state_handler_insert: Detected duplicate SaveStateEntry: id={idstr}, "
                f"instance_id=0x{instance_id:x}"
            )
        return SaveStateEntry(idstr, instance_id, version_id, priority)

    def _insert(self, entry: SaveStateEntry) -> SaveStateEntry:
        at = len(self.entries)
        while at and self.entries[at - 1].priority < entry.priority:
            at -= 1
        self.entries.insert(at, entry)
        entry.late = self._vm.phase == "ready"
        entry.turn = self.turns[entry.late]
        self.turns[entry.late] += 1
        return entry

    # --- blockers -------------------------------------------------------------------------------------

    def add_blocker(
        self, owner: object, text: str, modes: tuple[str, ...] = ("normal",), *, unmigratable: str = ""
    ) -> Blocker:
        """Forbid migration in these modes for the reason `text`; raises QemuError where QEMU refuses the blocker."""
        if self._vm.only_migratable and "normal" in modes:
            raise QemuError(f"disallowing migration blocker (--only-migratable) for: {text}")
        if self.busy is not None and self.busy():
            raise QemuError(f"disallowing migration blocker (migration/snapshot in progress) for: {text}")
        blocker = Blocker(owner, text, modes, unmigratable)
        self.blockers.append(blocker)
        return blocker

    def del_blocker(self, blocker: Blocker) -> None:
        """Take a blocker back; nothing happens when it is not there."""
        if blocker in self.blockers:
            self.blockers.remove(blocker)

    def blocked_reasons(self, mode: str = "normal") -> list[str]:
        """Why migration in this mode is forbidden, oldest reason first, as query-migrate lists them."""
        return [
            f"non-migratable device: {b.unmigratable}" if b.unmigratable else b.text
            for b in sorted(self.blockers, key=lambda b: bool(b.unmigratable))
            if mode in b.modes
        ]

    def check_blocked(self, mode: str = "normal") -> None:
        """Raise what `migrate` answers while migration is forbidden: an unmigratable device, or the newest reason."""
        for blocker in self.blockers:
            if blocker.unmigratable:
                raise QemuError(f"State blocked by non-migratable device '{blocker.unmigratable}'")
        for blocker in reversed(self.blockers):
            if mode in blocker.modes:
                raise QemuError(blocker.text)


def _not_at_all() -> bool:
    return False


def _no_capability(name: str) -> bool:  # noqa: ARG001
    return False
