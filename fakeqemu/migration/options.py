# SPDX-License-Identifier: MIT
"""Capabilities and parameters of a migration: their values, and every check that QEMU makes before it takes new ones.

Which ones there are, and their defaults, is data of the profile. The schema has judged types and widths already; what
stands here are ranges and combinations, in QEMU's order, each list all or nothing. Light: it is on the way to a
destination's first answer.

QEMU: migration/options.c
"""

from __future__ import annotations

from fakeqemu.error import QemuError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fakeqemu.system.machine import Machine
    from fakeqemu.system.ramblock import RAMBlock

_UINT64_MASK = (1 << 64) - 1
#: the target's page size, below which no xbzrle cache makes sense
_PAGE_SIZE = 4096
#: how long names of block nodes and of their bitmaps may be
_NODE_NAME_BYTES = 31
_BITMAP_NAME_BYTES = 1023

#: what background-snapshot cannot go with, in the order in which QEMU looks
_BACKGROUND_SNAPSHOT_EXCLUDES = (
    "postcopy-ram",
    "dirty-bitmaps",
    "postcopy-blocktime",
    "late-block-activate",
    "return-path",
    "multifd",
    "pause-before-switchover",
    "auto-converge",
    "release-ram",
    "rdma-pin-all",
    "compress",
    "xbzrle",
    "x-colo",
    "validate-uuid",
    "zero-copy-send",
)

#: capabilities that change nothing here, or that are emulated; with any other one on, a migration is refused
EMULATED_CAPABILITIES = (
    "auto-converge",
    "background-snapshot",
    "dirty-limit",
    "events",
    "return-path",
    "pause-before-switchover",
    "late-block-activate",
    "mapped-ram",
    "multifd",
    "switchover-ack",
    "validate-uuid",
    "x-colo",
    "xbzrle",
    "postcopy-blocktime",
    "postcopy-preempt",
    "postcopy-ram",
    "rdma-pin-all",
    "release-ram",
    "x-ignore-shared",
    "zero-blocks",
    "compress-wait-thread",
    "zero-copy-send",
)

#: capabilities with which nobody has looked what a pair does
_COLO_EXCLUDES = ("mapped-ram", "postcopy-ram")

_between = "a value between {} and {}"
_range = "an integer in the range of {} to {}"

#: name, lowest, highest, what the error says is expected; in the order in which QEMU looks
_RANGES: tuple[tuple[str, int, int, str], ...] = (
    ("compress-level", 0, 9, _between.format(0, 9)),
    ("compress-threads", 1, 255, _between.format(1, 255)),
    ("decompress-threads", 1, 255, _between.format(1, 255)),
    ("throttle-trigger-threshold", 1, 100, _range.format(1, 100)),
    ("cpu-throttle-initial", 1, 99, _range.format(1, 99)),
    ("cpu-throttle-increment", 1, 99, _range.format(1, 99)),
    ("downtime-limit", 0, 2000 * 1000, _range.format(0, "(2000 * 1000) ms")),
    ("multifd-channels", 1, 255, _between.format(1, 255)),
    ("multifd-zlib-level", 0, 9, _between.format(0, 9)),
    ("multifd-qatzip-level", 1, 9, _between.format(1, 9)),
    ("multifd-zstd-level", 0, 20, _between.format(0, 20)),
)
_LATER_RANGES: tuple[tuple[str, int, int, str], ...] = (
    ("announce-initial", 0, 100000, _between.format(0, 100000)),
    ("announce-max", 0, 100000, _between.format(0, 100000)),
    ("announce-rounds", 0, 1000, _between.format(0, 1000)),
    ("announce-step", 1, 10000, _between.format(0, 10000)),  # what it says is not what it checks
)


