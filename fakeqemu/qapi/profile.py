# SPDX-License-Identifier: MIT
"""VersionProfile: what one QEMU said of itself, read piece by piece.

A profile is a folder: `manifest.json` and *tables*. A table maps keys to JSON values in the order in
which QEMU reported them, and is a pair of files:

    TABLE.idx       KEY <tab> OFFSET <tab> LENGTH, one record a line
    TABLE.jsonl     the values as lines `KEY <tab> JSON`; OFFSET and LENGTH point at the JSON
    TABLE.blob      or, for a table too big to lie about in plain, each JSON deflated by itself

The properties of all types of one QEMU are 5.7 MB of JSON, and an emulator that starts with five devices
needs five of nine hundred records. So nothing is parsed that nobody asked for: an index stays bytes, in
which one key is searched, and one value is read from its place and parsed.

An overlay (its manifest names a `base`) holds only the records that it changes or adds.

A profile keeps descriptors, of its folder and of the tables that were read: the files must be found after a change of
root or user too, and a start reads hundreds of records.

QEMU: qapi introspection, qom/qom-qmp-cmds.c, hw/core/machine-qmp-cmds.c as the sources of the data
"""

from __future__ import annotations

import os
from _json import make_scanner

from fakeqemu.qapi.compat import Compat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORMAT = 1


class ProfileError(ValueError):
    """A profile that is not there or that this program cannot read; the text is for the user."""


class _Missing:
    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"


MISSING = _Missing()


class _ScannerContext:
    """What the C scanner wants to know; the same choices as json.loads makes."""

    __slots__ = ("memo", "object_hook", "object_pairs_hook", "parse_constant", "parse_float", "parse_int", "strict")

    def __init__(self) -> None:
        self.strict = False
        self.object_hook = None
        self.object_pairs_hook = None
        self.parse_float = float
        self.parse_int = int
        self.parse_constant = float
        self.memo: dict[str, str] = {}


_scan = make_scanner(_ScannerContext())  # type: ignore[arg-type]  # any object with these attributes will do


def parse_json(data: bytes) -> Any:
    """The value of JSON text that we wrote ourselves; raises ProfileError for anything else."""
    try:
        return _scan(data.decode().lstrip(), 0)[0]
    except (StopIteration, ValueError) as err:
        raise ProfileError(f"not JSON: {data[:40]!r}: {err}") from None


class _Table:
    """One table of one folder: the index as bytes, and where the values are."""

    __slots__ = ("_dir_fd", "_fd", "_file", "_index")

    def __init__(self, dir_fd: int, name: str) -> None:
        self._dir_fd = dir_fd
        self._fd = -1
        self._file = ""
        self._index = b""
        index = _read(dir_fd, name + ".idx")
        if index is None:
            return
        # The newline in front lets one search find the first record as well as any other.
        self._index = b"\n" + index
        self._file = name + ".jsonl"
        if not _exists(dir_fd, self._file):
            self._file = name + ".blob"

    def has(self, key: str) -> bool:
        return self._index.find(b"\n%b\t" % key.encode()) >= 0

    def keys(self) -> list[str]:
        return [line[: line.index(b"\t")].decode() for line in self._index[1:].splitlines()]

    def raw(self, key: str) -> bytes | None:
        needle = b"\n%b\t" % key.encode()
        at = self._index.find(needle)
        if at < 0:
            return None
        at += len(needle)
        offset, length = self._index[at : self._index.index(b"\n", at)].split(b"\t")
        if self._fd < 0:
            self._fd = os.open(self._file, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._dir_fd)
        return self._inflated(os.pread(self._fd, int(length), int(offset)))

    def records(self) -> list[tuple[str, bytes]]:
        """Every record in order, with one reading of the file."""
        if not self._file:
            return []
        data = _read(self._dir_fd, self._file) or b""
        result = []
        for line in self._index[1:].splitlines():
            key, offset, length = line.split(b"\t")
            start = int(offset)
            result.append((key.decode(), self._inflated(data[start : start + int(length)])))
        return result

    def _inflated(self, data: bytes) -> bytes:
        if not self._file.endswith(".blob"):
            return data
        from zlib import decompress

        return decompress(data)


