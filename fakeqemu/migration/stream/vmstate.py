# SPDX-License-Identifier: MIT
"""Device state by description: fields in order, then subsections.

    VMSTATE_TIMER = VMStateDescription("timer", 2, 1, (
        int64("cpu_ticks_offset"), unused(8), int64("cpu_clock_offset", since=2),
    ))
    save_state(f, VMSTATE_TIMER, state)          # plain: put_*
    await load_state(f, VMSTATE_TIMER, state, 2)

A field is present when the version is at least its `since`, or, where it has a predicate, when that says so. A
subsection is sent when its `needed` says so: new state stays optional that way. State is an object whose attributes
(or a dict whose items) the fields name.

What a failure says differs by release (see `LoadError`): 11.1 puts the reason into one chain, older ones print lines.

QEMU: migration/vmstate.c, migration/vmstate-types.c, include/migration/vmstate.h
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fakeqemu.error import StreamError
from fakeqemu.migration.stream.qemu_file import EndOfStream
from fakeqemu.migration.stream.section import QEMU_VM_SUBSECTION, put_subsection_header

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fakeqemu.migration.stream.qemu_file import QEMUFile

#: markers in arrays of pointers
VMS_MARKER_PTR_NULL = ord("0")
VMS_MARKER_PTR_VALID = ord("1")


@dataclass(slots=True)
class Field:
    """One field of a description. Made by the functions below, which carry QEMU's names of the kinds."""

    name: str
    #: QEMU's name of the kind, as it stands in the vmdesc
    kind: str
    #: bytes of one element, where that is fixed
    size: int
    put: Callable[[QEMUFile, Any], None]
    get: Callable[[QEMUFile], Awaitable[Any]]
    since: int = 0
    #: number of elements, None for a single one
    count: int | None = None
    #: member that holds the number of elements
    count_from: str = ""
    #: overrides `since`: (state, version) -> present
    exists: Callable[[Any, int], bool] | None = None
    struct: VMStateDescription | None = None
    #: the incoming value must be the one already there; the text is a hint
    equal: str | None = None
    #: nothing is stored
    unused: bool = False
    #: elements may be None
    nullable: bool = False

    def present(self, state: Any, version_id: int) -> bool:
        return self.exists(state, version_id) if self.exists is not None else self.since <= version_id


@dataclass(slots=True)
class VMStateDescription:
    """How the state of one kind of device travels."""

    name: str
    version_id: int
    minimum_version_id: int = 0
    fields: tuple[Field, ...] = ()
    subsections: tuple[VMStateDescription, ...] = ()
    priority: int = 0
    unmigratable: bool = False
    early_setup: bool = False
    needed: Callable[[Any], bool] | None = None
    pre_save: Callable[[Any], None] | None = None
    post_save: Callable[[Any], None] | None = None
    pre_load: Callable[[Any], None] | None = None
    #: called with the state and the version that came; raises StreamError, whose text goes to stderr in every release
    post_load: Callable[[Any, int], None] | None = None

    def is_needed(self, state: Any) -> bool:
        return self.needed is None or self.needed(state)


class PostLoadError(StreamError):
    """A post-load hook refused what came.

    The text goes to stderr, but where releases build a chain of reasons (11.1) and `in_chain` says so, it goes there.
    Without `said` it goes to no stderr at all: the hook has printed what is to be printed.
    """

    def __init__(
        self, text: str, error_number: int = errno.EINVAL, *, in_chain: bool = False, said: bool = True
    ) -> None:
        super().__init__(text, error_number)
        self.in_chain = in_chain
        self.said = said


class LoadError(StreamError):
    """A load failed. `chain` is the text of 11.1, `lines` what older releases (and 11.1 too) print on stderr."""

    def __init__(self, chain: str, error_number: int = errno.EINVAL, old_lines: list[str] | None = None,
                 lines: list[str] | None = None) -> None:  # fmt: skip
        super().__init__(chain, error_number)
        #: printed by releases without the chain
        self.old_lines = old_lines or []
        #: printed by releases with it
        self.lines = lines or []


# --- kinds of fields ------------------------------------------------------------------------------------


def _integer(kind: str, size: int, signed: bool) -> tuple[Callable[[QEMUFile, Any], None], Any]:
    def put(f: QEMUFile, value: Any) -> None:
        f.put_buffer(int(value).to_bytes(size, "big", signed=signed))

    async def get(f: QEMUFile) -> int:
        return int.from_bytes(await f.get_buffer(size), "big", signed=signed)

    put.__name__ = f"put_{kind}"
    return put, get


