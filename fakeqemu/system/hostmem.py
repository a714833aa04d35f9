# SPDX-License-Identifier: MIT
"""Memory backends: where the guest's memory comes from on the host.

    memory-backend-ram      pages of ours, which cost what was done with them
    memory-backend-file     a real file, created and enlarged as QEMU does; share=off keeps what is written to ourselves
    memory-backend-memfd    a real memfd

A board without `memory-backend=` makes itself a memory-backend-ram.

QEMU: backends/hostmem.c, hostmem-ram.c, hostmem-file.c, hostmem-memfd.c, system/physmem.c (file_ram_alloc)
"""

from __future__ import annotations

import os

from fakeqemu.error import NotEmulated, QemuError
from fakeqemu.qom.object import Object
from fakeqemu.qom.properties import check_integer, wrong_type
from fakeqemu.system.private_store import PrivateStore
from fakeqemu.system.ram_list import BACKEND, BOARD, HOT, add_block
from fakeqemu.system.ramblock import PAGE_SIZE, MappedStore, RAMBlock, SparseStore
from fakeqemu.system.user_creatable import UserCreatable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fakeqemu.qom.object import Property
    from fakeqemu.system.machine import Machine

#: nothing bigger fits in a process
ADDRESS_SPACE = 1 << 47
MAX_NODES = 128
#: NUMA nodes that the make-believe host has
HOST_NODES = (0,)
#: device files that can be opened but not mapped have no size; mmap says ENODEV
NO_SUCH_DEVICE = "unable to map backing store for guest RAM: No such device"
NO_MEMORY = "unable to map backing store for guest RAM: Cannot allocate memory"