class VersionProfile:
    """What one QEMU accepts and ships. Shared between machines: whatever it hands out is not to be changed."""

    __slots__ = (
        "_cache",
        "_dir_fd",
        "_implements",
        "_named",
        "_tables",
        "base",
        "compat",
        "manifest",
        "name",
        "package",
        "version",
        "version_line",
    )

    def __init__(self, folder: str) -> None:
        """Open the profile in `folder`; raises ProfileError when there is none that we can read."""
        try:
            self._dir_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as err:
            raise ProfileError(f"cannot open profile {folder}: {err.strerror}") from None
        data = _read(self._dir_fd, "manifest.json")
        if data is None:
            os.close(self._dir_fd)
            raise ProfileError(f"{folder} is not a profile: it has no manifest.json")
        manifest: dict[str, Any] = parse_json(data)
        if manifest.get("format") != FORMAT:
            os.close(self._dir_fd)
            raise ProfileError(f"profile {folder} has format {manifest.get('format')}, this program reads {FORMAT}")
        self.manifest = manifest
        self.name: str = manifest["name"]
        self.base: VersionProfile | None = None
        if "base" in manifest:
            beside = os.path.join(os.path.dirname(os.path.abspath(folder)), manifest["base"])
            self.base = VersionProfile.load(beside if os.path.isdir(beside) else manifest["base"])
        version = manifest["version"]
        self.version: tuple[int, int, int] = (version["major"], version["minor"], version["micro"])
        self.package: str = manifest["package"]
        self.version_line: str = manifest["version-line"]
        self.compat = Compat(self.version, self._compat_values())
        self._tables: dict[str, _Table] = {}
        #: (table, key) -> value, MISSING for what is not there
        self._cache: dict[tuple[str, str], Any] = {}
        self._implements: dict[tuple[str, str], bool] = {}  # asked often: whenever something walks a tree
        self._named: dict[str, dict[str, dict[str, Any]]] = {}

    def __repr__(self) -> str:
        return f"<VersionProfile {self.name}>"

    @staticmethod
    def load(name_or_path: str) -> VersionProfile:
        """The profile of a name that ships with us, or of a folder (a text with a slash); opened once.

        Raises ProfileError, naming the profiles there are.
        """
        if "/" in name_or_path:
            folder = os.path.abspath(name_or_path)
        else:
            folder = os.path.join(schemas_folder(), name_or_path)
            if name_or_path in ("", ".", "..") or not os.path.isfile(os.path.join(folder, "manifest.json")):
                raise ProfileError(f"unknown profile '{name_or_path}'; there are: {', '.join(known_profiles())}")
        profile = _opened.get(folder)
        if profile is None:
            profile = _opened[folder] = VersionProfile(folder)
        return profile

    # --- tables ---------------------------------------------------------------------------------------

    def get(self, table: str, key: str, default: Any = MISSING) -> Any:
        """The value of a record, to be treated as read-only; KeyError when absent and no default is given."""
        try:
            value = self._cache[(table, key)]
        except KeyError:
            data = self._raw(table, key)
            value = self._cache[(table, key)] = MISSING if data is None else parse_json(data)
        if value is not MISSING:
            return value
        if default is MISSING:
            raise KeyError(f"{table}/{key}")
        return default

    def raw(self, table: str, key: str) -> bytes:
        """The JSON text of a record as QEMU wrote it; KeyError when absent."""
        data = self._raw(table, key)
        if data is None:
            raise KeyError(f"{table}/{key}")
        return data

    def has(self, table: str, key: str) -> bool:
        """Whether there is such a record; its value is not read."""
        known = self._cache.get((table, key))
        if known is not None:
            return known is not MISSING
        return self._table(table).has(key) or (self.base is not None and self.base.has(table, key))

    def keys(self, table: str) -> list[str]:
        """The keys of a table in QEMU's order, those that an overlay adds last; empty when there is no such table."""
        own = self._table(table).keys()
        if self.base is None:
            return own
        return list(dict.fromkeys([*self.base.keys(table), *own]))

    def records(self, table: str) -> list[tuple[str, bytes]]:
        """Key and JSON text of every record in order: one reading of the table, nothing parsed or kept."""
        own = self._table(table).records()
        if self.base is None:
            return own
        return list({**dict(self.base.records(table)), **dict(own)}.items())

    def _raw(self, table: str, key: str) -> bytes | None:
        data = self._table(table).raw(key)
        if data is None and self.base is not None:
            data = self.base._raw(table, key)
        return data

    def _table(self, name: str) -> _Table:
        table = self._tables.get(name)
        if table is None:
            table = self._tables[name] = _Table(self._dir_fd, name)
        return table

    def _compat_values(self) -> dict[str, Any]:
        values: dict[str, Any] = {} if self.base is None else self.base._compat_values()
        values.update(self.manifest.get("compat", {}))
        return values

    # --- the interface language -----------------------------------------------------------------------

    def command(self, name: str) -> dict[str, Any] | None:
        """How a command is declared (`arg`, `ret`, `oob`, `preconfig`, `features`), or None if QEMU lacks it."""
        return self.get("commands", name, None)  # type: ignore[no-any-return]

    def schema_entity(self, name: str) -> dict[str, Any] | None:
        """One entity of query-qmp-schema: a command, an event, or a type under its masked name."""
        return self.get("schema", name, None)  # type: ignore[no-any-return]

    def int_width(self, entity: str, member: str) -> str:
        """The C type of an integer member, which introspection hides: int8 ... uint64; `member[]` for list elements.

        int64 when the capture could not ask it.
        """
        return self.get("int-types", entity, {}).get(member, "int64")  # type: ignore[no-any-return]

    def alternate_name(self, entity: str) -> str | None:
        """The name of an alternate type as error texts spell it, which introspection hides."""
        return self.get("alternate-names", entity, None)  # type: ignore[no-any-return]

    # --- QOM types ------------------------------------------------------------------------------------

    def is_type(self, name: str) -> bool:
        """Whether QEMU has a QOM type of this name, abstract ones included."""
        return self.has("types", name)

    def type_parent(self, name: str) -> str | None:
        """The parent of a type; None for a root, KeyError if there is no such type."""
        return self.get("types", name)["parent"]  # type: ignore[no-any-return]

    def is_abstract(self, name: str) -> bool:
        """Whether a type cannot be made; KeyError if there is no such type."""
        return self.get("types", name)["abstract"]  # type: ignore[no-any-return]

    def implements(self, name: str, other: str) -> bool:
        """Whether `name` is `other`, descends from it, or has it as an interface; False if there is no such type."""
        known = self._implements.get((name, other))
        if known is None:
            known = self._implements[(name, other)] = self._look_up(name, other)
        return known

    def _look_up(self, name: str, other: str) -> bool:
        at: str | None = name
        while at is not None:
            if at == other:
                return True
            entry = self.get("types", at, None)
            if entry is None:
                return False
            if other in entry["implements"]:
                return True
            at = entry["parent"]
        return False

    def qom_properties(self, name: str, *, machine: bool = True) -> Any:
        """What qom-list-properties says of a type: a list, or a dict with `error`.

        Without a machine (`-machine none`) some types answer otherwise.
        """
        return self._properties("qom-properties", name, machine)

    def named_properties(self, name: str) -> dict[str, dict[str, Any]]:
        """The properties of a type by name; empty for a type that the profile could not ask. Not to be changed."""
        found = self._named.get(name)
        if found is None:
            listed = self.get("qom-properties", name, None)
            found = {entry["name"]: entry for entry in listed} if isinstance(listed, list) else {}
            self._named[name] = found
        return found

    def device_properties(self, name: str, *, machine: bool = True) -> Any:
        """What device-list-properties says of a type; as `qom_properties`."""
        return self._properties("device-properties", name, machine)

    def _properties(self, table: str, name: str, machine: bool) -> Any:
        if machine:
            value = self.get(table + "-q35", name, None)
            if value is not None:
                return value
        return self.get(table, name)


_opened: dict[str, VersionProfile] = {}


def schemas_folder() -> str:
    """The folder of the profiles that ship with us: inside the package when installed, beside it in a checkout."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    inside = os.path.join(package, "schemas")
    return inside if os.path.isdir(inside) else os.path.join(os.path.dirname(package), "schemas")


def known_profiles() -> list[str]:
    """The names of the profiles that ship with us, oldest first."""
    folder = schemas_folder()
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    found = [name for name in names if os.path.isfile(os.path.join(folder, name, "manifest.json"))]
    return sorted(
        found,
        key=lambda name: [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in name.split(".")],
    )


def _read(dir_fd: int, name: str) -> bytes | None:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=dir_fd)
    except FileNotFoundError:
        return None
    try:
        return os.read(fd, os.fstat(fd).st_size)
    finally:
        os.close(fd)


def _exists(dir_fd: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return False
    return True
