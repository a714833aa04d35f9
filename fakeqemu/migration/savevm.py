# SPDX-License-Identifier: MIT
"""Saving: the walk over a machine's entries, phase by phase.

What a machine has by itself stands first in the line: the RAM, the clocks, the devices of the board as QEMU was seen to
send them (table `vmstate` of the profile). Devices of the command line come behind, then the run state, and last what was
plugged into the complete machine. They are numbered in that order.

QEMU: migration/savevm.c (qemu_savevm_state_*)
"""

from __future__ import annotations

from fakeqemu.error import QemuError
from fakeqemu.migration import board_state, configuration, global_state
from fakeqemu.migration.board_changes import with_changes
from fakeqemu.migration.further_cpus import APIC, with_further_cpus
from fakeqemu.migration.register import MIG_PRI_APIC, Pending, SaveStateEntry, SaveVMHandlers
from fakeqemu.migration.stream import section, vmdesc, vmstate
from fakeqemu.migration.stream.ram_page import RAM_VERSION, TARGET_PAGE_SIZE
from fakeqemu.migration.stream.vmstate import VMStateDescription
from fakeqemu.migration.stream.vmstate_fields import int64, unused
from fakeqemu.system.ram_list import add_board_block
from fakeqemu.system.ramblock import RAMBlock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from fakeqemu.migration.stream.qemu_file import QEMUFile
    from fakeqemu.system.machine import Machine

RAM = "ram"
TIMER = "timer"
GLOBALSTATE = "globalstate"
#: entries of the board that stand behind the devices that were added
_LAST_ENTRIES = ("acpi_build", GLOBALSTATE)
#: instances that are counted by address in streams of old releases
_ALIASES = {("i8254", 0): 0x40, ("i8259", 0): 0x20, ("i8259", 1): 0xA0, ("fdc", 0): 0x3F0}
#: what tells of a command that is sent
_SENT = {
    section.MIG_CMD_OPEN_RETURN_PATH: "savevm_send_open_return_path",
    section.MIG_CMD_SWITCHOVER_START: "savevm_send_switchover_start",
    section.MIG_CMD_ENABLE_COLO: "savevm_send_colo_enable",
}
#: of a machine that nothing is known of
_SECTIONS = [{"name": TIMER, "section_id": 0}, {"name": GLOBALSTATE, "section_id": 3}]


class _Clocks:
    """State of the section "timer"."""

    __slots__ = ("_vm", "cpu_clock_offset", "cpu_ticks_offset")

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self.cpu_ticks_offset = 0
        self.cpu_clock_offset = 0

    def store(self) -> None:
        self.cpu_clock_offset = self.cpu_ticks_offset = self._vm.host.clock.now_ns()


def _store_clocks(clocks: Any) -> None:
    clocks.store()


VMSTATE_TIMERS = VMStateDescription(
    "timer", 2, 1, (int64("cpu_ticks_offset"), unused(8), int64("cpu_clock_offset", since=2)), pre_save=_store_clocks
)


def assemble(vm: Machine) -> None:
    """Put what the machine has by itself into the line, once, around what devices have registered."""
    registry = vm.savevm
    if registry.find(RAM, 0) is None:
        front, back = _board_entries(vm)
        # Devices that others depend on have a priority of their own: they stand before the board's.
        early = [entry for entry in registry.entries if not entry.late]
        late = [entry for entry in registry.entries if entry.late]
        registry.entries[:] = sorted([*front, *early, *back, *late], key=lambda entry: -entry.priority)
        for entry in back:
            entry.section_id += registry.turns[False]
    last = [entry.section_id for entry in registry.entries if entry.idstr in _LAST_ENTRIES]
    for entry in registry.entries:
        if entry.section_id < 0:
            first = 1 + max(last) if entry.late else min(last) - registry.turns[False]
            entry.section_id = first + entry.turn


