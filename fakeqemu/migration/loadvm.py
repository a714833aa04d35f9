# SPDX-License-Identifier: MIT
"""Loading: the destination reads section by section, and finds fault as QEMU does.

11.1 builds one chain of reasons, which becomes error-desc; older releases print a line for each level and keep the
errno. Both stand at the place where the fault is found: `_fault(errno, chain, old=[...], lines=[...])`.

QEMU: migration/savevm.c (qemu_loadvm_state)
"""

from __future__ import annotations

import errno

from fakeqemu.error import QemuError, StreamError
from fakeqemu.migration.configuration import is_sent
from fakeqemu.migration.kept_state import KeptState
from fakeqemu.migration.ram_load import RAMLoadHandlers
from fakeqemu.migration.savevm import RAM, assemble, is_undescribed
from fakeqemu.migration.stream import section as s
from fakeqemu.migration.stream import vmstate
from fakeqemu.migration.stream.qemu_file import EndOfStream, c_string
from fakeqemu.migration.stream.vmstate import LoadError
from fakeqemu.migration.switchover_ack import SwitchoverApproval

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

    from fakeqemu.migration.multifd_device_state import LoadThreads
    from fakeqemu.migration.postcopy_load import PostcopyIncoming
    from fakeqemu.migration.register import SaveStateEntry
    from fakeqemu.migration.stream.qemu_file import QEMUFile
    from fakeqemu.system.machine import Machine


class LoadFault(StreamError):
    """The load has failed; everything that goes to stderr was printed already. `desc` is the chain of reasons."""