class MigrationOptions:
    """The capabilities and parameters of one machine."""

    __slots__ = ("_vm", "capabilities", "incoming_started", "parameters", "running")

    def __init__(self, vm: Machine, running: Callable[[], bool], incoming_started: Callable[[], bool]) -> None:
        """`running`: whether a migration is in progress; `incoming_started`: whether a destination listens already."""
        self._vm = vm
        self.running = running
        self.incoming_started = incoming_started
        profile = vm.profile
        self.capabilities: dict[str, bool] = {
            key: profile.get("capabilities", key) for key in profile.keys("capabilities")
        }
        #: values as query-migrate-parameters shows them; block-bitmap-mapping only once it was set
        self.parameters: dict[str, Any] = {key: profile.get("parameters", key) for key in profile.keys("parameters")}

    def on(self, capability: str) -> bool:
        """Whether a capability is on; one that this QEMU lacks is not."""
        return self.capabilities.get(capability, False)

    def get(self, parameter: str, default: Any = None) -> Any:
        return self.parameters.get(parameter, default)

    @property
    def mode(self) -> str:
        mode: str = self.parameters.get("mode", "normal")
        return mode

    # --- capabilities ---------------------------------------------------------------------------------

    def set_capabilities(self, changes: list[dict[str, Any]]) -> None:
        """Take a list of {capability, state}, checked as the set that would result; raises QemuError."""
        if self.running():
            raise QemuError("There's a migration process in progress")
        new = dict(self.capabilities)
        for change in changes:
            new[change["capability"]] = change["state"]
        self.check_capabilities(new)
        self.capabilities = new

    def check_capabilities(self, new: dict[str, bool]) -> None:
        """Raise QemuError when these cannot be on together."""
        compat = self._vm.compat
        old = self.capabilities

        def on(name: str) -> bool:
            return new.get(name, False)

        if on("zero-blocks") and compat.migration_zero_blocks_warned:
            self._vm.warn_report("zero-blocks capability is deprecated")
        if on("x-colo") and not on("return-path") and compat.migration_colo_return_path:
            raise QemuError("Capability 'x-colo' requires capability 'return-path'")
        if on("postcopy-ram"):
            if (
                compat.migration_postcopy_tmpfs
                and not old.get("postcopy-ram")
                and self._vm.runstate.state == "inmigrate"
            ):
                if not all(map(_faults_are_told, self._vm.ram_blocks)):
                    raise QemuError("Postcopy is not supported: Host backend files need to be TMPFS or HUGETLBFS only")
            if on("x-ignore-shared"):
                raise QemuError("Postcopy is not compatible with ignore-shared")
            if on("multifd") and not compat.migration_multifd_postcopy:
                raise QemuError("Postcopy is not yet compatible with multifd")
        if on("background-snapshot"):
            if not all(map(_faults_are_told, self._not_ignored())):
                raise QemuError("Background-snapshot is not compatible with guest memory configuration")
            for name in _BACKGROUND_SNAPSHOT_EXCLUDES:
                if on(name):
                    raise QemuError(f"Background-snapshot is not compatible with {name}")
        if on("zero-copy-send") and (
            not on("multifd")
            or on("xbzrle")
            or on("compress")
            or self.get("multifd-compression", "none") != "none"
            or self.get("tls-creds")
        ):
            raise QemuError("Zero copy only available for non-compressed non-TLS multifd migration")
        late = compat.migration_capabilities_when_listening and self.incoming_started()
        if on("postcopy-preempt"):
            if not on("postcopy-ram"):
                raise QemuError("Postcopy preempt requires postcopy-ram")
            if on("compress"):
                raise QemuError("Postcopy preempt not compatible with compress")
            if late and not old.get("postcopy-preempt"):
                raise QemuError("Postcopy preempt must be set before incoming starts")
        if on("multifd"):
            if on("compress"):
                raise QemuError("Multifd is not compatible with compress")
            if late and not old.get("multifd"):
                raise QemuError("Multifd must be set before incoming starts")
        self._check_capabilities_of_9(on)

    def _check_capabilities_of_9(self, on: Callable[[str], bool]) -> None:
        """The checks that came with the releases from 8.1 on."""
        if on("switchover-ack") and not on("return-path"):
            raise QemuError("Capability 'switchover-ack' requires capability 'return-path'")
        if on("dirty-limit"):
            if on("auto-converge"):
                raise QemuError("dirty-limit conflicts with auto-converge either of then available currently")
            if not self._vm.dirty_ring_size:
                raise QemuError("dirty-limit requires KVM with accelerator property 'dirty-ring-size' set")
        if on("multifd") and on("xbzrle") and self._vm.compat.migration_capabilities_when_listening:
            raise QemuError("Multifd is not compatible with xbzrle")
        if on("mapped-ram"):
            if on("xbzrle"):
                raise QemuError("Mapped-ram migration is incompatible with xbzrle")
            if on("postcopy-ram"):
                raise QemuError("Mapped-ram migration is incompatible with postcopy")

    def _not_ignored(self) -> list[RAMBlock]:
        """The blocks that travel, as the capabilities in force have it."""
        if not self.on("x-ignore-shared"):
            return self._vm.ram_blocks
        named = self._vm.compat.migration_ignore_shared_named
        return [block for block in self._vm.ram_blocks if not (block.share and (block.named_file or not named))]

    def check_emulated(self) -> None:
        """Refuse, saying so, a migration with something on that has no emulation yet."""
        from fakeqemu.error import NotEmulated

        for name, state in self.capabilities.items():
            if state and name not in EMULATED_CAPABILITIES:
                raise NotEmulated(f"Migration with capability '{name}' is not emulated")
        if self.on("multifd"):
            from fakeqemu.migration import multifd_compress

            multifd_compress.check(self.get("multifd-compression", "none"))
        if self.on("zero-copy-send") and self._vm.fake.get("ram") == "model":
            raise NotEmulated("Migration with capability 'zero-copy-send' is not emulated with -fake ram=model")
        if self.on("x-colo"):
            # Before there was a way for it, pages on other channels went past the secondary's copy into the memory of its
            # guest, which runs (seen on 10.0.13 and 7.2.22).
            multifd = () if self._vm.compat.migration_colo_multifd else ("multifd",)
            for name in (*_COLO_EXCLUDES, *multifd):
                if self.on(name):
                    raise NotEmulated(f"Migration with capabilities 'x-colo' and '{name}' is not emulated")
            if self._vm.fake.get("ram") == "model":
                raise NotEmulated("Migration with capability 'x-colo' is not emulated with -fake ram=model")
        if self.mode != "normal":
            raise NotEmulated(f"Migration mode '{self.mode}' is not emulated")
        if self.get("tls-creds"):
            from fakeqemu.migration import tls

            tls.check(self._vm)

    # --- parameters -----------------------------------------------------------------------------------

    def set_parameters(self, changes: dict[str, Any]) -> None:
        """Take new values, checked as the set that would result; raises QemuError and changes nothing then."""
        ignored = (
            () if self._vm.compat.migration_multifd_levels_settable else ("multifd-zlib-level", "multifd-zstd-level")
        )
        changes = {name: self._normal(name, value) for name, value in changes.items() if name not in ignored}
        new = {**self.parameters, **changes}
        self.check_parameters(new)
        self.parameters = new
        if "x-checkpoint-delay" in changes and self._vm.has_part("colo"):
            self._vm.colo.checkpoint_delay_set()

    def _normal(self, name: str, value: Any) -> Any:
        if name in ("tls-creds", "tls-hostname", "tls-authz"):
            return "" if value is None else value
        if type(value) is int and value < 0:  # an unsigned 64-bit integer, written as a negative number
            return value & _UINT64_MASK
        return value

    def check_parameters(self, new: dict[str, Any]) -> None:
        """Raise QemuError for the first value that is out of its range, in QEMU's order."""
        self._check_ranges(_RANGES, new)
        size = new["xbzrle-cache-size"]
        if size < _PAGE_SIZE or size & (size - 1):
            raise self._expects("xbzrle-cache-size", "a power of two no less than the target page size")
        if not new["cpu-throttle-initial"] <= new["max-cpu-throttle"] <= 99:
            initial = self._spelled("cpu-throttle-initial")
            raise self._expects("max-cpu-throttle", f"an integer in the range of {initial} to 99")
        self._check_ranges(_LATER_RANGES, new)
        if "block-bitmap-mapping" in new:
            try:
                _check_block_bitmap_mapping(new["block-bitmap-mapping"])
            except QemuError as err:
                raise err.prefixed("Invalid mapping given for block-bitmap-mapping: ") from None
        if self.on("zero-copy-send") and (new["multifd-compression"] != "none" or new["tls-creds"]):
            raise QemuError("Zero copy only available for non-compressed non-TLS multifd migration")
        # This one looks at the values in force, so that even what would undo them is refused.
        if self.on("mapped-ram") and (self.get("multifd-compression", "none") != "none" or self.get("tls-creds")):
            raise QemuError("Mapped-ram only available for non-compressed non-TLS multifd migration")
        period = new.get("x-vcpu-dirty-limit-period", 1)
        if not 1 <= period <= 1000:
            name = "x-vcpu-dirty-limit-period"
            word = "Option" if self._vm.compat.migration_option_words == "option" else "Parameter"
            spelled = name if word == "Option" else f"'{name}'"
            raise QemuError(f"{word} {spelled} expects a value between 1 and 1000")
        if new.get("vcpu-dirty-limit", 1) < 1:
            name = self._spelled("vcpu-dirty-limit")
            raise QemuError(f"Parameter '{name}' must be greater than 1 MB/s")
        chunk = new.get("x-rdma-chunk-size", 1 << 20)
        if not 1 << 20 <= chunk <= 1 << 30 or chunk & (chunk - 1):
            raise QemuError("Option x_rdma_chunk_size expects a power of 2 in the range 1MiB to 1024MiB")

    def _check_ranges(self, ranges: tuple[tuple[str, int, int, str], ...], new: dict[str, Any]) -> None:
        for name, low, high, expected in ranges:
            value = new.get(name)
            if value is not None and not low <= value <= high:
                raise self._expects(name, expected)

    def _spelled(self, name: str) -> str:
        return name if self._vm.compat.migration_option_words == "option" else name.replace("-", "_")

    def _expects(self, name: str, expected: str) -> QemuError:
        spelled = self._spelled(name)
        if self._vm.compat.migration_option_words == "option":
            return QemuError(f"Option {spelled} expects {expected}")
        return QemuError(f"Parameter '{spelled}' expects {expected}")