def _board_entries(vm: Machine) -> tuple[list[SaveStateEntry], list[SaveStateEntry]]:
    record = board_record(vm)
    sections: list[dict[str, Any]] = record["sections"] if record is not None else _SECTIONS
    add_board_blocks(vm)
    ram = _ram_entry(vm, sections)
    front: list[SaveStateEntry] = []
    back: list[SaveStateEntry] = []
    devices = {} if record is None else {(d["name"], d["instance_id"]): d for d in record["vmdesc"]["devices"]}
    if record is not None and vm.board is not None:
        sections = with_further_cpus(vm.board, sections)
    for one in sections:
        name: str = one["name"]
        entry = SaveStateEntry(name, one.get("instance", 0), one.get("version", 0))
        entry.alias_id = _ALIASES.get((name, entry.instance_id), -1)
        entry.section_id = one["section_id"]
        if name == TIMER:
            entry.vmsd, entry.opaque = VMSTATE_TIMERS, _Clocks(vm)
        elif name == GLOBALSTATE:
            entry.vmsd, entry.opaque = global_state.description(vm), global_state.GlobalState(vm)
        elif (desc := devices.get((name, one.get("like", entry.instance_id)))) is not None:
            entry.stock = board_state.board_state(vm, one["data"], desc, entry.instance_id)
        else:
            continue
        if entry.vmsd is not None:
            entry.version_id = entry.vmsd.version_id
        if name == APIC and sections[0]["name"] == APIC:
            entry.priority = MIG_PRI_APIC
        elif entry.section_id > ram.section_id and ram not in front:
            front.append(ram)
        (back if name in _LAST_ENTRIES else front).append(entry)
    return front, back


def make_ready(vm: Machine) -> Iterator[bool]:
    """Have the board's devices ready, one after the other: for idle time, before a migration has `assemble` want them."""
    record = board_record(vm)
    yield True
    if record is None or vm.board is None:
        return
    devices = {(d["name"], d["instance_id"]): d for d in record["vmdesc"]["devices"]}
    for one in with_further_cpus(vm.board, record["sections"]):
        if vm.savevm.find(RAM, 0) is not None:
            return
        name, instance_id = one["name"], one.get("instance", 0)
        desc = devices.get((name, one.get("like", instance_id)))
        if desc is not None and name not in (TIMER, GLOBALSTATE):
            board_state.make_ready(vm, one["data"], desc, instance_id)
            yield True


def _ram_entry(vm: Machine, sections: list[dict[str, Any]]) -> SaveStateEntry:
    entry = SaveStateEntry(RAM, 0, RAM_VERSION)
    # A number that no device section has: QEMU registers the RAM among them, behind the disks and before their bitmaps.
    taken = [one.get("section_id") for one in sections]
    free = [number for number in range(1, len(taken) + 3) if number not in taken]
    entry.section_id = free[1 if vm.compat.migration_block_entry else 0]
    entry.handlers = SaveVMHandlers()
    return entry


def board_record(vm: Machine) -> dict[str, Any] | None:
    """What a real QEMU sent for this kind of machine, None when the profile does not know."""
    board = vm.board
    family = "none" if board is None else board.family
    for variant in (*([board.tree_variant()] if board is not None else []), f"{family}-nodefaults", family):
        record: dict[str, Any] | None = vm.profile.get("vmstate", variant, None)
        if record is not None:
            return _with_devices_here(vm, with_changes(vm, variant, record))
    return None


def _with_devices_here(vm: Machine, record: dict[str, Any]) -> dict[str, Any]:
    """The record of a board of which some devices are left out, or stand elsewhere."""
    board = vm.board
    layout = board.layout() if board is not None else None
    if board is None or layout is None:
        return record
    variant = f"{board.family}-nodefaults"
    bare = vm.profile.get("vmstate", variant, None)
    return layout.vmstate(record, with_changes(vm, variant, bare) if bare is not None else None)


def add_board_blocks(vm: Machine) -> None:
    """Blocks that the board has beside the guest's RAM: ROMs and tables, as the profile's `info ramblock` lists them."""
    board = vm.board
    text = board_block_list(vm)
    if board is None or not text:
        return
    known = [block.idstr for block in vm.ram_blocks]
    for line in text.splitlines()[1:]:
        columns = line.split()
        if len(columns) < 6 or columns[0] in known or columns[0] == board.default_ram_id:
            continue
        add_board_block(vm, RAMBlock(columns[0], int(columns[4], 16), max_length=int(columns[5], 16)))