class LoadVM:
    """One incoming stream."""

    __slots__ = (
        "_f", "_kept", "_load_threads", "_open_return_path", "_return_path_open", "_send", "_set_up", "_vm",
        "approval", "complete", "is_for_colo", "postcopy",
    )  # fmt: skip

    def __init__(self, vm: Machine, f: QEMUFile, send: Callable[[int, bytes], Awaitable[None]]) -> None:
        """`send(kind, data)` sends a message back once the return path is open."""
        self._vm = vm
        self._f = f
        self._kept = KeptState(vm, f)
        self._send = send
        self._return_path_open = False
        self._set_up: list[SaveStateEntry] = []
        self.approval = SwitchoverApproval(self)
        #: set when the source says that it may turn to postcopy
        self.postcopy: PostcopyIncoming | None = None
        #: whether the machine goes on as one half of a pair; in some releases the source has to say so
        self.is_for_colo = vm.savevm.capability("x-colo") and not vm.compat.migration_colo_announced
        #: tasks of devices that the load waits for
        self._load_threads: LoadThreads | None = None
        #: whether the description at the end was there: what the source hears depends on it
        self.complete = True

    @property
    def return_path_open(self) -> bool:
        return self._return_path_open

    def _fault(
        self, number: int, chain: str, *, old: list[str] | None = None, lines: list[str] | None = None
    ) -> LoadFault:
        """`chain`: 11.1's reason; `old`: lines that older releases print; `lines`: those that 11.1 prints as well."""
        for line in (lines or []) if self._vm.compat.migration_error_chain else (old if old is not None else [chain]):
            self._vm.error_report(line)
        return LoadFault(chain, number)

    async def fault_point(self, point: str, /, **fields: object) -> None:
        """A place where whatever fails is a fault of the load as a whole; raises LoadFault."""
        try:
            await self._vm.faults.pass_through(point, **fields)
        except StreamError as err:
            raise self._fault(err.errno, err.desc) from None

    def fault_check(self, point: str, /, **fields: object) -> None:
        """As `fault_point`, where nothing waits."""
        try:
            self._vm.faults.check(point, **fields)
        except StreamError as err:
            raise self._fault(err.errno, err.desc) from None

    # --- the whole ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Read the stream to its end, or until postcopy takes over; raises LoadFault."""
        assemble(self._vm)
        ram = self._vm.savevm.find(RAM, 0)
        assert ram is not None
        ram.handlers = RAMLoadHandlers(self._vm)
        for entry in self._vm.savevm.entries:
            entry.load_section_id = entry.load_version_id = 0
        self._vm.savevm.start_load_thread = self._start_load_thread
        await self._header()
        await self._setup()
        self.approval.count()
        try:
            quits = await self.sections()
        except LoadFault as fault:
            self._vm.trace("qemu_loadvm_state_post_main", ret=-fault.errno)
            raise
        self._vm.trace("qemu_loadvm_state_post_main", ret=int(quits))
        if quits:
            return
        if self._load_threads is not None:
            try:
                await self._load_threads.join()
            except StreamError as err:
                raise self._fault(errno.EINVAL, err.desc, old=[]) from None
        self._vm.trace("vmstate_downtime_checkpoint", checkpoint="dst-precopy-loadvm-completed")
        await self._vmdescription()

    async def cleanup(self) -> None:
        self._vm.savevm.start_load_thread = None
        if self._load_threads is not None:
            await self._load_threads.end()
        entries, self._set_up = self._set_up, []
        for entry in entries:
            assert entry.handlers is not None
            waits = entry.handlers.load_cleanup()
            if waits is not None:
                await waits

    def _start_load_thread(self, coro: Coroutine[Any, Any, None], name: str) -> None:
        from fakeqemu.migration.multifd_device_state import LoadThreads

        if self._load_threads is None:
            self._load_threads = LoadThreads(self._vm)
        self._load_threads.start(coro, name)

    async def _setup(self) -> None:
        for entry in self._vm.savevm.live_entries():
            handlers = entry.handlers
            assert handlers is not None
            self._set_up.append(entry)
            try:
                self._vm.faults.check("loadvm_state_setup", id=entry.idstr)
                await handlers.load_setup(self._f)
            except StreamError as err:
                where = f"Load state of device {entry.idstr} failed"
                says_why = self._vm.compat.migration_load_setup_reason
                raise self._fault(err.errno, f"{where}: {err.desc}", old=None if says_why else [where]) from None

    # --- header ---------------------------------------------------------------------------------------

    async def _header(self) -> None:
        f = self._f
        magic = await f.take_uint(4)
        self.fault_check("fake_loadvm_header", magic=f"{magic:x}")
        if magic != s.QEMU_VM_FILE_MAGIC:
            raise self._fault(
                errno.EINVAL, f"Not a migration stream, magic: {magic:x} != {s.QEMU_VM_FILE_MAGIC:x}",
                old=["Not a migration stream"],
            )  # fmt: skip
        version = await f.take_uint(4)
        if version == s.QEMU_VM_FILE_VERSION_COMPAT:
            raise self._fault(
                errno.EOPNOTSUPP, "SaveVM v2 format is obsolete and no longer supported",
                old=["SaveVM v2 format is obsolete and don't work anymore"],
            )  # fmt: skip
        if version != s.QEMU_VM_FILE_VERSION:
            raise self._fault(
                errno.EOPNOTSUPP,
                f"Unsupported migration stream version, file version {version:x} != {s.QEMU_VM_FILE_VERSION:x}",
                old=["Unsupported migration stream version"],
            )
        if not is_sent(self._vm):
            return
        kind = await f.take_uint(1)
        self.fault_check("fake_loadvm_configuration", kind=f"{kind:x}")
        if kind != s.QEMU_VM_CONFIGURATION:
            raise self._fault(
                errno.EINVAL, f"Configuration section missing, {kind:x} != {s.QEMU_VM_CONFIGURATION:x}",
                old=["Configuration section missing"],
            )  # fmt: skip
        await self._configuration()

    async def _configuration(self) -> None:
        from fakeqemu.migration.configuration import Configuration

        configuration = Configuration(self._vm)
        try:
            await configuration.load(self._f)
        except LoadError as err:
            number = errno.EINVAL if self._vm.compat.migration_error_chain else err.errno
            raise self._fault(number, err.desc, old=err.old_lines, lines=err.lines) from None

    # --- sections -------------------------------------------------------------------------------------

    def over(self, f: QEMUFile) -> LoadVM:
        """A load of the same stream that reads from elsewhere: from a package."""
        part = LoadVM(self._vm, f, self._send)
        part._return_path_open = self._return_path_open
        part.postcopy = self.postcopy
        return part

    def use(self, f: QEMUFile) -> None:
        """(postcopy) Go on reading from another connection, whose return path is open."""
        self._f = f

    async def sections(self) -> bool:
        """Read sections and commands to the end; True when a command has ended it before. Raises LoadFault."""
        f = self._f
        while True:
            kind = await f.take_uint(1)
            if f.end is not None:
                chain = f"Failed to load section ID: stream error: -{f.end.errno}: {f.end.reason}"
                raise self._fault(f.end.errno, chain, old=[])
            if self.postcopy is not None:
                self.postcopy.check_preempt(self)
            self._vm.trace("qemu_loadvm_state_section", section_type=kind)
            await self.fault_point("qemu_loadvm_state_section", section_type=kind)
            if kind in (s.QEMU_VM_SECTION_START, s.QEMU_VM_SECTION_FULL):
                await self._start_or_full(kind)
            elif kind in (s.QEMU_VM_SECTION_PART, s.QEMU_VM_SECTION_END):
                await self._part_or_end(kind)
            elif kind == s.QEMU_VM_COMMAND:
                if await self._command():
                    return True
            elif kind == s.QEMU_VM_EOF:
                return False
            else:
                text = f"section type {kind}"
                raise self._fault(errno.EINVAL, f"Unknown {text}", old=[f"Unknown savevm {text}"])

    async def _start_or_full(self, kind: int) -> None:
        f, vm = self._f, self._vm
        section_id = await f.take_uint(4)
        name = await f.take(size := await f.take_uint(1))
        if not size or len(name) < size:
            raise self._fault(errno.EINVAL, f"Unable to read ID string for section {section_id}")
        idstr = c_string(name)
        instance_id = await f.take_uint(4)
        version_id = await f.take_uint(4)
        if f.end is not None:
            chain = f"Failed to read instance/version ID: -{f.end.errno}"
            raise self._fault(f.end.errno, chain, old=[f"qemu_loadvm_section_start_full: {chain}"])
        vm.trace(
            "qemu_loadvm_state_section_startfull", section_id=section_id, idstr=idstr, instance_id=instance_id,
            version_id=version_id,
        )  # fmt: skip
        self.fault_check("qemu_loadvm_state_section_startfull", idstr=idstr, instance_id=instance_id)
        entry = vm.savevm.find(idstr, instance_id)
        if entry is None:
            tail = (
                f"section or instance '{idstr}' {instance_id}. Make sure that your current VM setup matches your saved VM "
                "setup, including any hotplugged devices"
            )
            raise self._fault(errno.EINVAL, f"Unknown {tail}", old=[f"Unknown savevm {tail}"])
        self.fault_check("fake_loadvm_version", idstr=idstr, version_id=version_id, local=entry.version_id)
        if version_id > entry.version_id:
            text = f"unsupported version {s.signed32(version_id)} for '{idstr}' v{entry.version_id}"
            raise self._fault(errno.EINVAL, text, old=[f"savevm: {text}"])
        entry.load_section_id = section_id
        entry.load_version_id = version_id
        start_ns = vm.host.clock.now_ns()
        try:
            await self._load_entry(entry)
        except LoadError as err:
            where = f"error while loading state for instance 0x{instance_id:x} of device '{idstr}'"
            raise self._fault(
                errno.EINVAL if vm.compat.migration_error_chain and entry.handlers is None else err.errno,
                f"{where}: {err.desc}",
                old=[*err.old_lines, where], lines=err.lines,
            ) from None  # fmt: skip
        if kind == s.QEMU_VM_SECTION_FULL:
            self._trace_downtime("non-iterable", entry, start_ns)
        await self._footer(entry)

    def _trace_downtime(self, kind: str, entry: SaveStateEntry, start_ns: int) -> None:
        downtime_us = (self._vm.host.clock.now_ns() - start_ns) // 1000
        self._vm.trace(
            "vmstate_downtime_load", type=kind, idstr=entry.idstr, instance_id=entry.instance_id, downtime=downtime_us
        )

    async def _part_or_end(self, kind: int) -> None:
        f = self._f
        section_id = await f.take_uint(4)
        if f.end is not None:
            chain = f"Failed to read section ID: -{f.end.errno}"
            raise self._fault(f.end.errno, chain, old=[f"qemu_loadvm_section_part_end: {chain}"])
        self._vm.trace("qemu_loadvm_state_section_partend", section_id=section_id)
        self.fault_check("qemu_loadvm_state_section_partend", section_id=section_id)
        entry = self._owner(section_id)
        if entry is None:
            text = f"section {s.signed32(section_id)}"
            raise self._fault(errno.EINVAL, f"Unknown {text}", old=[f"Unknown savevm {text}"])
        start_ns = self._vm.host.clock.now_ns()
        try:
            await self._load_entry(entry)
        except LoadError as err:
            where = f"error while loading state section id {s.signed32(section_id)}({entry.idstr})"
            raise self._fault(err.errno, err.desc, old=[*err.old_lines, where], lines=err.lines) from None
        if kind == s.QEMU_VM_SECTION_END:
            self._trace_downtime("iterable", entry, start_ns)
        await self._footer(entry)

    def _owner(self, section_id: int) -> SaveStateEntry | None:
        """Whose section began under this number: the first one. Those that have not begun have 0."""
        entries = self._vm.savevm.entries
        return next((e for e in sorted(entries, key=_is_ram) if e.load_section_id == section_id), None)

    async def _load_entry(self, entry: SaveStateEntry) -> None:
        """Have the owner read its bytes; raises LoadError."""
        version_id = entry.load_version_id
        self._vm.trace("vmstate_load", idstr=entry.idstr, vmsd="(old)" if entry.vmsd is None else entry.vmsd.name)
        try:
            await self._vm.faults.pass_through("vmstate_load", id=entry.idstr)
            if entry.handlers is not None:
                await entry.handlers.load_state(self._f, version_id)
            elif entry.stock is not None:
                await self._kept.load(entry)
            else:
                await vmstate.load_state(self._f, entry.vmsd, entry.opaque, version_id)
        except LoadError:
            raise
        except StreamError as err:
            if err.desc and not isinstance(err, EndOfStream):
                self._vm.error_report(err.desc)
            # Handlers only have a number to say; what it was about is on stderr.
            chain = f"Failed to load vmstate version_id: {version_id}, ret: -{err.errno}"
            raise LoadError(chain, err.errno) from None

    async def _footer(self, entry: SaveStateEntry) -> None:
        if not s.has_footers(self._vm.migration.settings):
            return
        f = self._f
        chain = f"Section footer error, section_id: {s.signed32(entry.load_section_id)}"
        try:
            self._vm.faults.check("fake_check_section_footer", id=entry.idstr, section_id=entry.load_section_id)
        except StreamError as err:
            line = f"Missing section footer for {entry.idstr}"
            raise self._fault(errno.EINVAL, err.desc, old=[line], lines=[line]) from None
        mark = await f.take_uint(1)
        if f.end is not None:
            line = f"check_section_footer: Read section footer failed: -{f.end.errno}"
            raise self._fault(errno.EINVAL, chain, old=[line], lines=[line])
        if mark != s.QEMU_VM_SECTION_FOOTER:
            line = f"Missing section footer for {entry.idstr}"
            raise self._fault(errno.EINVAL, chain, old=[line], lines=[line])
        read_id = await f.take_uint(4)
        if read_id != entry.load_section_id:
            line = (
                f"Mismatched section id in footer for {entry.idstr} - read 0x{read_id:x} "
                f"expected 0x{entry.load_section_id:x}"
            )
            raise self._fault(errno.EINVAL, chain, old=[line], lines=[line])

    # --- commands -------------------------------------------------------------------------------------

    async def _command(self) -> bool:
        from fakeqemu.migration.load_commands import run_command

        f = self._f
        command, length = await f.take_uint(2), await f.take_uint(2)
        if f.end is not None:
            raise self._fault(f.end.errno, f"Failed to load VM process command: stream error: -{f.end.errno}", old=[])
        self.fault_check("qemu_loadvm_state_section_command", command=f"{command:x}", length=f"{length:x}")
        try:
            return await run_command(self, command, length)
        except EndOfStream:
            return False  # what follows finds the end again, and that is what QEMU reports

    @property
    def vm(self) -> Machine:
        return self._vm

    @property
    def f(self) -> QEMUFile:
        return self._f

    def fault(self, number: int, chain: str, *, old: list[str] | None = None) -> LoadFault:
        """For the commands: a fault with the same words in all releases unless `old` is given."""
        return self._fault(number, chain, old=old)

    def open_return_path(self) -> None:
        if self._return_path_open:
            self._vm.error_report("CMD_OPEN_RETURN_PATH called when RP already open")
            return
        self._return_path_open = True

    async def send(self, kind: int, data: bytes) -> int:
        """Send a message back; returns an errno, 0 for none. It matters to few: reading will hear of a channel's error."""
        try:
            await self._vm.faults.pass_through("migrate_send_rp_message", msg_type=kind)
            await self._send(kind, data)
        except OSError as err:
            return err.errno or errno.EIO
        except QemuError:
            return errno.EIO
        return 0

    # --- the end --------------------------------------------------------------------------------------

    async def _vmdescription(self) -> None:
        """Read and forget the description. Its absence is only logged, but the source hears of a channel's end."""
        if is_undescribed(self._vm):
            return
        f = self._f
        try:
            kind = await f.get_byte()
            self._vm.faults.check("fake_loadvm_vmdescription")
        except EndOfStream:
            kind = 0
            self.complete = False
        except StreamError as err:
            self._vm.error_report(err.desc)
            return
        if kind != s.QEMU_VM_VMDESCRIPTION:
            self._vm.error_report(f"Expected vmdescription section, but got {kind}")
            return
        try:
            await f.drop(await f.get_be32())
        except EndOfStream:
            self.complete = False


def _is_ram(entry: SaveStateEntry) -> bool:
    """The RAM has no place among the described devices: any of them is found before it."""
    return entry.idstr == RAM