class HostMemoryBackend(UserCreatable):
    """Base of the memory backends: `block` is there once complete."""

    __slots__ = ("block", "mapped", "size")

    def __init__(self, vm: Machine, type_name: str) -> None:
        super().__init__(vm, type_name)
        self.size = 0
        self.block: RAMBlock | None = None
        #: whether it is the memory of the guest or of a device
        self.mapped = False
        self.define("merge", "bool", default=True)
        self.define("dump", "bool", default=True)
        self.define("prealloc", "bool", default=False)
        cpus = vm.board.smp.cpus if vm.board is not None else 1
        self.define("prealloc-threads", "int", default=cpus, visited_as="uint32")
        self.define("prealloc-context", "link<thread-context>")
        self.define("share", "bool", default=self.default_share())
        self.define("reserve", "bool", default=True)
        self.define("size", "int", lambda: self.size, self._set_size, visited_as="size")
        self.define("policy", "HostMemPolicy", default="default")
        self.define("host-nodes", "int", default=[], visited_as="hostmem-nodes")
        self.define("x-use-canonical-path-for-ramblock-id", "bool", default=False)

    #: whether the pages are those of a file with a name
    has_named_file = False

    def default_share(self) -> bool:
        return False

    def value(self, name: str) -> Any:
        """The value of a property of ours."""
        return self.read(self._defined[name])

    # --- setting --------------------------------------------------------------------------------------

    def check_settable(self, prop: Property) -> None:
        if prop.name == "size" and self.block is not None:
            raise QemuError(f"cannot change property size of {self.type_name} ")

    def _set_size(self, value: int) -> None:
        if value == 0:
            raise QemuError(f"property 'size' of {self.type_name} doesn't take value '0'")
        self.size = value

    def _store(self, prop: Property, value: Any) -> None:
        if prop.name in ("share", "reserve") and self.block is not None:
            raise QemuError("cannot change property value")
        if prop.name == "prealloc-threads" and value == 0:
            raise QemuError(f"property 'prealloc-threads' of {self.type_name} doesn't take value '0'")
        if prop.name == "prealloc" and value and self.block is not None and not self.value("reserve"):
            raise QemuError("'prealloc=on' and 'reserve=off' are incompatible")
        if prop.name == "host-nodes":
            value = _checked_nodes(value)
        super()._store(prop, value)

    # --- coming to life -------------------------------------------------------------------------------

    def complete(self) -> None:
        if not self.size:
            raise QemuError("can't create backend with size 0")
        if self.value("prealloc") and not self.value("reserve"):
            raise QemuError("'prealloc=on' and 'reserve=off' are incompatible")
        self._check_policy()
        store = self.allocate()
        length = -(-self.size // PAGE_SIZE) * PAGE_SIZE
        share = bool(self.value("share"))
        self.block = RAMBlock(self.block_name(), length, store, share=share, named_file=self.has_named_file)
        self.block.moment = HOT if self.vm.phase == "ready" else BACKEND
        region = Object(self.vm, "memory-region")
        region.attach_record(
            {
                "type": ["string", "memory-region"],
                "container": ["link<memory-region>", ""],
                "addr": ["uint64", 0],
                "size": ["uint64", self.size],
                "priority": ["uint32", 0],
            }
        )
        self.add_child(_escaped(self.block_name()) + "[*]", region)

    def allocate(self) -> SparseStore | MappedStore:
        """The pages; raises QemuError."""
        if self.size >= ADDRESS_SPACE:
            raise QemuError(f"cannot set up guest memory '{self.block_name()}': Cannot allocate memory")
        return SparseStore()

    def block_name(self) -> str:
        """What the block is called: the id, or the whole path."""
        return self.path if self.value("x-use-canonical-path-for-ramblock-id") else self.name

    def _check_policy(self) -> None:
        policy, nodes = self.value("policy"), self.value("host-nodes")
        if nodes and policy == "default":
            raise QemuError(
                "host-nodes must be empty for policy default, or you should explicitly specify a policy other than default"
            )
        if not nodes and policy != "default":
            raise QemuError(f"host-nodes must be set for policy {policy}")
        if nodes and not any(node in HOST_NODES for node in nodes):
            raise QemuError("cannot bind memory to host NUMA nodes: Invalid argument")

    # --- use ------------------------------------------------------------------------------------------

    def map_as_ram(self) -> None:
        """Be the guest's memory: a block that migrates. Raises QemuError if it is used already."""
        if self.mapped:
            raise QemuError(f"can't use already busy memdev: {self.name}")
        assert self.block is not None
        self.mapped = True
        add_block(self.vm, self.block, self.block.moment)

    def check_deletable(self) -> None:
        if self.mapped:
            raise QemuError(self.vm.compat.memdev_busy_text.replace("ID", self.name))

    def unparented(self) -> None:
        if self.block is not None:
            self.block.close()
            self.block = None


class MemoryBackendRam(HostMemoryBackend):
    """Anonymous memory."""

    __slots__ = ()


class MemoryBackendFile(HostMemoryBackend):
    """A file of the host."""

    __slots__ = ()
    has_named_file = True

    #: properties that nobody may change later -> how QEMU says so
    _FIXED = {
        "mem-path": "cannot change property 'mem-path' of memory-backend-file",
        "align": "cannot change property 'align' of memory-backend-file",
        "offset": "cannot change property 'offset' of memory-backend-file",
        "pmem": "cannot change property 'pmem' of memory-backend-file.",
        "readonly": "cannot change property 'readonly' of memory-backend-file.",
        "rom": "cannot change property 'rom' of memory-backend-file.",
    }

    def __init__(self, vm: Machine, type_name: str) -> None:
        super().__init__(vm, type_name)
        known = [entry["name"] for entry in self._type_properties()]
        self.define("mem-path", "string", default="")
        self.define("align", "int", default=0, visited_as="size")
        for name, type_, default in (("offset", "int", 0), ("pmem", "bool", False), ("readonly", "bool", False)):
            if name in known:
                self.define(name, type_, default=default, visited_as="size" if type_ == "int" else None)
        if "rom" in known:
            self.define("rom", "OnOffAuto", default="auto")
        self.define("discard-data", "bool", default=False)

    def _store(self, prop: Property, value: Any) -> None:
        if self.block is not None and prop.name in self._FIXED:
            raise QemuError(self._FIXED[prop.name])
        super()._store(prop, value)

    def _option(self, name: str) -> Any:
        return self.value(name) if name in self._defined else None

    def allocate(self) -> SparseStore | MappedStore:
        if "mem-path" not in self._values:
            raise QemuError("mem-path property not set")
        readonly, rom = bool(self._option("readonly")), self._option("rom") or "auto"
        if rom == "on" and not readonly:
            raise QemuError("property 'rom' = 'on' is not supported with 'readonly' = 'off'")
        align, offset = self.value("align"), self._option("offset") or 0
        if align % PAGE_SIZE:
            raise QemuError(f"alignment 0x{align:x} must be multiples of page size 0x{PAGE_SIZE:x}")
        if not self.vm.host.real_fds:
            return SparseStore()  # a simulated host has no files
        fd = self._open(self.value("mem-path"), readonly)
        try:
            self._check_and_size(fd, offset, readonly)
        except QemuError:
            os.close(fd)
            raise
        shared = self.value("share") and not readonly
        return MappedStore(fd, offset) if shared else PrivateStore(fd, offset)

    def _open(self, path: str, readonly: bool) -> int:
        """The file, made if it is not there; a file without a name in a directory. Raises QemuError."""
        try:
            try:
                return os.open(path, (os.O_RDONLY if readonly else os.O_RDWR) | os.O_CLOEXEC)
            except FileNotFoundError:
                if not path or (readonly and not self.vm.compat.memdev_readonly_creates):
                    raise
                return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            except IsADirectoryError:
                return self._open_in(path)
        except OSError as err:
            raise QemuError(f"can't open backing store {path} for guest RAM: {err.strerror}") from None

    def _open_in(self, directory: str) -> int:
        name = "".join(char if char.isalnum() or char == "_" else "_" for char in self.block_name())
        chance = self.vm.host.random(f"hostmem/{self.name}")
        letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
        while True:
            path = f"{directory}/qemu_back_mem.{name}." + "".join(chance.choice(letters) for _ in range(6))
            try:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except FileExistsError:
                continue
            os.unlink(path)
            return fd

    def _check_and_size(self, fd: int, offset: int, readonly: bool) -> None:
        """See that the file is what the block needs, enlarging one that is empty; raises QemuError."""
        status = os.fstat(fd)
        if status.st_mode & 0o170000 == 0o020000:
            raise QemuError(NO_SUCH_DEVICE)
        size = -(-self.size // PAGE_SIZE) * PAGE_SIZE
        if offset % PAGE_SIZE:
            raise QemuError(f"offset 0x{offset:x} must be multiples of page size 0x{PAGE_SIZE:x}")
        if status.st_size and status.st_size < offset + size:
            raise QemuError(too_small(self.vm, self.block_name(), status.st_size, size, offset))
        if self.size >= ADDRESS_SPACE:
            raise QemuError(NO_MEMORY)
        if not status.st_size and (not readonly or self.vm.compat.memdev_readonly_creates):
            os.ftruncate(fd, offset + size)
        if self.value("prealloc") and not readonly:
            os.posix_fallocate(fd, offset, size)
        if self.vm.compat.memdev_page_multiple and self.size % PAGE_SIZE:
            raise QemuError(f"backend '{self.type_name}' memory size must be multiple of 4 KiB")


class MemoryBackendMemfd(HostMemoryBackend):
    """A memfd."""

    __slots__ = ()

    def __init__(self, vm: Machine, type_name: str) -> None:
        super().__init__(vm, type_name)
        self.define("hugetlb", "bool", default=False)
        self.define("hugetlbsize", "int", default=0, visited_as="size")
        self.define("seal", "bool", default=True)

    def default_share(self) -> bool:
        return True

    def _store(self, prop: Property, value: Any) -> None:
        if prop.name in ("hugetlb", "hugetlbsize") and self.block is not None:
            raise QemuError("cannot change property value")
        if prop.name == "hugetlbsize" and value == 0:
            raise QemuError(f"property 'hugetlbsize' of {self.type_name} doesn't take value '0'")
        super()._store(prop, value)

    def allocate(self) -> SparseStore | MappedStore:
        if self.value("hugetlb"):
            huge = self.value("hugetlbsize") or 2 << 20
            if self.size % huge:
                raise QemuError(f"failed to resize memfd to {self.size}: Invalid argument")
            raise NotEmulated("memory-backend-memfd with hugetlb is not emulated")
        size = -(-self.size // PAGE_SIZE) * PAGE_SIZE
        if size != self.size:
            raise QemuError(too_small(self.vm, self.block_name(), self.size, size, 0))
        if self.size >= ADDRESS_SPACE:
            raise QemuError(f"failed to resize memfd to {self.size}: File too large")
        if not self.vm.host.real_fds:
            return SparseStore()
        # Sealed against a change of its size, as QEMU does for whoever it hands the descriptor to.
        flags = os.MFD_CLOEXEC | (os.MFD_ALLOW_SEALING if self.value("seal") else 0)
        try:
            fd = os.memfd_create("memory-backend-memfd", flags)
        except OSError as err:
            raise QemuError(f"failed to create memfd: {err.strerror}") from None
        os.ftruncate(fd, size)
        if self.value("seal"):
            import fcntl

            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
        if self.value("prealloc"):
            os.posix_fallocate(fd, 0, size)
        return MappedStore(fd) if self.value("share") else PrivateStore(fd)


def too_small(vm: Machine, name: str, there: int, size: int, offset: int) -> str:
    """QEMU's text about a backing store that is too small."""
    if vm.compat.memdev_page_multiple:
        return (
            f"{name} backing store size 0x{there:x} is too small for 'size' option 0x{size:x} "
            f"plus 'offset' option 0x{offset:x}"
        )
    return f"backing store size 0x{there:x} does not match 'size' option 0x{size:x}"


def _checked_nodes(value: Any) -> list[int]:
    if not isinstance(value, list):
        raise wrong_type("host-nodes", "array")
    nodes = [check_integer("uint16", f"host-nodes[{at}]", node) for at, node in enumerate(value)]
    for node in nodes:
        if node >= MAX_NODES:
            raise QemuError(f"Invalid host-nodes value: {node}")
    return sorted(set(nodes))


def _escaped(name: str) -> str:
    """A name as a property of an object: `/`, `[` and `\\` would mean something there."""
    return "".join(f"\\x{ord(char):02x}" if char in "/[\\]" else char for char in name)


def create_default_memdev(vm: Machine, name: str, size: int) -> HostMemoryBackend:
    """The memory that a board makes for itself; raises QemuError."""
    backend = MemoryBackendRam(vm, "memory-backend-ram")
    board = vm.board
    assert board is not None
    backend._set_size(size)
    for ours, machine_option in (("merge", "mem-merge"), ("dump", "dump-guest-core")):
        if not board.object.option(machine_option, True):
            backend.set(ours, False)
    vm.qom.objects.add_child(name, backend)
    backend.complete()
    assert backend.block is not None
    backend.block.moment = BOARD
    return backend


def query_memdev(vm: Machine) -> list[dict[str, Any]]:
    """Memdev of every memory backend."""
    shown: list[dict[str, Any]] = []
    for child in vm.qom.objects.in_table_order():
        if isinstance(child, HostMemoryBackend):
            names = ("size", "merge", "dump", "prealloc", "share", "reserve", "policy", "host-nodes")
            shown.insert(0, {"id": child.name, **{name: child.value(name) for name in names}})
    return shown