def board_block_list(vm: Machine) -> str:
    """The profile's `info ramblock` of such a machine, empty where there are no such blocks or they are not known."""
    board = vm.board
    if board is None or board.family == "none":
        return ""
    text: str = vm.profile.get("hmp", f"{board.tree_variant()}/info ramblock", "")
    layout = board.layout()
    return text if layout is None else layout.block_list(text)


def globals_of(vm: Machine) -> global_state.GlobalState:
    """The run state as it travels."""
    entry = vm.savevm.find(GLOBALSTATE, 0)
    assert entry is not None
    state: global_state.GlobalState = entry.opaque
    return state


class SaveVM:
    """One outgoing migration's walk. Whatever fails is raised as QemuError."""

    __slots__ = ("_described", "_f", "_set_up", "_vm", "iterating")

    def __init__(self, vm: Machine, f: QEMUFile) -> None:
        self._vm = vm
        self._f = f
        #: live entries whose save_setup was called, the failing one included: those to clean up
        self._set_up: list[SaveStateEntry] = []
        self._described: list[bytes] = []
        #: whose PART was sent last, or failed
        self.iterating: SaveStateEntry | None = None

    def use(self, f: QEMUFile) -> None:
        """From now on put into another file."""
        self._f = f

    def _machine_type(self) -> str:
        assert self._vm.board is not None
        return self._vm.board.name

    # --- header ---------------------------------------------------------------------------------------

    def put_command(self, command: int, payload: bytes = b"") -> None:
        """A command to the destination, here in the stream."""
        if command == section.MIG_CMD_PING:
            self._vm.trace("savevm_send_ping", value=int.from_bytes(payload, "big"))
        elif command in _SENT:
            self._vm.trace(_SENT[command])
        self._vm.trace("savevm_command_send", command=command, len=len(payload))
        section.put_command(self._f, command, payload)

    def put_header(self) -> None:
        self._vm.trace("savevm_state_header")
        section.put_header(self._f)
        if configuration.is_sent(self._vm):
            listed, uuid = configuration.listed_capabilities(self._vm), configuration.sent_uuid(self._vm)
            section.put_configuration(self._f, self._machine_type(), listed, uuid)

    # --- phases ---------------------------------------------------------------------------------------

    async def setup(self) -> None:
        """START sections, and those descriptions that go early."""
        self._vm.trace("savevm_state_setup")
        for entry in list(self._vm.savevm.entries):
            if entry.vmsd is not None and entry.vmsd.early_setup:
                self._put_described(entry)
            if entry.handlers is None or not entry.handlers.is_active():
                continue
            self._start_section(section.QEMU_VM_SECTION_START, entry)
            self._set_up.append(entry)
            await self._vm.faults.pass_through("savevm_section_start", id=entry.idstr, phase="start")
            await entry.handlers.save_setup(self._f)
            self._put_footer(entry)

    def pending_estimate(self) -> Pending:
        pending = Pending()
        for _, handlers in self._live():
            pending.add(handlers.state_pending_estimate())
        return pending

    async def pending_exact(self) -> Pending:
        pending = Pending()
        for _, handlers in self._live():
            pending.add(await handlers.state_pending_exact())
        return pending

    async def iterate(self, rate_exceeded: Any, *, postcopy: bool = False) -> bool:
        """One PART of each live entry, as long as the ones before have nothing left and the rate allows it.

        True when nobody has anything left for now.
        """
        self._vm.trace("savevm_state_iterate")
        for entry, handlers in self._live():
            if not handlers.is_active_iterate() or (postcopy and not handlers.has_postcopy()):
                continue
            if rate_exceeded():
                return False
            self.iterating = entry
            self._start_section(section.QEMU_VM_SECTION_PART, entry)
            await self._vm.faults.pass_through("savevm_section_start", id=entry.idstr, phase="part")
            finished = await handlers.save_live_iterate(self._f)
            self._put_footer(entry)
            self._vm.trace("savevm_section_end", id=entry.idstr, section_id=entry.section_id, ret=0)
            if not finished:
                return False
        return True

    def put_switchover_start(self) -> None:
        wanted = self._vm.migration.settings.get("send-switchover-start", True)
        if self._vm.compat.migration_switchover_start and wanted:
            self.put_command(section.MIG_CMD_SWITCHOVER_START)

    async def prepare_postcopy(self) -> None:
        """A last PART of those whose rest goes after the guest: what went on other channels is in place behind it."""
        for entry, handlers in self._live():
            if handlers.has_postcopy():
                self._start_section(section.QEMU_VM_SECTION_PART, entry)
                await handlers.save_postcopy_prepare(self._f)
                self._put_footer(entry)

    async def complete_iterable(self, prefix: str = "", *, postcopy: bool = False) -> None:
        """END sections: the guest is stopped. With `postcopy`, of those entries that cannot wait until it has left.

        `prefix` is put in front of the error of one that cannot be written.
        """
        live = [one for one in self._live() if not (postcopy and one[1].has_postcopy())]
        if self._vm.savevm.sends_device_state():
            from fakeqemu.migration.multifd_device_state import send_meanwhile

            await send_meanwhile(self._vm, [entry for entry, _ in live], self._put_ends(live, prefix))
        else:
            await self._put_ends(live, prefix)
        self._vm.trace("vmstate_downtime_checkpoint", checkpoint="src-iterable-saved")
        await self._f.flush()

    async def complete_postcopy(self) -> None:
        """END sections of what went after the guest, and the end of the stream."""
        await self._put_ends([one for one in self._live() if one[1].has_postcopy()])
        self._f.put_byte(section.QEMU_VM_EOF)
        await self._f.flush()

    async def _put_ends(self, live: list[tuple[SaveStateEntry, SaveVMHandlers]], prefix: str = "") -> None:
        for entry, handlers in live:
            start_ns = self._vm.host.clock.now_ns()
            self._start_section(section.QEMU_VM_SECTION_END, entry)
            try:
                await self._vm.faults.pass_through("savevm_section_start", id=entry.idstr, phase="end")
                await handlers.save_live_complete_precopy(self._f)
            except QemuError as err:
                raise err.prefixed(prefix) if prefix else err from None
            self._put_footer(entry)
            self._vm.trace("savevm_section_end", id=entry.idstr, section_id=entry.section_id, ret=0)
            self._trace_downtime(entry, "iterable", start_ns)

    async def complete_non_iterable(self, before_end: Callable[[], None] | None = None) -> None:
        """FULL sections, the end, and the description of it all; `before_end` is called behind the sections."""
        await self.save_devices()
        if before_end is not None:
            before_end()
        self._f.put_byte(section.QEMU_VM_EOF)
        if not is_undescribed(self._vm):
            section.put_vmdescription(self._f, self._description())
        self._vm.trace("vmstate_downtime_checkpoint", checkpoint="src-non-iterable-saved")
        await self._f.flush()

    async def save_devices(self) -> None:
        """FULL sections."""
        for entry in list(self._vm.savevm.entries):
            start_ns = self._vm.host.clock.now_ns()
            self._vm.faults.check("vmstate_save", id=entry.idstr)
            if entry.handlers is not None:
                if not entry.handlers.has_save_state:
                    self._trace_downtime(entry, "non-iterable", start_ns)
                    continue
                self._start_section(section.QEMU_VM_SECTION_FULL, entry)
                before = self._f.bytes_transferred
                await entry.handlers.save_state(self._f)
                size = self._f.bytes_transferred - before
                fields = [{"name": "data", "size": size, "type": "buffer"}]
                described = {"name": entry.idstr, "instance_id": entry.instance_id, "size": size, "fields": fields}
                self._described.append(vmdesc.dumps(described))
                self._put_footer(entry)
                self._vm.trace("savevm_section_end", id=entry.idstr, section_id=entry.section_id, ret=0)
            elif entry.vmsd is None or (not entry.vmsd.early_setup and entry.vmsd.is_needed(entry.opaque)):
                self._put_described(entry)
            self._trace_downtime(entry, "non-iterable", start_ns)

    async def cleanup(self) -> None:
        """Have live entries give back what they took."""
        entries, self._set_up = self._set_up, []
        self._vm.trace("savevm_state_cleanup")
        for entry in entries:
            assert entry.handlers is not None
            waits = entry.handlers.save_cleanup()
            if waits is not None:
                await waits

    # --- details --------------------------------------------------------------------------------------

    def _live(self) -> list[tuple[SaveStateEntry, SaveVMHandlers]]:
        return [(e, e.handlers) for e in self._set_up if e.handlers is not None and e.handlers.is_active()]

    def _start_section(self, kind: int, entry: SaveStateEntry) -> None:
        if kind != section.QEMU_VM_SECTION_START:  # those QEMU does not tell of
            self._vm.trace("savevm_section_start", id=entry.idstr, section_id=entry.section_id)
        version_id = entry.version_id if entry.stock is None else entry.stock.desc.get("version", entry.version_id)
        section.put_section_header(self._f, kind, entry.section_id, entry.idstr, entry.instance_id, version_id)

    def _put_footer(self, entry: SaveStateEntry) -> None:
        if section.has_footers(self._vm.migration.settings):
            section.put_section_footer(self._f, entry.section_id)

    def _put_described(self, entry: SaveStateEntry) -> None:
        self._start_section(section.QEMU_VM_SECTION_FULL, entry)
        try:
            self._check_vmstate(entry)
        except QemuError as err:
            raise self._refused(err) from None
        if entry.stock is not None:
            self._f.put_buffer(entry.stock.data)
            self._described.append(entry.stock.text)
        else:
            described: dict[str, Any] = {"name": entry.idstr, "instance_id": entry.instance_id}
            arrays = self._vm.compat.migration_vmdesc_arrays
            try:
                described.update(vmstate.save_state(self._f, entry.vmsd, entry.opaque, arrays=arrays))
            except vmstate.PreSaveError as err:
                raise self._refused(err if self._vm.compat.migration_error_chain else QemuError(err.old_desc)) from None
            self._described.append(vmdesc.dumps(described))
        self._put_footer(entry)
        self._vm.trace("savevm_section_end", id=entry.idstr, section_id=entry.section_id, ret=0)

    def _check_vmstate(self, entry: SaveStateEntry) -> None:
        """Where a device's hook could refuse to be saved, or one of its fields."""
        if entry.stock is not None:
            name, fields = entry.stock.desc.get("vmsd_name", entry.idstr), entry.stock.desc.get("fields", [])
            field = fields[0]["name"] if fields else ""
        else:
            name, field = entry.vmsd.name, entry.vmsd.fields[0].name
        self._vm.faults.check("vmstate_save_state_top", name=name)
        self._vm.faults.check("vmstate_save_state_loop", name=name, field=field)

    def _refused(self, error: QemuError) -> QemuError:
        """A device that is not to be saved: older releases say so at once, whatever becomes of it."""
        if not self._vm.compat.migration_error_chain:
            self._vm.error_report(error.desc)
        return error

    def _description(self) -> bytes:
        text: dict[str, Any] = {}
        if self._vm.compat.migration_vmdesc_configuration:
            if not configuration.is_sent(self._vm):  # QEMU dies here: it describes what it has not sent
                raise QemuError("A stream without its configuration section (send-configuration) cannot be described")
            text["configuration"] = configuration.describe(self._vm, self._machine_type())
        text["page_size"] = TARGET_PAGE_SIZE
        text["devices"] = []
        # The devices' own texts, where the list of them is empty.
        return vmdesc.dumps(text)[: -len(b"]}")] + b", ".join(self._described) + b"]}"

    def _trace_downtime(self, entry: SaveStateEntry, kind: str, start_ns: int) -> None:
        downtime_us = (self._vm.host.clock.now_ns() - start_ns) // 1000
        self._vm.trace(
            "vmstate_downtime_save", type=kind, idstr=entry.idstr, instance_id=entry.instance_id, downtime=downtime_us
        )


def is_undescribed(vm: Machine) -> bool:
    """Whether streams of this machine type end without a description (`suppress-vmdesc`)."""
    machine = vm.qom.machine
    return machine is not None and machine.get("suppress-vmdesc") is True


def prepare(vm: Machine) -> None:
    """Ask every live entry whether it can go along; raises QemuError, the reply to `migrate`."""
    assemble(vm)
    for entry in vm.savevm.live_entries():
        assert entry.handlers is not None
        vm.faults.check("fake_savevm_prepare", id=entry.idstr)
        entry.handlers.save_prepare(vm)