_INTEGERS = {
    f"{sign}int{bits}": (bits // 8, *_integer(f"{sign}int{bits}", bits // 8, sign == ""))
    for bits in (8, 16, 32, 64)
    for sign in ("", "u")
}


def integer(kind: str, name: str, **options: Any) -> Field:
    """An integer of a fixed width: int8 ... uint64. With `equal`, one that must be what it was."""
    size, put, get = _INTEGERS[kind]
    if options.get("equal") is not None:
        kind += " equal"
    return Field(name, kind, size, put, get, **options)


def uint8(name: str, **options: Any) -> Field:
    return integer("uint8", name, **options)


def uint16(name: str, **options: Any) -> Field:
    return integer("uint16", name, **options)


def uint32(name: str, **options: Any) -> Field:
    return integer("uint32", name, **options)


def uint64(name: str, **options: Any) -> Field:
    return integer("uint64", name, **options)


def int32(name: str, **options: Any) -> Field:
    return integer("int32", name, **options)


def int64(name: str, **options: Any) -> Field:
    return integer("int64", name, **options)


def boolean(name: str, **options: Any) -> Field:
    def put(f: QEMUFile, value: Any) -> None:
        f.put_byte(1 if value else 0)

    async def get(f: QEMUFile) -> bool:
        return bool(await f.get_byte())

    return Field(name, "bool", 1, put, get, **options)


def buffer(name: str, size: int, **options: Any) -> Field:
    """Raw bytes of a fixed length."""

    def put(f: QEMUFile, value: Any) -> None:
        assert len(value) == size, f"{name} has {len(value)} bytes, not {size}"
        f.put_buffer(value)

    async def get(f: QEMUFile) -> bytes:
        return await f.get_buffer(size)

    return Field(name, "buffer", size, put, get, **options)


def unused(size: int, **options: Any) -> Field:
    """Zero bytes, ignored on load."""

    def put(f: QEMUFile, value: Any) -> None:  # noqa: ARG001
        f.put_buffer(bytes(size))

    async def get(f: QEMUFile) -> None:
        await f.drop(size)

    return Field("unused", "unused_buffer", size, put, get, unused=True, **options)


def structure(name: str, description: VMStateDescription, **options: Any) -> Field:
    """A nested state of its own description."""

    def put(f: QEMUFile, value: Any) -> None:
        save_state(f, description, value)

    async def get(_f: QEMUFile) -> None:  # never called: loaded in place
        raise AssertionError

    return Field(name, "struct", 0, put, get, struct=description, **options)


def custom(
    name: str, kind: str, size: int, put: Callable[[QEMUFile, Any], None], get: Callable[[QEMUFile], Awaitable[Any]],
    **options: Any,
) -> Field:  # fmt: skip
    """A field with its own codec (QEMU's VMStateInfo)."""
    return Field(name, kind, size, put, get, **options)


# --- the walk -------------------------------------------------------------------------------------------


def _read_member(state: Any, name: str) -> Any:
    return state[name] if isinstance(state, dict) else getattr(state, name)


def _write_member(state: Any, name: str, value: Any) -> None:
    if isinstance(state, dict):
        state[name] = value
    else:
        setattr(state, name, value)


def _count(f: Field, state: Any) -> int | None:
    return int(_read_member(state, f.count_from)) if f.count_from else f.count


def save_state(f: QEMUFile, vmsd: VMStateDescription, state: Any, version_id: int = -1) -> list[dict[str, Any]]:
    """Write `state` as `vmsd` describes it; returns the fields as the vmdesc lists them."""
    version_id = vmsd.version_id if version_id < 0 else version_id
    if vmsd.pre_save is not None:
        vmsd.pre_save(state)
    described: list[dict[str, Any]] = []
    for one in vmsd.fields:
        if not one.present(state, version_id):
            continue
        described += _save_field(f, one, state)
    for sub in vmsd.subsections:
        if sub.is_needed(state):
            put_subsection_header(f, sub.name, sub.version_id)
            save_state(f, sub, state)
    if vmsd.post_save is not None:
        vmsd.post_save(state)
    return described


def _save_field(f: QEMUFile, one: Field, state: Any) -> list[dict[str, Any]]:
    """Write one field; returns its entries in the vmdesc: one, or one an element where elements differ."""
    count = _count(one, state)
    value: Any = None if one.unused else _read_member(state, one.name)
    elements = [value] if count is None else value[:count]
    entries: list[dict[str, Any]] = []
    for index, element in enumerate(elements):
        before = f.bytes_transferred
        entry: dict[str, Any] = {"name": one.name}
        if one.nullable and element is None:
            f.put_byte(VMS_MARKER_PTR_NULL)
            entry["type"] = "nullptr"
        else:
            one.put(f, element)
            entry["type"] = one.kind
            if one.struct is not None:
                entry["struct"] = describe(one.struct, element)
        entry["size"] = f.bytes_transferred - before
        if count is not None and (one.nullable or one.struct is not None):
            entry["index"] = index
        entries.append(entry)
    if count and not one.nullable and one.struct is None:
        return [{"name": one.name, "array_len": count, "type": one.kind, "size": entries[0]["size"]}]
    return entries


def describe(vmsd: VMStateDescription, state: Any) -> dict[str, Any]:
    """The entry of the vmdesc for `state`: name, version, fields, subsections."""
    from fakeqemu.migration.stream.qemu_file import QEMUFile

    result: dict[str, Any] = {"vmsd_name": vmsd.name, "version": vmsd.version_id}
    plain = VMStateDescription(vmsd.name, vmsd.version_id, fields=vmsd.fields)
    result["fields"] = save_state(QEMUFile(), plain, state)
    subsections = [describe(sub, state) for sub in vmsd.subsections if sub.is_needed(state)]
    if subsections:
        result["subsections"] = subsections
    return result


async def load_state(f: QEMUFile, vmsd: VMStateDescription, state: Any, version_id: int) -> None:
    """Read what `save_state` of that version wrote; raises LoadError."""
    if version_id > vmsd.version_id:
        raise LoadError(
            f"{vmsd.name}: incoming version_id {version_id} is too new for local version_id {vmsd.version_id}",
            old_lines=[
                f"{vmsd.name}: incoming version_id {version_id} is too new for local version_id {vmsd.version_id}"
            ],
        )
    if version_id < vmsd.minimum_version_id:
        text = f"{vmsd.name}: incoming version_id {version_id} is too old for local minimum version_id"
        raise LoadError(f"{text} {vmsd.minimum_version_id}", old_lines=[f"{text}  {vmsd.minimum_version_id}"])
    if vmsd.pre_load is not None:
        vmsd.pre_load(state)
    for one in vmsd.fields:
        if one.present(state, version_id):
            await _load_field(f, vmsd, one, state)
    await _load_subsections(f, vmsd, state)
    if vmsd.post_load is not None:
        try:
            vmsd.post_load(state, version_id)
        except PostLoadError as err:
            chain = (
                f"post load hook failed for: {vmsd.name}, version_id: {vmsd.version_id}, "
                f"minimum_version: {vmsd.minimum_version_id}"
            )
            chain += f": {err.desc}" if err.in_chain else f", ret: -{err.errno}"
            lines = [err.desc] if err.said else []
            raise LoadError(chain, err.errno, old_lines=lines, lines=[] if err.in_chain else lines) from None


async def _load_field(f: QEMUFile, vmsd: VMStateDescription, one: Field, state: Any) -> None:
    count = _count(one, state)
    old: Any = None if one.unused else _read_member(state, one.name)
    values: list[Any] = []
    try:
        for index in range(1 if count is None else count):
            placed = one.struct is not None or one.nullable
            element = old if count is None or not placed else old[index]
            values.append(await _load_element(f, one, element))
    except EndOfStream as err:
        # 11.1 names the description, older ones description and field.
        raise LoadError(
            f"Failed to load {vmsd.name} state: stream error: -{err.errno}", err.errno,
            old_lines=[f"Failed to load {vmsd.name}:{one.name}"],
        ) from None  # fmt: skip
    except LoadError as err:
        raise LoadError(
            err.desc, err.errno, [*err.old_lines, f"Failed to load {vmsd.name}:{one.name}"], err.lines
        ) from None  # fmt: skip
    if one.equal is not None and old != values[0]:
        text = f"{old:x} != {values[0]:x}"
        raise LoadError(text, old_lines=[text, *([one.equal] if one.equal else [])])
    if not one.unused and one.struct is None:
        _write_member(state, one.name, values[0] if count is None else values)


async def _load_element(f: QEMUFile, one: Field, element: Any) -> Any:
    if one.nullable and element is None:
        marker = await f.get_byte()
        if marker != VMS_MARKER_PTR_NULL:
            raise LoadError(f"Unexpected ptr marker: {marker}")
        return None
    if one.struct is not None:
        await load_state(f, one.struct, element, one.struct.version_id)
        return element
    return await one.get(f)


async def _load_subsections(f: QEMUFile, vmsd: VMStateDescription, state: Any) -> None:
    while True:
        head = await f.peek(2)
        if len(head) < 2 or head[0] != QEMU_VM_SUBSECTION:
            return
        header = await f.peek(2 + head[1])
        name = header[2:].decode("utf-8", "backslashreplace")
        if len(name) <= len(vmsd.name) or not name.startswith(vmsd.name):
            return  # it belongs to an outer level
        sub = next((s for s in vmsd.subsections if s.name == name), None)
        if sub is None:
            text = f"VM subsection '{name}' in '{vmsd.name}' does not exist"
            raise LoadError(text, errno.ENOENT)
        f.skip(len(header))
        try:
            await load_state(f, sub, state, await f.get_be32())
        except LoadError as err:
            raise LoadError(
                f"Loading VM subsection '{name}' in '{vmsd.name}' failed: {err.desc}",
                err.errno,
                err.old_lines,
                err.lines,
            ) from None