def _faults_are_told(block: RAMBlock) -> bool:
    """Whether the host tells of accesses to single pages of a block: of files only where they are memory."""
    from fakeqemu.system.ramblock import MappedStore, file_system_of

    return not isinstance(block.store, MappedStore) or file_system_of(block.store.fd) in ("tmpfs", "hugetlbfs", "")


def _check_block_bitmap_mapping(mapping: list[dict[str, Any]]) -> None:
    """QEMU: construct_alias_map in migration/block-dirty-bitmap.c, the direction from names to aliases."""
    names: list[str] = []
    aliases: list[str] = []
    for node in mapping:
        name, alias = node["node-name"], node["alias"]
        if not _well_formed(alias):
            raise QemuError(f"The node alias '{alias}' is not well-formed")
        if len(alias.encode()) > 255:
            raise QemuError(f"The node alias '{alias}' is longer than 255 bytes")
        if len(name.encode()) > _NODE_NAME_BYTES:
            raise QemuError(f"The node name '{name}' is longer than {_NODE_NAME_BYTES} bytes")
        if name in names:
            raise QemuError(f"The node name '{name}' is mapped twice")
        if alias in aliases:
            raise QemuError(f"The node alias '{alias}' is used twice")
        names.append(name)
        aliases.append(alias)
        _check_bitmaps(node)


def _check_bitmaps(node: dict[str, Any]) -> None:
    name, alias = node["node-name"], node["alias"]
    names: list[str] = []
    aliases: list[str] = []
    for bitmap in node["bitmaps"]:
        if len(bitmap["alias"].encode()) > 255:
            raise QemuError(f"The bitmap alias '{bitmap['alias']}' is longer than 255 bytes")
        if len(bitmap["name"].encode()) > _BITMAP_NAME_BYTES:
            raise QemuError(f"The bitmap name '{bitmap['name']}' is longer than {_BITMAP_NAME_BYTES} bytes")
        if bitmap["name"] in names:
            raise QemuError(f"The bitmap '{name}'/'{bitmap['name']}' is mapped twice")
        if bitmap["alias"] in aliases:
            raise QemuError(f"The bitmap alias '{alias}'/'{bitmap['alias']}' is used twice")
        names.append(bitmap["name"])
        aliases.append(bitmap["alias"])


def _well_formed(text: str) -> bool:
    """Whether `text` could be an id: a letter, then letters, digits, `-`, `.` and `_`."""
    return (
        text[:1].isascii() and text[:1].isalpha() and all(c.isascii() and (c.isalnum() or c in "-._") for c in text[1:])
    )  # fmt: skip
